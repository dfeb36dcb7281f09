/** The SDK over real sockets and real HTTP, against the small fleet. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import WebSocket from 'ws';
import { TextoClient } from '../parley.js';
import './fakes.js';
import { Fleet } from './fleet.js';

/** Starts a client on a node; it and the node end with the test. */
function start(t, node, options = {}) {
  const client = new TextoClient({ url: `${node.url}/v1/texto`, WebSocket, backoffBase: 5, ...options });
  t.after(() => client.close());
  client.connect();
  return client;
}

/** The detail of the next event of a type. */
async function next(client, type) {
  const [event] = await once(client, type);
  return event.detail;
}

test('two clients talk through two nodes', async (t) => {
  const fleet = new Fleet();
  const [one, two] = [await fleet.start('one'), await fleet.start('two')];
  t.after(() => Promise.all([one.kill(), two.kill()]));
  const [a, b] = [start(t, one), start(t, two)];
  const [{ clientId: from, node }, { clientId: to }] = await Promise.all([next(a, 'open'), next(b, 'open')]);
  assert.equal(node, 'one');
  const received = next(b, 'message');
  await a.send(to, 'hello');
  const { senderId, text, id } = await received;
  assert.deepEqual([senderId, text], [from, 'hello']);
  const answered = next(a, 'message');
  await b.send(senderId, 'hello yourself');
  assert.equal((await answered).text, 'hello yourself');
  assert.deepEqual(fleet.acknowledged[0], [to, id], 'the acknowledgement went ahead of the answer');
});

test('a client comes back when its node was killed and started again', async (t) => {
  const fleet = new Fleet();
  const node = await fleet.start('first');
  const client = start(t, node);
  const before = await next(client, 'open');
  const reconnecting = next(client, 'reconnecting');
  await node.kill();
  assert.equal((await reconnecting).code, 1006);
  const again = next(client, 'open');
  const queued = client.send(before.clientId, 'while nobody was there');
  const successor = await fleet.start('second', node.port);
  t.after(() => successor.kill());
  const after = await again;
  assert.equal(after.node, 'second');
  assert.notEqual(after.clientId, before.clientId);
  await queued;
});

test('a node that refuses is obeyed', async (t) => {
  const node = await new Fleet().start('full');
  t.after(() => node.kill());
  node.refusal = { status: 503, retryAfter: 1 };
  // Its clock stands still, so that the wait is exact however slow the machine is.
  const client = start(t, node, { random: () => 0, clock: { setTimeout, clearTimeout, now: () => 0 } });
  const { delay, reason } = await next(client, 'reconnecting');
  assert.equal(delay, 1_000);
  assert.equal(reason, 'refused with HTTP status 503');
  node.refusal = null;
  assert.equal((await next(client, 'open')).node, 'full');
});

test('a drained node is left and come back to', async (t) => {
  const node = await new Fleet().start('drains');
  t.after(() => node.kill());
  const client = start(t, node);
  await next(client, 'open');
  const reconnecting = next(client, 'reconnecting');
  const again = next(client, 'open');
  node.hangUp(1012, 'the node restarts');
  const { code, reason } = await reconnecting;
  assert.deepEqual([code, reason], [1012, 'the node restarts']);
  await again;
});
