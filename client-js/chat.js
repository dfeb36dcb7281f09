/**
 * Client of a Parley relay's chat: an account, rooms that all share, and their
 * history. It needs nothing but what a browser has.
 *
 * What it guarantees:
 * - The messages of a room come in one order, each once, however often the
 *   connection is lost and on whichever node it comes back: what was missed is
 *   fetched before anything newer is handed on. Where messages are gone for good,
 *   `gap` says so at that place; where more was missed than is fetched by itself,
 *   `reset` says that the room begins anew, and `loadOlder` leads back.
 * - The promise of {@link ChatClient.sendMessages} is fulfilled only by the
 *   messages coming back from the relay, stored.
 * - Nothing is sent twice. Messages that were written to a connection which then
 *   died are rejected with UNKNOWN, since nobody knows yet whether they were
 *   stored; only what was never written waits for the next connection.
 */

import { Accounts, ChatError } from './account.js';
import { ChatLink } from './chatlink.js';
import { Comeback, endpoint, withDefaults } from './comeback.js';
import { CloseCode } from './connection.js';
import { ParleyError } from './link.js';
import { compareIds } from './room.js';
import { Rooms } from './rooms.js';
import { FRAME_LIMIT, Outgoing, objection } from './traffic.js';

export { ChatError, FRAME_LIMIT, ParleyError, compareIds };

/**
 * @import {AccountFetch} from './account.js'
 * @import {Hello} from './chatlink.js'
 * @import {ConnectOptions, Reconnecting} from './comeback.js'
 */

/**
 * - `connecting`: dialling, or waiting for the relay's greeting.
 * - `open`: greeted; messages flow.
 * - `waiting`: between two connections.
 * - `closed`: not started, stopped by `close()` or `logOut()`, or without a session.
 * @typedef {"connecting" | "open" | "waiting" | "closed"} ChatState
 */

/**
 * The events of a client, with what their `detail` holds.
 *
 * - `open`: greeted. `fresh`: the rooms are all new, with their newest messages;
 *   otherwise they go on, and what was missed follows as `message`.
 * - `message`: a message of the room came, or was missed and is handed on now. It
 *   is in the room's `messages` already, nearly always as the last one.
 * - `history`: older messages of the room were put in front, oldest first.
 * - `reset`: more was missed than is fetched by itself. The room's `messages` begin
 *   anew with the newest ones; what lies between was not handed on as `message`.
 * - `gap`: after this message (null: before the first one) some may be missing
 *   that nobody has any more.
 * - `presence`: someone's first connection came, or the last one has gone.
 * - `typing`: someone is writing in the room.
 * - `error`: the relay complained of something that nobody waits for.
 * - `reconnecting`: the next connection is tried in `delay` ms; `attempt` counts
 *   the connections lost in a row, `code` and `reason` say how the last one ended.
 *   It comes again when the wait is cut short.
 * - `close`: the client has stopped and does not come back by itself. `signedOut`:
 *   there is no session, or it has ended: sign in, and connect again.
 * - `state`: the state has changed.
 * @typedef {object} ChatEvents
 * @property {CustomEvent<{me: ChatUser, fresh: boolean}>} open
 * @property {CustomEvent<{roomId: string, message: ChatMessage}>} message
 * @property {CustomEvent<{roomId: string, messages: readonly ChatMessage[], hasMoreMessages: boolean}>} history
 * @property {CustomEvent<{roomId: string}>} reset
 * @property {CustomEvent<{roomId: string, after: string | null}>} gap
 * @property {CustomEvent<{roomId: string, user: ChatUser, online: boolean}>} presence
 * @property {CustomEvent<{roomId: string, user: ChatUser}>} typing
 * @property {CustomEvent<{code: string, message: string, roomId: string | null}>} error
 * @property {CustomEvent<Reconnecting>} reconnecting
 * @property {CustomEvent<{code: number, reason: string, signedOut: boolean}>} close
 * @property {CustomEvent<{state: ChatState}>} state
 */

/**
 * @typedef {object} ChatListening
 * @property {<K extends keyof ChatEvents>(type: K, listener: (event: ChatEvents[K]) => void, options?: boolean | AddEventListenerOptions) => void} addEventListener
 * @property {<K extends keyof ChatEvents>(type: K, listener: (event: ChatEvents[K]) => void, options?: boolean | EventListenerOptions) => void} removeEventListener
 */

/**
 * @typedef {object} ChatSettings
 * @property {string | URL} [url]  Where the relay's socket is, with ws, wss, http or https; relative to the page. Default `/api/ws` of the page's own host.
 * @property {number} [queueLimit]  Calls to send that may wait for a connection, or for the one before in their room. Default 100.
 * @property {number} [roomLimit]  Messages that are kept of a room besides those that were paged back to. Default 1000.
 * @property {AccountFetch} [fetch]  Default the global one.
 */

