/**
 * Client of Texto v1, the directed chat of a Parley relay. It needs nothing
 * but what a browser has, or Node with a WebSocket implementation handed in.
 *
 * What it guarantees:
 * - The promise of {@link TextoClient.send} is fulfilled only by the relay's ack.
 * - Nothing is sent twice. A message that was written to a connection which
 *   then died is rejected with ECONN, since nobody knows whether it arrived;
 *   only a message that was never written waits for the next connection.
 * - Messages are written in the order of the calls to send.
 * - A connection that is lost is opened again, after a wait that obeys the
 *   close code, the relay's Retry-After and full jitter.
 * - The new connection resumes the session: the address stays, and what came
 *   meanwhile is received, in order and each message once. Where that is not
 *   certain, `gap` says so before anything newer is handed on.
 */

import { CloseCode, Link, ParleyError, isAddress } from './link.js';
import { GapDescription, Session, TOKEN_REFRESH } from './session.js';

export { ParleyError, isAddress };

/**
 * @import {Clock, Outgoing, SocketLike} from './link.js'
 * @import {GapReason, SessionNews} from './session.js'
 */

/**
 * - `connecting`: dialling, or waiting for the relay's greeting.
 * - `open`: greeted; messages flow.
 * - `waiting`: between two connections.
 * - `closed`: not started, stopped by `close()`, or stopped for good by the relay.
 * @typedef {"connecting" | "open" | "waiting" | "closed"} TextoState
 */

/**
 * The events of a client, with what their `detail` holds.
 *
 * - `open`: greeted. `resumed`: the address is the one from before; `recovered`:
 *   and all that came meanwhile follows. Both are false the first time.
 * - `message`: a message came. It is acknowledged once all listeners have run.
 * - `gap`: messages may be missing here, between those before and those after.
 *   It comes ahead of the `open` of the connection that it concerns.
 * - `session`: what resumes this session later, or in another page, has changed:
 *   the options `token` and `last` of the client there. It comes with each
 *   message too, once that was handled.
 * - `reconnecting`: the next connection is tried in `delay` ms; `attempt` counts
 *   the connections lost in a row, `code` and `reason` say how the last one ended.
 *   It comes again when the wait is cut short.
 * - `close`: the client has stopped and does not come back by itself.
 * - `state`: the state has changed.
 * @typedef {object} TextoEvents
 * @property {CustomEvent<{clientId: string, node: string, resumed: boolean, recovered: boolean}>} open
 * @property {CustomEvent<{senderId: string, text: string, id: string}>} message
 * @property {CustomEvent<{reason: GapReason, description: string}>} gap
 * @property {CustomEvent<{token: string | null, last: string | null}>} session
 * @property {CustomEvent<{code: number, reason: string, delay: number, attempt: number}>} reconnecting
 * @property {CustomEvent<{code: number, reason: string}>} close
 * @property {CustomEvent<{state: TextoState}>} state
 */

/**
 * @typedef {object} TextoListening
 * @property {<K extends keyof TextoEvents>(type: K, listener: (event: TextoEvents[K]) => void, options?: boolean | AddEventListenerOptions) => void} addEventListener
 * @property {<K extends keyof TextoEvents>(type: K, listener: (event: TextoEvents[K]) => void, options?: boolean | EventListenerOptions) => void} removeEventListener
 */

