/**
 * A drawing that the clients of a relay room share. The host decides: the others
 * send it what they draw, it makes the changes in the order in which they come, and
 * tells everybody. Each client keeps the whole drawing, so that any can be the next
 * host; what one has drawn oneself one keeps besides, until it has come back, and
 * sends it again when the host was lost before it had passed it on. A client that
 * becomes host before it has got the drawing asks the others for it.
 */

import { Drawing, MOST_STROKE_POINTS, isChange, isCount, isStroke, pieceOf } from './drawing.js';

/** @import {Clock} from '/connection.js' */
/** @import {RoomClient} from '/relayroom.js' */
/** @import {Change, Stroke} from './drawing.js' */

/**
 * What clients say to each other, as JSON. `changes`: to the host, what one has
 * drawn; from the host, what counts. `drawing`: the whole, in parts, from the host, or
 * to one that has it not. `ask`: for the whole, to the host, or of a host. `people`:
 * from the host, somebody came or went.
 * @typedef {{say: "changes", changes: Change[]} | {say: "drawing", from: number, part: number, parts: number, age: number, strokes: Stroke[]} | {say: "ask", from: number} | {say: "people"}} Words
 */

/** How often what has gathered is sent, in ms: less often than a relay takes messages. */
const BEAT = 50;

/** For how long a host is waited for, in ms, before it is asked again. */
const PATIENCE = 3_000;

/** For how long a host keeps what it has drawn itself, in ms: when it loses its connection, what it said last may be lost. */
const MEMORY = 20_000;

/** The most points in a message, and in a part of the drawing: well below what a relay takes. */
const MOST_POINTS = 2_000;

/** A stroke of this client that may have to be sent again: `sent` are points that are on their way, or count. @typedef {{stroke: Stroke, age: number, sent: number, done: boolean, at: number}} Mine */

export class Sharing {
  drawing = new Drawing();
  /** Whether this client has the drawing as the host has it; of a host, whether it leads. */
  synced = false;

  // Fixed after construction.
  /** @type {RoomClient} */ #client;
  /** @type {() => void} */ #changed;
  /** @type {() => void} */ #people;
  /** @type {Clock} */ #clock;

  /** Oldest first. @type {Mine[]} */ #mine = [];
  /** Of the host: what goes out at the next beat. @type {Change[]} */ #news = [];
  /** Whether the drawing is that of the host before, until the next one tells it. */ #whole = false;
  /** Whether the host is being changed. */ #migrating = false;
  /** The parts of the drawing that have come, by who told them. @type {Map<number, Stroke[][]>} */ #parts = new Map();
  /** @type {any} */ #timer = null;
  /** When the last beat was. */ #beatAt = 0;
  /** When the host was last heard to do what this client waits for. */ #heardAt = 0;
  #count = 0;

