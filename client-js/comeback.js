/**
 * How a client comes back: the wait between two connections, which obeys the
 * close code, the relay's Retry-After and full jitter, and what cuts it short.
 */

import { CloseCode, systemClock } from './connection.js';

/** @import {Clock, Connection, SocketLike} from './connection.js' */

/**
 * As much of `fetch` as asking a relay takes that refused a handshake.
 * @typedef {(url: string, init: {cache: "no-store", signal: AbortSignal}) => Promise<{status: number, headers: {get(name: string): string | null}}>} Fetch
 */

/**
 * The page whose events say that it is no use to wait any longer: `online` of
 * the window, `visibilitychange` of its document.
 * @typedef {object} PageLike
 * @property {(type: "online", listener: () => void) => void} [addEventListener]
 * @property {(type: "online", listener: () => void) => void} [removeEventListener]
 * @property {{visibilityState: string, addEventListener(type: "visibilitychange", listener: () => void): void, removeEventListener(type: "visibilitychange", listener: () => void): void}} [document]
 */

/**
 * How a client connects, and comes back.
 * @typedef {object} ConnectOptions
 * @property {number} [backoffBase]  Longest wait before the first new attempt, in ms; it doubles with each that fails. Default 1000.
 * @property {number} [backoffCap]  Bound of that doubling, in ms. Default 30000.
 * @property {number} [requestTimeout]  How long the greeting and each answer may take, in ms. Default 10000.
 * @property {new (url: string) => SocketLike} [WebSocket]  Default the global one.
 * @property {Fetch | null} [fetch]  Asks a relay that refused the handshake for its Retry-After; null: do not ask. Default the global one.
 * @property {() => number} [random]  From 0 up to 1, for the jitter. Default Math.random.
 * @property {Clock} [clock]  Default the global timers.
 * @property {PageLike | null} [page]  Default the global object; null: no page.
 */

/**
 * How the last connection ended, and when the next one is tried.
 * @typedef {{code: number, reason: string, attempt: number, delay: number}} Reconnecting
 */

/**
 * Whose comeback it is.
 * @typedef {object} ComebackOwner
 * @property {() => void} dial  The wait is over.
 * @property {(detail: Reconnecting) => void} scheduled  The wait has a length now, or another one.
 * @property {() => void} wake  The network is back, or someone looks at the page again: a connection that seems open may have died unseen.
 */

/**
 * A connection that lived this long was a good one, and the next backoff
 * starts from the base. One that dies sooner counts as a failed attempt, or a
 * relay that greets and hangs up would be called without pause.
 */
const GOOD_CONNECTION = 10_000;

/** How long a relay that refused the handshake is asked why. */
const ASK_TIMEOUT = 3_000;

/** Bound of an obeyed Retry-After: timers overflow at 24 days. */
const LONGEST_WAIT = 24 * 3_600_000;

/**
 * The options with their defaults.
 * @param {ConnectOptions} options
 * @returns {Required<ConnectOptions>}
 */
export function withDefaults(options) {
  return {
    backoffBase: options.backoffBase ?? 1_000,
    backoffCap: options.backoffCap ?? 30_000,
    requestTimeout: options.requestTimeout ?? 10_000,
    WebSocket: options.WebSocket ?? globalThis.WebSocket,
    // Wrapped, since the browser's own refuse to be called as methods of something else.
    fetch: options.fetch === undefined ? (url, init) => fetch(url, init) : options.fetch,
    random: options.random ?? Math.random,
    clock: options.clock ?? systemClock,
    page: options.page === undefined ? /** @type {PageLike} */ (globalThis) : options.page,
  };
}

/**
 * Where a relay's endpoint is.
 * @param {string | URL} url  With ws, wss, http or https; relative to the page.
 * @throws {TypeError} when it is none, or when there is no page to take it from.
 */
export function endpoint(url) {
  const absolute = new URL(url, globalThis.location?.href);
  absolute.protocol = absolute.protocol.replace('http', 'ws');
  return absolute;
}

/** The wait between two connections. */
class Pause {
  /** When it ends. */
  due = Infinity;
  /** Null while the relay is still asked for its Retry-After. @type {any} */
  timer = null;
  asking = new AbortController();

  /**
   * @param {{code: number, reason: string, attempt: number}} cause
   * @param {number} from  When it begins.
   * @param {{floor: number, spread: number}} length  The part, in ms, that nothing cuts short, and the bound of the random part on top of it.
   */
  constructor(cause, from, { floor, spread }) {
    this.cause = cause;
    this.from = from;
    this.floor = floor;
    this.spread = spread;
  }
}

/** The comebacks of one client, one after another. */
export class Comeback {
  // Fixed after construction.
  /** @type {URL} */ #url;
  /** @type {Required<ConnectOptions>} */ #options;
  /** @type {ComebackOwner} */ #owner;

  /** Set while waiting. @type {Pause | null} */ #pause = null;
  /** Connections lost in a row. */ #attempt = 0;

