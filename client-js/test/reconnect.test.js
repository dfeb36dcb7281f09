/** Coming back: which close code leads to which wait, and what cuts it short. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { YOU, outcome, setUp, settled } from './fakes.js';

/** What the next wait is: its delay with no jitter, and with the most there can be. */
async function bounds(run, options = {}) {
  const delays = [];
  for (const jitter of [0, 0.999_999]) {
    const t = setUp({ random: () => jitter, ...options });
    run(t);
    await settled();
    delays.push(t.events('reconnecting').at(-1).delay);
  }
  return delays;
}

const lostBy = (code) => (t) => t.open().die(code);

for (const [code, least, most, why] of [
  [1006, 0, 1_000, 'a connection that broke'],
  [1000, 0, 1_000, 'a relay that says good-bye by itself'],
  [1001, 0, 1_000, 'a relay that goes away'],
  [4000, 0, 1_000, 'idle'],
  [1009, 0, 1_000, 'a frame that was too big'],
  [1012, 0, 1_000, 'a node that drains'],
  [1013, 1_000, 2_000, 'try again later'],
  [1008, 30_000, 60_000, 'a flood'],
]) {
  test(`${code}, ${why}: the first wait is from ${least} to ${most} ms`, async () => {
    assert.deepEqual(await bounds(lostBy(code)), [least, most]);
  });
}

test('the wait doubles with each failure, up to the cap, and always has full jitter', () => {
  const t = setUp({ random: () => 0.999_999, backoffBase: 100, backoffCap: 1_000 });
  t.client.connect();
  const delays = [];
  for (let i = 1; i <= 6; i++) {
    t.socket.die();
    const { delay, attempt } = t.events('reconnecting').at(-1);
    assert.equal(attempt, i);
    delays.push(delay);
    assert.equal(t.client.state, 'waiting');
    t.clock.advance(delay - 1);
    assert.equal(t.sockets.length, i);
    t.clock.advance(1);
    assert.equal(t.sockets.length, i + 1);
    assert.equal(t.client.state, 'connecting');
  }
  assert.deepEqual(delays, [100, 200, 400, 800, 1_000, 1_000]);
});

test('the backoff starts anew after a good connection, and not after a greeting alone', () => {
  const t = setUp();
  t.open().die();
  t.clock.advance(500);
  t.socket.greet();
  t.clock.advance(9_999);
  t.socket.die();
  assert.deepEqual(t.events('reconnecting').map(({ attempt }) => attempt), [1, 2]);
  t.clock.advance(1_000);
  t.socket.greet();
  t.clock.advance(10_000);
  t.socket.die();
  assert.deepEqual(t.events('reconnecting').map(({ attempt }) => attempt), [1, 2, 1]);
});

test('a drain never waits longer than the base', async () => {
  const delays = await bounds((t) => {
    t.client.connect();
    for (let i = 0; i < 4; i++) {
      t.socket.die();
      t.clock.advance(t.events('reconnecting').at(-1).delay);
    }
    t.socket.greet();
    t.socket.die(1012);
  });
  assert.deepEqual(delays, [0, 1_000]);
});

test('reconnecting tells how the connection ended', () => {
  const t = setUp();
  t.open().die(1012, 'the node restarts');
  assert.deepEqual(t.events('reconnecting'), [{ code: 1012, reason: 'the node restarts', delay: 500, attempt: 1 }]);
  assert.equal(t.events('close').length, 0);
});

test("the relay's last words are the reason when the close has none", () => {
  const t = setUp();
  t.client.connect();
  t.socket.shake();
  t.socket.say({ kind: 'error', id: 'fresh', data: { code: 'EBROKER', description: 'Redis is not reachable' } });
  t.socket.die(1013);
  assert.equal(t.events('reconnecting')[0].reason, 'Redis is not reachable');
});

test('a session taken over elsewhere stops for good', async () => {
  const t = setUp();
  const socket = t.open();
  const written = t.client.send(YOU, 'x');
  socket.readyState = 2;
  const queued = t.client.send(YOU, 'y');
  socket.die(4001, 'taken over');
  assert.deepEqual([await outcome(written), await outcome(queued)], ['ECONN', 'ECLOSED']);
  assert.equal(t.client.state, 'closed');
  assert.deepEqual(t.events('close'), [{ code: 4001, reason: 'taken over' }]);
  t.page.fire();
  t.clock.advance(1e7);
  assert.equal(t.sockets.length, 1);
  t.client.connect();
  assert.equal(t.sockets.length, 2, 'but the caller may start it again');
});