/** @typedef {ChatSettings & Omit<ConnectOptions, "fetch">} ChatOptions */

/**
 * What of other modules the caller of this one may want to name.
 * @typedef {import('./room.js').ChatMessage} ChatMessage
 * @typedef {import('./room.js').ChatRoom} ChatRoom
 * @typedef {import('./room.js').ChatUser} ChatUser
 */

/** How often the relay takes that someone is typing, in ms. */
export const TYPING_INTERVAL = 2_000;

/** EventTarget, knowing the types of this client's events. */
const Target = /** @type {new () => ChatListening & EventTarget} */ (EventTarget);

/** One user's view of a relay's rooms. Its events: {@link ChatEvents}. */
export class ChatClient extends Target {
  // Fixed after construction.
  /** @type {URL} */ #url;
  /** @type {number} */ #queueLimit;
  /** @type {Required<ConnectOptions>} */ #options;
  /** @type {Accounts} */ #accounts;
  /** @type {Comeback} */ #comeback;
  /** @type {Rooms} */ #rooms;

  /** @type {ChatState} */ #state = 'closed';
  /** Set while connecting and open. @type {ChatLink | null} */ #link = null;
  /** When the relay was last told of typing. */ #typedAt = -Infinity;

  /**
   * Does not connect yet.
   * @param {ChatOptions} [options]
   * @throws {TypeError} when the URL is none, or when there is no page to take it from.
   */
  constructor(options = {}) {
    super();
    this.#url = endpoint(options.url ?? '/api/ws');
    this.#queueLimit = options.queueLimit ?? 100;
    this.#options = withDefaults(options);
    const { clock, requestTimeout } = this.#options;
    this.#accounts = new Accounts(this.#url, options.fetch ?? ((url, init) => fetch(url, init)), clock, requestTimeout);
    this.#rooms = new Rooms((type, detail) => this.#emit(type, detail), clock, requestTimeout, options.roomLimit ?? 1_000);
    this.#comeback = new Comeback(this.#url, this.#options, {
      dial: () => this.#dial(),
      scheduled: (detail) => this.#emit('reconnecting', detail),
      wake: () => this.#probe(),
    });
  }

  /** @returns {ChatState} */
  get state() {
    return this.#state;
  }

  /** Who is signed in, once greeted; null before, and after logging out. */
  get me() {
    return this.#rooms.me;
  }

  /** The rooms by id, in the relay's order. @returns {ReadonlyMap<string, ChatRoom>} */
  get rooms() {
    return this.#rooms.all;
  }

  /**
   * Makes an account and signs in; `connect()` comes next. A connection of the
   * session before is closed.
   * @param {{username: string, email: string, password: string}} account
   * @returns {Promise<void>} rejected with a {@link ChatError}: BAD_REQUEST, USERNAME_EXISTS, EMAIL_EXISTS, TOO_MANY_REQUESTS, UNAVAILABLE.
   */
  async signUp({ username, email, password }) {
    await this.#accounts.post('create-account', { username, email, password });
    this.close();
  }

  /**
   * Signs in; `connect()` comes next. A connection of the session before is closed.
   * @param {{email: string, password: string}} credentials
   * @returns {Promise<void>} rejected with a {@link ChatError}: BAD_REQUEST, LOGIN_FAILED, TOO_MANY_REQUESTS, UNAVAILABLE.
   */
  async logIn({ email, password }) {
    await this.#accounts.post('login', { email, password });
    this.close();
  }

  /**
   * Ends the session, which closes all its connections, and forgets the rooms.
   * @returns {Promise<void>} rejected with a {@link ChatError}; then nothing has changed here.
   */
  async logOut() {
    await this.#accounts.post('logout', null);
    this.close();
    this.#rooms.forget();
  }

  /**
   * Starts, and stays connected until `close()` or the end of the session. While
   * waiting it cuts the wait short, though never below what the relay asked for.
   * Connecting or open already, it does nothing.
   */
  connect() {
    if (this.#state === 'closed') this.#dial();
    else this.#comeback.hasten();
  }

  /**
   * Stops; `connect()` goes on from here. Messages that did not come back yet are
   * rejected: UNKNOWN when they were written, CLOSED when they still waited.
   */
  close() {
    if (this.#state === 'closed') return;
    this.#link?.close();
    this.#stop(CloseCode.normal, '');
  }

  /**
   * Sends one message.
   * @param {string} roomId
   * @param {string} content
   * @returns {Promise<ChatMessage>} the message as it was stored; as for {@link sendMessages}.
   */
  async send(roomId, content) {
    const [message] = await this.sendMessages(roomId, [content]);
    return message;
  }

  /**
   * Sends messages that belong together: all are stored, next to each other, or
   * none. In one room the next ones are written once these have come back or
   * failed. They are recognised when they come back by their content: as many
   * messages in a row from this user, with these contents in this order. If the
   * same user writes the same elsewhere at the same moment, either may be taken
   * for the other.
   * @param {string} roomId
   * @param {string[]} contents  At most {@link FRAME_LIMIT}.
   * @returns {Promise<ChatMessage[]>} fulfilled with the messages as they were
   *   stored, after their `message` events; rejected with a {@link ChatError}.
   *   After UNKNOWN and UNAVAILABLE they may be stored nevertheless, and then come
   *   as `message`.
   */
  sendMessages(roomId, contents) {
    return new Promise((resolve, reject) => {
      const refusal = objection(contents);
      if (refusal) {
        reject(refusal);
      } else if (this.#state === 'closed') {
        reject(new ChatError('CLOSED', 'the client is closed'));
      } else if (this.#state === 'open' && !this.#rooms.all.has(roomId)) {
        reject(new ChatError('UNKNOWN_ROOM', 'there is no such room'));
      } else if (this.#rooms.waiting >= this.#queueLimit) {
        reject(new ChatError('QUEUE_FULL', 'too many messages wait for the connection'));
      } else {
        this.#rooms.send(roomId, new Outgoing(contents, resolve, reject));
      }
    });
  }

  /**
   * Fetches a page of older messages and puts it in front of the room's. While
   * one is under way it returns the same promise.
   * @param {string} roomId
   * @returns {Promise<readonly ChatMessage[]>} the older messages, oldest first; none
   *   when there are no more. Rejected with a {@link ChatError}: OFFLINE without a
   *   connection, UNKNOWN_ROOM, or what the relay says.
   */
  async loadOlder(roomId) {
    const room = this.#rooms.all.get(roomId);
    if (!this.#link?.ready) throw new ChatError('OFFLINE', 'there is no connection');
    if (!room) throw new ChatError('UNKNOWN_ROOM', 'there is no such room');
    return room.hasMoreMessages ? this.#rooms.older(roomId) : [];
  }

  /**
   * Tells the others in a room that this user is writing; to be called at every
   * key. Only one each {@link TYPING_INTERVAL} goes out, and none without a connection.
   * @param {string} roomId
   */
  typing(roomId) {
    const now = this.#options.clock.now();
    if (!this.#link?.ready || !this.#rooms.all.has(roomId) || now - this.#typedAt < TYPING_INTERVAL) return;
    this.#typedAt = now;
    this.#link.typing(roomId);
  }

  // The connection.

  #dial() {
    const { WebSocket, clock, requestTimeout } = this.#options;
    this.#link = new ChatLink(new WebSocket(this.#address()), clock, requestTimeout, {
      greeted: (link, hello) => this.#greeted(link, hello),
      received: (roomId, messages) => this.#rooms.received(roomId, messages),
      answered: (roomId, request, page, recovered) => this.#rooms.answered(roomId, request, page, recovered),
      failed: (roomId, request, error) => this.#rooms.failed(roomId, request, error),
      gap: (roomId) => this.#rooms.gap(roomId),
      presence: (roomId, user, online) => this.#rooms.presence(roomId, user, online),
      typing: (roomId, user) => this.#emit('typing', { roomId, user }),
      complained: (roomId, { code, message }) => this.#emit('error', { code, message, roomId }),
      lost: (link, code, reason) => this.#lost(link, code, reason),
    });
    this.#comeback.dialled();
    this.#enter('connecting');
  }

  /** Where to connect to, so that the rooms go on from where they are. */
  #address() {
    const url = new URL(this.#url);
    const { places } = this.#rooms;
    // Not by searchParams, which would write the other parameters anew.
    url.search += `${url.search ? '&' : '?'}presence=1`;
    if (places !== '') url.search += `&since=${encodeURIComponent(places)}`;
    return url.href;
  }

  /**
   * @param {ChatLink} link
   * @param {Hello} hello
   */
  #greeted(link, hello) {
    const { fresh, goOn } = this.#rooms.greeted(link, hello);
    this.#enter('open');
    // The listeners of each event may have closed the client.
    if (this.#link === link) this.#emit('open', { me: hello.me, fresh });
    if (this.#link === link) goOn();
  }

  #probe() {
    const [room] = this.#rooms.all.values();
    if (room) this.#link?.probe(room.id, room.last);
  }

  /**
   * @param {ChatLink} link
   * @param {number} code
   * @param {string} reason
   */
  #lost(link, code, reason) {
    if (code === CloseCode.policy) {
      this.#stop(code, reason);
      return;
    }
    this.#link = null;
    this.#rooms.rest();
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
    this.#rooms.rest();
    this.#rooms.stop();
    this.#enter('closed');
    this.#emit('close', { code, reason, signedOut: code === CloseCode.policy });
  }

  /** @param {ChatState} state */
  #enter(state) {
    this.#state = state;
    this.#emit('state', { state });
  }

  /**
   * @template {keyof ChatEvents} K
   * @param {K} type
   * @param {ChatEvents[K]["detail"]} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