  /**
   * @param {URL} url  What is asked for a Retry-After.
   * @param {Required<ConnectOptions>} options
   * @param {ComebackOwner} owner
   */
  constructor(url, options, owner) {
    this.#url = url;
    this.#options = options;
    this.#owner = owner;
  }

  /** A connection is dialled: no wait any more; from here on the page is listened to. */
  dialled() {
    const { page } = this.#options;
    this.#pause = null;
    // Adding a listener that is there already changes nothing.
    page?.addEventListener?.('online', this.#wake);
    page?.document?.addEventListener('visibilitychange', this.#wakeIfVisible);
  }

  /**
   * A connection was lost: the wait begins with the call that is returned. Its
   * owner may end it before.
   * @param {Connection} connection
   * @param {number} code
   * @param {string} reason
   * @returns {() => void}
   */
  lost(connection, code, reason) {
    const { clock, fetch } = this.#options;
    const now = clock.now();
    if (connection.since !== null && now - connection.since >= GOOD_CONNECTION) this.#attempt = 0;
    const attempt = ++this.#attempt;
    const pause = new Pause({ code, reason, attempt }, now, this.#backoff(code, attempt));
    this.#pause = pause;
    return () => {
      if (connection.shaken || !fetch) this.#wait(pause);
      else this.#askRetryAfter(pause, fetch).then(() => this.#wait(pause));
    };
  }

  /** Cuts the wait down to its floor. */
  hasten() {
    const pause = this.#pause;
    if (!pause) return;
    pause.spread = 0;
    const earliest = pause.from + pause.floor;
    // While the relay is still asked, the spread alone has done it.
    if (pause.timer === null || earliest >= pause.due) return;
    pause.due = earliest;
    this.#schedule(pause);
  }

  /** No comeback any more, until something is dialled again. */
  end() {
    const { clock, page } = this.#options;
    clock.clearTimeout(this.#pause?.timer);
    this.#pause?.asking.abort();
    this.#pause = null;
    this.#attempt = 0;
    page?.removeEventListener?.('online', this.#wake);
    page?.document?.removeEventListener('visibilitychange', this.#wakeIfVisible);
  }

  /**
   * How long to wait. Full jitter: clients that lost one node at one moment
   * come back spread out.
   * @param {number} code
   * @param {number} attempt
   * @returns {{floor: number, spread: number}}
   */
  #backoff(code, attempt) {
    const { backoffBase, backoffCap } = this.#options;
    const spread = Math.min(backoffCap, backoffBase * 2 ** (attempt - 1));
    switch (code) {
      case CloseCode.restart: // one node goes, the others are there
        return { floor: 0, spread: backoffBase };
      case CloseCode.tryLater:
        return { floor: backoffBase, spread };
      case CloseCode.policy:
        return { floor: backoffCap, spread: backoffCap };
      default:
        return { floor: 0, spread };
    }
  }

  /**
   * A page does not see how a handshake was refused. So the same URL is asked
   * in plain HTTP, and its Retry-After becomes the floor of the wait.
   * @param {Pause} pause
   * @param {Fetch} fetch
   */
  async #askRetryAfter(pause, fetch) {
    const { clock } = this.#options;
    const url = new URL(this.#url);
    url.protocol = url.protocol.replace('ws', 'http');
    const timeout = clock.setTimeout(() => pause.asking.abort(), ASK_TIMEOUT);
    try {
      const { status, headers } = await fetch(url.href, { cache: 'no-store', signal: pause.asking.signal });
      if (status === 429 || status === 503) {
        const now = clock.now();
        const wait = retryAfter(headers.get('Retry-After'), now) ?? 0;
        if (wait > pause.floor) pause.floor = Math.min(wait, LONGEST_WAIT);
        pause.from = now;
        pause.cause.reason ||= `refused with HTTP status ${status}`;
      }
    } catch {
      // Nobody there, or not ours to read: the backoff stands as it is.
    }
    clock.clearTimeout(timeout);
    pause.asking.abort(); // lets go of the body
  }

  /** @param {Pause} pause */
  #wait(pause) {
    if (this.#pause !== pause) return;
    pause.due = pause.from + pause.floor + Math.round(this.#options.random() * pause.spread);
    this.#schedule(pause);
  }

  /** @param {Pause} pause */
  #schedule(pause) {
    const { clock } = this.#options;
    const delay = Math.max(0, pause.due - clock.now());
    clock.clearTimeout(pause.timer);
    pause.timer = clock.setTimeout(() => this.#owner.dial(), delay);
    this.#owner.scheduled({ ...pause.cause, delay });
  }

  #wake = () => {
    this.#owner.wake();
    this.hasten();
  };

  #wakeIfVisible = () => {
    if (this.#options.page?.document?.visibilityState === 'visible') this.#wake();
  };
}

/**
 * A Retry-After in ms from now; null when there is none.
 * @param {string | null} value
 * @param {number} now
 */
export function retryAfter(value, now) {
  const wait = /^\d+$/.test(value ?? '') ? Number(value) * 1000 : Date.parse(value ?? '') - now;
  return Number.isNaN(wait) ? null : Math.max(0, wait);
}
