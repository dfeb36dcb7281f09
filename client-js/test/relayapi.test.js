/** The rooms of a relay over HTTP. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RoomsApi } from '../relayapi.js';
import { FakeClock, outcome } from './fakes.js';

const INFO = { id: 5, secret: 6, max_clients: 4, current_clients: 1, room_status: 'RUNNING' };
const ROOM = { id: 5, secret: 6, maxClients: 4, currentClients: 1, status: 'RUNNING' };

/** An API whose relay answers with this, and what it was asked. */
function answering(status, body, { headers = {}, ...options } = {}) {
  const asked = [];
  const api = new RoomsApi({
    url: 'https://relay.test/v1/api',
    clock: new FakeClock(),
    fetch: async (url, { method, headers: sent, body: text, credentials }) => {
      asked.push({ method, url, headers: sent, ...text !== undefined && { body: JSON.parse(text) } });
      assert.equal(credentials, 'omit');
      return { status, headers: { get: (name) => headers[name] ?? null }, text: async () => (typeof body === 'string' ? body : JSON.stringify(body)) };
    },
    ...options,
  });
  return { api, asked };
}

for (const [what, data, call, request, wanted] of [
  ['create', INFO, (api) => api.create(4), { method: 'POST', url: 'rooms', body: { max_clients: 4 } }, ROOM],
  ['list', [INFO], (api) => api.list(), { method: 'GET', url: 'rooms' }, [ROOM]],
  ['an empty list', [], (api) => api.list(), { method: 'GET', url: 'rooms' }, []],
  ['get', { ...INFO, room_status: 'CLOSING' }, (api) => api.get(5), { method: 'GET', url: 'rooms/5' }, { ...ROOM, status: 'CLOSING' }],
  ['delete', undefined, (api) => api.delete(5), { method: 'DELETE', url: 'rooms/5' }, undefined],
  ['summary', { number_of_rooms: 1, max_clients: 100, current_clients: 2, committed_clients: 5 }, (api) => api.summary(), { method: 'GET', url: 'summary' },
    { numberOfRooms: 1, maxClients: 100, currentClients: 2, committedClients: 5 }],
]) {
  test(what, async () => {
    const { api, asked } = answering(200, { code: 200, data });
    assert.deepEqual(await call(api), wanted);
    const headers = request.body ? { 'Content-Type': 'application/json' } : {};
    assert.deepEqual(asked, [{ ...request, url: `https://relay.test/v1/api/${request.url}`, headers }]);
  });
}

test('a token goes with every request', async () => {
  const { api, asked } = answering(200, { code: 200, data: [] }, { token: 'let me' });
  await api.list();
  assert.deepEqual(asked[0].headers, { Authorization: 'Bearer let me' });
});

for (const [status, code] of [[400, 'REFUSED'], [401, 'UNAUTHORIZED'], [403, 'REFUSED'], [404, 'NO_ROOM'], [500, 'FAILED'], [503, 'UNAVAILABLE']]) {
  test(`${status} is ${code}`, async () => {
    const { api } = answering(status, { code: status, message: 'no' });
    await assert.rejects(api.get(5), { name: 'RoomError', code, status, message: 'no', retryAfter: null });
  });
}

test('the relay says how long to wait', async () => {
  const { api } = answering(503, { code: 503, message: 'later' }, { headers: { 'Retry-After': '2' } });
  await assert.rejects(api.list(), { retryAfter: 2_000 });
});

for (const [what, status, body] of [
  ['a page', 404, '<h1>Not here</h1>'],
  ['null', 200, 'null'],
  ['another code than the status', 200, { code: 201, data: INFO }],
  ['no data', 200, { code: 200 }],
  ['an id that is a text', 200, { code: 200, data: { ...INFO, id: '5' } }],
]) {
  test(`${what} is no answer`, async () => {
    const { api } = answering(status, body);
    await assert.rejects(api.create(4), { code: 'BAD_ANSWER' });
    await assert.rejects(api.list(), { code: 'BAD_ANSWER' });
    await assert.rejects(api.summary(), { code: 'BAD_ANSWER' });
  });
}

test('no answer', async () => {
  const api = new RoomsApi({ url: 'https://relay.test', fetch: () => Promise.reject(new TypeError('nobody there')) });
  await assert.rejects(api.list(), { code: 'NETWORK' });
});

test('no answer in time', async () => {
  const clock = new FakeClock();
  const fetch = (url, { signal }) => new Promise((resolve, reject) => { signal.addEventListener('abort', reject); });
  const listing = new RoomsApi({ url: 'https://relay.test', fetch, clock }).list();
  clock.advance(9_999);
  assert.equal(await outcome(listing), 'pending');
  clock.advance(1);
  assert.equal(await outcome(listing), 'NETWORK');
  assert.equal(clock.size, 0);
});