test('close while waiting, and while connecting, leaves nothing behind', () => {
  const t = setUp();
  t.open().die();
  t.client.close();
  assert.equal(t.client.state, 'closed');
  assert.equal(t.clock.size, 0);
  t.client.connect();
  t.client.close();
  assert.equal(t.socket.closedWith, 1000);
  assert.equal(t.clock.size, 0);
  assert.equal(t.page.count + t.page.document.count, 0);
});

test('close in a listener of any event holds', async () => {
  for (const [type, start] of [
    ['state', (t) => t.client.connect()],
    ['open', (t) => t.open()],
    ['reconnecting', (t) => t.open().die()],
  ]) {
    const t = setUp({ fetch: async () => ({ status: 426, headers: new Headers() }) });
    t.client.addEventListener(type, () => t.client.close());
    start(t);
    await settled();
    t.clock.advance(1e6);
    assert.equal(t.client.state, 'closed', type);
    assert.equal(t.clock.size, 0, type);
    assert.equal(t.page.count + t.page.document.count, 0, type);
    assert.equal(t.sockets.length, 1, type);
  }
});

test('close in a listener of "waiting" asks nobody', async () => {
  let asked = 0;
  const t = setUp({
    fetch: async (url, { signal }) => { signal.throwIfAborted(); asked++; return { status: 426, headers: new Headers() }; },
  });
  t.client.addEventListener('state', ({ detail }) => { if (detail.state === 'waiting') t.client.close(); });
  t.client.connect();
  t.socket.die();
  await settled();
  assert.equal(asked, 0);
  assert.equal(t.events('reconnecting').length, 0);
  assert.equal(t.clock.size, 0);
});

test('a handshake that hangs is given up', async () => {
  const t = setUp({ requestTimeout: 700 });
  t.client.connect();
  t.clock.advance(700);
  assert.equal(t.socket.closedWith, null);
  assert.equal(t.client.state, 'waiting');
  await settled();
  assert.equal(t.events('reconnecting')[0].code, 1006);
});

// A refused handshake.

/** A fetch that answers as told, and records what it was asked. */
function answering(status, retryAfter) {
  const asked = [];
  const fetch = async (url, init) => {
    asked.push({ url, init });
    return { status, headers: new Headers(retryAfter === undefined ? {} : { 'Retry-After': retryAfter }) };
  };
  return { fetch, asked };
}

const refused = (t) => {
  t.client.connect();
  t.socket.die();
};

test('a refused handshake is asked about over HTTP, at the same URL', async () => {
  const { fetch, asked } = answering(426);
  const t = setUp({ url: 'wss://relay.test/v1/texto?a=b', fetch });
  refused(t);
  await settled();
  assert.equal(asked.length, 1);
  assert.equal(asked[0].url, 'https://relay.test/v1/texto?a=b');
  assert.equal(asked[0].init.cache, 'no-store');
  assert.equal(asked[0].init.signal.aborted, true, 'the body is let go of');
  assert.deepEqual(t.events('reconnecting'), [{ code: 1006, reason: '', delay: 500, attempt: 1 }]);
  assert.equal(t.clock.size, 1);
});

for (const [status, value, least, most] of [
  [503, '7', 7_000, 8_000],
  [429, '120', 120_000, 121_000],
  [503, undefined, 0, 1_000],
  [503, 'soon', 0, 1_000],
  [503, '0', 0, 1_000],
  [429, 'Tue, 14 Nov 2023 22:13:25 GMT', 5_000, 6_000],
  [503, 'Tue, 14 Nov 2023 22:00:00 GMT', 0, 1_000],
  [503, '99999999999999', 86_400_000, 86_401_000],
  [200, '7', 0, 1_000],
  [403, '7', 0, 1_000],
]) {
  test(`${status} with Retry-After ${value}: from ${least} to ${most} ms`, async () => {
    assert.deepEqual(await bounds(refused, { fetch: answering(status, value).fetch }), [least, most]);
  });
}