/**
 * As much of `fetch` as the client uses.
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
 * @typedef {object} TextoOptions
 * @property {string | URL} [url]  Where the relay is, with ws, wss, http or https; relative to the page. Default `/v1/texto` of the page's own host.
 * @property {boolean} [resume]  Whether a new connection resumes the session of the one before; false: each has an address of its own. Default true.
 * @property {string | null} [token]  Resumes the session that this token is of, as `session` told it.
 * @property {string | null} [last]  The last message that was handled after it, as `session` told it.
 * @property {number} [backoffBase]  Longest wait before the first new attempt, in ms; it doubles with each that fails. Default 1000.
 * @property {number} [backoffCap]  Bound of that doubling, in ms. Default 30000.
 * @property {number} [queueLimit]  Messages that may wait for a connection. Default 100: half of the burst that a relay accepts, since they all go at once.
 * @property {number} [requestTimeout]  How long the greeting and each answer may take, in ms. Default 10000.
 * @property {new (url: string) => SocketLike} [WebSocket]  Default the global one.
 * @property {Fetch | null} [fetch]  Asks a relay that refused the handshake for its Retry-After; null: do not ask. Default the global one.
 * @property {() => number} [random]  From 0 up to 1, for the jitter. Default Math.random.
 * @property {Clock} [clock]  Default the global timers.
 * @property {PageLike | null} [page]  Default the global object; null: no page.
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

/** EventTarget, knowing the types of this client's events. */
const Target = /** @type {new () => TextoListening & EventTarget} */ (EventTarget);

/** One client of a relay, with one address at a time. Its events: {@link TextoEvents}. */
export class TextoClient extends Target {
  // Fixed after construction.
  /** @type {URL} */ #url;
  /** @type {number} */ #backoffBase;
  /** @type {number} */ #backoffCap;
  /** @type {number} */ #queueLimit;
  /** @type {number} */ #requestTimeout;
  /** @type {new (url: string) => SocketLike} */ #WebSocket;
  /** @type {Fetch | null} */ #fetch;
  /** @type {() => number} */ #random;
  /** @type {Clock} */ #clock;
  /** @type {PageLike | null} */ #page;
  /** @type {Session} */ #session;
  /** What the last `session` event said. @type {{token: string | null, last: string | null}} */ #told;

  /** @type {TextoState} */ #state = 'closed';
  /** Set while connecting and open. @type {Link | null} */ #link = null;
  /** Set while waiting. @type {Pause | null} */ #pause = null;
  /** Connections lost in a row. */ #attempt = 0;
  /** Never written to any connection. @type {Outgoing[]} */ #queue = [];

