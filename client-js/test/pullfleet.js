/** Users, groups, search and notifications of the small fleet, over HTTP, shared by its nodes; the accounts are those of its chat. */

import { createHash, randomUUID } from 'node:crypto';
import { compareIds } from '../room.js';

const PAGE = 20;

/** The longest message, in bytes. */
const MESSAGE_LIMIT = 65_536;

const CODES = { 400: 'bad_request', 401: 'unauthorized', 403: 'forbidden', 404: 'not_found', 405: 'method_not_allowed', 413: 'too_large' };

/** Why a request is refused. */
class Refusal extends Error {
  constructor(status, code = CODES[status]) {
    super(`refused: ${code}`);
    this.status = status;
    this.code = code;
  }
}

export class Pulls {
  /** @type {import('./chatfleet.js').Chat} */ chat;
  /** When set, `/auth/methods` names it. @type {string | null} */
  issuer = null;
  /** Friends by user: sets of ids. */
  friends = new Map();
  /** By name: {creator, members}, a set of ids. */
  groups = new Map();
  /** Messages by conversation, oldest first. */
  conversations = new Map();
  /** How far each user has pulled each conversation. */
  cursors = new Map();
  /** Notifications by user, oldest first. */
  notices = new Map();
  /** How far each session has come. */
  places = new Map();
  /** Polls that wait: {user, wake}. */
  polls = new Set();
  #lastId = 0;
  #lastNotice = 0;

  constructor(chat) {
    this.chat = chat;
    chat.onEnd = (sid) => this.ended(sid);
  }

  /** Answers a request; false when there is no such path. */
  serve(request, response, node) {
    const { pathname, searchParams: query } = new URL(request.url, 'http://node');
    const path = pathname.split('/').slice(1).map(decodeURIComponent);
    const handler = { User: this.#users, Users: this.#users, Group: this.#groups, Groups: this.#groups, Search: this.#search, me: this.#poll, auth: this.#auth }[path[0]];
    if (!handler || path.at(-1).endsWith('.js')) return false;
    let text = '';
    request.setEncoding('utf8').on('data', (part) => { text += part; }).on('end', async () => {
      try {
        const sid = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? /(?:^|; )sid=([^;]+)/.exec(request.headers.cookie ?? '')?.[1];
        const call = { method: request.method, path, query, body: text ? parse(text) : {}, sid, me: this.chat.sessions.get(sid), node, response };
        if (!call.me && !(path[0] === 'auth' && call.method !== 'DELETE') && !(path[0] === 'Users' && call.method === 'POST' && path.length === 1)) throw new Refusal(401);
        const [status, body, more = {}] = await handler.call(this, call) ?? [404];
        if (status === 404) throw new Refusal(404);
        if (response.destroyed) return;
        const json = body === undefined ? '' : JSON.stringify(body);
        const tag = `"${createHash('sha256').update(json).digest('hex').slice(0, 16)}"`;
        const keeps = request.method === 'GET' && path[0] !== 'me' && !(path[2] === 'conversation' && !query.has('Index'));
        if (keeps && request.headers['if-none-match'] === tag) response.writeHead(304, { ETag: tag }).end();
        else response.writeHead(status, { 'Content-Type': 'application/json', ...keeps && { ETag: tag }, ...more }).end(json);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        response.writeHead(error.status, { 'Content-Type': 'application/json' }).end(JSON.stringify({ error: { code: error.code, message: error.message } }));
      }
    });
    return true;
  }

  /** A session has ended: what it waits for is refused. */
  ended(sid) {
    for (const poll of this.polls) if (poll.sid === sid) poll.wake();
  }

  /** A node asks its clients to go elsewhere. */
  drain(node) {
    for (const poll of this.polls) if (poll.node === node) poll.wake();
  }

  get #accounts() {
    return [...this.chat.accounts.values()].map(({ user }) => user);
  }

