/**
 * RoomClient and RoomsApi against two nodes, end to end, without a browser.
 *
 *   node e2e/relayroom.e2e.mjs --url http://127.0.0.1:PORT --url2 http://127.0.0.1:PORT
 *
 * The fleet has no rooms, takes 64 KiB a message and 50 messages a second, and managing
 * rooms needs no token. When this prints READY-FOR-DRAIN, the node that --url leads to is
 * to be drained. Once it has ended, the caller writes KILLED to this program's standard
 * input; by then --url has to lead to another node. Exits 0 if all went well.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import WebSocket from 'ws';
import { RoomClient, RoomsApi } from '../relayroom.js';

const { values: { url, url2 } } = parseArgs({ options: { url: { type: 'string' }, url2: { type: 'string' }, shots: { type: 'string' } } });
if (!url || !url2) {
  console.error('usage: relayroom.e2e.mjs --url http://HOST:PORT --url2 http://HOST:PORT');
  process.exit(2);
}

const lines = createInterface({ input: process.stdin });
const clients = [];
const api = new RoomsApi({ url: `${url2}/v1/api/` });

/** A client that keeps what it hears. */
function make(at) {
  const client = new RoomClient({ url: `${at}/v1/websocket`, WebSocket, page: null });
  client.heard = [];
  client.errors = [];
  client.addEventListener('message', ({ detail: { type, data } }) => client.heard.push(`${type}: ${new TextDecoder().decode(data.slice(0, 40))}`));
  client.addEventListener('error', ({ detail }) => client.errors.push(detail));
  clients.push(client);
  return client;
}

/** Waits until something holds. */
async function until(what, holds) {
  const deadline = Date.now() + 30_000;
  while (!holds()) {
    assert.ok(Date.now() < deadline, `not in time: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 5); });
  }
}

async function check(what, run) {
  try {
    await run();
  } catch (error) {
    throw new Error(what, { cause: error });
  }
  console.log(`PASS ${what}`);
}

async function run() {
  const room = await api.create(3);
  const place = { roomId: room.id, secret: room.secret };
  const [a, b, c] = [make(url), make(url2), make(url2)];

  await check('the rooms over HTTP', async () => {
    assert.deepEqual(room, { ...room, maxClients: 3, currentClients: 0, status: 'RUNNING' });
    assert.deepEqual(await api.get(room.id), room);
    assert.deepEqual(await api.list(), [room]);
    assert.deepEqual(await api.summary(), { numberOfRooms: 1, maxClients: 100, currentClients: 0, committedClients: 5 });
    await assert.rejects(api.create(0), { code: 'REFUSED', status: 400 });
    await assert.rejects(api.create(96), { code: 'REFUSED', status: 400 });
    await assert.rejects(api.get(room.id === 1 ? 2 : 1), { code: 'NO_ROOM', status: 404 });
  });

  await check('three join, on two nodes, and a fourth has no place', async () => {
    for (const [i, client] of [a, b, c].entries()) {
      const { clientId } = await client.join(place);
      assert.equal(clientId, i);
    }
    await until('a is host', () => a.isHost);
    const members = [{ id: 0, host: true }, { id: 1, host: false }, { id: 2, host: false }];
    for (const client of [a, b, c]) assert.deepEqual(await client.list(), members);
    for (const client of [a, b, c]) assert.equal(client.hostId, 0);
    await assert.rejects(make(url2).join(place), { code: 'REFUSED', status: 400 });
    await assert.rejects(make(url2).join({ ...place, secret: -place.secret }), { code: 'REFUSED' });
  });

  await check('the host and the others talk', async () => {
    b.sendToHost('from b');
    await until('the host hears b', () => a.heard.includes('host: from b'));
    a.broadcast('to all');
    a.sendTo(2, new TextEncoder().encode('to c'));
    a.sendTo(2, new Uint8Array(60_000));
    await until('c hears', () => c.heard.length === 3);
    assert.deepEqual(c.heard.slice(0, 2), ['broadcast: to all', 'target: to c']);
    await until('b hears', () => b.heard.length === 1);
    assert.deepEqual(b.heard, ['broadcast: to all']);
    assert.deepEqual(a.heard, ['host: from b']);
  });

  await check('what is refused is told', async () => {
    a.sendTo(7, 'nobody');
    await until('an unknown target', () => a.errors.length === 1);
    assert.deepEqual([a.errors[0].code, a.errors[0].status], ['REFUSED', 400]);
    a.broadcast(new Uint8Array(70_000));
    await until('too long', () => a.errors.length === 2);
    assert.deepEqual([a.errors[1].code, a.errors[1].status], ['TOO_BIG', 413]);
    await assert.rejects(a.kick(7), { code: 'REFUSED', status: 400 });
    await assert.rejects(a.grantHost(0), { code: 'REFUSED', status: 400 });
    for (let i = 0; i < 400; i++) b.sendToHost('flood');
    await until('too much', () => b.errors.some(({ code }) => code === 'RATE'));
    const before = b.errors.length;
    const members = await b.list();
    assert.equal(members.length, 3, 'errors of what was relayed fail no request');
    assert.ok(b.errors.length >= before);
  });

  await check('the host moves, and sends somebody away, who comes back', async () => {
    await a.grantHost(1);
    await until('all know', () => [a, b, c].every(({ hostId }) => hostId === 1));
    assert.deepEqual([a, b, c].map(({ isHost }) => isHost), [false, true, false]);
    const told = Promise.all([once(b, 'clientdisconnect'), once(c, 'closed')]);
    await b.kick(2);
    const [[left], [closed]] = await told;
    assert.deepEqual(left.detail, { id: 2, host: false });
    assert.equal(closed.detail.end, 'kicked');
    assert.equal((await c.join(c.session)).clientId, 2);
    await assert.rejects(make(url2).join({ ...c.session, rejoinTimeout: 500 }), { code: 'STILL_CONNECTED' });
    await b.grantHost(0);
    await until('a leads again', () => a.isHost);
  });

  await check('a node that drains: the host moves, and its client comes back on another node', async () => {
    const away = [];
    a.addEventListener('reconnecting', ({ detail }) => away.push(detail.code));
    const back = once(a, 'connect');
    console.log('READY-FOR-DRAIN');
    await once(lines, 'line');
    assert.deepEqual((await back)[0].detail, { roomId: room.id, clientId: 0, rejoined: true });
    assert.equal(away[0], 1012);
    await until('b leads', () => b.isHost && a.hostId === null);
    assert.equal((await a.list()).find(({ host }) => host).id, 1);
    a.sendToHost('here again');
    await until('b hears', () => b.heard.includes('host: here again'));
  });

  await check('the end of the room', async () => {
    const ends = Promise.all([a, b, c].map((client) => once(client, 'closed')));
    await api.delete(room.id);
    for (const [{ detail }] of await ends) assert.equal(detail.end, 'room');
    assert.deepEqual(await api.list(), []);
    await assert.rejects(a.join(a.session), { code: 'REFUSED' });
  });
}

try {
  await run();
  console.log('PASS all');
} catch (error) {
  console.error(`FAIL ${error.message}\n${error.cause?.stack ?? error.stack}`);
  process.exitCode = 1;
} finally {
  for (const client of clients) client.leave();
  lines.close();
  process.stdin.destroy();
}
