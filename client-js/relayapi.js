/** The rooms of a relay, over HTTP: made, looked at, ended. */

import { endpoint, retryAfter } from './comeback.js';
import { systemClock } from './connection.js';
import { RoomError, errorOf } from './roomerror.js';

/** @import {Clock} from './connection.js' */

/**
 * As much of `fetch` as the API takes.
 * @typedef {(url: string, init: {method: string, headers: Record<string, string>, body?: string, credentials: "omit", cache: "no-store", signal: AbortSignal}) => Promise<{status: number, headers: {get(name: string): string | null}, text(): Promise<string>}>} RoomsFetch
 */

/**
 * A room. Whoever knows its id and its secret may join it.
 * @typedef {object} RoomInfo
 * @property {number} id
 * @property {number} secret
 * @property {number} maxClients  That may be connected.
 * @property {number} currentClients  That are.
 * @property {"RUNNING" | "CLOSING"} status
 */

/**
 * Sums over all rooms.
 * @typedef {object} RoomsSummary
 * @property {number} numberOfRooms
 * @property {number} maxClients  That may be committed.
 * @property {number} currentClients
 * @property {number} committedClients  What the rooms count for: their `maxClients`, rounded up to multiples of 5.
 */

/**
 * @typedef {object} RoomsApiOptions
 * @property {string | URL} [url]  The start of all paths, with http or https; relative to the page. Default `/v1/api/` of the page's own host.
 * @property {string} [token]  For a relay that wants one (`--rooms-api-token`).
 * @property {number} [requestTimeout]  How long an answer may take, in ms. Default 10000.
 * @property {RoomsFetch} [fetch]  Default the global one.
 * @property {Clock} [clock]  Default the global timers.
 */

/**
 * The rooms of a relay. Every call is rejected with a {@link RoomError} when it fails:
 * REFUSED (no room for so many clients, say), NO_ROOM, UNAUTHORIZED, UNAVAILABLE (it
 * may have been done), NETWORK, BAD_ANSWER.
 */
export class RoomsApi {
  /** @type {URL} */ #base;
  /** @type {Record<string, string>} */ #headers;
  /** @type {number} */ #timeout;
  /** @type {RoomsFetch} */ #fetch;
  /** @type {Clock} */ #clock;

  /**
   * @param {RoomsApiOptions} [options]
   * @throws {TypeError} when the URL is none, or when there is no page to take it from.
   */
  constructor(options = {}) {
    this.#base = endpoint(options.url ?? '/v1/api/');
    this.#base.protocol = this.#base.protocol.replace('ws', 'http');
    if (!this.#base.pathname.endsWith('/')) this.#base.pathname += '/';
    this.#headers = options.token === undefined ? {} : { Authorization: `Bearer ${options.token}` };
    this.#timeout = options.requestTimeout ?? 10_000;
    // Wrapped, since the browser's own refuse to be called as methods of something else.
    this.#fetch = options.fetch ?? ((url, init) => fetch(url, init));
    this.#clock = options.clock ?? systemClock;
  }

  /**
   * Makes a room.
   * @param {number} maxClients  At least 1.
   * @returns {Promise<RoomInfo>}
   */
  async create(maxClients) {
    return roomInfo(await this.#ask('POST', 'rooms', { max_clients: maxClients }));
  }

  /**
   * All rooms, ordered by their ids.
   * @returns {Promise<RoomInfo[]>}
   */
  async list() {
    const all = await this.#ask('GET', 'rooms');
    if (!Array.isArray(all)) throw badAnswer('no list');
    return all.map(roomInfo);
  }

  /**
   * One room.
   * @param {number} id
   * @returns {Promise<RoomInfo>}
   */
  async get(id) {
    return roomInfo(await this.#ask('GET', `rooms/${encodeURIComponent(id)}`));
  }

  /**
   * Ends a room. Its clients are disconnected.
   * @param {number} id
   * @returns {Promise<void>}
   */
  async delete(id) {
    await this.#ask('DELETE', `rooms/${encodeURIComponent(id)}`);
  }

  /**
   * Sums over all rooms.
   * @returns {Promise<RoomsSummary>}
   */
  async summary() {
    const data = await this.#ask('GET', 'summary');
    return {
      numberOfRooms: number(data, 'number_of_rooms'),
      maxClients: number(data, 'max_clients'),
      currentClients: number(data, 'current_clients'),
      committedClients: number(data, 'committed_clients'),
    };
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @returns {Promise<unknown>} the data of the answer.
   */
  async #ask(method, path, body) {
    const giveUp = new AbortController();
    const timer = this.#clock.setTimeout(() => giveUp.abort(), this.#timeout);
    try {
      const answer = await this.#fetch(new URL(path, this.#base).href, {
        method,
        headers: { ...this.#headers, ...body && { 'Content-Type': 'application/json' } },
        ...body && { body: JSON.stringify(body) },
        credentials: 'omit',
        cache: 'no-store',
        signal: giveUp.signal,
      });
      const { status } = answer;
      const { code, message, data } = parse(await answer.text());
      if (code !== status) throw badAnswer(`HTTP status ${status}`);
      if (status < 300) return data;
      throw errorOf(status, typeof message === 'string' ? message : '', retryAfter(answer.headers.get('Retry-After'), this.#clock.now()));
    } catch (error) {
      throw error instanceof RoomError ? error : new RoomError('NETWORK', 'the relay did not answer');
    } finally {
      this.#clock.clearTimeout(timer);
    }
  }
}

/**
 * @param {any} data
 * @returns {RoomInfo}
 */
function roomInfo(data) {
  return {
    id: number(data, 'id'),
    secret: number(data, 'secret'),
    maxClients: number(data, 'max_clients'),
    currentClients: number(data, 'current_clients'),
    status: data.room_status === 'CLOSING' ? 'CLOSING' : 'RUNNING',
  };
}

/**
 * @param {any} data
 * @param {string} name
 * @returns {number}
 */
function number(data, name) {
  const value = data?.[name];
  if (typeof value !== 'number') throw badAnswer(`no ${name}`);
  return value;
}

/** @param {string} what */
function badAnswer(what) {
  return new RoomError('BAD_ANSWER', `the relay answered with what is no answer of the rooms (${what})`);
}

/**
 * @param {string} text
 * @returns {any}
 */
function parse(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
