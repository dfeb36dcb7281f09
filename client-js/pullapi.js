/**
 * Users, friends, groups, messages and search of a relay over HTTP, one request a call.
 * PullClient in pull.js is this, with the notifications.
 */

import { endpoint, retryAfter } from './comeback.js';
import { systemClock } from './connection.js';
import { Etags } from './etags.js';
import { newID } from './link.js';
import { PullError, badAnswer, refusalOf } from './pullerror.js';

/** @import {Clock} from './connection.js' */

/**
 * As much of `fetch` as pull clients use.
 * @typedef {(url: string, init: {method: string, headers: Record<string, string>, body?: string, credentials: "omit" | "same-origin", cache: "no-store", signal: AbortSignal}) => Promise<{status: number, headers: {get(name: string): string | null}, text(): Promise<string>}>} PullFetch
 */

/** Someone with an account. @typedef {{id: number, username: string}} PullUser */

/** Whoever is signed in. @typedef {PullUser & {email: string}} PullMe */

/** A message of a conversation; `timestamp` is in ms since the epoch. @typedef {{id: string, senderId: number, message: string, timestamp: number}} PullMessage */

/** A page of a conversation, newest first, and whether there are older ones. @typedef {{messages: PullMessage[], hasMore: boolean}} PullPage */

/** A message that was stored. @typedef {{id: string, timestamp: number}} PullSent */

/** A group: its name, and the ids of its members in ascending order. @typedef {{name: string, members: number[]}} PullGroup */

/** What a search has found; `next` leads to the page after this one, null: there is none. @typedef {{users: PullUser[], groups: string[], next: string | null}} PullFound */

/**
 * @typedef {object} PullApiOptions
 * @property {string | URL} [url]  Where the relay is, with http or https; relative to the page. Default the page's own host.
 * @property {string} [token]  Of a session, as `signIn` gives one. Without it the browser's cookie counts.
 * @property {number} [requestTimeout]  How long an answer may take, in ms. Default 10000.
 * @property {PullFetch} [fetch]  Default the global one.
 * @property {Clock} [clock]  Default the global timers.
 */

/**
 * One user's view of a relay, by requests alone. Every call is rejected with a
 * {@link PullError} when it fails. What is read is asked for with the ETag of the answer
 * before, if that is still kept, so that what has not changed is not sent again.
 */
export class PullApi {
  // Fixed after construction.
  /** @type {URL} */ #base;
  /** @type {number} */ #timeout;
  /** @type {PullFetch} */ #fetch;
  /** @type {Clock} */ #clock;
  #etags = new Etags();
  /** The keys of pulls of which no answer has come, by whose messages they are. @type {Map<number, string>} */ #lostPulls = new Map();

  /** @type {string | null} */ #token;
  /** Who is signed in, once that is known. @type {PullMe | null} */ #me = null;

