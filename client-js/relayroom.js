/**
 * Client of a relay room: one of its clients is host, the others talk to the host,
 * and the host talks to one or to all. It needs nothing but what a browser has.
 *
 * What it guarantees:
 * - A connection that is lost is opened again, after a wait that obeys the close
 *   code, the relay's Retry-After and full jitter, and the client takes its id back.
 *   While the relay still counts it as connected (its node has died, say), it asks
 *   again and again, for `rejoinTimeout`.
 * - A connection on which nothing comes for `silenceTimeout` is asked whether it lives,
 *   and given up when it does not answer.
 * - It says that it is host from the moment at which the relay has told so, to the
 *   moment at which the relay tells otherwise or the connection is lost.
 * - Nothing waits for the next connection. What one says in a room is meant for it as
 *   it is now; when this client is back, the host may be another, and what was said
 *   to the old one is of no use to the new one. So what is said without a connection
 *   is refused at once, and whoever says it decides.
 * - Nothing is sent twice.
 */

import { Comeback, endpoint, withDefaults } from './comeback.js';
import { CloseCode } from './connection.js';
import { ParleyError } from './link.js';
import { RoomsApi } from './relayapi.js';
import { RelayLink, Request } from './relaylink.js';
import { RelayType } from './relaywire.js';
import { RoomError } from './roomerror.js';

export { ParleyError, RoomError, RoomsApi };

/**
 * @import {ConnectOptions, Reconnecting} from './comeback.js'
 * @import {Place} from './relaylink.js'
 */

/**
 * What of other modules the caller of this one may want to name.
 * @typedef {import('./relaylink.js').RoomSession} RoomSession
 * @typedef {import('./relaylink.js').RoomData} RoomData
 * @typedef {import('./relaywire.js').RoomMember} RoomMember
 * @typedef {import('./relayapi.js').RoomInfo} RoomInfo
 * @typedef {import('./relayapi.js').RoomsSummary} RoomsSummary
 */

/**
 * - `connecting`: dialling, or waiting for the place in the room.
 * - `open`: in the room.
 * - `waiting`: between two connections.
 * - `closed`: in no room.
 * @typedef {"connecting" | "open" | "waiting" | "closed"} RoomState
 */

/**
 * Why a client has stopped: it has left; the host has sent it away; the room is no
 * more; or it was refused its place.
 * @typedef {"left" | "kicked" | "room" | "refused"} RoomEnd
 */

/** To whom something was relayed: to all, to this client, or to the host, who is this client. @typedef {"broadcast" | "target" | "host"} RoomMessageType */

/**
 * The events of a client, with what their `detail` holds.
 *
 * - `connect`: in the room. `rejoined`: with the id from before, and what was relayed
 *   meanwhile is missed; who joins anew gets what comes from here on, too.
 * - `host`: this client is host now, or not any more.
 * - `clientconnect`, `clientdisconnect`: told to the host, of itself too.
 * - `migratebegin`: whoever was host is not any more.
 * - `migratefinish`: who is host; `host`: this client.
 * - `message`: something was relayed to this client. `data` is its own.
 * - `kicked`: the host has sent this client away; `closed` follows. With the session
 *   that it had it may come back.
 * - `closed`: the client has stopped and does not come back by itself.
 * - `error`: the relay complained of something that was relayed, or nobody waits for:
 *   it is not known what it is about. GAP: messages may be missing here.
 * - `reconnecting`: the next try is in `delay` ms; `attempt` counts those that failed
 *   in a row, `code` and `reason` say how the last connection ended; 400: the relay
 *   still counts this client as connected. It comes again when the wait is cut short.
 * - `state`: the state has changed.
 * @typedef {object} RoomEvents
 * @property {CustomEvent<{roomId: number, clientId: number, rejoined: boolean}>} connect
 * @property {CustomEvent<{host: boolean}>} host
 * @property {CustomEvent<RoomMember>} clientconnect
 * @property {CustomEvent<RoomMember>} clientdisconnect
 * @property {CustomEvent<{}>} migratebegin
 * @property {CustomEvent<{hostId: number, host: boolean}>} migratefinish
 * @property {CustomEvent<{type: RoomMessageType, data: Uint8Array}>} message
 * @property {CustomEvent<{code: number, reason: string}>} kicked
 * @property {CustomEvent<{end: RoomEnd, code: number, reason: string}>} closed
 * @property {CustomEvent<{code: string, message: string, status: number}>} error
 * @property {CustomEvent<Reconnecting>} reconnecting
 * @property {CustomEvent<{state: RoomState}>} state
 */

