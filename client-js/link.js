/**
 * One connection to a relay: its frames, and the requests that wait for their
 * answers. TextoClient in parley.js makes one after another.
 */

import { CloseCode, Connection, strings } from './connection.js';

/**
 * @import {Clock, SocketLike} from './connection.js'
 * @import {SessionNews} from './session.js'
 */

/**
 * A message, and the two ends of the promise that its sender holds.
 * @typedef {object} Outgoing
 * @property {string} receiverId
 * @property {string} text
 * @property {() => void} resolve
 * @property {(error: ParleyError) => void} reject
 */

/**
 * What a link tells its owner; nothing once it has ended.
 * @typedef {object} LinkOwner
 * @property {() => void} refused  The relay did not resume the session that the URL named; the greeting of a fresh one follows.
 * @property {(link: Link, news: SessionNews) => void} greeted  Once.
 * @property {(link: Link, news: SessionNews, asked: boolean) => void} renewed  After the greeting; asked: it answers a question of this side.
 * @property {(detail: {senderId: string, text: string, id: string}) => void} received  It is acknowledged afterwards.
 * @property {(link: Link, code: number, reason: string) => void} lost  The link has ended, not by its `close()`; all its requests are settled.
 */

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/**
 * Why a message was not delivered, as `code`. From the relay: ERATE, ETOOBIG,
 * EINVAL, EBROKER and the others of the protocol. From this side:
 * - EQUEUE: the queue for the next connection is full; never sent.
 * - ECLOSED: the client is closed; never sent.
 * - ECONN: the connection died before the answer; it may have arrived or not.
 * - ETIMEOUT: no answer in time; it may have arrived or not.
 *
 * `message` is safe to show.
 */
export class ParleyError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.name = 'ParleyError';
    /** @readonly */
    this.code = code;
  }
}

/** A connection that speaks Texto. `close()` rejects its requests with ECONN. */
export class Link extends Connection {
  /** The address, or empty until the greeting. */
  clientId = '';
  /** The name of the relay node, or empty. */
  node = '';

  // Fixed after construction.
  /** @type {Clock} */ #clock;
  /** @type {number} */ #timeout;
  /** @type {LinkOwner} */ #owner;

  /** The timer that asks for a fresh token. @type {any} */ #renewal;
  /**
   * Written and not answered, by the id that the answer will carry.
   * @type {Map<string, {outgoing: Outgoing | null, timer: any, heard: number}>}
   */
  #requests = new Map();
  /** Ids of the registrations that were written and not answered, in time or not. @type {Set<string>} */
  #asked = new Set();

  /**
   * @param {SocketLike} socket  Just made, and of this link alone from here on.
   * @param {Clock} clock
   * @param {number} timeout  How long the greeting and each answer may take, in ms.
   * @param {LinkOwner} owner
   */
  constructor(socket, clock, timeout, owner) {
    super(socket, clock, timeout);
    this.#clock = clock;
    this.#timeout = timeout;
    this.#owner = owner;
  }

  /**
   * Writes a message, and settles its promise: by the relay's answer, or by
   * the end of the link. Only while ready.
   * @param {Outgoing} outgoing
   */
  send(outgoing) {
    this.#request('send', { receiver_id: outgoing.receiverId, text: outgoing.text }, outgoing);
  }

  /**
   * Finds out whether the connection still lives: without an answer in time
   * the link is lost.
   */
  probe() {
    // A request under way is such a question already.
    if (this.#requests.size === 0) this.#register();
  }

  /**
   * Asks for a fresh token in ms, and not before, whatever was told earlier.
   * @param {number} ms
   */
  renewIn(ms) {
    if (this.ended) return;
    this.#clock.clearTimeout(this.#renewal);
    this.#renewal = this.#clock.setTimeout(() => this.#register(), ms);
  }

  #register() {
    if (this.ready) this.#asked.add(this.#request('registration', null, null));
  }

