/** The board's drawing, shared by clients of a room that is played here, move by move. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BOARD, Drawing, MOST_POINTS, MOST_STROKE_POINTS, isChange } from '../app/drawing.js';
import { Sharing } from '../app/sharing.js';
import { FakeClock } from './fakes.js';

const piece = (id, from, points, more = {}) => ({ do: 'draw', age: 0, id, author: 1, pen: 0, from, points, ...more });

test('a stroke grows by its pieces, whether they come once, twice, or overlap', () => {
  const drawing = new Drawing();
  assert.equal(drawing.make(piece('a', 0, [1, 1, 2, 2])), true);
  assert.equal(drawing.make(piece('a', 0, [1, 1, 2, 2])), false);
  assert.equal(drawing.make(piece('a', 1, [2, 2, 3, 3])), true);
  assert.equal(drawing.make(piece('a', 4, [9, 9])), false, 'not beyond a hole');
  assert.equal(drawing.make(piece('b', 1, [9, 9])), false);
  assert.deepEqual([...drawing.strokes.values()], [{ id: 'a', author: 1, pen: 0, points: [1, 1, 2, 2, 3, 3] }]);
  assert.equal(drawing.has('a'), 3);
});

test('what was drawn before the board was cleared does not come back', () => {
  const drawing = new Drawing();
  drawing.make(piece('a', 0, [1, 1]));
  assert.equal(drawing.make({ do: 'clear', age: 0 }), true);
  assert.equal(drawing.make({ do: 'clear', age: 0 }), false);
  assert.equal(drawing.make(piece('b', 0, [1, 1])), false);
  assert.equal(drawing.make(piece('b', 0, [1, 1], { age: 1 })), true);
  assert.deepEqual([...drawing.strokes.keys()], ['b']);
});

test('a stroke and a board have an end', () => {
  const drawing = new Drawing();
  const points = (n) => Array.from({ length: n * 2 }, () => 1);
  for (let from = 0; from < MOST_STROKE_POINTS + 300; from += 300) drawing.make(piece('0', from, points(300)));
  assert.equal(drawing.has('0'), MOST_STROKE_POINTS);
  const fill = MOST_POINTS / MOST_STROKE_POINTS;
  for (let i = 1; i < fill; i++) drawing.make(piece(String(i), 0, points(MOST_STROKE_POINTS)));
  assert.equal(drawing.strokes.size, fill);
  drawing.make(piece('one more', 0, points(1)));
  assert.deepEqual([...drawing.strokes.keys()].slice(0, 2), ['1', '2'], 'the oldest goes');
  assert.equal(drawing.strokes.size, fill);
});

for (const [what, more, good] of [
  ['a piece', {}, true],
  ['the far corner', { points: [BOARD.width, BOARD.height] }, true],
  ['beyond it', { points: [BOARD.width + 1, 0] }, false],
  ['below 0', { points: [0, -1] }, false],
  ['half a point', { points: [1] }, false],
  ['no integer', { points: [1.5, 1] }, false],
  ['too many points', { points: Array.from({ length: 802 }, () => 1) }, false],
  ['no pen', { pen: 3 }, false],
  ['no pen either', { pen: 'length' }, false],
  ['no author', { author: -1 }, false],
  ['no start', { from: -1 }, false],
  ['no age', { age: 'old' }, false],
  ['an id that is too long', { id: 'x'.repeat(41) }, false],
  ['nothing that one does', { do: 'dance' }, false],
]) {
  test(`a change from others, ${what}: ${good ? 'taken' : 'passed over'}`, () => assert.equal(isChange(piece('a', 0, [1, 1], more)), good));
}

/**
 * A room: what its clients say waits in their `out` until it gets its place in the
 * order, and what they are told waits in their `inbox` until they hear it.
 */
class Room {
  clock = new FakeClock();
  clients = [];
  /** Who is here. */
  seats = new Set();
  host = null;
  fence = 0;

  enter(client) {
    this.seats.add(client);
    client.inbox.push(() => client.tell('connect', {}));
    if (!this.host) {
      this.host = client;
      this.fence++;
      const { fence } = this;
      client.inbox.push(() => client.lead(true, fence));
    }
    this.host.inbox.push(((host) => () => host.tell('clientconnect', { id: client.clientId }))(this.host));
  }

  leave(client) {
    this.seats.delete(client);
    const next = [...this.seats].sort((a, b) => a.clientId - b.clientId)[0] ?? null;
    if (this.host === client && next) this.move(next);
    else if (this.host === client) this.host = null;
    const { host } = this;
    host?.inbox.push(() => host.tell('clientdisconnect', { id: client.clientId }));
  }

  move(next) {
    this.host = next;
    this.fence++;
    const { fence } = this;
    for (const client of this.seats) {
      client.inbox.push(() => {
        client.lead(false);
        client.tell('migratebegin', {});
      });
      if (client === next) client.inbox.push(() => client.lead(true, fence));
      client.inbox.push(() => client.tell('migratefinish', { hostId: next.clientId, host: client === next }));
    }
  }

