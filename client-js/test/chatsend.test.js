/** Chat: what is sent, how it is recognised when it comes back, and how promises end. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatError, FRAME_LIMIT, ParleyError } from '../chat.js';
import { ME, YOU, message, page, room, setUp } from './chatfakes.js';
import { outcome } from './fakes.js';

const mine = (n, content) => message(n, ME, content);

test('send writes one frame and is fulfilled when the message comes back', async () => {
  const t = setUp();
  t.open();
  const sent = t.client.send('7', 'hello "you" \u{1F44B}');
  assert.deepEqual(t.socket.take(), [['clientMessages', { roomId: '7', messages: [{ content: 'hello "you" \u{1F44B}' }] }]]);
  t.socket.live([message(4)]);
  t.socket.live([message(5, YOU, 'hello "you" \u{1F44B}')]);
  assert.equal(await outcome(sent), 'pending');
  t.socket.live([mine(6, 'hello "you" \u{1F44B}')]);
  assert.deepEqual(await sent, mine(6, 'hello "you" \u{1F44B}'));
  assert.equal(t.clock.size, 0);
});

test('the message is told before its promise is fulfilled', async () => {
  const t = setUp();
  t.open();
  const order = [];
  t.client.addEventListener('message', () => order.push('message'));
  const sent = t.client.send('7', 'x').then(() => order.push('sent'));
  t.socket.live([mine(4, 'x')]);
  await sent;
  assert.deepEqual(order, ['message', 'sent']);
});

test('messages that belong together come back in a row', async () => {
  const t = setUp();
  t.open();
  const sent = t.client.sendMessages('7', ['a', 'a', 'b']);
  t.socket.live([mine(4, 'a'), mine(5, 'a'), mine(6, 'a')]);
  assert.equal(await outcome(sent), 'pending');
  t.socket.live([mine(7, 'b')]);
  assert.deepEqual((await sent).map(({ id }) => id), [5, 6, 7].map((n) => mine(n).id));
});

test("others' messages between them are of no row", async () => {
  const t = setUp();
  t.open();
  const sent = t.client.sendMessages('7', ['a', 'b']);
  t.socket.live([mine(4, 'a'), message(5), mine(6, 'b')]);
  assert.equal(await outcome(sent), 'pending');
});

test('in one room the next is written when the one before has come back; rooms do not wait for each other', async () => {
  const t = setUp();
  t.open([room(1, 3), { id: '8', name: 'Mill', ...page(1, 2) }]);
  const all = [t.client.send('7', 'one'), t.client.send('7', 'two'), t.client.send('8', 'three'), t.client.send('7', 'four')];
  assert.deepEqual(t.socket.take().map(([, { messages }]) => messages[0].content), ['one', 'three']);
  t.socket.live([mine(4, 'one')]);
  assert.deepEqual(t.socket.take().map(([, { messages }]) => messages[0].content), ['two']);
  t.socket.refuse('RATE_LIMITED');
  assert.deepEqual(t.socket.take().map(([, { messages }]) => messages[0].content), ['four']);
  t.socket.live([mine(5, 'four')]);
  assert.deepEqual(await Promise.all(all.map(outcome)), ['fulfilled', 'RATE_LIMITED', 'pending', 'fulfilled']);
});

for (const code of ['EMPTY_MESSAGE', 'MESSAGE_TOO_LONG', 'TOO_MANY_MESSAGES', 'RATE_LIMITED', 'UNAVAILABLE', 'ROOM_FULL', 'UNKNOWN_ROOM']) {
  test(`send is rejected with the relay's ${code}`, async () => {
    const t = setUp();
    t.open();
    const sent = t.client.send('7', 'x');
    t.socket.refuse(code);
    await assert.rejects(sent, (error) => error instanceof ChatError && error instanceof ParleyError
      && error.code === code && error.message === `refused: ${code}` && error.retryAfter === null);
    assert.equal(t.clock.size, 0);
    assert.deepEqual(t.events('error'), []);
  });
}

test('an error that nobody waits for is an event', () => {
  const t = setUp();
  t.open([room(1, 3), { id: '8', name: 'Mill', ...page(1, 2) }]);
  t.client.send('7', 'x');
  t.socket.refuse('RATE_LIMITED', '8');
  t.socket.live([mine(4, 'x')]);
  t.socket.refuse('BAD_REQUEST', null);
  assert.deepEqual(t.events('error').map(({ code, roomId }) => [code, roomId]), [['RATE_LIMITED', '8'], ['BAD_REQUEST', null]]);
});

test('an error that names no room is about the one thing that was asked', async () => {
  const t = setUp();
  t.open();
  const sent = t.client.send('7', 'x');
  t.socket.refuse('RATE_LIMITED', null);
  assert.equal(await outcome(sent), 'RATE_LIMITED');
});

test('an error that may be about several leaves all of them unknown', async () => {
  const t = setUp();
  t.open([room(1, 3), { id: '8', name: 'Mill', ...page(1, 2, true) }]);
  const sent = t.client.send('7', 'x');
  const older = t.client.loadOlder('8');
  t.socket.refuse('RATE_LIMITED', null);
  assert.deepEqual([await outcome(sent), await outcome(older)], ['UNKNOWN', 'OFFLINE']);
});

test('what is no message is refused here', async () => {
  const t = setUp();
  t.open();
  for (const [contents, code] of [[[], 'EMPTY_MESSAGE'], [[''], 'EMPTY_MESSAGE'], [['x', ''], 'EMPTY_MESSAGE'], [[7], 'BAD_REQUEST'],
    ['text', 'BAD_REQUEST'], [undefined, 'BAD_REQUEST'], [Array(FRAME_LIMIT + 1).fill('x'), 'TOO_MANY_MESSAGES']]) {
    assert.equal(await outcome(t.client.sendMessages('7', contents)), code, JSON.stringify(contents)?.slice(0, 20));
  }
  assert.equal(await outcome(t.client.send('9', 'x')), 'UNKNOWN_ROOM');
  assert.deepEqual(t.socket.take(), []);
  t.client.sendMessages('7', Array(FRAME_LIMIT).fill('x'));
  assert.equal(t.socket.take()[0][1].messages.length, 100);
});

test('halves of characters come back as what the relay makes of them', async () => {
  const t = setUp();
  t.open();
  const sent = t.client.send('7', 'a\ud83d b\udc4b \ud83d\udc4b');
  const [[, { messages: [{ content }] }]] = t.socket.take();
  assert.equal(content, 'a\ufffd b\ufffd \ud83d\udc4b');
  t.socket.live([mine(4, content)]);
  assert.equal(await outcome(sent), 'fulfilled');
});

// The connection breaks.

test('a node that is killed between two messages: the first is not sent again, the second is sent once', async () => {
  const t = setUp();
  t.open();
  const first = t.client.send('7', 'first');
  const second = t.client.send('7', 'second');
  t.socket.take();
  t.lose();
  assert.deepEqual([await outcome(first), await outcome(second)], ['UNKNOWN', 'pending']);
  // It was stored after all, and comes with what was missed.
  t.socket.hello([room(1, 0, true, { messages: [mine(4, 'first')], recovered: true })]);
  assert.deepEqual(t.socket.take().map(([, { messages }]) => messages), [[{ content: 'second' }]]);
  t.socket.live([mine(5, 'second')]);
  assert.equal(await outcome(second), 'fulfilled');
  assert.deepEqual(t.heard(), ['first', 'second']);
});

test('what was missed is not taken for what is sent after it', async () => {
  const t = setUp();
  t.open();
  t.client.send('7', 'same').catch(() => {});
  t.lose();
  const again = [];
  t.client.addEventListener('open', () => again.push(t.client.send('7', 'same')));
  t.socket.hello([room(1, 0, true, { messages: [mine(4, 'same')], recovered: true })]);
  assert.equal(await outcome(again[0]), 'pending');
  t.socket.live([mine(5, 'same')]);
  assert.equal((await again[0]).id, mine(5).id);
});

test('what a listener sends is not what it hears of', async () => {
  const t = setUp();
  t.open();
  const sent = [];
  t.client.addEventListener('message', () => { if (sent.length === 0) sent.push(t.client.send('7', 'echo')); });
  t.socket.live([message(4), mine(5, 'echo')]);
  assert.equal(await outcome(sent[0]), 'pending');
  t.socket.live([mine(6, 'echo')]);
  assert.equal((await sent[0]).id, mine(6).id);
});

test('nothing is sent to a room with a hole before it is closed', async () => {
  const t = setUp();
  t.open();
  t.lose().hello([room(151, 250, true, { recovered: true })]);
  const sent = t.client.send('7', 'x');
  t.socket.take();
  t.socket.history(page(1, 150));
  assert.equal(t.socket.take()[0][0], 'clientMessages');
  t.socket.live([mine(251, 'x')]);
  assert.equal(await outcome(sent), 'fulfilled');
});

test('a message without an answer in time is unknown, and ends the connection', async () => {
  const t = setUp({ requestTimeout: 500 });
  t.open();
  const sent = t.client.send('7', 'x');
  t.clock.advance(400);
  t.socket.live([message(4)]);
  assert.equal(await outcome(sent), 'pending');
  t.clock.advance(100);
  assert.equal(await outcome(sent), 'UNKNOWN');
  assert.equal(t.client.state, 'waiting', 'what comes later could not be told apart any more');
});

test('a relay that closes over a frame that is too big: the biggest was it', async () => {
  const t = setUp();
  t.open([room(1, 3), { id: '8', name: 'Mill', ...page(1, 2) }]);
  const all = [t.client.send('7', 'x'), t.client.send('8', 'x'.repeat(1000))];
  t.socket.die(1009);
  assert.deepEqual(await Promise.all(all.map(outcome)), ['UNKNOWN', 'MESSAGE_TOO_LONG']);
});

test('the queue waits for the connection, in order, and has a bound', async () => {
  const t = setUp({ queueLimit: 2 });
  assert.equal(await outcome(t.client.send('7', 'x')), 'CLOSED');
  t.client.connect();
  const all = [t.client.send('7', 'one'), t.client.send('9', 'two'), t.client.send('7', 'three')];
  assert.deepEqual(await Promise.all(all.map(outcome)), ['pending', 'pending', 'QUEUE_FULL']);
  t.socket.hello();
  assert.equal(await outcome(all[1]), 'UNKNOWN_ROOM');
  assert.deepEqual(t.socket.take().map(([, { messages }]) => messages[0].content), ['one']);
});

test('close rejects what has not come back', async () => {
  const t = setUp();
  t.open();
  const all = [t.client.send('7', 'one'), t.client.send('7', 'two')];
  t.client.close();
  assert.deepEqual(await Promise.all(all.map(outcome)), ['UNKNOWN', 'CLOSED']);
});

test('the end of the session rejects it too', async () => {
  const t = setUp();
  t.open();
  const all = [t.client.send('7', 'one'), t.client.send('7', 'two')];
  t.socket.die(1008);
  assert.deepEqual(await Promise.all(all.map(outcome)), ['UNKNOWN', 'CLOSED']);
});

test('what one user wrote is not sent as the next one', async () => {
  const t = setUp();
  t.open();
  t.lose();
  const sent = t.client.send('7', 'from maria');
  t.socket.hello([room(1, 3)], YOU);
  assert.equal(await outcome(sent), 'CLOSED');
  assert.deepEqual(t.socket.take(), []);
});
