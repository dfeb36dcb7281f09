/** PullClient's requests: what is asked, what comes of the answers, what is not asked twice. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PullApi, PullClient } from '../pull.js';
import { outcome, settled } from './fakes.js';
import { ME, answer, note, setUp } from './pullfakes.js';

const MESSAGE = { id: '17', senderId: 2, message: 'Hello', timestamp: 5 };
const SENT = { id: '18', timestamp: 6 };

/** A client whose relay answers all requests by a function of what is asked. */
function answering(reply, options = {}) {
  const asked = [];
  const client = new PullClient({
    url: 'https://relay.test/',
    page: null,
    fetch: async (url, { method, headers, body, credentials }) => {
      const request = { method, path: url.replace('https://relay.test/', ''), headers, body: body === undefined ? undefined : JSON.parse(body), credentials };
      asked.push(request);
      return reply(request);
    },
    ...options,
  });
  return { client, asked };
}

/** One who is known to be ME, and gets this answer to everything else. */
function known(status, body, headers) {
  const t = answering(({ path }) => (path === 'Users/me' ? answer(200, ME) : answer(status, body, headers)));
  return { ...t, others: () => t.asked.filter(({ path }) => path !== 'Users/me') };
}

for (const [what, call, [method, path, body], [status, reply], wanted] of [
  ['me', (c) => c.me(), ['GET', 'Users/me'], [200, ME], ME],
  ['user', (c) => c.user(2), ['GET', 'Users/2'], [200, { id: 2, username: 'yusuf', more: 1 }], { id: 2, username: 'yusuf' }],
  ['userByName', (c) => c.userByName('a/b c&d'), ['GET', 'Users?Name=a%2Fb%20c%26d'], [200, { id: 2, username: 'a/b c&d' }], { id: 2, username: 'a/b c&d' }],
  ['rename', (c) => c.rename({ username: 'mary' }), ['PUT', 'Users/1', { username: 'mary' }], [200, { ...ME, username: 'mary' }], { ...ME, username: 'mary' }],
  ['friends', (c) => c.friends(), ['GET', 'Users/1/friends'], [200, { friends: [{ id: 2, username: 'yusuf' }] }], [{ id: 2, username: 'yusuf' }]],
  ['befriend', (c) => c.befriend('../x'), ['PUT', 'Users/1/friends/..%2Fx'], [204], undefined],
  ['unfriend', (c) => c.unfriend('ü?'), ['DELETE', 'Users/1/friends/%C3%BC%3F'], [204], undefined],
  ['send', (c) => c.send(2, 'Hello'), ['POST', 'Users/2', { name: 'maria', message: 'Hello' }], [201, SENT], SENT],
  ['pull', (c) => c.pull(2), ['GET', 'Users/1/conversation?sender=2'], [200, { messages: [MESSAGE] }], { messages: [MESSAGE], hasMore: false }],
  ['pull of much', (c) => c.pull(2), ['GET', 'Users/1/conversation?sender=2'], [200, { messages: [], hasMore: true }], { messages: [], hasMore: true }],
  ['page', (c) => c.page(2, 3), ['GET', 'Users/1/conversation?sender=2&Index=3'], [200, { messages: [MESSAGE], hasMore: true }], { messages: [MESSAGE], hasMore: true }],
  ['groups', (c) => c.groups(), ['GET', 'Groups'], [200, { groups: [{ groupID: 'choir' }] }], ['choir']],
  ['createGroup', (c) => c.createGroup({ name: 'choir', members: [2, 3] }), ['POST', 'Groups', { name: 'choir', members: [2, 3] }], [201, { groupID: 'choir', members: [1, 2, 3] }], { name: 'choir', members: [1, 2, 3] }],
  ['createGroup with a message', (c) => c.createGroup({ members: [], message: 'hi' }), ['POST', 'Groups', { members: [], message: 'hi' }], [201, { groupID: 'x', members: [1] }], { name: 'x', members: [1] }],
  ['group', (c) => c.group('the choir'), ['GET', 'Groups/the%20choir'], [200, { groupID: 'the choir', members: [1] }], { name: 'the choir', members: [1] }],
  ['addMember', (c) => c.addMember('choir', 3), ['POST', 'Groups/choir', { userId: 3 }], [200, { groupID: 'choir', members: [1, 3] }], { name: 'choir', members: [1, 3] }],
  ['leaveGroup', (c) => c.leaveGroup('choir'), ['DELETE', 'Groups/choir'], [204], undefined],
  ['sendToGroup', (c) => c.sendToGroup('choir', 'la'), ['POST', 'Groups/choir/conversation', { userId: 1, message: 'la' }], [201, SENT], SENT],
  ['groupPage', (c) => c.groupPage('choir'), ['GET', 'Groups/choir/conversation?Index=0'], [200, { messages: [MESSAGE], hasMore: false }], { messages: [MESSAGE], hasMore: false }],
  ['search', (c) => c.search('Ma & co'), ['GET', 'Search?Name=Ma%20%26%20co'], [200, { users: [{ id: 1, username: 'Ma & co' }], groups: [{ groupID: 'x' }], next: 'n=' }], { users: [{ id: 1, username: 'Ma & co' }], groups: ['x'], next: 'n=' }],
  ['search on', (c) => c.search('m', { type: 'User', after: 'n=' }), ['GET', 'Search?Name=m&Type=User&after=n%3D'], [200, { users: [], groups: [] }], { users: [], groups: [], next: null }],
  ['methods', (c) => c.methods(), ['GET', 'auth/methods'], [200, { methods: ['password', 'openid'], issuer: 'https://id.example' }], { methods: ['password', 'openid'], issuer: 'https://id.example' }],
  ['signUp', (c) => c.signUp({ username: 'maria', email: 'm@x', password: 'p' }), ['POST', 'Users', { username: 'maria', email: 'm@x', password: 'p' }], [201, ME], ME],
]) {
  test(what, async () => {
    const t = known(status, reply);
    assert.deepEqual(await call(t.client), wanted);
    const [request] = what === 'me' ? t.asked : t.others();
    const headers = body ? { 'Content-Type': 'application/json' } : {};
    const key = request.headers['Idempotency-Key']; // of pulls, and random
    assert.equal(key !== undefined, what.startsWith('pull'));
    delete request.headers['Idempotency-Key'];
    assert.deepEqual(request, { method, path, body, headers, credentials: 'same-origin' });
    if (what !== 'me') assert.equal(t.others().length, 1);
  });
}

