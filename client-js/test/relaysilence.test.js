/** RoomClient: connections on which nothing comes, and hosts that are on the move for a while. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flag, Subject } from '../relaywire.js';
import { outcome } from './fakes.js';
import { ROOM, setUp } from './relayfakes.js';

/** RESPONSE_FINISH_HOST_MIGRATE alone, as when BEGIN came long before. */
const finish = (socket, id) => socket.frame(Flag.finishHostMigrate, Subject.encode({ id }));

// Silence.

test('a silent connection is asked after 20 s, and given up after 10 more', () => {
  const t = setUp();
  const socket = t.enter();
  t.clock.advance(19_999);
  assert.deepEqual(socket.takeNames(), []);
  t.clock.advance(1);
  assert.deepEqual(socket.takeNames(), ['list']);
  t.clock.advance(9_999);
  assert.equal(t.client.state, 'open');
  t.clock.advance(1);
  assert.equal(t.client.state, 'waiting');
  assert.equal(t.events('reconnecting')[0].reason, 'no answer in time');
  t.clock.advance(500);
  t.socket.shake();
  assert.deepEqual(t.socket.takeNames(), ['reconnect']);
  t.socket.seat(1);
  assert.equal(t.client.state, 'open');
  t.client.leave();
  assert.equal(t.clock.size, 0);
});

test('a relay that answers is asked again and again, and nobody hears of it', () => {
  const t = setUp();
  const socket = t.enter();
  t.news();
  for (let i = 0; i < 5; i++) {
    t.clock.advance(20_000);
    assert.deepEqual(socket.takeNames(), ['list']);
    t.clock.advance(1_000);
    socket.members([{ id: 1, host: false }]);
    t.clock.advance(19_999);
    assert.deepEqual(socket.takeNames(), []);
    t.clock.advance(1);
    assert.deepEqual(socket.takeNames(), ['list'], '20 s after the answer');
    socket.members([]);
  }
  assert.deepEqual(t.news(), []);
});

test('whatever comes is a sign of life', () => {
  const t = setUp();
  const socket = t.enter();
  for (let i = 0; i < 4; i++) {
    t.clock.advance(15_000);
    socket.relay(0, 'x');
  }
  t.clock.advance(19_999);
  assert.deepEqual(socket.takeNames(), []);
});

test('how long it may be silent is an option', () => {
  const t = setUp({ silenceTimeout: 3_000, requestTimeout: 500 });
  const socket = t.enter();
  t.clock.advance(3_000);
  assert.deepEqual(socket.takeNames(), ['list']);
  t.clock.advance(500);
  assert.equal(t.client.state, 'waiting');
});

test('a request that waits already is question enough', async () => {
  const t = setUp({ requestTimeout: 30_000 });
  const socket = t.lead(0);
  t.clock.advance(15_000);
  const kick = t.client.kick(2);
  socket.take();
  t.clock.advance(20_000);
  assert.deepEqual(socket.takeNames(), []);
  socket.kicked(2);
  assert.equal(await outcome(kick), 'fulfilled');
});

test('requests of the user go on behind it', async () => {
  const t = setUp();
  const socket = t.lead(0);
  t.clock.advance(20_000);
  const [kick, list] = [t.client.kick(2), t.client.list()];
  t.client.broadcast('x');
  assert.deepEqual(socket.takeNames(), ['list', 'relayMessage']);
  socket.members([{ id: 7, host: false }]);
  assert.equal(await outcome(list), 'pending', 'that was not its answer');
  assert.deepEqual(socket.takeNames(), ['kick']);
  socket.kicked(2);
  assert.equal(await outcome(kick), 'fulfilled');
  assert.deepEqual(socket.takeNames(), ['list']);
  socket.members([{ id: 0, host: true }]);
  assert.deepEqual(await list, [{ id: 0, host: true }]);
});

test('an error is an answer too, and one that may be about what was relayed is told', () => {
  const t = setUp();
  const socket = t.enter();
  t.clock.advance(20_000);
  socket.complain(500, 'not now');
  assert.deepEqual(t.events('error'), [], 'nobody has asked for that');
  t.clock.advance(19_000);
  t.client.sendToHost('x');
  t.clock.advance(1_000);
  assert.deepEqual(socket.takeNames(), ['list', 'relayMessage', 'list']);
  socket.complain(429, 'slow down');
  t.clock.advance(3_000);
  assert.deepEqual(t.events('error').map(({ code }) => code), ['RATE']);
  t.clock.advance(7_000);
  assert.equal(t.client.state, 'open');
});

