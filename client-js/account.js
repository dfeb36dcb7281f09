/** Accounts of chat, over HTTP: signing up, in and out. The session is a cookie, which scripts do not see. */

import { retryAfter } from './comeback.js';
import { strings } from './connection.js';
import { ParleyError } from './link.js';

/** @import {Clock} from './connection.js' */

/**
 * As much of `fetch` as accounts and comebacks use.
 * @typedef {(url: string, init: {method?: string, headers?: Record<string, string>, body?: string, credentials?: "same-origin", cache?: "no-store", signal: AbortSignal}) => Promise<{status: number, headers: {get(name: string): string | null}, text(): Promise<string>}>} AccountFetch
 */

/**
 * Why something was refused or not done, as `code`. From the relay: those of
 * the protocol, such as USERNAME_EXISTS, LOGIN_FAILED, MESSAGE_TOO_LONG,
 * RATE_LIMITED, UNAVAILABLE. From this side:
 * - UNKNOWN: written, and the connection ended or no answer came: it may be
 *   stored or not.
 * - OFFLINE: there is no connection to ask over, or it ended; nothing changed.
 * - QUEUE_FULL: too much waits for the connection; never sent.
 * - CLOSED: the client is closed; never sent.
 * - NETWORK: no HTTP answer; not known whether the request arrived.
 * - BAD_ANSWER: the HTTP answer is none of the protocol.
 *
 * `message` is safe to show.
 */
export class ChatError extends ParleyError {
  /**
   * @param {string} code
   * @param {string} message
   * @param {number | null} [wait]
   */
  constructor(code, message, wait = null) {
    super(code, message);
    this.name = 'ChatError';
    /** How long the relay asks to wait before the next try, in ms; null: it does not say. @readonly */
    this.retryAfter = wait;
  }
}

/** The account endpoints of one relay. */
export class Accounts {
  /** @type {URL} */ #base;
  /** @type {AccountFetch} */ #fetch;
  /** @type {Clock} */ #clock;
  /** @type {number} */ #timeout;

  /**
   * @param {URL} socket  Where the WebSocket is; the others are beside it.
   * @param {AccountFetch} fetch
   * @param {Clock} clock
   * @param {number} timeout  How long an answer may take, in ms.
   */
  constructor(socket, fetch, clock, timeout) {
    this.#base = new URL(socket);
    this.#base.protocol = socket.protocol.replace('ws', 'http');
    this.#fetch = fetch;
    this.#clock = clock;
    this.#timeout = timeout;
  }

  /**
   * @param {"create-account" | "login" | "logout"} name
   * @param {object | null} body
   * @returns {Promise<void>} rejected with a {@link ChatError}.
   */
  async post(name, body) {
    const giveUp = new AbortController();
    const timer = this.#clock.setTimeout(() => giveUp.abort(), this.#timeout);
    try {
      const answer = await this.#fetch(new URL(name, this.#base).href, {
        method: 'POST',
        credentials: 'same-origin',
        cache: 'no-store',
        signal: giveUp.signal,
        ...body && { headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) },
      });
      if (answer.status === 204) return;
      const { id: code, message } = strings(parse(await answer.text()));
      throw code
        ? new ChatError(code, message || code, retryAfter(answer.headers.get('Retry-After'), this.#clock.now()))
        : new ChatError('BAD_ANSWER', `the relay answered with HTTP status ${answer.status}`);
    } catch (error) {
      throw error instanceof ChatError ? error : new ChatError('NETWORK', 'the relay did not answer');
    } finally {
      this.#clock.clearTimeout(timer);
    }
  }
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