test('who one is is asked for once', async () => {
  const t = known(200, { friends: [] });
  await t.client.friends();
  await t.client.friends();
  assert.equal(t.asked.filter(({ path }) => path === 'Users/me').length, 1);
});

test('a pull that failed is repeated by its key, each conversation for itself', async () => {
  let status = 503;
  const t = answering(({ path }) => (path === 'Users/me' ? answer(200, ME) : answer(status, status === 200 ? { messages: [] } : {})));
  const keys = () => t.asked.filter(({ path }) => path !== 'Users/me').map(({ headers }) => headers['Idempotency-Key']);
  await assert.rejects(t.client.pull(2), { code: 'UNAVAILABLE' });
  await assert.rejects(t.client.pull(3), { code: 'UNAVAILABLE' });
  status = 200;
  const both = [t.client.pull(2), t.client.pull(2)];
  await Promise.all(both);
  await t.client.pull(2);
  await t.client.pull(3);
  const [first, other, again, beside, after, otherAgain] = keys();
  assert.equal(again, first);
  assert.equal(otherAgain, other);
  assert.equal(new Set([first, other, beside, after]).size, 4);
});

// Sessions.

test('a token that was got goes with every request, and with the polls', async () => {
  const t = answering(({ path }) => (path === 'auth/token' ? answer(200, { token: 'tok', expires_in: 60, user: ME }) : answer(200, { groups: [] })));
  assert.deepEqual(await t.client.signIn({ email: 'm@x', password: 'p' }), { token: 'tok', expiresIn: 60_000, user: ME });
  assert.equal(t.client.token, 'tok');
  await t.client.groups();
  assert.deepEqual(t.asked.at(-1).headers, { Authorization: 'Bearer tok' });
  assert.equal(t.asked.at(-1).credentials, 'omit');
  assert.deepEqual(t.asked.map(({ path }) => path), ['auth/token', 'Groups']);
});

test('signing out forgets the token and the place, and stops', async () => {
  const t = setUp({ token: 'tok', place: '5-0' });
  await t.open();
  const out = t.client.signOut();
  assert.deepEqual([t.last.method, t.last.url.pathname, t.last.headers], ['DELETE', '/auth/token', { Authorization: 'Bearer tok' }]);
  await t.answer(204);
  await out;
  assert.deepEqual([t.client.state, t.client.token, t.client.place], ['closed', null, null]);
});