  /**
   * Asks nothing yet.
   * @param {PullApiOptions} [options]
   * @throws {TypeError} when the URL is none, or when there is no page to take it from.
   */
  constructor(options = {}) {
    this.#base = endpoint(options.url ?? '/');
    this.#base.protocol = this.#base.protocol.replace('ws', 'http');
    if (!this.#base.pathname.endsWith('/')) this.#base.pathname += '/';
    this.#token = options.token ?? null;
    this.#timeout = options.requestTimeout ?? 10_000;
    // Wrapped, since the browser's own refuse to be called as methods of something else.
    this.#fetch = options.fetch ?? ((url, init) => fetch(url, init));
    this.#clock = options.clock ?? systemClock;
  }

  /** The token of the session; null: none, or the browser's cookie. Whoever has it is this user. */
  get token() {
    return this.#token;
  }

  // Accounts.

  /**
   * How one may sign in.
   * @returns {Promise<{methods: string[], issuer: string | null}>} `methods` has "password", and "openid" where
   *   `/auth/login` leads to the `issuer`.
   */
  async methods() {
    const { methods, issuer } = await this.#ask('GET', 'auth/methods');
    return { methods: listOf(methods, (name) => typeof name === 'string'), issuer: typeof issuer === 'string' ? issuer : null };
  }

  /**
   * Signs in with a token of this client's own, which goes with every request from here on.
   * @param {{email: string, password: string}} credentials
   * @returns {Promise<{token: string, expiresIn: number, user: PullMe}>} `expiresIn` in ms. Rejected with LOGIN_FAILED,
   *   TOO_MANY_REQUESTS.
   */
  async signIn({ email, password }) {
    const answer = await this.#ask('POST', 'auth/token', { email, password });
    if (typeof answer?.token !== 'string' || answer.token === '') throw badAnswer('no token');
    const user = meOf(answer.user);
    this.#etags.forget();
    this.#token = answer.token;
    this.#me = user;
    return { token: answer.token, expiresIn: numberOf(answer, 'expires_in') * 1000, user };
  }

  /**
   * Makes an account, which is not signed in by that.
   * @param {{username: string, email: string, password: string}} account
   * @returns {Promise<PullMe>} rejected with BAD_REQUEST, USERNAME_TAKEN, EMAIL_TAKEN.
   */
  async signUp({ username, email, password }) {
    return meOf(await this.#ask('POST', 'Users', { username, email, password }));
  }

  /** Ends the session, also for other clients that have its token. @returns {Promise<void>} */
  async signOut() {
    await this.#ask('DELETE', 'auth/token');
    this.forget();
  }

  /** Forgets who is signed in, and what was read: the next request may be somebody else's. The token, too. */
  forget() {
    this.#token = null;
    this.#me = null;
    this.#etags.forget();
    this.#lostPulls.clear();
  }

  // Users and friends.

  /** Who is signed in. @returns {Promise<PullMe>} */
  async me() {
    this.#me = meOf(await this.#ask('GET', 'Users/me'));
    return { ...this.#me };
  }

  /**
   * @param {number} id
   * @returns {Promise<PullUser>} rejected with NOT_FOUND.
   */
  async user(id) {
    return userOf(await this.#ask('GET', `Users/${idOf(id)}`));
  }

  /**
   * @param {string} username  All of it, exactly.
   * @returns {Promise<PullUser>} rejected with NOT_FOUND.
   */
  async userByName(username) {
    return userOf(await this.#ask('GET', `Users?Name=${encoded(username)}`));
  }

  /**
   * Changes one's own name or address; what is not given stays.
   * @param {{username?: string, email?: string}} changes
   * @returns {Promise<PullMe>} rejected with BAD_REQUEST, USERNAME_TAKEN, EMAIL_TAKEN; nothing has changed then.
   */
  async rename({ username, email }) {
    const { id } = await this.#whoIAm();
    this.#me = meOf(await this.#ask('PUT', `Users/${id}`, { username, email }));
    return { ...this.#me };
  }

  /** One's own friends, ordered by name. @returns {Promise<PullUser[]>} */
  async friends() {
    const { id } = await this.#whoIAm();
    const { friends } = await this.#ask('GET', `Users/${id}/friends`);
    return listOf(friends, isUser).map(userOf);
  }

  /**
   * Puts somebody on the list of one's friends; nothing happens when they are on it.
   * @param {string} username
   * @returns {Promise<void>} rejected with NOT_FOUND, TOO_MANY.
   */
  async befriend(username) {
    const { id } = await this.#whoIAm();
    await this.#ask('PUT', `Users/${id}/friends/${segment(username)}`);
  }

  /**
   * Takes somebody off the list of one's friends.
   * @param {string} username
   * @returns {Promise<void>}
   */
  async unfriend(username) {
    const { id } = await this.#whoIAm();
    await this.#ask('DELETE', `Users/${id}/friends/${segment(username)}`);
  }

  // Conversations with one.

  /**
   * Writes to somebody.
   * @param {number} userId
   * @param {string} text
   * @returns {Promise<PullSent>} fulfilled once it is stored; after NETWORK, UNAVAILABLE and INTERNAL it may be stored
   *   or not, which the first page of the conversation tells.
   */
  async send(userId, text) {
    const path = `Users/${idOf(userId)}`;
    const { id, username } = await this.#whoIAm();
    try {
      return sentOf(await this.#ask('POST', path, { name: username, message: text }));
    } catch (error) {
      // Refused, so nothing was stored: the name may have been changed elsewhere.
      if (!(error instanceof PullError) || error.code !== 'FORBIDDEN') throw error;
      const now = await this.me();
      if (now.id !== id || now.username === username) throw error;
      return sentOf(await this.#ask('POST', path, { name: now.username, message: text }));
    }
  }

  /**
   * What somebody has written since this user last pulled, on whatever device; it is given once. When that is rejected
   * nothing is lost: the next pull gets the same, unless another device has pulled meanwhile, and the pages of the
   * conversation have it in any case.
   * @param {number} userId
   * @returns {Promise<PullPage>} oldest first; `hasMore`: pull again.
   */
  async pull(userId) {
    const { id } = await this.#whoIAm();
    const path = `Users/${id}/conversation?sender=${idOf(userId)}`;
    const key = this.#lostPulls.get(userId) ?? newID();
    this.#lostPulls.delete(userId); // who pulls at the same time pulls something else
    try {
      return pageOf(await this.#ask('GET', path, undefined, { timeout: this.#timeout, key }));
    } catch (error) {
      this.#lostPulls.set(userId, key);
      throw error;
    }
  }

  /**
   * A page of the conversation with somebody, of both sides. Nothing counts as pulled by that.
   * @param {number} userId
   * @param {number} [index]  0: the newest 20; 1: those before...
   * @returns {Promise<PullPage>}
   */
  async page(userId, index = 0) {
    const { id } = await this.#whoIAm();
    return pageOf(await this.#ask('GET', `Users/${id}/conversation?sender=${idOf(userId)}&Index=${indexOf(index)}`));
  }

  // Groups.

  /** The names of the groups that one is a member of. @returns {Promise<string[]>} */
  async groups() {
    const { groups } = await this.#ask('GET', 'Groups');
    return listOf(groups, isGroup).map(({ groupID }) => groupID);
  }

  /**
   * Makes a group, of which one is a member, too.
   * @param {{name?: string, members: number[], message?: string}} group  Without a name the relay makes one up;
   *   `message` is the first one.
   * @returns {Promise<PullGroup>} rejected with BAD_REQUEST, GROUP_TAKEN, NOT_FOUND (a member), TOO_MANY.
   */
  async createGroup({ name, members, message }) {
    return groupOf(await this.#ask('POST', 'Groups', { name, members: members.map((id) => idOf(id)), message }));
  }

  /**
   * @param {string} name
   * @returns {Promise<PullGroup>} rejected with NOT_FOUND, FORBIDDEN when one is no member.
   */
  async group(name) {
    return groupOf(await this.#ask('GET', `Groups/${segment(name)}`));
  }

  /**
   * Adds somebody to a group.
   * @param {string} name
   * @param {number} userId
   * @returns {Promise<PullGroup>} rejected with NOT_FOUND, FORBIDDEN, TOO_MANY.
   */
  async addMember(name, userId) {
    return groupOf(await this.#ask('POST', `Groups/${segment(name)}`, { userId: idOf(userId) }));
  }

  /**
   * Leaves a group; whoever has made it deletes it by that, with all its messages.
   * @param {string} name
   * @returns {Promise<void>} rejected with NOT_FOUND, FORBIDDEN.
   */
  async leaveGroup(name) {
    await this.#ask('DELETE', `Groups/${segment(name)}`);
  }

  /**
   * Writes to a group.
   * @param {string} name
   * @param {string} text
   * @returns {Promise<PullSent>} as {@link send}.
   */
  async sendToGroup(name, text) {
    const { id } = await this.#whoIAm();
    return sentOf(await this.#ask('POST', `Groups/${segment(name)}/conversation`, { userId: id, message: text }));
  }

  /**
   * A page of a group's conversation.
   * @param {string} name
   * @param {number} [index]  As in {@link page}.
   * @returns {Promise<PullPage>}
   */
  async groupPage(name, index = 0) {
    return pageOf(await this.#ask('GET', `Groups/${segment(name)}/conversation?Index=${indexOf(index)}`));
  }

  // Search.

  /**
   * Finds users, and groups that one is a member of, by a part of their names.
   * @param {string} text
   * @param {{type?: "User" | "Group", after?: string | null}} [options]  `after`: the `next` of the page before.
   * @returns {Promise<PullFound>}
   */
  async search(text, { type, after } = {}) {
    const query = [`Name=${encoded(text)}`, ...type ? [`Type=${type}`] : [], ...after ? [`after=${encodeURIComponent(after)}`] : []];
    const { users, groups, next } = await this.#ask('GET', `Search?${query.join('&')}`);
    return {
      users: listOf(users ?? [], isUser).map(userOf),
      groups: listOf(groups ?? [], isGroup).map(({ groupID }) => groupID),
      next: typeof next === 'string' && next !== '' ? next : null,
    };
  }

  // The requests.

  /**
   * Asks the notification centre once.
   * @protected
   * @param {{timeout: number, max: number, after: string | null}} poll  `timeout` in s.
   * @param {AbortSignal} signal
   * @returns {Promise<unknown[]>}
   */
  async collect({ timeout, max, after }, signal) {
    const query = `timeout=${timeout}&max=${max}${after === null ? '' : `&after=${encodeURIComponent(after)}`}`;
    const { notifications } = await this.#ask('GET', `me?${query}`, undefined, { timeout: timeout * 1000 + this.#timeout, signal });
    return notifications === undefined ? [] : listOf(notifications, () => true);
  }

  async #whoIAm() {
    return this.#me ?? this.me();
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @param {{timeout: number, signal?: AbortSignal, key?: string}} [options]  In ms; `key`: by which the request may be
   *   repeated.
   * @returns {Promise<any>} what the answer holds; null without a body.
   */
  async #ask(method, path, body, { timeout, signal, key } = { timeout: this.#timeout }) {
    const url = new URL(path, this.#base).href;
    const kept = method === 'GET' ? this.#etags.of(url) : null;
    const token = this.#token;
    const giveUp = new AbortController();
    const abort = () => giveUp.abort();
    const timer = this.#clock.setTimeout(abort, timeout);
    signal?.addEventListener('abort', abort);
    try {
      const answer = await this.#fetch(url, {
        method,
        headers: {
          ...token !== null && { Authorization: `Bearer ${token}` },
          ...body && { 'Content-Type': 'application/json' },
          ...kept && { 'If-None-Match': kept.tag },
          ...key && { 'Idempotency-Key': key },
        },
        ...body && { body: JSON.stringify(body) },
        credentials: token === null ? 'same-origin' : 'omit',
        cache: 'no-store',
        signal: giveUp.signal,
      });
      const { status } = answer;
      if (status === 304 && kept) return JSON.parse(kept.text);
      const text = await answer.text();
      const parsed = parse(text);
      if (status < 200 || status > 299) throw refusalOf(status, parsed, retryAfter(answer.headers.get('Retry-After'), this.#clock.now()));
      if (status === 204 && method !== 'GET') return null;
      if (parsed === null || typeof parsed !== 'object') throw badAnswer('no JSON object', status);
      // Whoever was signed in when it was asked for is perhaps not any more.
      if (method === 'GET' && token === this.#token) this.#etags.keep(url, answer.headers.get('ETag'), text);
      return parsed;
    } catch (error) {
      throw error instanceof PullError ? error : new PullError('NETWORK', 'the relay did not answer');
    } finally {
      this.#clock.clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
  }
}

/**
 * One segment of a path: a name, which may be any text. "." and ".." would be taken for steps, however they are
 * written, and an empty one for no segment.
 * @param {string} name
 */
function segment(name) {
  if (typeof name !== 'string' || name === '' || name === '.' || name === '..') throw new PullError('INVALID', 'this cannot be a name');
  return encoded(name);
}

/** @param {string} text */
function encoded(text) {
  try {
    return encodeURIComponent(text);
  } catch {
    throw new PullError('INVALID', 'this is no text: half of a character is missing');
  }
}

/** @param {number} id */
function idOf(id) {
  if (!Number.isSafeInteger(id) || id < 1) throw new PullError('INVALID', 'the id of a user is a positive integer');
  return id;
}

/** @param {number} index */
function indexOf(index) {
  if (!Number.isSafeInteger(index) || index < 0) throw new PullError('INVALID', 'the index of a page is an integer from 0 on');
  return index;
}

// What the relay says, checked: nobody else has to.

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * @param {unknown} value
 * @param {(member: any) => boolean} holds
 * @returns {any[]}
 */
function listOf(value, holds) {
  if (!Array.isArray(value) || !value.every(holds)) throw badAnswer('no list');
  return value;
}

/**
 * @param {any} value
 * @param {string} name
 * @returns {number}
 */
function numberOf(value, name) {
  if (typeof value?.[name] !== 'number') throw badAnswer(`no ${name}`);
  return value[name];
}

/** @param {any} value */
function isUser(value) {
  return typeof value?.id === 'number' && typeof value.username === 'string';
}

/** @param {any} value */
function isGroup(value) {
  return typeof value?.groupID === 'string';
}

/** @param {any} value @returns {PullUser} */
function userOf(value) {
  if (!isUser(value)) throw badAnswer('no user');
  return { id: value.id, username: value.username };
}

/** @param {any} value @returns {PullMe} */
function meOf(value) {
  return { ...userOf(value), email: typeof value.email === 'string' ? value.email : '' };
}

/** @param {any} value @returns {PullGroup} */
function groupOf(value) {
  if (!isGroup(value)) throw badAnswer('no group');
  return { name: value.groupID, members: listOf(value.members, Number.isSafeInteger) };
}

/** @param {any} value @returns {PullSent} */
function sentOf(value) {
  if (typeof value?.id !== 'string') throw badAnswer('no id');
  return { id: value.id, timestamp: numberOf(value, 'timestamp') };
}

/** @param {any} value @returns {PullPage} */
function pageOf(value) {
  const messages = listOf(value?.messages, (message) => typeof message?.id === 'string' && typeof message.senderId === 'number'
    && typeof message.message === 'string' && typeof message.timestamp === 'number');
  return {
    messages: messages.map(({ id, senderId, message, timestamp }) => ({ id, senderId, message, timestamp })),
    hasMore: value.hasMore === true,
  };
}