  /**
   * @param {string} kind
   * @param {object | null} data
   * @param {Outgoing | null} outgoing
   * @returns {string} the id that the answer will carry.
   */
  #request(kind, data, outgoing) {
    const id = newID();
    const timer = this.#clock.setTimeout(() => this.#expire(id), this.#timeout);
    this.#requests.set(id, { outgoing, timer, heard: this.heard });
    this.#writeFrame(id, kind, data);
    return id;
  }

  /**
   * @param {string} id
   * @param {string} kind
   * @param {object | null} data
   */
  #writeFrame(id, kind, data) {
    this.write({ client_id: this.clientId, id, kind, data });
  }

  /** @param {string} id */
  #expire(id) {
    const request = this.#take(id);
    if (!request) return;
    request.outgoing?.reject(new ParleyError('ETIMEOUT', 'no answer in time; not known whether the message arrived'));
    // Not a word since it was written: the connection itself is dead.
    if (this.heard === request.heard) this.drop('no answer in time');
  }

  /**
   * The request that an answer names, which it settles; undefined when there is none.
   * @param {string} id
   */
  #take(id) {
    const request = this.#requests.get(id);
    this.#requests.delete(id);
    this.#clock.clearTimeout(request?.timer);
    return request;
  }

  /**
   * Takes a frame. One that is not of the protocol, or of a later version, is passed over.
   * @override
   * @param {unknown} raw
   */
  hear(raw) {
    const { kind, id, data } = parse(raw);
    if (kind === 'connection' && this.clientId === '') {
      this.#takeGreeting(data);
    } else if (kind === 'connection') {
      this.#take(id)?.outgoing?.resolve();
      this.#renewed(data, this.#asked.delete(id));
    } else if (kind === 'ack') {
      this.#take(id)?.outgoing?.resolve();
    } else if (kind === 'error') {
      const { code = '', description = '' } = strings(data);
      const request = this.#take(id);
      if (request) request.outgoing?.reject(new ParleyError(code, description));
      else if (code === 'ERESUME' && this.clientId === '') this.#owner.refused();
      else this.complaint = description;
    } else if (kind === 'receive') {
      const { sender_id: senderId, text } = strings(data);
      if (senderId === undefined || text === undefined) return;
      this.#owner.received({ senderId, text, id });
      // The owner may have closed the link.
      if (!this.ended) this.#writeFrame(id, 'ack', null);
    }
  }

  /** @param {unknown} data */
  #takeGreeting(data) {
    const { client_id: clientId = '', node = '' } = strings(data);
    if (!isAddress(clientId)) return;
    this.greeted();
    this.clientId = clientId;
    this.node = node;
    this.#owner.greeted(this, news(data));
  }

  /**
   * @param {unknown} data
   * @param {boolean} asked
   */
  #renewed(data, asked) {
    if (strings(data).client_id?.toLowerCase() === this.clientId.toLowerCase()) this.#owner.renewed(this, news(data), asked);
  }

  /**
   * @override
   * @param {number} code
   * @param {string} reason
   */
  lost(code, reason) {
    this.#owner.lost(this, code, reason);
  }

  /**
   * @override
   * @param {number} code
   * @param {string} reason
   */
  settle(code, reason) {
    this.#clock.clearTimeout(this.#renewal);
    const requests = [...this.#requests.values()];
    this.#requests.clear();
    // A relay that closes over a frame that is too big does not say which one:
    // the biggest without an answer is too big for certain.
    const biggest = code === CloseCode.tooBig ? Math.max(...requests.map(size)) : Infinity;
    for (const request of requests) {
      this.#clock.clearTimeout(request.timer);
      request.outgoing?.reject(size(request) >= biggest
        ? new ParleyError('ETOOBIG', 'the message is too big for the relay')
        : new ParleyError('ECONN', `the connection ended (${reason || code}); not known whether the message arrived`));
    }
  }
}

/**
 * Whether a string is a client's address: a UUID in its 36-character form.
 * @param {unknown} value
 */
export function isAddress(value) {
  return typeof value === 'string' && UUID.test(value);
}

/** @param {{outgoing: Outgoing | null}} request */
function size({ outgoing }) {
  return new TextEncoder().encode(JSON.stringify(outgoing?.text)).length;
}

/**
 * The envelope of a frame, with an empty kind when it is none.
 * @param {unknown} raw
 * @returns {{kind: string, id: string, data: unknown}}
 */
function parse(raw) {
  let frame;
  try {
    frame = JSON.parse(/** @type {string} */ (raw));
  } catch {
    frame = null;
  }
  const { kind = '', id = '' } = strings(frame);
  return { kind: id && kind, id, data: frame?.data };
}

/**
 * What the data of a `connection` message says about the session.
 * @param {any} data
 * @returns {SessionNews}
 */
function news(data) {
  const recovered = typeof data?.recovered === 'boolean' ? data.recovered : undefined;
  return { token: strings(data).resume ?? '', recovered };
}

/** A random UUID. crypto.randomUUID would do, but pages without TLS lack it. */
export function newID() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