test('a sign-out that fails changes nothing', async () => {
  const t = setUp({ token: 'tok', place: '5-0' });
  await t.open();
  const refused = assert.rejects(t.client.signOut(), { code: 'UNAVAILABLE' });
  await t.answer(503, { error: { code: 'unavailable', message: 'later' } });
  await refused;
  assert.deepEqual([t.client.state, t.client.token, t.client.place], ['open', 'tok', '5-0']);
});

test('the place is not taken to another user', async () => {
  let user = ME;
  const t = answering(() => answer(200, { token: 'tok', expires_in: 60, user }), { place: '5-0' });
  await t.client.signIn({ email: 'm@x', password: 'p' });
  assert.equal(t.client.place, '5-0');
  user = { ...ME, id: 2 };
  await t.client.signIn({ email: 'y@x', password: 'p' });
  assert.equal(t.client.place, null);
});

test('a listener that works while somebody signs out moves no place', async () => {
  const t = setUp({ token: 'tok' });
  let goOn;
  t.client.addEventListener('private', () => new Promise((resolve) => { goOn = resolve; }));
  await t.open();
  await t.tell(note('5-0'), note('6-0'));
  const out = t.client.signOut();
  await t.answer(204);
  await out;
  goOn();
  await settled();
  assert.equal(t.client.place, null);
  assert.deepEqual(t.heard(), ['5-0']);
});

// Names that change.

test('a name that was changed elsewhere is asked for again, and the message sent by it', async () => {
  let name = 'maria';
  const t = answering(({ path, body }) => {
    if (path === 'Users/me') return answer(200, { ...ME, username: name });
    return body.name === name ? answer(201, SENT) : answer(403, { error: { code: 'forbidden', message: 'not you' } });
  });
  await t.client.me();
  name = 'mary';
  assert.deepEqual(await t.client.send(2, 'Hello'), SENT);
  assert.deepEqual(t.asked.filter(({ method }) => method === 'POST').map(({ body }) => body.name), ['maria', 'mary']);
});

test('but not by somebody else, who has signed in meanwhile', async () => {
  let me = ME;
  const t = answering(({ path }) => (path === 'Users/me' ? answer(200, me) : answer(403, { error: { code: 'forbidden', message: 'not you' } })));
  await t.client.me();
  me = { id: 2, username: 'yusuf', email: 'y@x' };
  await assert.rejects(t.client.send(3, 'Hello'), { code: 'FORBIDDEN' });
  assert.equal(t.asked.filter(({ method }) => method === 'POST').length, 1);
});

// What is kept.

test('what has not changed is not sent again', async () => {
  const t = answering(({ headers }) => (headers['If-None-Match'] === '"a"' ? answer(304) : answer(200, { groups: [{ groupID: 'choir' }] }, { ETag: '"a"' })));
  const first = await t.client.groups();
  first.push('mine');
  assert.deepEqual(await t.client.groups(), ['choir']);
  assert.deepEqual(t.asked.map(({ headers }) => headers['If-None-Match']), [undefined, '"a"']);
});

test('what has changed takes the place of what was kept, and what has no tag is not kept', async () => {
  let n = 0;
  const t = answering(() => answer(200, { groups: [{ groupID: `g${++n}` }] }, n < 3 ? { ETag: `"${n}"` } : {}));
  for (let i = 1; i <= 4; i++) assert.deepEqual(await t.client.groups(), [`g${i}`]);
  assert.deepEqual(t.asked.map(({ headers }) => headers['If-None-Match']), [undefined, '"1"', '"2"', undefined]);
});

test('as many answers are kept as may be, those that were used last', async () => {
  const t = answering(({ headers }) => (headers['If-None-Match'] ? answer(304) : answer(200, { id: 1, username: 'u' }, { ETag: '"a"' })));
  for (let id = 1; id <= 100; id++) await t.client.user(id);
  await t.client.user(1);
  await t.client.user(101);
  t.asked.length = 0;
  for (const id of [1, 3, 2]) await t.client.user(id);
  assert.deepEqual(t.asked.map(({ headers }) => headers['If-None-Match']), ['"a"', '"a"', undefined]);
});

