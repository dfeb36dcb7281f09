/** Chat: signing up, in and out over HTTP. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatError } from '../chat.js';
import { setUp } from './chatfakes.js';
import { outcome, settled } from './fakes.js';

/** A client whose relay answers as told; `asked` has what it was asked. */
function answering(status, body = '', headers = {}) {
  const asked = [];
  const t = setUp({
    fetch: async (url, init) => {
      asked.push([url, init]);
      return { status, headers: new Headers(headers), text: async () => body };
    },
  });
  return Object.assign(t, { asked });
}

const CREDENTIALS = { email: 'maria@example.com', password: 'correct horse' };

test('an account is made, with what the relay wants to know and nothing else', async () => {
  const t = answering(204);
  await t.client.signUp({ username: 'maria', ...CREDENTIALS, extra: 1 });
  const [[url, init]] = t.asked;
  assert.equal(url, 'http://relay.test/api/create-account');
  assert.deepEqual([init.method, init.credentials, init.cache], ['POST', 'same-origin', 'no-store']);
  assert.deepEqual(init.headers, { 'Content-Type': 'application/json' });
  assert.deepEqual(JSON.parse(init.body), { username: 'maria', ...CREDENTIALS });
  assert.equal(t.client.state, 'closed', 'it does not connect by itself');
  assert.equal(t.clock.size, 0);
});

test('signing in closes the connection of the session before', async () => {
  const t = answering(204);
  t.open();
  await t.client.logIn(CREDENTIALS);
  assert.deepEqual(t.asked.map(([url, { body }]) => [url, JSON.parse(body)]), [['http://relay.test/api/login', CREDENTIALS]]);
  assert.equal(t.client.state, 'closed');
});

for (const [status, code] of [[400, 'BAD_REQUEST'], [400, 'USERNAME_EXISTS'], [400, 'EMAIL_EXISTS'], [400, 'LOGIN_FAILED'], [503, 'UNAVAILABLE']]) {
  test(`${code} rejects`, async () => {
    const t = answering(status, JSON.stringify({ id: code, message: `refused: ${code}` }));
    await assert.rejects(t.client.signUp({ username: 'maria', ...CREDENTIALS }), (error) => error instanceof ChatError
      && error.code === code && error.message === `refused: ${code}` && error.retryAfter === null);
  });
}

test('the relay says how long to wait', async () => {
  const t = answering(429, '{"id": "TOO_MANY_REQUESTS"}', { 'Retry-After': '12' });
  await assert.rejects(t.client.logIn(CREDENTIALS), { code: 'TOO_MANY_REQUESTS', message: 'TOO_MANY_REQUESTS', retryAfter: 12_000 });
});

for (const [status, body] of [[200, '{}'], [404, '<h1>Not here</h1>'], [500, ''], [400, 'null'], [400, '{"id": 7}']]) {
  test(`${status} with ${body || 'nothing'} is no answer of the protocol`, async () => {
    await assert.rejects(answering(status, body).client.logIn(CREDENTIALS), {
      code: 'BAD_ANSWER', message: `the relay answered with HTTP status ${status}`,
    });
  });
}

test('nobody answers', async () => {
  const t = setUp();
  assert.equal(await outcome(t.client.logIn(CREDENTIALS)), 'NETWORK');
  assert.equal(t.clock.size, 0);
});

test('an answer that does not come is not waited for for ever', async () => {
  const t = setUp({
    requestTimeout: 500,
    fetch: (url, { signal }) => new Promise((_, reject) => { signal.addEventListener('abort', () => reject(signal.reason)); }),
  });
  const asked = t.client.logIn(CREDENTIALS);
  t.clock.advance(499);
  assert.equal(await outcome(asked), 'pending');
  t.clock.advance(1);
  assert.equal(await outcome(asked), 'NETWORK');
});

test('logging out closes and forgets', async () => {
  const t = answering(204);
  t.open();
  await t.client.logOut();
  assert.deepEqual(t.asked.map(([url, { method, body }]) => [url, method, body]), [['http://relay.test/api/logout', 'POST', undefined]]);
  assert.deepEqual([t.client.state, t.client.me, t.client.rooms.size], ['closed', null, 0]);
  assert.deepEqual(t.events('close'), [{ code: 1000, reason: '', signedOut: false }]);
  t.client.connect();
  assert.equal(t.socket.since, null);
});

test('logging out after the relay has closed the connection, as it does, comes to the same', async () => {
  let answer;
  const t = setUp({ fetch: () => new Promise((resolve) => { answer = resolve; }) });
  t.open();
  const out = t.client.logOut();
  t.socket.die(1008);
  answer({ status: 204, headers: new Headers(), text: async () => '' });
  await out;
  assert.deepEqual([t.client.state, t.client.me], ['closed', null]);
  assert.equal(t.events('close').length, 1);
});

test('a logout that fails changes nothing', async () => {
  const t = answering(503, '{"id": "UNAVAILABLE"}');
  t.open();
  assert.equal(await outcome(t.client.logOut()), 'UNAVAILABLE');
  await settled();
  assert.equal(t.client.state, 'open');
});