  /**
   * @param {RoomClient} client
   * @param {() => void} changed  What is to be shown is different.
   * @param {() => void} people  Somebody came or went.
   * @param {Clock} [clock]  Default the global timers.
   */
  constructor(client, changed, people, clock = {
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    now: () => Date.now(),
  }) {
    this.#client = client;
    this.#changed = changed;
    this.#people = people;
    this.#clock = clock;
    client.addEventListener('connect', () => {
      this.#migrating = false;
      this.#lose(false);
    });
    client.addEventListener('migratebegin', () => {
      this.#migrating = true;
      this.#lose(this.synced || this.#whole);
    });
    client.addEventListener('host', ({ detail: { host } }) => {
      if (host && !this.#migrating) this.#lead(); // the first one of a room
    });
    client.addEventListener('migratefinish', ({ detail: { host } }) => {
      this.#migrating = false;
      if (host && this.#whole) this.#takeOver();
      else if (host) this.#say({ say: 'ask', from: this.#me });
      people();
    });
    client.addEventListener('clientconnect', ({ detail: { id } }) => {
      if (id !== client.clientId && this.synced) this.#tellDrawing((words) => client.sendTo(id, words));
      this.#say({ say: 'people' });
      people();
    });
    client.addEventListener('clientdisconnect', () => {
      this.#say({ say: 'people' });
      people();
    });
    client.addEventListener('message', ({ detail: { type, data } }) => this.#hear(type, read(data)));
    client.addEventListener('error', ({ detail: { code } }) => {
      if (code === 'GAP' && !client.isHost) this.#lose(false);
    });
  }

  /** Begins anew, with an empty board or one that was kept. @param {{age: number, strokes: Stroke[]}} [kept] */
  reset({ age, strokes } = { age: 0, strokes: [] }) {
    this.drawing.replace(isCount(age) ? age : 0, Array.isArray(strokes) ? strokes.filter(isStroke) : []);
    this.synced = this.#whole = this.#migrating = false;
    this.#mine = [];
    this.#news = [];
    this.#parts.clear();
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    this.#changed();
  }

  /** What this client has drawn and the host has not told yet: strokes, and from which point on. */
  get pending() {
    return this.#mine.filter(({ age }) => age === this.drawing.age)
      .map(({ stroke }) => ({ stroke, from: this.drawing.has(stroke.id) }))
      .filter(({ stroke, from }) => from * 2 < stroke.points.length);
  }

  /** Whether this client has been waiting for the host for longer than that should take. */
  get stuck() {
    return !this.#client.isHost && this.#waits && this.#clock.now() - this.#heardAt > PATIENCE / 2;
  }

  /** Whether there is anything that only the host can do for this client. */
  get #waits() {
    return !this.synced || this.pending.length > 0;
  }

  get #me() {
    return this.#client.clientId ?? 0;
  }

  /**
   * Begins a stroke of this client.
   * @param {number} pen
   * @param {number[]} points
   * @returns {Stroke} to which points may be added by `draw`.
   */
  begin(pen, points) {
    const author = this.#me;
    // Unique also to a page that comes back with this id.
    const id = `${author}.${this.#clock.now().toString(36)}.${this.#count++}`;
    const stroke = { id, author, pen, points: [] };
    this.#mine.push({ stroke, age: this.drawing.age, sent: 0, done: false, at: this.#clock.now() });
    this.draw(stroke, points);
    return stroke;
  }

  /**
   * Goes on with a stroke.
   * @param {Stroke} stroke
   * @param {number[]} points
   * @returns {boolean} false when it has as many points as there may be.
   */
  draw(stroke, points) {
    if (this.pending.length === 0) this.#heardAt = this.#clock.now();
    stroke.points.push(...points.slice(0, MOST_STROKE_POINTS * 2 - stroke.points.length));
    if (this.#client.isHost && this.synced) this.#takeMine();
    this.#beatSoon();
    this.#changed();
    return stroke.points.length < MOST_STROKE_POINTS * 2;
  }

  /** A stroke is complete. @param {Stroke} stroke */
  end(stroke) {
    for (const mine of this.#mine) if (mine.stroke === stroke) mine.done = true;
  }

  /** Clears the board, for everybody. Host only. */
  clear() {
    this.#take({ do: 'clear', age: this.drawing.age });
  }

  /**
   * The drawing is not known any more as the host has it.
   * @param {boolean} whole  Whether it is still as the host before has left it.
   */
  #lose(whole) {
    this.synced = false;
    this.#whole = whole;
    this.#parts.clear();
    this.#heardAt = this.#clock.now();
    this.#beatSoon();
    this.#changed();
  }

  /** As the next host: what counts is the drawing that this client has. */
  #takeOver() {
    this.#lead();
    this.#tellDrawing((text) => this.#client.broadcast(text));
  }

  /** As host, from now on: what this client has drawn counts, as far as it does not yet. */
  #lead() {
    this.synced = this.#whole = true;
    for (const mine of this.#mine) mine.sent = this.drawing.has(mine.stroke.id);
    this.#takeMine();
    this.#changed();
  }

  /** As host: what this client has drawn counts. */
  #takeMine() {
    for (const mine of this.#mine) {
      for (const piece of piecesOf(mine)) this.#take(piece);
    }
  }

