/** PullClient over real HTTP, against the small fleet. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Thread } from '../app/thread.js';
import { PullClient } from '../pull.js';
import './fakes.js';
import { Fleet } from './fleet.js';

const PASSWORD = 'correct horse';

/** A fleet of two nodes, and a fetch that finds one that lives, as a balancer does. */
async function fleet(t) {
  const all = new Fleet();
  const nodes = [await all.start('one'), await all.start('two')];
  t.after(() => Promise.all(nodes.map((node) => node.killed || node.kill())));
  const balanced = (first) => (url, init) => {
    const order = [...nodes.slice(first), ...nodes.slice(0, first)];
    const node = order.find(({ killed, draining }) => !killed && !draining) ?? order[0];
    return fetch(url.replace('http://fleet.test', node.url), init);
  };
  return { all, nodes, balanced };
}

/** Someone with a new account, signed in, and what comes for them. */
async function enter(t, balanced, username, options = {}) {
  const client = new PullClient({ url: 'http://fleet.test', fetch: balanced, backoffBase: 20, page: null, ...options });
  t.after(() => client.stop());
  const account = { username, email: `${username}@example.com`, password: PASSWORD };
  await client.signUp(account);
  await client.signIn(account);
  const heard = [];
  for (const type of ['private', 'group', 'groupcreated', 'gap']) client.addEventListener(type, ({ detail }) => { heard.push([type, detail.from ?? detail.group]); });
  client.start();
  await once(client, 'state', {});
  return { client, heard };
}

/** Waits until something is so. */
async function until(what, holds) {
  for (const end = Date.now() + 10_000; !holds(); await new Promise((resolve) => { setTimeout(resolve, 2); })) assert.ok(Date.now() < end, what);
}

test('two write to each other, one finds the other, and both see the same', async (t) => {
  const { balanced } = await fleet(t);
  const [maria, yusuf] = [await enter(t, balanced(0), 'maria'), await enter(t, balanced(1), 'yusuf')];
  const { users: [found] } = await maria.client.search('YUS');
  assert.equal(found.username, 'yusuf');
  await maria.client.befriend('yusuf');
  assert.deepEqual(await maria.client.friends(), [found]);
  const sent = await maria.client.send(found.id, 'Hello');
  await until('he is told', () => yusuf.heard.length === 1);
  assert.deepEqual(yusuf.heard, [['private', 'maria']]);
  const me = await maria.client.me();
  const { messages } = await yusuf.client.pull(me.id);
  assert.deepEqual(messages.map(({ id, message }) => [id, message]), [[sent.id, 'Hello']]);
  assert.deepEqual((await yusuf.client.pull(me.id)).messages, []);
  assert.deepEqual((await maria.client.page(found.id)).messages, messages);
  await maria.client.unfriend('yusuf');
  assert.deepEqual(await maria.client.friends(), []);
});

test('a group', async (t) => {
  const { balanced } = await fleet(t);
  const [maria, yusuf] = [await enter(t, balanced(0), 'maria'), await enter(t, balanced(1), 'yusuf')];
  const { id } = await yusuf.client.me();
  await maria.client.createGroup({ name: 'a/b?', members: [id], message: 'Welcome' });
  await until('he is told', () => yusuf.heard.length === 2);
  assert.deepEqual(yusuf.heard, [['groupcreated', 'a/b?'], ['group', 'a/b?']]);
  assert.deepEqual(await yusuf.client.groups(), ['a/b?']);
  await yusuf.client.sendToGroup('a/b?', 'Thanks');
  const { messages, hasMore } = await maria.client.groupPage('a/b?');
  assert.deepEqual([messages.map(({ message }) => message), hasMore], [['Thanks', 'Welcome'], false]);
  await maria.client.leaveGroup('a/b?');
  await assert.rejects(yusuf.client.group('a/b?'), { code: 'NOT_FOUND' });
});

test('over a node that is killed and one that drains: all comes, once, in order', async (t) => {
  const { all, nodes, balanced } = await fleet(t);
  const [maria, yusuf] = [await enter(t, balanced(1), 'maria'), await enter(t, balanced(0), 'yusuf')];
  const { id } = await yusuf.client.me();
  const { id: hers } = await maria.client.me();
  // By pages, since what a pull brings is lost with its answer.
  const thread = new Thread((index) => yusuf.client.page(hers, index));
  const fetchNew = async () => {
    for (;;) {
      try {
        await thread.refresh();
        return;
      } catch (error) {
        assert.equal(error.code, 'NETWORK');
      }
    }
  };
  yusuf.client.addEventListener('private', fetchNew);
  const wanted = [];
  for (let i = 0; i < 60; i++) {
    wanted.push(`m${i}`);
    await maria.client.send(id, `m${i}`);
    if (i === 15) await nodes[0].kill();
    if (i === 30) nodes[0] = await all.start('three');
    if (i === 45) nodes[1].drain();
  }
  await until('all is told', () => yusuf.heard.filter(([type]) => type === 'private').length === 60);
  await fetchNew();
  while (thread.hasOlder) await thread.older();
  assert.deepEqual(thread.messages.map(({ message }) => message), wanted);
  assert.equal(yusuf.heard.length, 60 + yusuf.heard.filter(([type]) => type === 'gap').length);
});

test('a session that ends ends the poll', async (t) => {
  const { all, balanced } = await fleet(t);
  const { client } = await enter(t, balanced(0), 'maria');
  await until('the poll is held', () => client.state === 'open' && all.pulls.polls.size === 1);
  const closed = once(client, 'close');
  const other = new PullClient({ url: 'http://fleet.test', fetch: balanced(1), token: client.token, page: null });
  await other.signOut();
  assert.deepEqual((await closed)[0].detail, { signedOut: true });
});

test('what came while one was away waits, also for a client that is new', async (t) => {
  const { balanced } = await fleet(t);
  const [maria, yusuf] = [await enter(t, balanced(0), 'maria'), await enter(t, balanced(1), 'yusuf')];
  yusuf.client.stop();
  const { id } = await yusuf.client.me();
  await maria.client.send(id, 'one');
  await maria.client.send(id, 'two');
  const fresh = new PullClient({ url: 'http://fleet.test', fetch: balanced(0), token: yusuf.client.token, page: null });
  t.after(() => fresh.stop());
  const heard = [];
  fresh.addEventListener('private', ({ detail }) => { heard.push(detail.from); });
  fresh.start();
  await until('both are told', () => heard.length === 2);
});
