/** Chat: reading back, how much is kept, and who is here. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ME, YOU, contents, message, page, room, setUp } from './chatfakes.js';
import { outcome } from './fakes.js';

test('older messages are put in front, a page at a time, until there are no more', async () => {
  const t = setUp();
  t.open([room(201, 300, true)]);
  const first = t.client.loadOlder('7');
  assert.deepEqual(t.socket.take(), [['requestRoomHistory', { roomId: '7', firstMessageId: message(201).id }]]);
  t.socket.live([message(301)]);
  t.socket.history(page(101, 200, true));
  assert.deepEqual((await first).map(({ content }) => content), contents(101, 200));
  const second = t.client.loadOlder('7');
  t.socket.history(page(1, 100));
  await second;
  assert.deepEqual(t.holds(), contents(1, 301));
  assert.equal(t.client.rooms.get('7').hasMoreMessages, false);
  assert.deepEqual(t.events('history').map(({ roomId, messages, hasMoreMessages }) => [roomId, messages.length, hasMoreMessages]), [
    ['7', 100, true], ['7', 100, false],
  ]);
  t.socket.take();
  assert.deepEqual(await t.client.loadOlder('7'), []);
  assert.deepEqual(t.socket.take(), [], 'there is nothing to ask for');
});

test('one question a room at a time', async () => {
  const t = setUp();
  t.open([room(101, 200, true), { id: '8', name: 'Mill', ...page(11, 20, true) }]);
  const all = [t.client.loadOlder('7'), t.client.loadOlder('7'), t.client.loadOlder('8')];
  assert.equal(t.socket.take().length, 2);
  t.socket.history(page(1, 10), '8');
  t.socket.history(page(1, 100), '7');
  assert.deepEqual((await Promise.all(all)).map(({ length }) => length), [100, 100, 10]);
  assert.deepEqual([t.holds('8').length, t.holds().length], [20, 200]);
});

test('history is refused, and may be asked for again', async () => {
  const t = setUp();
  t.open([room(101, 200, true)]);
  const first = t.client.loadOlder('7');
  t.socket.refuse('UNAVAILABLE');
  assert.equal(await outcome(first), 'UNAVAILABLE');
  const second = t.client.loadOlder('7');
  t.socket.history(page(1, 100));
  assert.equal(await outcome(second), 'fulfilled');
  assert.deepEqual(t.events('error'), []);
});

test('history without a connection, of no room, or over a connection that ends', async () => {
  const t = setUp();
  assert.equal(await outcome(t.client.loadOlder('7')), 'OFFLINE');
  t.open([room(101, 200, true)]);
  assert.equal(await outcome(t.client.loadOlder('9')), 'UNKNOWN_ROOM');
  const older = t.client.loadOlder('7');
  t.lose();
  assert.equal(await outcome(older), 'OFFLINE');
  t.socket.hello([room(1, 0, true, { recovered: true })]);
  const again = t.client.loadOlder('7');
  t.socket.live([message(201)]);
  t.socket.history(page(1, 100));
  assert.equal(await outcome(again), 'fulfilled');
  assert.deepEqual(t.holds(), contents(1, 201));
});

test('history that is never answered ends the connection', async () => {
  const t = setUp({ requestTimeout: 500 });
  t.open([room(101, 200, true)]);
  const older = t.client.loadOlder('7');
  t.clock.advance(499);
  assert.equal(t.client.state, 'open');
  t.clock.advance(1);
  assert.equal(t.client.state, 'waiting');
  assert.equal(await outcome(older), 'OFFLINE');
});

test('older messages that are wished for while a hole is open come after it is closed', async () => {
  const t = setUp();
  t.open([room(100, 103, true)]);
  t.lose().hello([room(151, 250, true, { recovered: true })]);
  const older = t.client.loadOlder('7');
  t.socket.history(page(51, 150, true));
  assert.equal(await outcome(older), 'pending');
  assert.deepEqual(t.socket.take().at(-1), ['requestRoomHistory', { roomId: '7', firstMessageId: message(100).id }]);
  t.socket.history(page(1, 99));
  assert.equal((await older).length, 99);
  assert.deepEqual(t.holds(), contents(1, 250));
});

test('a room keeps so many messages, and those that were paged back to', async () => {
  const t = setUp({ roomLimit: 5 });
  t.open([room(11, 14)]);
  t.socket.live([message(15)]);
  assert.equal(t.client.rooms.get('7').hasMoreMessages, false);
  t.socket.live([message(16)]);
  assert.deepEqual(t.holds(), contents(12, 16));
  assert.equal(t.client.rooms.get('7').hasMoreMessages, true);
  t.socket.live([message(11)]);
  assert.deepEqual(t.holds(), contents(12, 16), 'what was let go of comes by paging only');
  const older = t.client.loadOlder('7');
  t.socket.history(page(9, 11));
  await older;
  t.socket.live([message(17)]);
  assert.deepEqual(t.holds(), contents(10, 17));
});

// Who is here.

test('presence and typing are told', () => {
  const t = setUp();
  t.open([room(1, 3, false, { online: [ME] })]);
  t.socket.tell('presence', { roomId: '7', user: YOU, online: true });
  assert.deepEqual(t.client.rooms.get('7').online, [ME, YOU]);
  t.socket.tell('typing', { roomId: '7', user: YOU });
  t.socket.tell('presence', { roomId: '7', user: YOU, online: false });
  assert.deepEqual(t.client.rooms.get('7').online, [ME]);
  assert.deepEqual(t.log.slice(3), [
    ['presence', { roomId: '7', user: YOU, online: true }],
    ['typing', { roomId: '7', user: YOU }],
    ['presence', { roomId: '7', user: YOU, online: false }],
  ]);
  t.lose().hello([room(1, 0, true, { recovered: true, online: [YOU] })]);
  assert.deepEqual(t.client.rooms.get('7').online, [YOU], 'the greeting says it anew');
});

test('typing goes out once each two seconds', () => {
  const t = setUp();
  t.client.typing('7');
  t.open();
  t.client.typing('7');
  t.client.typing('7');
  t.clock.advance(1_999);
  t.client.typing('7');
  assert.deepEqual(t.socket.take(), [['typing', { roomId: '7' }]]);
  t.clock.advance(1);
  t.client.typing('9');
  t.client.typing('7');
  assert.equal(t.socket.take().length, 1);
});
