/** ChatClient over real sockets and real HTTP, against the small fleet. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import WebSocket from 'ws';
import { ChatClient } from '../chat.js';
import './fakes.js';
import { Fleet } from './fleet.js';

/** What a browser does and Node does not: it keeps the cookie. */
function browser() {
  let cookie = '';
  return {
    fetch: async (url, init) => {
      const answer = await fetch(url, { ...init, headers: { ...init.headers, Cookie: cookie } });
      const [set] = answer.headers.getSetCookie();
      if (set) [cookie] = set.split(';');
      return answer;
    },
    WebSocket: class extends WebSocket {
      constructor(url) {
        super(url, { headers: { Cookie: cookie } });
      }
    },
  };
}

/** Someone with a new account, in the rooms of a node. */
async function enter(t, node, username) {
  const client = new ChatClient({ url: `${node.url}/api/ws`, backoffBase: 5, page: null, ...browser() });
  t.after(() => client.close());
  await client.signUp({ username, email: `${username}@example.com`, password: 'correct horse' });
  client.connect();
  await once(client, 'open');
  return client;
}

async function pair(t) {
  const fleet = new Fleet();
  const nodes = [await fleet.start('one'), await fleet.start('two')];
  t.after(() => Promise.all(nodes.map((node) => node.kill())));
  return { fleet, nodes, maria: await enter(t, nodes[0], 'maria'), yusuf: await enter(t, nodes[1], 'yusuf') };
}

const holds = (client, roomId = 'mill') => client.rooms.get(roomId).messages.map(({ content }) => content);

/** Waits until something is so. */
async function until(what, holdsTrue) {
  for (const end = Date.now() + 10_000; !holdsTrue(); await new Promise((resolve) => { setTimeout(resolve, 2); })) {
    assert.ok(Date.now() < end, what);
  }
}

test('two users talk, and see each other', async (t) => {
  const { maria, yusuf } = await pair(t);
  await until('she sees him come', () => maria.rooms.get('mill').online.length === 2);
  const typing = once(maria, 'typing');
  yusuf.typing('mill');
  const [{ detail: { user, roomId } }] = await typing;
  assert.deepEqual([user.username, roomId], ['yusuf', 'mill']);
  const heard = once(maria, 'message');
  const { id } = await yusuf.send('mill', 'hello');
  assert.equal((await heard)[0].detail.message.id, id);
  yusuf.close();
  await until('she sees him go', () => maria.rooms.get('mill').online.length === 1);
});

test('a node is killed between two messages: neither hole nor double', async (t) => {
  const { fleet, nodes, maria, yusuf } = await pair(t);
  await yusuf.send('mill', 'one');
  const back = once(maria, 'open');
  await nodes[0].kill();
  await yusuf.sendMessages('mill', ['two', 'three']);
  await until('she knows', () => maria.state !== 'open');
  const own = maria.send('mill', 'five');
  const missed = Array.from({ length: 250 }, (_, i) => `missed ${i}`);
  fleet.chat.store('mill', yusuf.me, missed);
  nodes[0] = await fleet.start('again', nodes[0].port);
  await back;
  await own;
  assert.deepEqual(holds(maria), ['one', 'two', 'three', ...missed, 'five']);
  await until('both have the same', () => holds(yusuf).length === holds(maria).length);
  assert.deepEqual(holds(yusuf), holds(maria));
});

test('a slow answer about history, after a reconnect', async (t) => {
  const { fleet, nodes, maria, yusuf } = await pair(t);
  fleet.chat.store('mill', yusuf.me, Array.from({ length: 250 }, (_, i) => `old ${i}`));
  await until('she has them', () => holds(maria).length === 250);
  let answer;
  fleet.chat.slowly = new Promise((resolve) => { answer = resolve; });
  nodes[0].hangUp(1012);
  fleet.chat.store('mill', yusuf.me, Array.from({ length: 150 }, (_, i) => `new ${i}`));
  await once(maria, 'open');
  await yusuf.send('mill', 'last');
  answer();
  await until('she has all', () => holds(maria).length === 401);
  assert.deepEqual(holds(maria), holds(yusuf));
});

test('logging out ends the connections of the session, and no others', async (t) => {
  const { nodes, maria, yusuf } = await pair(t);
  const again = new ChatClient({ url: `${nodes[1].url}/api/ws`, page: null, ...browser() });
  t.after(() => again.close());
  await assert.rejects(again.logIn({ email: 'maria@example.com', password: 'wrong horse' }), { code: 'LOGIN_FAILED' });
  await again.logIn({ email: 'Maria@Example.com', password: 'correct horse' });
  again.connect();
  await once(again, 'open');
  await maria.logOut();
  assert.equal(maria.state, 'closed');
  await yusuf.send('mill', 'who is left?');
  await until('the other session goes on', () => holds(again).length === 1);
  maria.connect();
  const [{ detail }] = await once(maria, 'close');
  assert.deepEqual([detail.code, detail.signedOut], [1008, true]);
});