  #auth({ method, path: [, what], body, sid }) {
    if (what === 'methods') return [200, this.issuer ? { methods: ['password', 'openid'], issuer: this.issuer } : { methods: ['password'] }];
    if (what !== 'token') return null;
    if (method === 'DELETE') {
      this.chat.sessions.delete(sid);
      this.ended(sid);
      return [204];
    }
    const account = this.chat.accounts.get(body.email?.toLowerCase());
    if (account?.password !== body.password) throw new Refusal(401, 'login_failed');
    const token = randomUUID();
    this.chat.sessions.set(token, account.user);
    return [200, { token, expires_in: 604_800, user: { ...account.user, email: body.email } }];
  }

  #users({ method, path: [, id, what, name], query, body, me }) {
    const accounts = this.#accounts;
    if (id === undefined && method === 'POST') {
      const { username, email, password } = body;
      if (this.chat.accounts.has(email.toLowerCase())) throw new Refusal(409, 'email_taken');
      if (accounts.some((user) => user.username === username)) throw new Refusal(409, 'username_taken');
      const user = { id: accounts.length + 1, username };
      this.chat.accounts.set(email.toLowerCase(), { user, password });
      return [201, { ...user, email }];
    }
    const user = accounts.find((one) => (id === undefined ? one.username === query.get('Name') : one.id === (id === 'me' ? me.id : Number(id))));
    if (!user) return null;
    if (what === undefined && method === 'GET') return [200, user.id === me.id ? { ...user, email: this.#emailOf(user) } : user];
    if (what === undefined && method === 'POST') {
      if (body.name !== me.username) throw new Refusal(403);
      if (user.id === me.id) throw new Refusal(400);
      return [201, this.#write(pairKey(me.id, user.id), me, body.message, [user.id], { notification: 'new_private_message', from: me.username })];
    }
    if (user.id !== me.id) throw new Refusal(403);
    if (what === undefined) {
      if (accounts.some((one) => one.id !== me.id && one.username === body.username)) throw new Refusal(409, 'username_taken');
      user.username = body.username ?? user.username;
      return [200, { ...user, email: this.#emailOf(user) }];
    }
    if (what === 'friends') return this.#friendsOf(me, method, name);
    const other = accounts.find((one) => one.id === Number(query.get('sender')));
    if (!other) return null;
    const key = pairKey(me.id, other.id);
    if (query.has('Index')) return [200, this.#page(key, query)];
    const all = this.conversations.get(key) ?? [];
    const from = this.cursors.get(`${me.id} ${key}`) ?? 0;
    this.cursors.set(`${me.id} ${key}`, all.length);
    return [200, { messages: all.slice(from).filter(({ senderId }) => senderId === other.id) }];
  }

  #emailOf(user) {
    return [...this.chat.accounts].find(([, account]) => account.user === user)[0];
  }

  #friendsOf(me, method, name) {
    const mine = this.friends.get(me.id) ?? new Set();
    this.friends.set(me.id, mine);
    if (method === 'GET') return [200, { friends: this.#accounts.filter(({ id }) => mine.has(id)).sort((a, b) => (a.username < b.username ? -1 : 1)) }];
    const friend = this.#accounts.find(({ username }) => username === name);
    if (!friend) return null;
    if (method === 'PUT') mine.add(friend.id);
    else mine.delete(friend.id);
    return [204];
  }

  #groups({ method, path: [, name, what], query, body, me }) {
    if (name === undefined && method === 'GET') {
      return [200, { groups: [...this.groups].filter(([, { members }]) => members.has(me.id)).map(([groupID]) => ({ groupID })).sort((a, b) => (a.groupID < b.groupID ? -1 : 1)) }];
    }
    if (name === undefined || (method === 'PUT' && what === undefined)) {
      const groupID = name ?? body.name ?? `group-${this.groups.size + 1}`;
      if (this.groups.has(groupID)) throw new Refusal(409, 'group_taken');
      const members = new Set([me.id, ...body.members]);
      if ([...members].some((id) => !this.#accounts.some((user) => user.id === id))) return null;
      this.groups.set(groupID, { creator: me.id, members });
      this.#notify([...members].filter((id) => id !== me.id), { notification: 'group_created', group: groupID });
      if (body.message) this.#writeToGroup(groupID, me, body.message);
      return [201, this.#shown(groupID)];
    }
    const group = this.groups.get(name);
    if (!group) return null;
    if (!group.members.has(me.id)) throw new Refusal(403);
    if (what === 'conversation') return method === 'POST' ? [201, this.#writeToGroup(name, me, body.message)] : [200, this.#page(`group ${name}`, query)];
    if (method === 'POST') {
      if (!this.#accounts.some(({ id }) => id === body.userId)) return null;
      if (!group.members.has(body.userId)) {
        group.members.add(body.userId);
        this.#notify([...group.members].filter((id) => id !== me.id), { notification: 'group_created', group: name });
      }
    } else if (method === 'DELETE') {
      group.members.delete(me.id);
      if (group.creator === me.id) this.groups.delete(name);
      return [204];
    }
    return [200, this.#shown(name)];
  }

  #shown(groupID) {
    return { groupID, members: [...this.groups.get(groupID).members].sort((a, b) => a - b) };
  }

  #writeToGroup(group, me, text) {
    const others = [...this.groups.get(group).members].filter((id) => id !== me.id);
    return this.#write(`group ${group}`, me, text, others, { notification: 'new_group_message', group });
  }

  #write(key, me, message, to, notice) {
    if (typeof message !== 'string' || message === '') throw new Refusal(400);
    if (Buffer.byteLength(message) > MESSAGE_LIMIT) throw new Refusal(413);
    const post = { id: String(++this.#lastId), senderId: me.id, message, timestamp: Date.now() };
    this.conversations.set(key, [...this.conversations.get(key) ?? [], post]);
    this.#notify(to, notice);
    return { id: post.id, timestamp: post.timestamp };
  }

  #page(key, query) {
    const newest = [...this.conversations.get(key) ?? []].reverse();
    const from = Number(query.get('Index')) * PAGE;
    return { messages: newest.slice(from, from + PAGE), hasMore: newest.length > from + PAGE };
  }

  #search({ query, me }) {
    const text = (query.get('Name') ?? '').toLowerCase();
    if (text === '') throw new Refusal(400);
    const rank = (name) => [name.toLowerCase().startsWith(text) ? 0 : 1, name];
    const match = (names) => names.filter((name) => name.toLowerCase().includes(text)).sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
    const from = Number(query.get('after') ?? 0);
    const users = match(this.#accounts.map(({ username }) => username));
    const groups = match([...this.groups].filter(([, { members }]) => members.has(me.id)).map(([name]) => name));
    const [type, end] = [query.get('Type'), from + PAGE];
    return [200, {
      users: type === 'Group' ? [] : users.slice(from, end).map((name) => this.#accounts.find(({ username }) => username === name)),
      groups: type === 'User' ? [] : groups.slice(from, end).map((groupID) => ({ groupID })),
      ...(users.length > end || groups.length > end) && { next: String(end) },
    }];
  }

  // Notifications.

  #notify(to, notice) {
    const now = Date.now();
    const id = `${now}-${++this.#lastNotice}`;
    for (const user of to) {
      this.notices.set(user, [...this.notices.get(user) ?? [], { ...notice, id }]);
      for (const poll of this.polls) if (poll.user === user) poll.wake();
    }
  }

  async #poll({ query, sid, me, node, response }) {
    const after = query.get('after') ?? this.places.get(sid) ?? '0-0';
    if (query.has('after')) this.places.set(sid, after);
    const waiting = () => (this.notices.get(me.id) ?? []).filter(({ id }) => compareIds(id, after) > 0).slice(0, Number(query.get('max') ?? 1));
    if (waiting().length === 0 && !node.draining && Number(query.get('timeout') ?? 60) > 0) {
      const poll = { user: me.id, sid, node, wake: () => {} };
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, Number(query.get('timeout') ?? 60) * 1000);
        poll.wake = () => {
          clearTimeout(timer);
          resolve();
        };
        response.on('close', poll.wake);
        this.polls.add(poll);
      });
      this.polls.delete(poll);
    }
    if (!this.chat.sessions.has(sid)) throw new Refusal(401);
    const notifications = waiting();
    if (notifications.length === 0) return [200, {}, node.draining ? { Connection: 'close' } : {}];
    response.on('finish', () => { if (compareIds(notifications.at(-1).id, this.places.get(sid) ?? '0-0') > 0) this.places.set(sid, notifications.at(-1).id); });
    return [200, query.has('max') ? { notifications } : notifications[0]];
  }
}

function pairKey(a, b) {
  return `${Math.min(a, b)} and ${Math.max(a, b)}`;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Refusal(400);
  }
}