  /**
   * As host: makes a change, and has it told.
   * @param {Change} change
   * @returns {boolean} whether anything is different now.
   */
  #take(change) {
    if (!this.drawing.make(change)) return false;
    this.#news.push(change);
    this.#beatSoon();
    this.#changed();
    return true;
  }

  /**
   * @param {string} type
   * @param {any} words
   */
  #hear(type, words) {
    if (type === 'host' && this.synced) {
      if (words?.say === 'ask' && isCount(words.from)) this.#tellDrawing((text) => this.#client.sendTo(words.from, text));
      else for (const change of changesOf(words)) if (change.do === 'draw') this.#take(change);
    } else if (type === 'host') {
      if (words?.say === 'drawing' && this.#hearDrawing(words)) this.#takeOver();
    } else if (words?.say === 'ask') {
      if (this.#whole) this.#tellDrawing((text) => this.#client.sendToHost(text));
    } else if (words?.say === 'people') {
      this.#people();
    } else if (words?.say === 'drawing') {
      this.#hearDrawing(words);
    } else if (this.synced) {
      for (const change of changesOf(words)) {
        if (this.drawing.make(change)) this.#heardAt = this.#clock.now();
      }
      this.#forgetMine();
      this.#changed();
    }
  }

  /**
   * Takes a part of the drawing.
   * @param {any} words
   * @returns {boolean} whether it was the last one.
   */
  #hearDrawing({ from, part, parts, age, strokes }) {
    if (!isCount(age) || !Array.isArray(strokes)) return false;
    // A drawing that begins anew replaces one of which parts are missing.
    const before = part === 0 ? [] : this.#parts.get(from);
    if (!before || before.length !== part) return false;
    const all = [...before, strokes.filter(isStroke)];
    this.#parts.set(from, all);
    if (all.length < parts) return false;
    this.drawing.replace(age, all.flat());
    this.#parts.clear();
    this.synced = this.#whole = true;
    this.#heardAt = this.#clock.now();
    // What the host has not got by now it has never got, or is still on its way; either does no harm.
    for (const mine of this.#mine) mine.sent = this.drawing.has(mine.stroke.id);
    this.#forgetMine();
    this.#beatSoon();
    this.#changed();
    return true;
  }

  /** Tells the whole drawing. @param {(text: string) => void} send */
  #tellDrawing(send) {
    this.#beat(); // what it holds is told already
    const { age, strokes } = this.drawing;
    /** @type {Stroke[][]} */
    const parts = [[]];
    let points = 0;
    for (const stroke of strokes.values()) {
      points += stroke.points.length / 2;
      if (points > MOST_POINTS) {
        parts.push([]);
        points = stroke.points.length / 2;
      }
      parts[parts.length - 1].push(stroke);
    }
    try {
      for (const [part, some] of parts.entries()) send(write({ say: 'drawing', from: this.#me, part, parts: parts.length, age, strokes: some }));
    } catch {
      // Not host any more, or away: the next host tells it.
    }
  }

  /** What has come back need not be kept; but for what a host has said last. */
  #forgetMine() {
    const old = this.#clock.now() - MEMORY;
    this.#mine = this.#mine.filter(({ stroke, age, done, at }) => age === this.drawing.age
      && (!done || this.drawing.has(stroke.id) * 2 < stroke.points.length || this.#client.isHost && at > old));
  }

  /** Has a beat, unless one is due: at once if the last one is long enough ago, since timers of pages that nobody looks at are slow. */
  #beatSoon() {
    if (this.#clock.now() - this.#beatAt >= BEAT) this.#beat();
    else this.#timer ??= this.#clock.setTimeout(() => this.#beat(), BEAT);
  }

  /** Sends what has gathered. */
  #beat() {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    this.#beatAt = this.#clock.now();
    if (this.#client.state !== 'open') return; // the next connection brings the drawing, and goes on
    if (this.#client.isHost && !this.synced) {
      // Nobody else has it either: then what this client has is the best that there is.
      if (!this.#migrating && this.#clock.now() - this.#heardAt > PATIENCE) this.#takeOver();
      else this.#beatSoon();
      return;
    }
    if (this.#client.isHost) {
      for (const changes of portions(this.#news.splice(0))) this.#say({ say: 'changes', changes });
      this.#forgetMine();
      return;
    }
    this.#news = [];
    if (this.#waits && this.#clock.now() - this.#heardAt > PATIENCE) this.#askAgain();
    if (this.synced) {
      const changes = this.#mine.filter(({ age }) => age === this.drawing.age).flatMap(piecesOf);
      for (const some of portions(changes)) this.#say({ say: 'changes', changes: some });
    }
    if (this.#waits) this.#beatSoon();
  }

  /** The host is silent: it may not have heard. */
  #askAgain() {
    this.#heardAt = this.#clock.now();
    for (const mine of this.#mine) mine.sent = this.drawing.has(mine.stroke.id);
    if (!this.synced) this.#say({ say: 'ask', from: this.#me });
  }

  /** Says something, to the host or as host; without a connection, nothing. @param {Words} words */
  #say(words) {
    try {
      if (this.#client.isHost) this.#client.broadcast(write(words));
      else this.#client.sendToHost(write(words));
    } catch {
      // Away: what counts is kept, and sent by the next connection.
    }
  }
}

/**
 * What is to be sent of a stroke, in pieces; it counts as sent.
 * @param {Mine} mine
 */
function piecesOf(mine) {
  const pieces = [];
  while (mine.sent * 2 < mine.stroke.points.length) {
    const piece = pieceOf(mine.stroke, mine.age, mine.sent);
    pieces.push(piece);
    mine.sent += piece.points.length / 2;
  }
  return pieces;
}

/** @param {Words} words */
function write(words) {
  return JSON.stringify(words);
}

/**
 * @param {Uint8Array} data
 * @returns {any}
 */
function read(data) {
  try {
    return JSON.parse(new TextDecoder().decode(data));
  } catch {
    return null;
  }
}

/**
 * @param {any} words
 * @returns {Change[]}
 */
function changesOf(words) {
  return words?.say === 'changes' && Array.isArray(words.changes) ? words.changes.filter(isChange) : [];
}

/**
 * Changes in portions that go into a message each.
 * @param {Change[]} changes
 */
function portions(changes) {
  /** @type {Change[][]} */
  const all = [];
  let points = Infinity;
  for (const change of changes) {
    const more = change.do === 'draw' ? change.points.length / 2 : 0;
    points += more;
    if (points > MOST_POINTS) {
      all.push([]);
      points = more;
    }
    all[all.length - 1].push(change);
  }
  return all;
}