// A host that is on the move for a while.

test('until the next host is told, nobody is, whatever a list says', async () => {
  const t = setUp();
  const socket = t.enter(1);
  let list = t.client.list();
  socket.frame(Flag.beginHostMigrate);
  socket.members([{ id: 0, host: true }, { id: 1, host: false }]); // from before
  await list;
  assert.equal(t.client.hostId, null);
  list = t.client.list();
  socket.members([{ id: 0, host: false }, { id: 1, host: false }]);
  assert.deepEqual(await list, [{ id: 0, host: false }, { id: 1, host: false }]);
  assert.equal(t.client.hostId, null);
  t.client.sendToHost('for the next one');
  t.clock.advance(2_000);
  finish(socket, 0);
  assert.deepEqual([t.client.hostId, t.client.isHost], [0, false]);
  assert.equal(t.events('migratebegin').length, 1);
});

test('who joins in between is told of both', async () => {
  const t = setUp();
  const socket = t.enter(4);
  t.news();
  socket.frame(Flag.beginHostMigrate);
  const list = t.client.list();
  socket.members([{ id: 2, host: false }, { id: 4, host: false }]);
  await list;
  assert.equal(t.client.hostId, null);
  finish(socket, 2);
  assert.deepEqual(t.news(), [['migratebegin', {}], ['migratefinish', { hostId: 2, host: false }]]);
  assert.equal(t.client.hostId, 2);
});

test('who comes back after a move that it heard the beginning of believes the list again', async () => {
  const t = setUp();
  t.enter(1).frame(Flag.beginHostMigrate);
  const socket = t.lose();
  socket.shake();
  socket.seat(1);
  const list = t.client.list();
  socket.members([{ id: 1, host: false }, { id: 3, host: true }]);
  await list;
  assert.equal(t.client.hostId, 3);
});

test('a grant takes its time, and errors meanwhile are not about it', async () => {
  const t = setUp();
  const socket = t.lead(0);
  t.client.broadcast('last words');
  const grant = t.client.grantHost(3);
  socket.complain(400, 'the data is not wanted');
  assert.deepEqual(t.events('error'), [], 'about either');
  socket.frame(Flag.beginHostMigrate);
  assert.equal(t.client.isHost, false);
  assert.throws(() => t.client.broadcast('more'), { code: 'NOT_HOST' });
  socket.complain(400, 'not host any more');
  assert.deepEqual(t.events('error').map(({ message }) => message), ['the data is not wanted', 'not host any more']);
  t.clock.advance(4_000);
  assert.equal(await outcome(grant), 'pending');
  finish(socket, 3);
  assert.equal(await outcome(grant), 'fulfilled');
  assert.equal(t.client.hostId, 3);
});

for (const [who, id] of [['another one', 5], ['the former one', 0]]) {
  test(`a grant to one that goes meanwhile: ${who} becomes host`, async () => {
    const t = setUp();
    const socket = t.lead(0);
    const grant = t.client.grantHost(3);
    socket.frame(Flag.beginHostMigrate);
    if (id === 0) socket.assign();
    finish(socket, id);
    await assert.rejects(grant, { code: 'REFUSED' });
    assert.deepEqual([t.client.hostId, t.client.isHost, t.client.state], [id, id === 0, 'open']);
  });
}

test('the end of the move before is not an answer to a grant', async () => {
  const t = setUp();
  const socket = t.enter(0);
  let grant;
  t.client.addEventListener('host', ({ detail: { host } }) => { if (host) grant = t.client.grantHost(3); }, { once: true });
  socket.migrate(0, true);
  assert.equal(await outcome(grant), 'pending');
  socket.migrate(3);
  assert.equal(await outcome(grant), 'fulfilled');
});

test('a connection that ends while the host moves leaves the grant unknown', async () => {
  const t = setUp();
  const socket = t.lead(0);
  const grant = t.client.grantHost(3);
  socket.frame(Flag.beginHostMigrate);
  socket.die(1013);
  assert.equal(await outcome(grant), 'UNKNOWN');
  assert.equal(t.client.session.roomId, ROOM.roomId);
});