/**
 * @typedef {object} RoomListening
 * @property {<K extends keyof RoomEvents>(type: K, listener: (event: RoomEvents[K]) => void, options?: boolean | AddEventListenerOptions) => void} addEventListener
 * @property {<K extends keyof RoomEvents>(type: K, listener: (event: RoomEvents[K]) => void, options?: boolean | EventListenerOptions) => void} removeEventListener
 */

/**
 * @typedef {object} RoomSettings
 * @property {string | URL} [url]  Where the relay's socket is, with ws, wss, http or https; relative to the page. Default `/v1/websocket` of the page's own host.
 * @property {number} [rejoinTimeout]  How long the relay may count this client as connected that would come back, in ms, before it gives up. Default 60000: four times what the death of a node takes.
 * @property {number} [silenceTimeout]  How long nothing may come from the relay, in ms, before it is asked whether it is there; it has `requestTimeout` to answer. Default 20000.
 */

/** @typedef {RoomSettings & ConnectOptions} RoomOptions */

/** The longest wait before a place is asked for again, in times of `backoffBase`. */
const PATIENT = 4;

/** @type {Record<number, RoomMessageType>} */
const messageTypes = { [RelayType.broadcast]: 'broadcast', [RelayType.target]: 'target', [RelayType.host]: 'host' };

/** EventTarget, knowing the types of this client's events. */
const Target = /** @type {new () => RoomListening & EventTarget} */ (EventTarget);

/** One client of a room, of one room at a time. Its events: {@link RoomEvents}. */
export class RoomClient extends Target {
  // Fixed after construction.
  /** @type {URL} */ #url;
  /** @type {number} */ #rejoinTimeout;
  /** @type {number} */ #silenceTimeout;
  /** @type {Required<ConnectOptions>} */ #options;
  /** @type {Comeback} */ #comeback;

  /** @type {RoomState} */ #state = 'closed';
  /** Set while connecting and open. @type {RelayLink | null} */ #link = null;
  /** Where it is, or wants to be; null: it was never in a room. @type {Place | null} */ #place = null;
  /** Whoever waits for the first place in the room. @type {{resolve: (session: RoomSession) => void, reject: (error: RoomError) => void, patience: number} | null} */
  #joining = null;
  /** Since when the relay has said that this client is still connected, and how often. @type {{since: number, times: number} | null} */
  #ghost = null;
  #isHost = false;
  /** @type {number | null} */ #hostId = null;
  /** Whether the host is on the move. */ #moving = false;

