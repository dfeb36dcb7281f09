/** RoomClient: how a client comes back, and what ends it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RejoinRequest } from '../relaywire.js';
import { outcome } from './fakes.js';
import { ROOM, setUp } from './relayfakes.js';

const STILL = 'the client is connected; if its node has died, its place is free within 15 seconds';

for (const code of [1006, 1012, 1013, 1011, 4000]) {
  test(`after ${code} it takes its id back`, () => {
    const t = setUp();
    t.lead(0);
    t.news();
    const socket = t.lose(code);
    socket.shake();
    const [[name, data]] = socket.take();
    assert.equal(name, 'reconnect');
    assert.deepEqual(RejoinRequest.decode(data), { roomId: 7, roomSecret: 77, clientId: 0, clientSecret: 1000 });
    socket.seat(0, 4321);
    assert.deepEqual(t.news().map(([type]) => type), ['host', 'reconnecting', 'connect']);
    assert.deepEqual(t.client.session, { ...ROOM, clientId: 0, clientSecret: 4321 });
  });
}

test('the waits are those of the other clients', () => {
  for (const [code, delay] of [[1006, 500], [1012, 500], [1013, 1_500], [1008, 45_000]]) {
    const t = setUp();
    t.enter().die(code);
    assert.equal(t.events('reconnecting')[0].delay, delay, String(code));
  }
});

test('while it counts as connected it asks again, on the same connection', () => {
  const t = setUp();
  t.enter(1);
  const socket = t.lose();
  socket.shake();
  t.news();
  const waits = [];
  for (let i = 1; i <= 6; i++) {
    assert.deepEqual(socket.takeNames(), ['reconnect']);
    socket.complain(400, STILL);
    const [[type, detail]] = t.news();
    assert.equal(type, 'reconnecting');
    assert.deepEqual([detail.code, detail.reason, detail.attempt], [400, STILL, i]);
    waits.push(detail.delay);
    assert.equal(t.client.state, 'connecting');
    t.clock.advance(detail.delay);
  }
  assert.deepEqual(waits, [750, 1_250, 2_250, 2_250, 2_250, 2_250]);
  assert.deepEqual(socket.takeNames(), ['reconnect']);
  socket.seat(1);
  assert.equal(t.client.state, 'open');
  t.client.leave();
  assert.equal(t.clock.size, 0);
});

test('it goes on so for as long as it is told to, over connections', () => {
  const t = setUp({ rejoinTimeout: 30_000 });
  t.enter(1);
  t.lose();
  const from = t.clock.now();
  while (t.client.state !== 'closed') {
    const { socket } = t;
    if (socket.readyState === 0) socket.shake();
    if (socket.takeNames().length > 0) socket.complain(400, STILL);
    // Nor does the wait begin anew with another connection.
    if (t.clock.now() - from === 10_000) socket.die();
    t.clock.advance(10);
  }
  const took = t.clock.now() - from;
  assert.ok(took >= 30_000 && took < 33_000, `${took} ms`);
  assert.deepEqual(t.events('closed'), [{ end: 'refused', code: 400, reason: STILL }]);
  assert.equal(t.clock.size, 0);
});

test('who has come back has all the time again', () => {
  const t = setUp({ rejoinTimeout: 1_000 });
  t.enter(1);
  for (let i = 0; i < 3; i++) {
    const socket = t.lose();
    socket.shake();
    socket.complain(400, STILL);
    t.clock.advance(750);
    socket.seat(1);
    assert.equal(t.client.state, 'open');
    t.clock.advance(10_000);
  }
});

test('joining may be less patient than coming back', async () => {
  const t = setUp();
  const joined = t.client.join({ ...ROOM, clientId: 1, clientSecret: 2, rejoinTimeout: 500 });
  t.socket.shake();
  t.socket.complain(400, STILL);
  t.clock.advance(750);
  t.socket.complain(400, STILL);
  assert.equal(await outcome(joined), 'STILL_CONNECTED');
  assert.equal(t.client.state, 'closed');
});

test('each time that it asks, the answer may take its time', () => {
  const t = setUp();
  t.enter(1);
  const socket = t.lose();
  socket.shake();
  for (let i = 0; i < 5; i++) {
    t.clock.advance(9_000);
    socket.complain(400, STILL);
    t.clock.advance(t.events('reconnecting').at(-1).delay);
    assert.equal(t.socket, socket, 'not given up');
  }
  t.clock.advance(10_000);
  assert.equal(t.client.state, 'waiting');
});

test('leaving ends the asking', () => {
  const t = setUp();
  t.enter(1);
  const socket = t.lose();
  socket.shake();
  socket.take();
  socket.complain(400, STILL);
  t.client.leave();
  t.clock.advance(60_000);
  assert.deepEqual(socket.takeNames(), []);
  assert.equal(t.clock.size, 0);
});

test('a place that is no more ends it', () => {
  const t = setUp();
  t.enter(1);
  const socket = t.lose();
  socket.shake();
  socket.complain(400, 'wrong room id or secret');
  assert.deepEqual(t.events('closed'), [{ end: 'refused', code: 400, reason: 'wrong room id or secret' }]);
  assert.equal(t.page.count, 0, 'the page is not listened to any more');
});

test('who is kicked is told, stops, and may come back with the session', () => {
  const t = setUp();
  t.enter(1).die(4002, 'kicked');
  assert.deepEqual(t.news().slice(-2), [['kicked', { code: 4002, reason: 'kicked' }], ['closed', { end: 'kicked', code: 4002, reason: 'kicked' }]]);
  t.clock.advance(100_000);
  assert.equal(t.sockets.length, 1);
  t.client.join(t.client.session);
  t.socket.shake();
  assert.deepEqual(t.socket.takeNames(), ['reconnect']);
});

test('the end of the room is told, also to who is only about to enter', async () => {
  const t = setUp();
  t.lead(0).die(4003, 'room closed');
  assert.deepEqual(t.news().slice(-2), [['host', { host: false }], ['closed', { end: 'room', code: 4003, reason: 'room closed' }]]);
  const joined = t.client.join(ROOM);
  t.socket.shake();
  t.socket.die(4003, 'room closed');
  assert.equal(await outcome(joined), 'REFUSED');
});

test('leaving and joining another room', () => {
  const t = setUp();
  const first = t.enter(1);
  t.client.leave();
  assert.equal(first.closedWith, 1000);
  assert.equal(t.client.clientId, 1);
  t.client.join({ roomId: 8, secret: 88 });
  assert.equal(t.client.clientId, null);
  t.socket.shake();
  assert.deepEqual(t.socket.takeNames(), ['connect']);
});

test('a wait is cut short when asked', () => {
  const t = setUp();
  t.enter(1).die(1013);
  t.client.hasten();
  assert.deepEqual(t.events('reconnecting').map(({ delay }) => delay), [1_500, 1_000]);
  t.clock.advance(1_000);
  assert.equal(t.sockets.length, 2);
});