  place(from, { type, target, fence, data }) {
    if (type === 'host' ? this.host === from : fence !== this.fence) return;
    const to = [...this.seats].filter((client) => client !== from
      && (type === 'broadcast' || type === 'host' && client === this.host || type === 'target' && client.clientId === target));
    for (const client of to) client.inbox.push(() => client.tell('message', { type, data }));
  }

  /** Somebody comes, with an empty board. */
  add() {
    const client = new Client(this, this.clients.length);
    this.clients.push(client);
    this.enter(client);
    return client;
  }

  /** Everything that is on its way arrives, and time passes. */
  settle(ms = 10_000) {
    for (let passed = 0; passed < ms; passed += 10) {
      while (this.clients.some((client) => client.step())); // until nothing moves
      this.clock.advance(10);
    }
  }

  /** What each client who is here shows. */
  get drawings() {
    return [...this.seats].map(({ sharing: { drawing } }) => [drawing.age, [...drawing.strokes.values()]]);
  }
}

/** As much of a RoomClient as Sharing uses. */
class Client extends EventTarget {
  state = 'open';
  isHost = false;
  out = [];
  inbox = [];
  peopleLooked = 0;
  #fence = 0;

  constructor(room, clientId) {
    super();
    this.room = room;
    this.clientId = clientId;
    this.sharing = new Sharing(this, () => {}, () => { this.peopleLooked++; }, room.clock);
    this.sharing.reset();
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  lead(host, fence = 0) {
    this.#fence = fence;
    if (this.isHost === host) return;
    this.isHost = host;
    this.tell('host', { host });
  }

  broadcast(text) {
    this.#say(true, { type: 'broadcast', text });
  }

  sendTo(target, text) {
    this.#say(true, { type: 'target', target, text });
  }

  sendToHost(text) {
    this.#say(false, { type: 'host', text });
  }

  #say(asHost, { text, ...relay }) {
    if (this.state !== 'open' || this.isHost !== asHost) throw new Error('not now');
    const data = new TextEncoder().encode(text);
    assert.ok(data.length <= 65_536, `${data.length} bytes`);
    this.out.push({ ...relay, fence: this.#fence, data });
  }

  /** One thing that is on its way arrives; false if nothing is. */
  step(random = 0) {
    if (this.state !== 'open') return false;
    const [first, second] = random < 0.5 ? [this.out, this.inbox] : [this.inbox, this.out];
    const queue = first.length > 0 ? first : second;
    const thing = queue.shift();
    if (queue === this.out && thing) this.room.place(this, thing);
    else thing?.();
    return thing !== undefined;
  }

  /** Its connection is lost, with what is on its way; the room learns of it later. */
  die() {
    this.state = 'waiting';
    this.out = [];
    this.inbox = [];
    this.lead(false);
  }

  comeBack() {
    this.state = 'open';
    this.inbox = [];
    this.room.enter(this);
  }

  draw(...points) {
    const stroke = this.sharing.begin(1, points);
    this.sharing.end(stroke);
    return stroke;
  }
}

test('what one draws all see, in one order', () => {
  const room = new Room();
  const [a, b, c] = [room.add(), room.add(), room.add()];
  room.settle(100);
  const strokes = [b.draw(1, 1, 2, 2), a.draw(3, 3), c.draw(4, 4)];
  assert.deepEqual(b.sharing.pending, [{ stroke: strokes[0], from: 0 }]);
  room.settle(200);
  const [first, ...others] = room.drawings;
  for (const other of others) assert.deepEqual(other, first);
  assert.deepEqual(first[1].map(({ id }) => id).sort(), strokes.map(({ id }) => id).sort());
  assert.deepEqual(b.sharing.pending, []);
  assert.ok(b.peopleLooked > 0);
});

test('who comes later gets the drawing, however large it is', () => {
  const room = new Room();
  const a = room.add();
  room.settle(100);
  for (let i = 0; i < 30; i++) {
    const stroke = a.sharing.begin(0, [0, 0]);
    for (let j = 1; j < MOST_STROKE_POINTS; j++) a.sharing.draw(stroke, [1500, 1000 + (j % 100)]);
    a.sharing.end(stroke);
  }
  const b = room.add();
  room.settle(100);
  assert.equal(b.sharing.drawing.strokes.size, MOST_POINTS / MOST_STROKE_POINTS);
  assert.deepEqual(room.drawings[1], room.drawings[0]);
});

test('who draws a lot while away sends it all at once, in messages that a relay takes', () => {
  const room = new Room();
  const [a, b] = [room.add(), room.add()];
  room.settle(100);
  b.die();
  for (let i = 0; i < 15; i++) {
    const stroke = b.sharing.begin(0, [0, 0]);
    for (let j = 1; j < MOST_STROKE_POINTS; j++) b.sharing.draw(stroke, [1500, 1000 + (j % 100)]);
    b.sharing.end(stroke);
  }
  room.leave(b);
  b.comeBack();
  room.settle(300);
  assert.equal(a.sharing.drawing.strokes.size, 15);
  assert.deepEqual(room.drawings[1], room.drawings[0]);
});

test('a host that is silent is asked again, and a message that was lost said again', () => {
  const room = new Room();
  const [a, b] = [room.add(), room.add()];
  room.settle(100);
  b.draw(1, 1);
  b.out = []; // the relay had no time for it
  room.settle(1_600);
  assert.equal(b.sharing.stuck, true);
  room.settle(2_000);
  assert.equal(a.sharing.drawing.strokes.size, 1);
  assert.equal(b.sharing.stuck, false);

  b.tell('error', { code: 'GAP' });
  assert.equal(b.sharing.synced, false);
  room.settle(4_000);
  assert.equal(b.sharing.synced, true);
});

test('a host that has not got the drawing yet gets it from the others', () => {
  const room = new Room();
  const [a, b, c] = [room.add(), room.add(), room.add()];
  room.settle(100);
  c.draw(1, 1);
  room.settle(100);
  b.die();
  room.leave(b);
  b.sharing.reset(); // its page was loaded anew
  b.comeBack();
  room.clients[0].die(); // and the host did not get to telling it
  room.leave(a);
  assert.equal(room.host, b);
  room.settle(100);
  assert.equal(b.sharing.drawing.strokes.size, 1);
  assert.deepEqual(room.drawings[1], room.drawings[0]);
});

test('when nobody has it, the next host goes on with what it has', () => {
  const room = new Room();
  const [a, b] = [room.add(), room.add()];
  a.die();
  room.leave(a);
  room.settle(1_000);
  assert.equal(b.isHost, true);
  const stroke = b.draw(1, 1);
  assert.equal(b.sharing.synced, false);
  room.settle(3_200);
  assert.equal(b.sharing.synced, true);
  assert.equal(b.sharing.drawing.has(stroke.id), 1);
});

test('nonsense from others changes nothing', () => {
  const room = new Room();
  const [a, b] = [room.add(), room.add()];
  room.settle(100);
  b.draw(1, 1);
  room.settle(100);
  const before = room.drawings;
  for (const text of ['', '{', 'null', '7', '{"say":"changes"}', '{"say":"changes","changes":[null,{"do":"draw"}]}', '{"say":"ask","from":"me"}',
    '{"say":"changes","changes":[{"do":"clear","age":0}]}', '{"say":"drawing","part":0,"parts":1,"age":0,"strokes":[]}']) {
    b.sendToHost(text);
  }
  for (const text of ['"', '{"say":"drawing"}', '{"say":"drawing","part":5,"parts":6,"age":0,"strokes":[]}', '{"say":"drawing","part":0,"parts":2,"age":0,"strokes":[]}']) {
    a.broadcast(text);
  }
  room.settle(100);
  assert.deepEqual(room.drawings, before);
});

test('whatever happens to hosts and connections, nothing that was drawn is lost, and all see the same', () => {
  for (let seed = 1; seed <= 500; seed++) {
    let state = seed * 7_919;
    const random = (below) => {
      state = (state * 48_271) % 2_147_483_647;
      return state % below;
    };
    const room = new Room();
    const strokes = [];
    const open = new Map();
    for (let i = 0; i < 4; i++) room.add();
    room.settle(100);
    for (let move = 0; move < 400; move++) {
      const client = room.clients[random(room.clients.length)];
      const away = room.clients.filter((other) => other.state !== 'open');
      const what = random(100);
      if (what < 60) {
        client.step(random(2));
      } else if (what < 75) {
        room.clock.advance(random(60));
      } else if (what < 94) {
        const stroke = open.get(client);
        if (!stroke) {
          open.set(client, client.sharing.begin(random(3), [random(100), random(100)]));
          strokes.push(open.get(client));
        } else if (random(4) > 0) {
          client.sharing.draw(stroke, [random(100), random(100)]);
        } else {
          client.sharing.end(stroke);
          open.delete(client);
        }
      } else if (what < 96 && room.host?.isHost && room.seats.size > 1) {
        const others = [...room.seats].filter((other) => other !== room.host);
        room.move(others[random(others.length)]);
      } else if (what < 98 && away.length === 0 && [...room.seats].every(({ sharing: { synced } }) => synced)) {
        client.die();
      } else if (away.length > 0) {
        if (room.seats.has(away[0])) room.leave(away[0]);
        else away[0].comeBack();
      }
    }
    for (const client of room.clients) {
      if (client.state === 'open') continue;
      if (room.seats.has(client)) room.leave(client);
      client.comeBack();
    }
    for (const [client, stroke] of open) client.sharing.end(stroke);
    room.settle();
    const [[age, first], ...others] = room.drawings;
    for (const other of others) assert.deepEqual(other, [age, first], `seed ${seed}: the same for all`);
    const sorted = (all) => [...all].sort((a, b) => (a.id < b.id ? -1 : 1));
    assert.deepEqual(sorted(first), sorted(strokes), `seed ${seed}: all that was drawn`);
    for (const { sharing } of room.clients) assert.deepEqual([sharing.synced, sharing.pending], [true, []], `seed ${seed}`);
  }
});