test('a refusal names its status', async () => {
  const t = setUp({ fetch: answering(503, '1').fetch });
  refused(t);
  await settled();
  assert.equal(t.events('reconnecting')[0].reason, 'refused with HTTP status 503');
});

test('a connection that was made is not asked about', async () => {
  const { fetch, asked } = answering(503, '60');
  const t = setUp({ fetch });
  t.open().die();
  t.clock.advance(500);
  t.socket.shake();
  t.socket.die(1013);
  await settled();
  assert.deepEqual(asked, []);
});

test('nobody there: the backoff stands', async () => {
  assert.deepEqual(await bounds(refused, { fetch: () => Promise.reject(new TypeError('refused')) }), [0, 1_000]);
  assert.deepEqual(await bounds(refused, { fetch: () => { throw new TypeError('no fetch'); } }), [0, 1_000]);
});

/** A fetch that hangs until it is aborted. */
const hanging = (url, { signal }) => new Promise((resolve, reject) => {
  signal.addEventListener('abort', () => reject(signal.reason));
});

test('the question has a bound of its own', async () => {
  const t = setUp({ fetch: hanging });
  refused(t);
  await settled();
  assert.deepEqual(t.events('reconnecting'), []);
  t.clock.advance(3_000);
  await settled();
  assert.deepEqual(t.events('reconnecting').map(({ delay }) => delay), [0], 'it was part of the wait');
});

test('close gives up the question', async () => {
  const t = setUp({ fetch: hanging });
  refused(t);
  t.client.close();
  await settled();
  assert.equal(t.clock.size, 0);
  assert.deepEqual(t.events('reconnecting'), []);
});

// What cuts the wait short.

for (const [what, run] of [
  ['online', (t) => t.page.fire()],
  ['a page that is looked at again', (t) => t.page.document.fire()],
  ['connect()', (t) => t.client.connect()],
]) {
  test(`${what} ends the wait`, () => {
    const t = setUp();
    t.open().die();
    assert.equal(t.events('reconnecting')[0].delay, 500);
    run(t);
    assert.deepEqual(t.events('reconnecting').map(({ delay }) => delay), [500, 0]);
    t.clock.advance(0);
    assert.equal(t.sockets.length, 2);
    t.clock.advance(5_000);
    assert.equal(t.sockets.length, 2, 'the first timer is gone');
  });
}

test('a page that is hidden ends nothing', () => {
  const t = setUp();
  t.open().die();
  t.page.document.visibilityState = 'hidden';
  t.page.document.fire();
  assert.equal(t.events('reconnecting').length, 1);
});

test('what the relay asked for is not cut short', async () => {
  const t = setUp({ fetch: answering(503, '10').fetch });
  refused(t);
  await settled();
  t.clock.advance(4_000);
  t.page.fire();
  t.page.fire();
  assert.deepEqual(t.events('reconnecting').map(({ delay }) => delay), [10_500, 6_000]);
  t.clock.advance(5_999);
  assert.equal(t.sockets.length, 1);
  t.clock.advance(1);
  assert.equal(t.sockets.length, 2);
});

test('online while the relay is still asked ends the wait with the answer', async () => {
  const t = setUp({ fetch: answering(426).fetch });
  refused(t);
  t.page.fire();
  await settled();
  assert.deepEqual(t.events('reconnecting').map(({ delay }) => delay), [0]);
});

test('online and a look at the page check a connection that seems open', async () => {
  const t = setUp({ requestTimeout: 500 });
  const socket = t.open();
  t.page.fire();
  t.page.document.fire();
  assert.deepEqual(socket.sent.map(({ kind, data }) => [kind, data]), [['registration', null]], 'one question is enough');
  socket.say({ kind: 'connection', id: socket.sent[0].id, data: { client_id: t.client.clientId } });
  t.clock.advance(500);
  assert.equal(t.client.state, 'open');
  assert.equal(t.events('open').length, 1, 'the answer is no greeting');

  t.page.fire();
  t.clock.advance(500);
  assert.equal(socket.closedWith, null);
  assert.equal(t.client.state, 'waiting', 'no answer: it had died unseen');
});

test('the page is left alone before connect', () => {
  const t = setUp();
  assert.equal(t.page.count + t.page.document.count, 0);
  t.open();
  assert.equal(t.page.count + t.page.document.count, 2);
});
