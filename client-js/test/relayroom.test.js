/** RoomClient: joining, what is told, what is relayed, and what is asked. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RelayType, Relay, JoinRequest, RejoinRequest, Subject } from '../relaywire.js';
import { outcome, settled } from './fakes.js';
import { ROOM, setUp } from './relayfakes.js';

const decode = (data) => new TextDecoder().decode(data);

test('joining asks for a place, and is fulfilled with what lets one come back', async () => {
  const t = setUp();
  const joined = t.client.join(ROOM);
  assert.equal(t.client.state, 'connecting');
  assert.equal(t.socket.url, 'ws://relay.test/v1/websocket');
  assert.equal(t.socket.binaryType, 'arraybuffer');
  t.socket.shake();
  const [[name, data]] = t.socket.take();
  assert.equal(name, 'connect');
  assert.deepEqual(JoinRequest.decode(data), { roomId: 7, roomSecret: 77 });
  assert.equal(await outcome(joined), 'pending');
  t.socket.seat(3, -5);
  assert.deepEqual(await joined, { roomId: 7, secret: 77, clientId: 3, clientSecret: -5 });
  assert.deepEqual(t.log, [
    ['state', { state: 'connecting' }], ['state', { state: 'open' }], ['connect', { roomId: 7, clientId: 3, rejoined: false }],
  ]);
  assert.deepEqual([t.client.clientId, t.client.isHost, t.client.hostId], [3, false, null]);
  assert.deepEqual(t.client.session, await joined);
});

test('joining with a session takes an id back', async () => {
  const t = setUp();
  const joined = t.client.join({ ...ROOM, clientId: 0, clientSecret: 9 });
  t.socket.shake();
  const [[name, data]] = t.socket.take();
  assert.equal(name, 'reconnect');
  assert.deepEqual(RejoinRequest.decode(data), { roomId: 7, roomSecret: 77, clientId: 0, clientSecret: 9 });
  t.socket.seat(0, 10);
  assert.equal((await joined).clientSecret, 10);
  assert.deepEqual(t.events('connect'), [{ roomId: 7, clientId: 0, rejoined: true }]);
});

test('a refusal ends the joining, and another room may be tried', async () => {
  const t = setUp();
  const joined = t.client.join(ROOM);
  t.socket.shake();
  t.socket.complain(400, 'wrong room id or secret');
  await assert.rejects(joined, { name: 'RoomError', code: 'REFUSED', status: 400, message: 'wrong room id or secret' });
  assert.deepEqual(t.events('closed'), [{ end: 'refused', code: 400, reason: 'wrong room id or secret' }]);
  assert.equal(t.client.state, 'closed');
  assert.equal(t.socket.closedWith, 1000);
  assert.equal(t.client.session, null);
  assert.equal(t.clock.size, 0, 'no timer is left');
  t.enter(0);
  assert.equal(t.client.state, 'open');
});

for (const [code, message] of [[500, 'try again'], [429, 'slow down']]) {
  test(`a relay that answers ${code} is asked again later`, async () => {
    const t = setUp();
    const joined = t.client.join(ROOM);
    t.socket.shake();
    t.socket.complain(code, message);
    assert.deepEqual(t.events('reconnecting'), [{ code: 1006, reason: message, attempt: 1, delay: 500 }]);
    t.clock.advance(500);
    t.socket.shake();
    t.socket.seat(0);
    assert.equal(await outcome(joined), 'fulfilled');
  });
}

test('a relay that gives no place in time is given up', () => {
  const t = setUp();
  t.client.join(ROOM);
  t.socket.shake();
  t.clock.advance(9_999);
  assert.equal(t.client.state, 'connecting');
  t.clock.advance(1);
  assert.equal(t.client.state, 'waiting');
});

test('what cannot be an id, or comes in between, joins nothing', async () => {
  const t = setUp();
  for (const place of [{ roomId: '7', secret: 1 }, { roomId: 1.5, secret: 1 }, { roomId: 2 ** 31, secret: 1 }, { ...ROOM, clientId: NaN }]) {
    await assert.rejects(t.client.join(place), { code: 'INVALID' });
  }
  assert.equal(t.sockets.length, 0);
  t.enter();
  await assert.rejects(t.client.join(ROOM), { code: 'INVALID' });
});

test('without a WebSocket nothing is joined, and why is said', async () => {
  const own = globalThis.WebSocket;
  delete globalThis.WebSocket; // which newer runtimes have
  try {
    const { client, log } = setUp({ WebSocket: undefined });
    await assert.rejects(client.join(ROOM), { name: 'RoomError', code: 'NO_WEBSOCKET', message: /Node 22 .* ws package/ });
    assert.deepEqual([client.state, log], ['closed', []]);
  } finally {
    if (own) globalThis.WebSocket = own;
  }
});

test('leaving before there is a place', async () => {
  const t = setUp();
  const joined = t.client.join(ROOM);
  t.client.leave();
  assert.equal(await outcome(joined), 'CLOSED');
  assert.equal(t.socket.closedWith, 1000);
  assert.deepEqual(t.events('closed'), [{ end: 'left', code: 1000, reason: '' }]);
  t.client.leave();
  assert.equal(t.events('closed').length, 1, 'once is enough');
});

// Who is host.

test('the first host is told', () => {
  const t = setUp();
  const socket = t.enter(0);
  t.news();
  socket.assign();
  socket.came(0, true);
  assert.deepEqual(t.news(), [['host', { host: true }], ['clientconnect', { id: 0, host: true }]]);
  assert.deepEqual([t.client.isHost, t.client.hostId], [true, 0]);
});

test('the host moves away and back', () => {
  const t = setUp();
  const socket = t.lead(0);
  t.news();
  socket.migrate(4);
  assert.deepEqual(t.news(), [
    ['host', { host: false }], ['migratebegin', {}], ['migratefinish', { hostId: 4, host: false }],
  ]);
  assert.deepEqual([t.client.isHost, t.client.hostId], [false, 4]);
  socket.migrate(0, true);
  socket.left(4);
  assert.deepEqual(t.news(), [
    ['migratebegin', {}], ['host', { host: true }], ['migratefinish', { hostId: 0, host: true }],
    ['clientdisconnect', { id: 4, host: false }],
  ]);
});

test('between two hosts nobody is', () => {
  const t = setUp();
  const socket = t.lead(0);
  let during;
  t.client.addEventListener('migratebegin', () => { during = [t.client.isHost, t.client.hostId]; });
  socket.migrate(4);
  assert.deepEqual(during, [false, null]);
});

test('without a connection nobody is host', () => {
  const t = setUp();
  const socket = t.lead(0);
  t.news();
  socket.die();
  assert.deepEqual([t.client.isHost, t.client.hostId], [false, null]);
  assert.deepEqual(t.news().map(([type]) => type), ['host', 'reconnecting']);
});

test('a listener that leaves as host ends it there', () => {
  const t = setUp();
  const socket = t.lead(0);
  t.client.addEventListener('host', () => t.client.leave());
  t.news();
  socket.die();
  assert.deepEqual(t.news(), [['host', { host: false }], ['closed', { end: 'left', code: 1000, reason: '' }]]);
  assert.equal(t.client.state, 'closed');
  assert.equal(t.clock.size, 0);
});

// What is relayed.

test('a host speaks to all and to one', () => {
  const t = setUp();
  const socket = t.lead(0);
  t.client.broadcast('all');
  t.client.sendTo(5, Uint8Array.of(1, 2));
  t.client.sendTo(0, Uint8Array.of(3).buffer);
  assert.deepEqual(socket.take().map(([name, data]) => [name, Relay.decode(data)]), [
    ['relayMessage', { type: RelayType.broadcast, target: undefined, data: new TextEncoder().encode('all') }],
    ['relayMessage', { type: RelayType.target, target: 5, data: Uint8Array.of(1, 2) }],
    ['relayMessage', { type: RelayType.target, target: 0, data: Uint8Array.of(3) }],
  ]);
  assert.throws(() => t.client.sendToHost('me'), { code: 'IS_HOST' });
});

test('the others speak to the host', () => {
  const t = setUp();
  const socket = t.enter(1);
  t.client.sendToHost('hello');
  const [[, data]] = socket.take();
  assert.deepEqual(Relay.decode(data), { type: RelayType.host, target: undefined, data: new TextEncoder().encode('hello') });
  assert.throws(() => t.client.broadcast('all'), { code: 'NOT_HOST' });
  assert.throws(() => t.client.sendTo(2, 'you'), { code: 'NOT_HOST' });
  assert.equal(socket.sent.length, 0);
});

test('what is no data, or goes to nobody, is not sent', async () => {
  const t = setUp();
  const socket = t.lead(0);
  socket.take();
  assert.throws(() => t.client.broadcast({ a: 1 }), { code: 'INVALID' });
  for (const id of ['2', undefined, null, NaN, 1.5, -1, 2 ** 31]) {
    assert.throws(() => t.client.sendTo(id, 'x'), { code: 'INVALID' }, String(id));
    await assert.rejects(t.client.kick(id), { code: 'INVALID' });
    await assert.rejects(t.client.grantHost(id), { code: 'INVALID' });
  }
  assert.equal(socket.sent.length, 0);
});

test('what is said without a connection is refused, and not kept', async () => {
  const t = setUp();
  assert.throws(() => t.client.sendToHost('x'), { code: 'CLOSED' });
  const socket = t.lead(0);
  socket.take();
  socket.die();
  assert.throws(() => t.client.broadcast('x'), { code: 'OFFLINE' });
  await assert.rejects(t.client.list(), { code: 'OFFLINE' });
  t.clock.advance(500);
  t.socket.shake();
  assert.throws(() => t.client.sendToHost('x'), { code: 'OFFLINE' }, 'not before the place either');
  t.socket.seat(0);
  assert.deepEqual(t.socket.takeNames(), ['reconnect']);
});

test('what comes says how it came', () => {
  const t = setUp();
  const socket = t.enter();
  for (const [type, text] of [[RelayType.broadcast, 'to all'], [RelayType.target, 'to you'], [RelayType.host, 'to the host'], [9, 'later']]) {
    socket.relay(type, text);
  }
  assert.deepEqual(t.events('message').map(({ type, data }) => [type, decode(data)]), [
    ['broadcast', 'to all'], ['target', 'to you'], ['host', 'to the host'],
  ]);
});

// Requests.

test('a list is asked for, and told', async () => {
  const t = setUp();
  const socket = t.enter(1);
  const list = t.client.list();
  assert.deepEqual(socket.takeNames(), ['list']);
  socket.members([{ id: 2, host: true }, { id: 1, host: false }]);
  assert.deepEqual(await list, [{ id: 1, host: false }, { id: 2, host: true }]);
  assert.equal(t.client.hostId, 2);
});

test('a list that is older than what was told changes nothing', async () => {
  const t = setUp();
  const socket = t.enter(1);
  const list = t.client.list();
  socket.migrate(3);
  socket.members([{ id: 2, host: true }, { id: 1, host: false }]);
  await list;
  assert.equal(t.client.hostId, 3);
});

test('requests go one after another, and what is relayed goes between them', async () => {
  const t = setUp();
  const socket = t.lead(0);
  socket.take();
  const [list, kick, grant] = [t.client.list(), t.client.kick(2), t.client.grantHost(3)];
  t.client.broadcast('x');
  assert.deepEqual(socket.takeNames(), ['list', 'relayMessage']);
  socket.members([{ id: 0, host: true }]);
  assert.equal(await outcome(list), 'fulfilled');
  const [[name, data]] = socket.take();
  assert.deepEqual([name, Subject.decode(data)], ['kick', { id: 2 }]);
  socket.left(2);
  assert.equal(await outcome(kick), 'pending');
  socket.kicked(9);
  assert.equal(await outcome(kick), 'pending', 'that was another one');
  socket.kicked(2);
  assert.equal(await outcome(kick), 'fulfilled');
  assert.deepEqual(socket.takeNames(), ['grantHost']);
  socket.migrate(3);
  assert.equal(await outcome(grant), 'fulfilled');
  t.client.leave();
  assert.equal(t.clock.size, 0);
});

test('only the host kicks and grants', async () => {
  const t = setUp();
  const socket = t.enter(1);
  await assert.rejects(t.client.kick(0), { code: 'NOT_HOST' });
  await assert.rejects(t.client.grantHost(1), { code: 'NOT_HOST' });
  assert.equal(socket.sent.length, 0);
});

test('an error answers the request that waits, and the next one goes', async () => {
  const t = setUp();
  const socket = t.lead(0);
  const [kick, list] = [t.client.kick(2), t.client.list()];
  socket.complain(400, 'unknown target');
  await assert.rejects(kick, { code: 'REFUSED', message: 'unknown target' });
  assert.deepEqual(socket.takeNames(), ['kick', 'list']);
  socket.members([]);
  assert.equal(await outcome(list), 'fulfilled');
  assert.equal(t.events('error').length, 0);
});

test('an error while nothing waits is a complaint', () => {
  const t = setUp();
  const socket = t.enter();
  t.client.sendToHost('x');
  socket.complain(429, 'slow down');
  assert.deepEqual(t.events('error'), [{ code: 'RATE', message: 'slow down', status: 429 }]);
});

test('an error that may be about either is settled by the answer', async () => {
  const t = setUp();
  const socket = t.lead(0);
  t.client.broadcast('x');
  const list = t.client.list();
  socket.complain(400, 'not host any more');
  assert.equal(await outcome(list), 'pending');
  assert.equal(t.events('error').length, 0);
  t.clock.advance(2_999);
  socket.members([]);
  assert.equal(await outcome(list), 'fulfilled');
  assert.deepEqual(t.events('error').map(({ message }) => message), ['not host any more']);
  t.client.leave();
  assert.equal(t.clock.size, 0);
});

test('or by there being none', async () => {
  const t = setUp();
  const socket = t.lead(0);
  t.client.broadcast('x');
  const [kick, list] = [t.client.kick(2), t.client.list()];
  socket.complain(400, 'unknown target');
  socket.complain(429, 'slow down');
  assert.deepEqual(t.events('error').map(({ code }) => code), ['RATE'], 'a second one is not of the same request');
  t.clock.advance(3_000);
  assert.equal(await outcome(kick), 'REFUSED');
  assert.equal(t.events('error').length, 1);
  assert.deepEqual(socket.takeNames(), ['relayMessage', 'kick', 'list']);
  socket.complain(500, 'not now');
  assert.equal(await outcome(list), 'FAILED', 'what was relayed is too long ago');
});

test('errors that are never about a request', async () => {
  const t = setUp();
  const socket = t.lead(0);
  const list = t.client.list();
  socket.complain(413, 'the data is too long');
  socket.complain(500, 'messages of the room may be missing');
  assert.equal(await outcome(list), 'pending');
  assert.deepEqual(t.events('error').map(({ code }) => code), ['TOO_BIG', 'GAP']);
});

test('a relay that does not answer is given up, and what waits is told', async () => {
  const t = setUp();
  t.lead(0);
  const [kick, list] = [t.client.kick(2), t.client.list()];
  t.clock.advance(10_000);
  assert.equal(await outcome(kick), 'UNKNOWN');
  assert.equal(await outcome(list), 'OFFLINE');
  assert.equal(t.client.state, 'waiting');
});

test('a connection that may have died is asked, unless it is asked already', async () => {
  const t = setUp();
  const socket = t.enter();
  t.page.fire();
  assert.deepEqual(socket.takeNames(), ['list']);
  t.page.document.fire();
  assert.deepEqual(socket.takeNames(), []);
  t.clock.advance(10_000);
  await settled();
  assert.equal(t.client.state, 'waiting');
});

test('frames of later versions are passed over, and what does not parse ends the connection', () => {
  const t = setUp();
  const socket = t.enter();
  socket.frame(99, Uint8Array.of(1));
  socket.say('a text');
  assert.equal(t.client.state, 'open');
  socket.say(Uint8Array.of(8).buffer);
  assert.equal(t.client.state, 'waiting');
  assert.match(t.events('reconnecting')[0].reason, /does not parse/);
});
