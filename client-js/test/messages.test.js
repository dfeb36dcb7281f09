/** Messages on a connection: what is written, and how promises end. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ParleyError, TextoClient, isAddress } from '../parley.js';
import { ME, YOU, outcome, setUp } from './fakes.js';

const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test('is open once it is greeted, not before', () => {
  const t = setUp();
  assert.equal(t.client.state, 'closed');
  t.client.connect();
  assert.equal(t.client.state, 'connecting');
  assert.equal(t.socket.url, 'ws://relay.test/v1/texto');
  t.socket.shake();
  assert.equal(t.client.state, 'connecting');
  assert.equal(t.client.clientId, null);
  t.socket.greet(ME, 'n7');
  assert.equal(t.client.state, 'open');
  assert.equal(t.client.clientId, ME);
  assert.equal(t.client.node, 'n7');
  assert.deepEqual(t.log, [
    ['state', { state: 'connecting' }],
    ['state', { state: 'open' }],
    ['open', { clientId: ME, node: 'n7', resumed: false, recovered: false }],
  ]);
  assert.equal(t.clock.size, 0, 'the greeting has beaten its deadline');
});

test('a relay that does not name its node is fine', () => {
  const t = setUp();
  t.client.connect();
  t.socket.shake();
  t.socket.say({ kind: 'connection', id: 'x', client_id: ME, data: { client_id: ME, extra: 1 } });
  assert.deepEqual(t.events('open'), [{ clientId: ME, node: '', resumed: false, recovered: false }]);
  assert.equal(t.client.node, null);
});

test('connecting twice makes one connection', () => {
  const t = setUp();
  t.client.connect();
  t.client.connect();
  t.socket.greet();
  t.client.connect();
  assert.equal(t.sockets.length, 1);
});

test('send writes one frame and is fulfilled by its ack', async () => {
  const t = setUp();
  const socket = t.open();
  const sent = t.client.send(YOU, 'hello "you" \u{1F44B}');
  const [frame] = socket.sent;
  assert.match(frame.id, UUID_V4);
  assert.deepEqual(frame, {
    client_id: ME, id: frame.id, kind: 'send', data: { receiver_id: YOU, text: 'hello "you" \u{1F44B}' },
  });
  assert.equal(await outcome(sent), 'pending');
  socket.say({ kind: 'ack', id: 'of something else', client_id: ME, data: null });
  assert.equal(await outcome(sent), 'pending');
  socket.ack(0);
  assert.equal(await outcome(sent), 'fulfilled');
  assert.equal(t.clock.size, 0, 'no timer is left behind');
});

test('answers are matched by id, in any order', async () => {
  const t = setUp();
  const socket = t.open();
  const sent = ['a', 'b', 'c'].map((text) => t.client.send(YOU, text));
  assert.equal(new Set(socket.sent.map(({ id }) => id)).size, 3);
  socket.ack(2);
  socket.refuse(0, 'ERATE');
  assert.deepEqual(await Promise.all(sent.map(outcome)), ['ERATE', 'pending', 'fulfilled']);
});

for (const code of ['ERATE', 'ETOOBIG', 'EINVAL', 'EBROKER']) {
  test(`send is rejected with the relay's ${code}`, async () => {
    const t = setUp();
    const socket = t.open();
    const sent = t.client.send(YOU, 'x');
    socket.refuse(0, code, 'what the relay says');
    await assert.rejects(sent, (error) => error instanceof ParleyError && error instanceof Error
      && error.code === code && error.message === 'what the relay says' && error.name === 'ParleyError');
    assert.equal(t.client.state, 'open');
  });
}

test('send refuses what is no message before it is written', async () => {
  const t = setUp();
  const socket = t.open();
  assert.equal(await outcome(t.client.send('nobody', 'x')), 'EINVAL');
  assert.equal(await outcome(t.client.send(`${YOU} `, 'x')), 'EINVAL');
  assert.equal(await outcome(t.client.send(undefined, 'x')), 'EINVAL');
  assert.equal(await outcome(t.client.send(YOU, 7)), 'EINVAL');
  assert.deepEqual(socket.sent, []);
  t.client.send(YOU.toUpperCase().replaceAll('2', 'A'), '');
  assert.equal(socket.sent.length, 1, 'upper case and an empty text are fine');
});

test('send without an answer is rejected in time', async () => {
  const t = setUp({ requestTimeout: 500 });
  const socket = t.open();
  const sent = t.client.send(YOU, 'x');
  t.clock.advance(499);
  assert.equal(await outcome(sent), 'pending');
  socket.say({ kind: 'receive', id: 'r', client_id: ME, data: { sender_id: YOU, text: 'alive' } });
  t.clock.advance(1);
  assert.equal(await outcome(sent), 'ETIMEOUT');
  assert.equal(t.client.state, 'open', 'the connection lives: something came in');
  socket.ack(0);
  assert.equal(t.client.state, 'open', 'an ack that comes too late does no harm');
});

test('a connection that is silent for a whole request is given up', async () => {
  const t = setUp({ requestTimeout: 500 });
  const socket = t.open();
  const first = t.client.send(YOU, 'x');
  t.clock.advance(100);
  const second = t.client.send(YOU, 'y');
  t.clock.advance(400);
  assert.equal(await outcome(first), 'ETIMEOUT');
  assert.equal(await outcome(second), 'ECONN');
  assert.equal(socket.closedWith, null);
  assert.equal(t.client.state, 'waiting');
  assert.equal(t.events('reconnecting')[0].reason, 'no answer in time');
  socket.die();
  assert.equal(t.events('reconnecting').length, 1, 'its end is no news');
});

test('each message is handed on and then acknowledged', () => {
  const t = setUp();
  const socket = t.open();
  t.client.addEventListener('message', () => assert.deepEqual(socket.sent, []), { once: true });
  socket.say({ kind: 'receive', id: 'r1', client_id: ME, data: { sender_id: YOU, text: '<b>hi</b>' } });
  assert.deepEqual(t.events('message'), [{ senderId: YOU, text: '<b>hi</b>', id: 'r1' }]);
  assert.deepEqual(socket.sent, [{ client_id: ME, id: 'r1', kind: 'ack', data: null }]);
});

test('a listener that closes the client stops the ack', () => {
  const t = setUp();
  const socket = t.open();
  t.client.addEventListener('message', () => t.client.close());
  socket.say({ kind: 'receive', id: 'r1', client_id: ME, data: { sender_id: YOU, text: 'x' } });
  socket.say({ kind: 'receive', id: 'r2', client_id: ME, data: { sender_id: YOU, text: 'y' } });
  assert.deepEqual(socket.sent, []);
  assert.equal(t.events('message').length, 1);
});

test('frames that are not of the protocol are passed over', () => {
  const t = setUp();
  const socket = t.open();
  const before = t.log.length;
  for (const frame of [
    '', 'no json', 'null', '7', '"text"', '[]', '{}', '{"kind":"receive"}', new ArrayBuffer(8), undefined,
    { kind: 7, id: 'x' },
    { kind: 'receive', id: 7, data: { sender_id: YOU, text: 'x' } },
    { kind: 'receive', id: 'x', data: null },
    { kind: 'receive', id: 'x', data: { sender_id: YOU } },
    { kind: 'receive', id: 'x', data: { sender_id: YOU, text: 7 } },
    { kind: 'receive', id: 'x', data: 'text' },
    { kind: 'ack', id: '__proto__', data: null },
    { kind: 'error', id: 'x', data: null },
    { kind: 'error', id: 'x', data: [] },
    { kind: 'connection', id: 'x', data: { client_id: YOU } },
    { kind: 'of a later version', id: 'x', data: {} },
  ]) socket.say(frame);
  assert.equal(t.log.length, before);
  assert.deepEqual(socket.sent, []);
  assert.equal(t.client.clientId, ME, 'a second greeting changes nothing');
  socket.say({ kind: 'receive', id: 'r', data: { sender_id: YOU, text: 'x', more: [1] }, more: 1 });
  assert.equal(t.events('message').length, 1, 'unknown fields are ignored');
});

test('a greeting without an address is none', () => {
  const t = setUp({ requestTimeout: 500 });
  t.client.connect();
  t.socket.shake();
  t.socket.say({ kind: 'connection', id: 'x', data: { client_id: 'someone' } });
  t.socket.say({ kind: 'connection', id: 'x', data: null });
  assert.equal(t.client.state, 'connecting');
  t.clock.advance(500);
  assert.equal(t.client.state, 'waiting');
  assert.equal(t.events('reconnecting')[0].reason, 'no greeting in time');
});

test('offline, messages wait in order and go ahead of what listeners send', async () => {
  const t = setUp();
  t.client.addEventListener('state', ({ detail }) => {
    if (detail.state === 'open') t.client.send(YOU, 'from a listener');
  });
  t.client.connect();
  const first = t.client.send(YOU, 'one');
  const second = t.client.send(YOU, 'two');
  assert.deepEqual(t.socket.sent, []);
  t.clock.advance(9_000);
  t.socket.greet();
  assert.deepEqual(t.socket.sent.map(({ data }) => data.text), ['one', 'two', 'from a listener']);
  assert.deepEqual(t.socket.sent.map(({ client_id: id }) => id), [ME, ME, ME]);
  t.clock.advance(9_999);
  assert.equal(await outcome(first), 'pending', 'its time runs from when it was written');
  t.socket.ack(0);
  t.socket.ack(1);
  assert.deepEqual([await outcome(first), await outcome(second)], ['fulfilled', 'fulfilled']);
});

test('the queue is bounded', async () => {
  const t = setUp({ queueLimit: 2 });
  t.client.connect();
  const sent = ['a', 'b', 'c'].map((text) => t.client.send(YOU, text));
  assert.deepEqual(await Promise.all(sent.map(outcome)), ['pending', 'pending', 'EQUEUE']);
  t.socket.greet();
  assert.equal(t.socket.sent.length, 2);
  t.client.send(YOU, 'd');
  assert.equal(t.socket.sent.length, 3, 'there is room again');
});

test('a connection that dies takes along what was written, not what was queued', async () => {
  const t = setUp();
  const socket = t.open();
  const written = t.client.send(YOU, 'written');
  socket.readyState = 2; // the relay has begun to close
  const queued = t.client.send(YOU, 'queued');
  socket.die(1006);
  assert.equal(await outcome(written), 'ECONN');
  assert.equal(await outcome(queued), 'pending');
  t.clock.advance(1_000);
  t.socket.greet();
  assert.notEqual(t.socket, socket);
  assert.deepEqual(t.socket.sent.map(({ data }) => data.text), ['queued'], 'nothing is sent twice');
  t.socket.ack(0);
  assert.equal(await outcome(queued), 'fulfilled');
});

test('a greeting on a connection that closes already keeps the queue', async () => {
  const t = setUp();
  t.client.connect();
  const queued = t.client.send(YOU, 'queued');
  t.socket.readyState = 2;
  t.socket.say({ kind: 'connection', id: 'x', data: { client_id: ME } });
  assert.deepEqual(t.socket.sent, []);
  assert.equal(await outcome(queued), 'pending');
});

test('over a frame that is too big, the biggest message is the one', async () => {
  const t = setUp();
  const socket = t.open();
  const sent = ['small', 'bi\u00e9\u00e9\u00e9\u00e9g', 'longer 8b'].map((text) => t.client.send(YOU, text));
  socket.die(1009, 'frame over the limit');
  assert.deepEqual(await Promise.all(sent.map(outcome)), ['ECONN', 'ETOOBIG', 'ECONN'], 'in bytes');
  assert.equal(t.client.state, 'waiting');
});

test('close stops, and settles every promise', async () => {
  const t = setUp();
  const socket = t.open();
  const written = t.client.send(YOU, 'written');
  socket.readyState = 2;
  const queued = t.client.send(YOU, 'queued');
  t.client.close();
  assert.equal(socket.closedWith, 1000);
  assert.deepEqual([await outcome(written), await outcome(queued)], ['ECONN', 'ECLOSED']);
  assert.equal(await outcome(t.client.send(YOU, 'late')), 'ECLOSED');
  assert.equal(t.client.state, 'closed');
  assert.equal(t.client.clientId, null);
  assert.deepEqual(t.log.slice(-2), [['state', { state: 'closed' }], ['close', { code: 1000, reason: '' }]]);
  socket.die(1000);
  t.client.close();
  t.clock.advance(1e6);
  assert.equal(t.sockets.length, 1);
  assert.equal(t.events('close').length, 1);
  assert.equal(t.clock.size, 0);
});

test('send before connect is rejected', async () => {
  assert.equal(await outcome(setUp().client.send(YOU, 'x')), 'ECLOSED');
});

test('a client that was closed can be started again', () => {
  const t = setUp();
  t.open();
  t.client.close();
  t.open();
  assert.equal(t.client.state, 'open');
  assert.equal(t.sockets.length, 2);
});

test('the URL may be http, and must be one', () => {
  const t = setUp({ url: new URL('https://relay.test/v1/texto?x=1') });
  t.client.connect();
  assert.equal(t.socket.url, 'wss://relay.test/v1/texto?x=1');
  assert.throws(() => new TextoClient({ url: 'nonsense' }), TypeError);
  assert.throws(() => new TextoClient(), TypeError, 'there is no page to take it from');
});

test('in a page, the URL is relative to it', (t) => {
  globalThis.location = { href: 'https://chat.test/deep/page?q#to=x' };
  t.after(() => { delete globalThis.location; });
  const byDefault = setUp({ url: undefined });
  byDefault.client.connect();
  assert.equal(byDefault.socket.url, 'wss://chat.test/v1/texto');
  const relative = setUp({ url: '/relay/texto' });
  relative.client.connect();
  assert.equal(relative.socket.url, 'wss://chat.test/relay/texto');
});

test('isAddress', () => {
  assert.equal(isAddress(ME), true);
  assert.equal(isAddress('ABCDEF01-0000-0000-0000-00000000000F'), true);
  assert.equal(isAddress('{11111111-1111-4111-8111-111111111111}'), false);
  assert.equal(isAddress(null), false);
});