test('long answers push out the others', async () => {
  const long = 'x'.repeat(600_000);
  const t = answering(({ path, headers }) => (headers['If-None-Match'] ? answer(304) : answer(200, { id: 1, username: path === 'Users/1' ? 'u' : long }, { ETag: '"a"' })));
  for (const id of [1, 2, 3, 1, 3, 2]) await t.client.user(id);
  assert.deepEqual(t.asked.map(({ headers }) => headers['If-None-Match']), [undefined, undefined, undefined, undefined, '"a"', undefined]);
});

test('nothing is kept for the next user', async () => {
  const t = answering(({ method }) => (method === 'DELETE' ? answer(204) : answer(200, { groups: [] }, { ETag: '"a"' })), { token: 'tok' });
  await t.client.groups();
  await t.client.signOut();
  await t.client.groups();
  assert.equal(t.asked.at(-1).headers['If-None-Match'], undefined);
});

// Failures.

for (const [status, code] of [
  [400, 'bad_request'], [401, 'unauthorized'], [401, 'login_failed'], [403, 'forbidden'], [404, 'not_found'], [405, 'method_not_allowed'], [409, 'group_taken'],
  [409, 'too_many'], [413, 'too_large'], [415, 'unsupported_media_type'], [429, 'too_many_requests'], [500, 'internal'], [503, 'unavailable'],
]) {
  test(`${status} ${code}`, async () => {
    const t = answering(() => answer(status, { error: { code, message: 'no' } }));
    await assert.rejects(t.client.groups(), { name: 'PullError', code: code.toUpperCase(), status, message: 'no', retryAfter: null });
  });
}

for (const [status, code] of [[401, 'UNAUTHORIZED'], [413, 'TOO_LARGE'], [429, 'TOO_MANY_REQUESTS'], [502, 'UNAVAILABLE'], [503, 'UNAVAILABLE'], [504, 'UNAVAILABLE'], [404, 'BAD_ANSWER'], [302, 'BAD_ANSWER']]) {
  test(`${status} of a balancer`, async () => {
    const t = answering(() => answer(status, '<h1>no</h1>', { 'Retry-After': '2' }));
    await assert.rejects(t.client.groups(), { code, status, retryAfter: 2_000 });
  });
}

for (const [what, body, call] of [
  ['no JSON', '<h1>Welcome</h1>', (c) => c.groups()],
  ['null', 'null', (c) => c.groups()],
  ['a number', '7', (c) => c.groups()],
  ['no list', { groups: 'many' }, (c) => c.groups()],
  ['a list of others', { groups: [{ name: 'x' }] }, (c) => c.groups()],
  ['a user without an id', { username: 'x' }, (c) => c.user(1)],
  ['an id that is a text', { id: '1', username: 'x' }, (c) => c.me()],
  ['a message without a text', { messages: [{ ...MESSAGE, message: 1 }], hasMore: false }, (c) => c.groupPage('x')],
  ['members that are no numbers', { groupID: 'x', members: ['1'] }, (c) => c.group('x')],
  ['no id of what was sent', { ...ME, timestamp: 1 }, (c) => c.send(2, 'x')],
  ['no token', { user: ME, expires_in: 1 }, (c) => c.signIn({ email: 'm@x', password: 'p' })],
]) {
  test(`no answer of the protocol: ${what}`, async () => {
    const t = answering(() => answer(200, body));
    await assert.rejects(call(t.client), { code: 'BAD_ANSWER' });
  });
}

test('what cannot be asked for is not', async () => {
  const t = known(200, {});
  for (const call of [
    (c) => c.user(0), (c) => c.user(1.5), (c) => c.user('me'), (c) => c.page(2, -1), (c) => c.group(''), (c) => c.group('..'), (c) => c.befriend('.'),
    (c) => c.search('\ud800'), (c) => c.createGroup({ members: ['2'] }),
  ]) await assert.rejects(call(t.client), { code: 'INVALID' });
  assert.deepEqual(t.others(), []);
});

test('no answer', async () => {
  const api = new PullApi({ url: 'https://relay.test', fetch: () => Promise.reject(new TypeError('nobody there')) });
  await assert.rejects(api.groups(), { code: 'NETWORK', status: 0 });
});

test('no answer in time', async () => {
  const t = setUp();
  const groups = t.client.groups();
  t.clock.advance(9_999);
  assert.equal(await outcome(groups), 'pending');
  t.clock.advance(1);
  assert.equal(await outcome(groups), 'NETWORK');
  assert.equal(t.clock.size, 0);
});
