/**
 * What this browser remembers of the notifications of whoever is signed in: how far they
 * have come, those that came last, and which of them were read. All tabs of a browser
 * share it; each gets every notification and writes it down, so that it matters not which
 * was first.
 */

const KEY = 'parley.people';

/** Notifications that are remembered. */
const LIMIT = 200;

/** @typedef {"private" | "group" | "joined" | "grown" | "gap"} NoteType */

/** A notification: from whom or of which group, '' for none; `time` in ms since the epoch. @typedef {{id: string, type: NoteType, name: string, time: number}} Note */

/** What a note is about, so that those about the same count together. */
export const about = {
  /** @param {string} name */
  person: (name) => `p ${name}`,
  /** @param {string} name */
  group: (name) => `g ${name}`,
};

/** @param {Note} note */
function subject({ type, name }) {
  return type === 'private' ? about.person(name) : type === 'gap' ? '' : about.group(name);
}

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Shelf */

export class Notebook {
  // Fixed after construction.
  /** @type {Shelf | null} */ #shelf;
  /** @type {(a: string, b: string) => number} */ #compare;

  /** Whose it is; 0: nobody's. */
  #user = 0;
  /** @type {string | null} */ #place = null;
  /** Oldest first. @type {Note[]} */ #notes = [];
  /** The last note that was read of each subject. @type {Map<string, string>} */ #read = new Map();

  /**
   * @param {Shelf | null} shelf  Null: a browser that lets the page keep nothing.
   * @param {(a: string, b: string) => number} compare  Tells which of two ids comes first.
   */
  constructor(shelf, compare) {
    this.#shelf = shelf;
    this.#compare = compare;
  }

  /** Oldest first. @returns {readonly Note[]} */
  get notes() {
    return this.#notes;
  }

  /** How far notifications have come; null: not known. */
  get place() {
    return this.#place;
  }

  /**
   * Takes up what is remembered of a user, and nobody else's.
   * @param {number} user
   */
  open(user) {
    this.#clear();
    this.#user = user;
    this.reload();
  }

  /** Takes in what another tab has written. */
  reload() {
    const kept = this.#kept();
    if (this.#user === 0 || kept?.user !== this.#user) return;
    for (const note of kept.notes) this.#insert(note);
    for (const [key, id] of kept.read) this.#advance(key, id);
    if (kept.place !== null && (this.#place === null || this.#compare(kept.place, this.#place) > 0)) this.#place = kept.place;
  }

  /**
   * Writes a notification down, unless it is there.
   * @param {Note} note
   */
  add(note) {
    this.#insert(note);
    this.#keep();
  }

  /**
   * Everything up to there is done with.
   * @param {string} place
   */
  moveTo(place) {
    this.#place = place;
    this.#keep();
  }

  /**
   * What there is about a subject was read.
   * @param {string} key
   */
  markRead(key) {
    const last = this.#lastOf(key);
    if (!last || this.unread(key) === 0) return;
    this.#advance(key, last.id);
    this.#keep();
  }

  /**
   * How many messages there are about a subject that were not read.
   * @param {string} key
   */
  unread(key) {
    return this.#notes.filter((note) => subject(note) === key && isMessage(note) && this.#isNew(key, note)).length;
  }

  /** How many messages were not read at all. */
  get sum() {
    return this.#notes.filter((note) => isMessage(note) && this.#isNew(subject(note), note)).length;
  }

  /** The names of those who have written, the last one first. @returns {string[]} */
  get writers() {
    return [...new Set(this.#notes.filter(({ type }) => type === 'private').map(({ name }) => name).reverse())];
  }

  /**
   * When something about a subject came last, in ms; 0: never.
   * @param {string} key
   */
  lastTime(key) {
    return this.#lastOf(key)?.time ?? 0;
  }

  /** Forgets everything, here and in the browser. */
  forget() {
    this.#clear();
    try {
      this.#shelf?.removeItem(KEY);
    } catch {
      // There was nothing kept, then.
    }
  }

  /** @param {string} key */
  #lastOf(key) {
    return this.#notes.filter((note) => subject(note) === key).at(-1);
  }

  #clear() {
    this.#user = 0;
    this.#place = null;
    this.#notes = [];
    this.#read = new Map();
  }

  /**
   * @param {string} key
   * @param {Note} note
   */
  #isNew(key, note) {
    const read = this.#read.get(key);
    return read === undefined || this.#compare(note.id, read) > 0;
  }

  /**
   * @param {string} key
   * @param {string} id
   */
  #advance(key, id) {
    const before = this.#read.get(key);
    if (before === undefined || this.#compare(id, before) > 0) this.#read.set(key, id);
  }

  /** @param {Note} note */
  #insert(note) {
    if (this.#notes.some(({ id, type }) => id === note.id && (type === 'gap') === (note.type === 'gap'))) return;
    let at = this.#notes.length;
    while (at > 0 && this.#compare(this.#notes[at - 1].id, note.id) > 0) at--;
    this.#notes.splice(at, 0, note);
    if (this.#notes.length > LIMIT) this.#notes.shift();
  }

  #keep() {
    if (this.#user === 0) return;
    const subjects = new Set(this.#notes.map(subject));
    for (const key of this.#read.keys()) if (!subjects.has(key)) this.#read.delete(key);
    try {
      this.#shelf?.setItem(KEY, JSON.stringify({ user: this.#user, place: this.#place, notes: this.#notes, read: [...this.#read] }));
    } catch {
      // A browser that lets the page keep nothing, or no more: the next page begins with what the relay keeps.
    }
  }

  /** @returns {{user: number, place: string | null, notes: Note[], read: [string, string][]} | null} */
  #kept() {
    try {
      const kept = JSON.parse(this.#shelf?.getItem(KEY) ?? 'null');
      const isId = (/** @type {unknown} */ id) => typeof id === 'string' && /^\d{1,20}-\d{1,20}$/.test(id);
      const whole = kept && typeof kept.user === 'number' && (kept.place === null || isId(kept.place))
        && kept.notes.every((/** @type {Note} */ note) => isId(note.id) && typeof note.name === 'string' && typeof note.time === 'number')
        && kept.read.every((/** @type {[string, string]} */ [key, id]) => typeof key === 'string' && isId(id));
      return whole ? kept : null;
    } catch {
      return null;
    }
  }
}

/** @param {Note} note */
function isMessage({ type }) {
  return type === 'private' || type === 'group';
}
