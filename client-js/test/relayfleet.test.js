/** RoomClient over real sockets, against the small fleet. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import WebSocket from 'ws';
import { RoomClient, RoomsApi } from '../relayroom.js';
import './fakes.js';
import { Fleet } from './fleet.js';

/** Two nodes, and a room. */
async function setUp(t, maxClients = 4) {
  const fleet = new Fleet();
  const nodes = [await fleet.start('one'), await fleet.start('two')];
  const clients = [];
  t.after(async () => {
    for (const client of clients) client.leave();
    await Promise.all(nodes.map((node) => node.kill()));
  });
  const api = new RoomsApi({ url: `${nodes[1].url}/v1/api/` });
  const { id: roomId, secret } = await api.create(maxClients);
  return {
    fleet,
    nodes,
    api,
    room: { roomId, secret },
    /** One more client of the room, and the texts that it gets. */
    async enter(node) {
      const client = new RoomClient({ url: `${node.url}/v1/websocket`, WebSocket, backoffBase: 20, page: null });
      client.texts = [];
      client.addEventListener('message', ({ detail }) => client.texts.push(new TextDecoder().decode(detail.data)));
      clients.push(client);
      const leads = once(client, 'host');
      await client.join({ roomId, secret });
      if (client.clientId === 0) await leads;
      return client;
    },
  };
}

test('a host and its guest on two nodes', async (t) => {
  const { nodes, enter, api } = await setUp(t);
  const host = await enter(nodes[0]);
  const came = once(host, 'clientconnect');
  const guest = await enter(nodes[1]);
  assert.deepEqual((await came)[0].detail, { id: 1, host: false });
  assert.deepEqual(await guest.list(), [{ id: 0, host: true }, { id: 1, host: false }]);

  guest.sendToHost('from the guest');
  await once(host, 'message');
  host.broadcast('to all');
  host.sendTo(1, 'to you');
  host.sendTo(1, new Uint8Array(60_000));
  while (guest.texts.length < 3) await once(guest, 'message');
  assert.deepEqual(host.texts, ['from the guest']);
  assert.deepEqual(guest.texts.slice(0, 2), ['to all', 'to you']);
  assert.equal(guest.texts[2].length, 60_000);

  const leads = once(guest, 'host');
  await host.grantHost(1);
  await leads;
  assert.deepEqual([host.isHost, guest.isHost], [false, true]);
  const kicked = once(host, 'closed');
  await guest.kick(0);
  assert.equal((await kicked)[0].detail.end, 'kicked');
  await host.join(host.session);
  assert.deepEqual([host.clientId, host.isHost], [0, false]);

  const closed = Promise.all([once(host, 'closed'), once(guest, 'closed')]);
  await api.delete((await api.list())[0].id);
  for (const [{ detail }] of await closed) assert.equal(detail.end, 'room');
  await assert.rejects(host.join(host.session), { code: 'REFUSED' });
});

test('a host that is on the move for a while', async (t) => {
  const { nodes, enter, fleet } = await setUp(t);
  fleet.rooms.rooms.values().next().value.grantTime = 1_000;
  const host = await enter(nodes[0]);
  const guest = await enter(nodes[1]);
  const begun = once(host, 'migratebegin');
  const granted = host.grantHost(1);
  await begun;
  const late = await enter(nodes[1]);
  late.addEventListener('migratefinish', ({ detail }) => late.texts.push(`${detail.hostId} leads`));
  assert.ok((await late.list()).every((member) => !member.host));
  assert.deepEqual([host, guest, late].map(({ isHost, hostId }) => [isHost, hostId]), Array(3).fill([false, null]));
  late.sendToHost('for the next one');
  const came = once(guest, 'clientconnect');
  await granted;
  assert.deepEqual((await came)[0].detail, { id: 2, host: false });
  while (guest.texts.length === 0) await once(guest, 'message');
  while (late.hostId === null) await once(late, 'migratefinish');
  assert.deepEqual([guest.isHost, guest.texts, late.texts, late.hostId], [true, ['for the next one'], ['1 leads'], 1]);

  const gone = once(guest, 'migratebegin');
  const failed = assert.rejects(guest.grantHost(2), { code: 'REFUSED' });
  await gone;
  late.leave();
  await failed;
  while (!host.isHost) await once(host, 'host');
  assert.deepEqual([host.isHost, host.hostId, guest.isHost], [true, 0, false]);
});

test('a full room, and requests that are refused', async (t) => {
  const { nodes, enter } = await setUp(t, 1);
  const host = await enter(nodes[0]);
  await assert.rejects(enter(nodes[1]), { code: 'REFUSED', message: 'the room is full' });
  await assert.rejects(host.kick(0), { code: 'REFUSED', message: 'unknown target' });
  await assert.rejects(host.grantHost(9), { code: 'REFUSED' });
  const error = once(host, 'error');
  host.sendTo(9, 'nobody');
  assert.equal((await error)[0].detail.message, 'unknown target');
});

test('the host\'s node is killed: another one leads, and the first comes back with its id', async (t) => {
  const { nodes, enter, fleet } = await setUp(t);
  const host = await enter(nodes[0]);
  const guest = await enter(nodes[1]);
  const third = await enter(nodes[1]);
  const [moved, told, away] = [once(guest, 'migratefinish'), once(third, 'migratefinish'), once(host, 'reconnecting')];
  const waits = [];
  host.addEventListener('reconnecting', ({ detail }) => waits.push(detail.code));
  await nodes[0].kill();
  await away;
  nodes[0] = await fleet.start('three', nodes[0].port);
  const back = once(host, 'connect');
  assert.deepEqual((await moved)[0].detail, { hostId: 1, host: true });
  assert.deepEqual((await told)[0].detail, { hostId: 1, host: false });
  assert.deepEqual((await back)[0].detail, { roomId: host.session.roomId, clientId: 0, rejoined: true });
  assert.ok(waits.includes(400), 'it was told to wait for its place');
  assert.deepEqual([host.isHost, guest.isHost, third.hostId], [false, true, 1]);
  host.sendToHost('here again');
  while (!guest.texts.includes('here again')) await once(guest, 'message');
});

test('a node that drains, and one without its Redis', async (t) => {
  const { nodes, enter, fleet } = await setUp(t);
  const host = await enter(nodes[0]);
  let back = once(host, 'connect');
  nodes[0].hangUp(1012);
  await back;
  assert.equal(host.clientId, 0);

  fleet.rooms.away = true;
  await assert.rejects(host.list(), { code: 'FAILED', status: 500 });
  back = once(host, 'connect');
  const refused = new Promise((resolve) => {
    host.addEventListener('reconnecting', ({ detail }) => { if (/right now/.test(detail.reason)) resolve(); });
  });
  nodes[0].hangUp(1013);
  await refused;
  fleet.rooms.away = false;
  await back;
  assert.deepEqual((await host.list()).map(({ id }) => id), [0]);
});