  /**
   * Does not connect yet.
   * @param {TextoOptions} [options]
   * @throws {TypeError} when the URL is none, or when there is no page to take it from.
   */
  constructor(options = {}) {
    super();
    this.#url = new URL(options.url ?? '/v1/texto', globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace('http', 'ws');
    this.#backoffBase = options.backoffBase ?? 1_000;
    this.#backoffCap = options.backoffCap ?? 30_000;
    this.#queueLimit = options.queueLimit ?? 100;
    this.#requestTimeout = options.requestTimeout ?? 10_000;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    // Wrapped, since the browser's own refuse to be called as methods of something else.
    this.#fetch = options.fetch === undefined ? (url, init) => fetch(url, init) : options.fetch;
    this.#clock = options.clock ?? {
      setTimeout: (run, ms) => setTimeout(run, ms),
      clearTimeout: (timer) => clearTimeout(timer),
      now: () => Date.now(),
    };
    this.#random = options.random ?? Math.random;
    this.#page = options.page === undefined ? /** @type {PageLike} */ (globalThis) : options.page;
    this.#session = new Session(options.resume ?? true, options.token ?? null, options.last ?? null);
    this.#told = { token: this.token, last: this.last };
  }

  /** @returns {TextoState} */
  get state() {
    return this.#state;
  }

  /** The address that others reach this client at, while open; else null. */
  get clientId() {
    return this.#link?.clientId || null;
  }

  /** The name of the relay node, while open and when it tells it; else null. */
  get node() {
    return this.#link?.node || null;
  }

  /**
   * Resumes this session, with `last`, whichever client it is given to; null
   * where the relay resumes none. Whoever has it can read what comes next.
   */
  get token() {
    return this.#session.token;
  }

  /** The id of the last message that was handled since the token came; null: none, the token itself tells the place. */
  get last() {
    return this.#session.last;
  }

  /**
   * Starts, and stays connected until `close()`. While waiting it cuts the
   * wait short, though never below what the relay asked for. Connecting or
   * open already, it does nothing. A client that had stopped resumes its
   * session, and takes it back from whoever has taken it over.
   */
  connect() {
    if (this.#state === 'closed') this.#dial();
    else this.#hasten();
  }

  /**
   * Stops. Messages without an answer are rejected: ECONN when they were
   * written, ECLOSED when they were still queued.
   */
  close() {
    if (this.#state === 'closed') return;
    this.#link?.close();
    this.#stop(CloseCode.normal, '');
  }

  /**
   * Sends a text to the client at receiverId. Between two connections it waits
   * in the queue, for as long as it takes.
   * @param {string} receiverId
   * @param {string} text
   * @returns {Promise<void>} fulfilled when the relay has accepted the message,
   *   which does not mean that its receiver exists; rejected with a
   *   {@link ParleyError}.
   */
  send(receiverId, text) {
    return new Promise((resolve, reject) => {
      if (!isAddress(receiverId) || typeof text !== 'string') {
        reject(new ParleyError('EINVAL', 'a message needs an address and a text'));
      } else if (this.#state === 'closed') {
        reject(new ParleyError('ECLOSED', 'the client is closed'));
      } else if (this.#link?.ready) {
        this.#link.send({ receiverId, text, resolve, reject });
      } else if (this.#queue.length < this.#queueLimit) {
        this.#queue.push({ receiverId, text, resolve, reject });
      } else {
        reject(new ParleyError('EQUEUE', 'too many messages wait for the connection'));
      }
    });
  }

  #dial() {
    const socket = new this.#WebSocket(this.#session.address(this.#url));
    this.#pause = null;
    this.#link = new Link(socket, this.#clock, this.#requestTimeout, {
      refused: () => this.#session.refused(),
      greeted: (link, news) => this.#greeted(link, news),
      renewed: (link, news, asked) => this.#renewed(link, news, asked),
      received: (detail) => this.#received(detail),
      lost: (link, code, reason) => this.#lost(link, code, reason),
    });
    // Adding a listener that is there already changes nothing.
    this.#page?.addEventListener?.('online', this.#wake);
    this.#page?.document?.addEventListener('visibilitychange', this.#wakeIfVisible);
    this.#enter('connecting');
  }

  /**
   * @param {Link} link
   * @param {SessionNews} news
   */
  #greeted(link, news) {
    const { resumed, recovered, gap } = this.#session.greeted(news);
    if (this.token) link.renewIn(TOKEN_REFRESH);
    // Before any listener runs: what was queued goes ahead of what it sends.
    while (link.ready && this.#queue.length > 0) {
      link.send(/** @type {Outgoing} */ (this.#queue.shift()));
    }
    this.#enter('open');
    // The listeners of each event may have closed the client.
    if (gap && this.#link === link) this.#tellGap(gap);
    if (this.#link === link) this.#emit('open', { clientId: link.clientId, node: link.node, resumed, recovered });
    if (this.#link === link) this.#tellSession();
  }

  /**
   * @param {Link} link
   * @param {SessionNews} news
   * @param {boolean} asked
   */
  #renewed(link, news, asked) {
    // An answer says once more what the greeting said; of its own accord the relay speaks of a gap.
    const gap = !asked && news.recovered === false;
    this.#session.renew(news.token);
    if (this.token) link.renewIn(TOKEN_REFRESH);
    // First the gap: a page that goes away in between hears of it again.
    if (gap) this.#tellGap('relay');
    this.#tellSession();
  }

  /** @param {{senderId: string, text: string, id: string}} detail */
  #received(detail) {
    if (this.#session.isNew(detail.id)) this.#emit('message', detail);
    this.#session.handled(detail.id);
    this.#tellSession();
  }

  /** @param {GapReason} reason */
  #tellGap(reason) {
    this.#emit('gap', { reason, description: GapDescription[reason] });
  }

  #tellSession() {
    const { token, last } = this;
    if (token === this.#told.token && last === this.#told.last) return;
    this.#told = { token, last };
    this.#emit('session', { token, last });
  }

  /**
   * @param {Link} link
   * @param {number} code
   * @param {string} reason
   */
  #lost(link, code, reason) {
    if (code === CloseCode.takenOver) {
      this.#stop(code, reason);
      return;
    }
    const now = this.#clock.now();
    if (link.clientId && now - link.since >= GOOD_CONNECTION) this.#attempt = 0;
    const attempt = ++this.#attempt;
    const pause = new Pause({ code, reason, attempt }, now, this.#backoff(code, attempt));
    this.#link = null;
    this.#pause = pause;
    this.#enter('waiting');
    if (link.shaken || !this.#fetch) this.#wait(pause);
    else this.#askRetryAfter(pause, this.#fetch).then(() => this.#wait(pause));
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #stop(code, reason) {
    this.#link = null;
    this.#clock.clearTimeout(this.#pause?.timer);
    this.#pause?.asking.abort();
    this.#pause = null;
    this.#attempt = 0;
    for (const { reject } of this.#queue.splice(0)) {
      reject(new ParleyError('ECLOSED', 'the client was closed before the message was sent'));
    }
    this.#page?.removeEventListener?.('online', this.#wake);
    this.#page?.document?.removeEventListener('visibilitychange', this.#wakeIfVisible);
    this.#enter('closed');
    this.#emit('close', { code, reason });
  }

  /**
   * How long to wait. Full jitter: clients that lost one node at one moment
   * come back spread out.
   * @param {number} code
   * @param {number} attempt
   * @returns {{floor: number, spread: number}}
   */
  #backoff(code, attempt) {
    const spread = Math.min(this.#backoffCap, this.#backoffBase * 2 ** (attempt - 1));
    switch (code) {
      case CloseCode.restart: // one node goes, the others are there
        return { floor: 0, spread: this.#backoffBase };
      case CloseCode.tryLater:
        return { floor: this.#backoffBase, spread };
      case CloseCode.flood:
        return { floor: this.#backoffCap, spread: this.#backoffCap };
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
    const url = new URL(this.#url);
    url.protocol = url.protocol.replace('ws', 'http');
    const timeout = this.#clock.setTimeout(() => pause.asking.abort(), ASK_TIMEOUT);
    try {
      const { status, headers } = await fetch(url.href, { cache: 'no-store', signal: pause.asking.signal });
      if (status === 429 || status === 503) {
        const now = this.#clock.now();
        const value = headers.get('Retry-After') ?? '';
        const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
        if (wait > pause.floor) pause.floor = Math.min(wait, LONGEST_WAIT);
        pause.from = now;
        pause.cause.reason ||= `refused with HTTP status ${status}`;
      }
    } catch {
      // Nobody there, or not ours to read: the backoff stands as it is.
    }
    this.#clock.clearTimeout(timeout);
    pause.asking.abort(); // lets go of the body
  }

  /** @param {Pause} pause */
  #wait(pause) {
    if (this.#pause !== pause) return;
    pause.due = pause.from + pause.floor + Math.round(this.#random() * pause.spread);
    this.#schedule(pause);
  }

  /** @param {Pause} pause */
  #schedule(pause) {
    const delay = Math.max(0, pause.due - this.#clock.now());
    this.#clock.clearTimeout(pause.timer);
    pause.timer = this.#clock.setTimeout(() => this.#dial(), delay);
    this.#emit('reconnecting', { ...pause.cause, delay });
  }

  /** Cuts the wait down to its floor. */
  #hasten() {
    const pause = this.#pause;
    if (!pause) return;
    pause.spread = 0;
    const earliest = pause.from + pause.floor;
    // While the relay is still asked, the spread alone has done it.
    if (pause.timer === null || earliest >= pause.due) return;
    pause.due = earliest;
    this.#schedule(pause);
  }

  /**
   * The network is back, or someone looks at the page again. A connection that
   * seems open may have died unseen meanwhile.
   */
  #wake = () => {
    this.#link?.probe();
    this.#hasten();
  };

  #wakeIfVisible = () => {
    if (this.#page?.document?.visibilityState === 'visible') this.#wake();
  };

  /** @param {TextoState} state */
  #enter(state) {
    this.#state = state;
    this.#emit('state', { state });
  }

  /**
   * @template {keyof TextoEvents} K
   * @param {K} type
   * @param {TextoEvents[K]["detail"]} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