  /**
   * Joins nothing yet.
   * @param {RoomOptions} [options]
   * @throws {TypeError} when the URL is none, or when there is no page to take it from.
   */
  constructor(options = {}) {
    super();
    this.#url = endpoint(options.url ?? '/v1/websocket');
    this.#rejoinTimeout = options.rejoinTimeout ?? 60_000;
    this.#silenceTimeout = options.silenceTimeout ?? 20_000;
    this.#options = withDefaults(options);
    this.#comeback = new Comeback(this.#url, this.#options, {
      dial: () => this.#dial(),
      scheduled: (detail) => this.#emit('reconnecting', detail),
      wake: () => this.#link?.probe(),
    });
  }

  /** @returns {RoomState} */
  get state() {
    return this.#state;
  }

  /** Whether this client is host, as far as the relay has told. */
  get isHost() {
    return this.#isHost;
  }

  /** Who is host; null while that is not known: before the first `list()`, between two hosts, without a connection. */
  get hostId() {
    return this.#hostId;
  }

  /** The id of this client in its room; it stays after the end. Null before the first place. */
  get clientId() {
    return this.#place?.clientId ?? null;
  }

  /**
   * What lets this client come back, also in another page: to be given to `join`.
   * Null before the first place. Whoever has it can take the place.
   * @returns {RoomSession | null}
   */
  get session() {
    const { roomId, secret, clientId, clientSecret } = this.#place ?? {};
    if (roomId === undefined || secret === undefined || clientId === undefined || clientSecret === undefined) return null;
    return { roomId, secret, clientId, clientSecret };
  }

  /**
   * Joins a room, and stays in it, over lost connections, until `leave()` or one of
   * the ends that `closed` tells. With the id and secret of a client, as `session`
   * told them, it comes back as that client.
   * @param {Place & {rejoinTimeout?: number}} place  `rejoinTimeout`: for this time alone, instead of that of the client.
   * @returns {Promise<RoomSession>} fulfilled once it is in the room, however many
   *   connections that takes; rejected with a {@link RoomError}: REFUSED,
   *   STILL_CONNECTED, CLOSED by `leave()`, INVALID, NO_WEBSOCKET.
   */
  join({ roomId, secret, clientId, clientSecret, rejoinTimeout }) {
    return new Promise((resolve, reject) => {
      if (this.#state !== 'closed') {
        reject(new RoomError('INVALID', 'in a room already: leave it first'));
      } else if (typeof this.#options.WebSocket !== 'function') {
        reject(new RoomError('NO_WEBSOCKET', 'there is no WebSocket here: use Node 22 or later, or hand in that of the ws package, new RoomClient({ url, WebSocket })'));
      } else if (![roomId, secret, clientId ?? 0, clientSecret ?? 0].every(isInt32)) {
        reject(new RoomError('INVALID', 'ids and secrets are 32-bit integers'));
      } else {
        this.#place = { roomId, secret, ...clientId !== undefined && { clientId, clientSecret: clientSecret ?? 0 } };
        this.#joining = { resolve, reject, patience: rejoinTimeout ?? this.#rejoinTimeout };
        this.#dial();
      }
    });
  }

  /** Between two connections, cuts the wait short, though never below what the relay asked for. */
  hasten() {
    this.#comeback.hasten();
  }

  /** Leaves the room: the relay gives the place up. `join(session)` comes back to it. */
  leave() {
    if (this.#state === 'closed') return;
    this.#link?.close();
    this.#stop('left', CloseCode.normal, '', new RoomError('CLOSED', 'left before it was in the room'));
  }

  /**
   * Sends something to every other client. Host only. Whether it has gone out the
   * relay does not say; it complains, by `error`, if it has not: not for certain of
   * what a host says when the next one is there already.
   * @param {RoomData} data
   * @throws {RoomError} OFFLINE, NOT_HOST, INVALID; nothing was sent.
   */
  broadcast(data) {
    this.#relay(RelayType.broadcast, undefined, data);
  }

  /**
   * Sends something to one other client. Host only.
   * @param {number} clientId
   * @param {RoomData} data
   * @throws {RoomError} as {@link broadcast}.
   */
  sendTo(clientId, data) {
    checkClient(clientId);
    this.#relay(RelayType.target, clientId, data);
  }

  /**
   * Sends something to the host. Not for the host itself.
   * @param {RoomData} data
   * @throws {RoomError} OFFLINE, IS_HOST, INVALID; nothing was sent.
   */
  sendToHost(data) {
    this.#relay(RelayType.host, undefined, data);
  }

  /**
   * Who is connected, ordered by id, and which one is host.
   * @returns {Promise<RoomMember[]>} rejected with a {@link RoomError}: OFFLINE,
   *   UNKNOWN, RATE, FAILED.
   */
  async list() {
    const link = this.#link;
    const members = await this.#request('list', 0);
    // What came meanwhile is newer than this list may be: while the host is on the move, it may name the former one.
    if (this.#link === link && this.#hostId === null && !this.#moving) this.#hostId = members.find(({ host }) => host)?.id ?? null;
    return members.sort((a, b) => a.id - b.id);
  }

  /**
   * Sends a client away. Host only, not itself.
   * @param {number} clientId
   * @returns {Promise<void>} fulfilled once it has gone, after `clientdisconnect`;
   *   rejected with a {@link RoomError}: NOT_HOST, OFFLINE, UNKNOWN, REFUSED, RATE,
   *   FAILED.
   */
  async kick(clientId) {
    await this.#request('kick', clientId);
  }

  /**
   * Makes another client host. Host only. From `migratebegin` on nobody is, for up to
   * some seconds.
   * @param {number} clientId
   * @returns {Promise<void>} fulfilled once it is host, after `migratefinish`;
   *   rejected as {@link kick}, also when another one has become host, since that one
   *   has gone meanwhile.
   */
  async grantHost(clientId) {
    await this.#request('grant', clientId);
  }

  /**
   * @param {number} type
   * @param {number | undefined} target
   * @param {RoomData} data
   */
  #relay(type, target, data) {
    const link = this.#ready();
    if (type === RelayType.host && this.#isHost) throw new RoomError('IS_HOST', 'this client is the host');
    if (type !== RelayType.host) this.#checkHost();
    link.relay(type, target, data);
  }

  /**
   * @param {"list" | "kick" | "grant"} kind
   * @param {number} id
   */
  async #request(kind, id) {
    const link = this.#ready();
    if (kind !== 'list') this.#checkHost();
    checkClient(id);
    const request = new Request(kind, id);
    link.request(request);
    return request.promise;
  }

  #ready() {
    if (!this.#link?.ready) throw new RoomError(this.#state === 'closed' ? 'CLOSED' : 'OFFLINE', 'there is no connection');
    return this.#link;
  }

  #checkHost() {
    if (!this.#isHost) throw new RoomError('NOT_HOST', 'only the host may do that');
  }

  // The connection.

  #dial() {
    const { WebSocket, clock, requestTimeout } = this.#options;
    const place = /** @type {Place} */ (this.#place);
    this.#link = new RelayLink(new WebSocket(this.#url.href), clock, { timeout: requestTimeout, silence: this.#silenceTimeout }, place, {
      seated: (link, client) => this.#seated(link, client),
      refused: (link, error) => this.#refused(link, error),
      assigned: () => this.#assigned(),
      migrating: () => this.#migrating(),
      migrated: (hostId) => this.#migrated(hostId),
      came: (member) => this.#emit('clientconnect', member),
      left: (member) => this.#emit('clientdisconnect', member),
      relayed: (type, data) => this.#relayed(type, data),
      complained: ({ code, message, status }) => this.#emit('error', { code, message, status }),
      lost: (link, code, reason) => this.#lost(link, code, reason),
    });
    this.#comeback.dialled();
    this.#enter('connecting');
  }

  /**
   * @param {RelayLink} link
   * @param {{id: number, secret: number}} client
   */
  #seated(link, { id, secret }) {
    const place = /** @type {Place} */ (this.#place);
    const rejoined = place.clientId !== undefined;
    this.#place = { ...place, clientId: id, clientSecret: secret };
    this.#ghost = null;
    this.#moving = false;
    const joining = this.#joining;
    this.#joining = null;
    joining?.resolve(/** @type {RoomSession} */ (this.session));
    this.#enter('open');
    // The listeners of each event may have left the room.
    if (this.#link === link) this.#emit('connect', { roomId: place.roomId, clientId: id, rejoined });
  }

  /**
   * @param {RelayLink} link
   * @param {RoomError} error
   */
  #refused(link, error) {
    const { clock, backoffBase, random } = this.#options;
    if (error.code === 'STILL_CONNECTED') {
      const ghost = this.#ghost ??= { since: clock.now(), times: 0 };
      if (clock.now() - ghost.since < (this.#joining?.patience ?? this.#rejoinTimeout)) {
        const spread = backoffBase * Math.min(PATIENT, 2 ** ghost.times);
        const delay = Math.round(backoffBase / PATIENT + random() * spread);
        ghost.times++;
        link.askIn(delay);
        this.#emit('reconnecting', { code: error.status, reason: error.message, delay, attempt: ghost.times });
        return;
      }
    } else if (error.status >= 429) { // RATE, FAILED: another time it may go
      link.drop(error.message);
      return;
    }
    link.close();
    this.#stop('refused', error.status, error.message, error);
  }

  #assigned() {
    this.#hostId = this.clientId;
    this.#setHost(true);
  }

  #migrating() {
    this.#hostId = null;
    this.#moving = true;
    const link = this.#link;
    this.#setHost(false);
    if (this.#link === link) this.#emit('migratebegin', {});
  }

  /** @param {number} hostId */
  #migrated(hostId) {
    const link = this.#link;
    const host = hostId === this.clientId;
    this.#hostId = hostId;
    this.#moving = false;
    this.#setHost(host);
    if (this.#link === link) this.#emit('migratefinish', { hostId, host });
  }

  /** @param {boolean} host */
  #setHost(host) {
    if (this.#isHost === host) return;
    this.#isHost = host;
    this.#emit('host', { host });
  }

  /**
   * @param {number} type
   * @param {Uint8Array} data
   */
  #relayed(type, data) {
    // A type of a later version is nothing that this one could understand.
    if (type in messageTypes) this.#emit('message', { type: messageTypes[type], data });
  }

  /**
   * @param {RelayLink} link
   * @param {number} code
   * @param {string} reason
   */
  #lost(link, code, reason) {
    if (code === CloseCode.kicked || code === CloseCode.roomClosed) {
      this.#stop(code === CloseCode.kicked ? 'kicked' : 'room', code, reason, new RoomError('REFUSED', reason || 'sent away'));
      return;
    }
    this.#link = null;
    this.#hostId = null;
    const wait = this.#comeback.lost(link, code, reason);
    this.#state = 'waiting';
    this.#setHost(false);
    // A listener may have left the room.
    if (this.state !== 'waiting') return;
    this.#emit('state', { state: 'waiting' });
    wait();
  }

  /**
   * @param {RoomEnd} end
   * @param {number} code
   * @param {string} reason
   * @param {RoomError} error  For whoever waits for the first place.
   */
  #stop(end, code, reason, error) {
    const joining = this.#joining;
    this.#link = null;
    this.#joining = null;
    this.#ghost = null;
    this.#hostId = null;
    this.#comeback.end();
    this.#state = 'closed';
    joining?.reject(error);
    this.#setHost(false);
    this.#emit('state', { state: 'closed' });
    if (end === 'kicked') this.#emit('kicked', { code, reason });
    this.#emit('closed', { end, code, reason });
  }

  /** @param {RoomState} state */
  #enter(state) {
    this.#state = state;
    this.#emit('state', { state });
  }

  /**
   * @template {keyof RoomEvents} K
   * @param {K} type
   * @param {RoomEvents[K]["detail"]} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** @param {unknown} value */
function isInt32(value) {
  return typeof value === 'number' && (value | 0) === value;
}

/** @param {unknown} id */
function checkClient(id) {
  if (!isInt32(id) || /** @type {number} */ (id) < 0) throw new RoomError('INVALID', 'the id of a client is an integer from 0 on');
}
