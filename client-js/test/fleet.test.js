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
  const received = next(client, 'message');
  const successor = await fleet.start('second', node.port);
  t.after(() => successor.kill());
  const after = await again;
  assert.deepEqual(after, { clientId: before.clientId, node: 'second', resumed: true, recovered: true });
  await queued;
  assert.equal((await received).text, 'while nobody was there', 'the address is still its own');
});

/** Two clients on two nodes; the texts that the first one gets are in `texts`. */
async function pair(t) {
  const fleet = new Fleet();
  const [one, two] = [await fleet.start('one'), await fleet.start('two')];
  t.after(() => Promise.all([one.kill(), two.kill()]));
  const [a, b] = [start(t, one), start(t, two)];
  const texts = [];
  a.addEventListener('message', ({ detail }) => texts.push(detail.text));
  a.addEventListener('gap', ({ detail }) => texts.push(`gap: ${detail.reason}`));
  const [{ clientId: address }] = await Promise.all([next(a, 'open'), next(b, 'open')]);
  return { fleet, one, two, a, b, address, texts };
}

/** Writes to an address and waits until the client there has heard it. */
async function tell(from, address, text, to) {
  const heard = next(to, 'message');
  await from.send(address, text);
  await heard;
}

test('what comes while the connection is away arrives, in order and once', async (t) => {
  const { one, two, a, b, address, texts } = await pair(t);
  await tell(b, address, 'before', a);
  const away = next(a, 'reconnecting');
  one.refusal = { status: 503, retryAfter: 0 };
  one.hangUp(1012);
  await away;
  for (const text of ['first', 'second', 'third']) await b.send(address, text);
  one.refusal = null;
  const { resumed, recovered } = await next(a, 'open');
  assert.deepEqual([resumed, recovered], [true, true]);
  await tell(b, address, 'after', a);
  assert.deepEqual(texts, ['before', 'first', 'second', 'third', 'after']);

  const page = start(t, two, { token: a.token, last: a.last });
  const taken = next(a, 'close');
  assert.equal((await next(page, 'open')).clientId, address, 'another page goes on with the session');
  assert.equal((await taken).code, 4001);
  await tell(b, address, 'for the other page', page);
  const lost = next(page, 'close');
  const missed = next(a, 'message');
  a.connect();
  assert.equal((await lost).code, 4001, 'and this one takes it back');
  assert.equal((await missed).text, 'for the other page');
});

test('gaps are told in their place', async (t) => {
  const { fleet, one, a, b, address, texts } = await pair(t);
  await tell(b, address, 'one', a);
  const gap = next(a, 'gap');
  fleet.forget();
  await gap;
  await tell(b, address, 'two', a);
  let opened = next(a, 'open');
  fleet.keeps = false;
  one.hangUp(1012);
  assert.deepEqual([(await opened).clientId, a.state], [address, 'open']);
  await tell(b, address, 'three', a);
  opened = next(a, 'open');
  fleet.secret = 'another';
  one.hangUp(1012);
  assert.notEqual((await opened).clientId, address);
  assert.deepEqual(texts, ['one', 'gap: relay', 'two', 'gap: away', 'three', 'gap: expired']);
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
