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

import { Comeback, endpoint, withDefaults } from './comeback.js';
import { CloseCode } from './connection.js';
import { Link, ParleyError, isAddress } from './link.js';
import { GapDescription, Session, TOKEN_REFRESH } from './session.js';

export { ParleyError, isAddress };

/**
 * @import {ConnectOptions, Reconnecting} from './comeback.js'
 * @import {Outgoing} from './link.js'
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
 * @property {CustomEvent<Reconnecting>} reconnecting
 * @property {CustomEvent<{code: number, reason: string}>} close
 * @property {CustomEvent<{state: TextoState}>} state
 */

/**
 * @typedef {object} TextoListening
 * @property {<K extends keyof TextoEvents>(type: K, listener: (event: TextoEvents[K]) => void, options?: boolean | AddEventListenerOptions) => void} addEventListener
 * @property {<K extends keyof TextoEvents>(type: K, listener: (event: TextoEvents[K]) => void, options?: boolean | EventListenerOptions) => void} removeEventListener
 */

/**
 * @typedef {object} TextoSettings
 * @property {string | URL} [url]  Where the relay is, with ws, wss, http or https; relative to the page. Default `/v1/texto` of the page's own host.
 * @property {boolean} [resume]  Whether a new connection resumes the session of the one before; false: each has an address of its own. Default true.
 * @property {string | null} [token]  Resumes the session that this token is of, as `session` told it.
 * @property {string | null} [last]  The last message that was handled after it, as `session` told it.
 * @property {number} [queueLimit]  Messages that may wait for a connection. Default 100: half of the burst that a relay accepts, since they all go at once.
 */

/** @typedef {TextoSettings & ConnectOptions} TextoOptions */

/** EventTarget, knowing the types of this client's events. */
const Target = /** @type {new () => TextoListening & EventTarget} */ (EventTarget);

/** One client of a relay, with one address at a time. Its events: {@link TextoEvents}. */
export class TextoClient extends Target {
  // Fixed after construction.
  /** @type {URL} */ #url;
  /** @type {number} */ #queueLimit;
  /** @type {Required<ConnectOptions>} */ #options;
  /** @type {Comeback} */ #comeback;
  /** @type {Session} */ #session;
  /** What the last `session` event said. @type {{token: string | null, last: string | null}} */ #told;

  /** @type {TextoState} */ #state = 'closed';
  /** Set while connecting and open. @type {Link | null} */ #link = null;
  /** Never written to any connection. @type {Outgoing[]} */ #queue = [];

  /**
   * Does not connect yet.
   * @param {TextoOptions} [options]
   * @throws {TypeError} when the URL is none, or when there is no page to take it from.
   */
  constructor(options = {}) {
    super();
    this.#url = endpoint(options.url ?? '/v1/texto');
    this.#queueLimit = options.queueLimit ?? 100;
    this.#options = withDefaults(options);
    this.#comeback = new Comeback(this.#url, this.#options, {
      dial: () => this.#dial(),
      scheduled: (detail) => this.#emit('reconnecting', detail),
      wake: () => this.#link?.probe(),
    });
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
    else this.#comeback.hasten();
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
    const { WebSocket, clock, requestTimeout } = this.#options;
    this.#link = new Link(new WebSocket(this.#session.address(this.#url)), clock, requestTimeout, {
      refused: () => this.#session.refused(),
      greeted: (link, news) => this.#greeted(link, news),
      renewed: (link, news, asked) => this.#renewed(link, news, asked),
      received: (detail) => this.#received(detail),
      lost: (link, code, reason) => this.#lost(link, code, reason),
    });
    this.#comeback.dialled();
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
    this.#link = null;
    const wait = this.#comeback.lost(link, code, reason);
    this.#enter('waiting');
    wait();
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #stop(code, reason) {
    this.#link = null;
    this.#comeback.end();
    for (const { reject } of this.#queue.splice(0)) {
      reject(new ParleyError('ECLOSED', 'the client was closed before the message was sent'));
    }
    this.#enter('closed');
    this.#emit('close', { code, reason });
  }

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
