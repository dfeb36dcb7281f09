/**
 * One connection to a relay room: its frames, and the requests that wait for their
 * answers. RoomClient in relayroom.js makes one after another.
 */

import { Connection } from './connection.js';
import {
  Client, Failure, Flag, JoinRequest, Member, MemberList, Payload, RejoinRequest, Relay, Subject, WireError,
} from './relaywire.js';
import { RoomError, complaintOf } from './roomerror.js';

/**
 * @import {Clock, SocketLike} from './connection.js'
 * @import {RoomMember} from './relaywire.js'
 */

/** Which client of a room one is, and what proves it. @typedef {{roomId: number, secret: number, clientId: number, clientSecret: number}} RoomSession */

/** Where a connection wants to be: in a room as a new client, or as one that was there. @typedef {{roomId: number, secret: number, clientId?: number, clientSecret?: number}} Place */

/** What is relayed: bytes, or a text, which goes as UTF-8. @typedef {string | Uint8Array | ArrayBuffer} RoomData */

/** What is asked for, and the promise of who has asked. */
export class Request {
  /** @type {(members: RoomMember[]) => void} */ resolve = () => {};
  /** @type {(error: RoomError) => void} */ reject = () => {};
  /** @type {Promise<RoomMember[]>} */ promise = new Promise((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });

  /** Of a grant: whether the host is on the move, so that the relay has not refused it. */
  begun = false;

  /**
   * @param {"list" | "kick" | "grant"} kind
   * @param {number} id  Whom it is about; without a meaning for a list.
   * @param {boolean} [own]  Whether only the link has asked.
   */
  constructor(kind, id, own = false) {
    this.kind = kind;
    this.id = id;
    this.own = own;
  }
}

/**
 * What a link tells its owner; nothing once it has ended, but `lost`.
 * @typedef {object} RelayLinkOwner
 * @property {(link: RelayLink, client: {id: number, secret: number}) => void} seated  Once.
 * @property {(link: RelayLink, error: RoomError) => void} refused  Not seated; `ask` asks again.
 * @property {() => void} assigned  This client is host now.
 * @property {() => void} migrating  Whoever was host is not any more.
 * @property {(hostId: number) => void} migrated
 * @property {(member: RoomMember) => void} came
 * @property {(member: RoomMember) => void} left
 * @property {(type: number, data: Uint8Array) => void} relayed
 * @property {(error: RoomError) => void} complained  An error that answers no request.
 * @property {(link: RelayLink, code: number, reason: string) => void} lost  The link has ended, not by its `close()`; all its requests are settled.
 */

/**
 * A relay answers everything within two seconds, but for a grant, of which it tells the
 * beginning. Of an error that comes for so long
 * after something was relayed, in ms, nobody knows at first what it is about.
 */
const ANSWER_TIME = 3_000;

/** A connection that has, or asks for, a place in a room. */
export class RelayLink extends Connection {
  // Fixed after construction.
  /** @type {Clock} */ #clock;
  /** @type {number} */ #timeout;
  /** @type {number} */ #silence;
  /** @type {Place} */ #place;
  /** @type {RelayLinkOwner} */ #owner;

  /** Asks for the place again. @type {any} */ #again;
  /** Not answered; the first one is written, since errors do not say what they are about. @type {Request[]} */
  #requests = [];
  /** Gives the connection up when the first request has no answer. @type {any} */ #deadline;
  /** When something was relayed last. */ #relayedAt = -Infinity;
  /** When a frame came last. */ #heardAt = 0;
  /** Looks whether the connection is silent. @type {any} */ #watch;
  /** An error that may be about the first request; when its time is over, it is. @type {{error: RoomError, timer: any} | null} */
  #doubt = null;

  /**
   * @param {SocketLike} socket  Just made, and of this link alone from here on.
   * @param {Clock} clock
   * @param {{timeout: number, silence: number}} patience  How long the place and each answer may take, and how long the relay may say nothing before it is asked, in ms.
   * @param {Place} place
   * @param {RelayLinkOwner} owner
   */
  constructor(socket, clock, { timeout, silence }, place, owner) {
    super(socket, clock, timeout);
    socket.binaryType = 'arraybuffer';
    this.#clock = clock;
    this.#timeout = timeout;
    this.#silence = silence;
    this.#place = place;
    this.#owner = owner;
  }

  /**
   * Asks for the place again, after a wait, once that was refused.
   * @param {number} ms
   */
  askIn(ms) {
    this.expectGreeting(); // the relay lives
    this.#again = this.#clock.setTimeout(() => this.#ask(), ms);
  }

  /**
   * Relays something. Only while ready.
   * @param {number} type
   * @param {number | undefined} target
   * @param {RoomData} data
   * @throws {RoomError} INVALID.
   */
  relay(type, target, data) {
    const frame = Relay.encode({ type, target, data: bytes(data) });
    this.#relayedAt = this.#clock.now();
    this.#say(Flag.relayMessage, frame);
  }

  /**
   * Makes a request, once those before are answered, and settles its promise: by the
   * relay's answer, or by the end of the link. Only while ready.
   * @param {Request} request
   */
  request(request) {
    this.#requests.push(request);
    if (this.#requests.length === 1) this.#askFirst();
  }

  /** Finds out whether the connection still lives: without an answer in time the link is lost. */
  probe() {
    if (!this.ready || this.#requests.length > 0) return;
    const request = new Request('list', 0, true);
    request.promise.catch(() => {}); // then the link is lost, or the relay lives
    this.request(request);
  }

  /** Asks a relay that says nothing whether it is there: networks and nodes may die without a word. */
  #watchSilence() {
    const quiet = this.#clock.now() - this.#heardAt;
    if (quiet >= this.#silence) this.probe();
    if (this.ended) return;
    this.#watch = this.#clock.setTimeout(() => this.#watchSilence(), quiet < this.#silence ? this.#silence - quiet : this.#silence);
  }

  /** @override */
  shook() {
    this.#ask();
  }

  #ask() {
    const { roomId, secret: roomSecret, clientId, clientSecret = 0 } = this.#place;
    this.expectGreeting();
    if (clientId === undefined) this.#say(Flag.connect, JoinRequest.encode({ roomId, roomSecret }));
    else this.#say(Flag.reconnect, RejoinRequest.encode({ roomId, roomSecret, clientId, clientSecret }));
  }

  #askFirst() {
    const [{ kind, id }] = this.#requests;
    this.#deadline = this.#clock.setTimeout(() => this.drop('no answer in time'), this.#timeout);
    if (kind === 'list') this.#say(Flag.list, new Uint8Array());
    else this.#say(kind === 'kick' ? Flag.kick : Flag.grantHost, Subject.encode({ id }));
  }

  /**
   * The first request is settled; it returns that.
   * @returns {Request | undefined}
   */
  #takeFirst() {
    this.#clock.clearTimeout(this.#deadline);
    this.#endDoubt();
    const request = this.#requests.shift();
    if (this.#requests.length > 0) this.#askFirst();
    return request;
  }

  /**
   * @param {number} flag
   * @param {Uint8Array} data
   */
  #say(flag, data) {
    this.writeBytes(Payload.encode({ flag, data }));
  }

  /**
   * Takes a frame. One of a later version is passed over; what does not parse ends
   * the connection, since nobody knows what it has told.
   * @override
   * @param {unknown} raw
   */
  hear(raw) {
    this.#heardAt = this.#clock.now();
    if (!(raw instanceof ArrayBuffer)) return;
    try {
      const { flag, data } = Payload.decode(new Uint8Array(raw));
      this.#take(flag, data);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.drop(`the relay sent what does not parse: ${error.message}`);
    }
  }

  /**
   * @param {number} flag
   * @param {Uint8Array} data
   */
  #take(flag, data) {
    if (flag === Flag.error) {
      const { code, message } = Failure.decode(data);
      this.#takeError(complaintOf(code, message));
    } else if (this.since === null) {
      if (flag !== Flag.connected) return;
      const client = Client.decode(data);
      this.greeted();
      this.#watchSilence();
      this.#owner.seated(this, client);
    } else {
      this.#takeNews(flag, data);
    }
  }

  /**
   * @param {number} flag
   * @param {Uint8Array} data
   */
  #takeNews(flag, data) {
    const [first] = this.#requests;
    switch (flag) {
      case Flag.assignHost:
        this.#owner.assigned();
        break;
      case Flag.beginHostMigrate:
        this.#owner.migrating();
        if (first?.kind === 'grant') this.#begun(first);
        break;
      case Flag.finishHostMigrate: {
        const { id } = Subject.decode(data);
        this.#owner.migrated(id);
        if (first?.kind !== 'grant' || first !== this.#requests[0]) break;
        if (first.id === id) this.#answered([]);
        else if (first.begun) this.#takeFirst()?.reject(new RoomError('REFUSED', 'that client has gone: another one is host'));
        break;
      }
      case Flag.listed: {
        const { list } = MemberList.decode(data);
        if (first?.kind === 'list') this.#answered(list);
        break;
      }
      case Flag.kicked:
        if (first?.kind === 'kick' && first.id === Subject.decode(data).id) this.#answered([]);
        break;
      case Flag.clientConnect:
        this.#owner.came(Member.decode(data));
        break;
      case Flag.clientDisconnect:
        this.#owner.left(Member.decode(data));
        break;
      case Flag.relayed: {
        const relay = Relay.decode(data);
        this.#owner.relayed(relay.type, relay.data);
        break;
      }
      default: // of a later version
    }
  }

  /** @param {RoomMember[]} members */
  #answered(members) {
    const doubt = this.#doubt;
    this.#takeFirst()?.resolve(members);
    if (doubt && !this.ended) this.#owner.complained(doubt.error);
  }

  /**
   * The host moves, as was asked for: from here on no error is about that.
   * @param {Request} grant
   */
  #begun(grant) {
    grant.begun = true;
    const doubt = this.#doubt;
    this.#endDoubt();
    if (doubt && !this.ended) this.#owner.complained(doubt.error);
  }

  #endDoubt() {
    this.#clock.clearTimeout(this.#doubt?.timer);
    this.#doubt = null;
  }

  /**
   * No answer has come to the first request, only an error.
   * @param {RoomError} error
   */
  #denied(error) {
    const request = this.#takeFirst();
    request?.reject(error);
    // Nobody waits for that, and it may have been about something else.
    if (request?.own && !this.ended) this.#owner.complained(error);
  }

  /** @param {RoomError} error */
  #takeError(error) {
    if (this.since === null) {
      this.complaint = error.message;
      this.#owner.refused(this, error);
    } else if (this.#requests.length === 0 || this.#requests[0].begun || this.#doubt || error.code === 'TOO_BIG' || error.code === 'GAP') {
      this.#owner.complained(error);
    } else if (this.#clock.now() - this.#relayedAt >= ANSWER_TIME) {
      this.#takeFirst()?.reject(error);
    } else {
      // About the request, or about what was relayed: an answer to the request will tell.
      this.#doubt = { error, timer: this.#clock.setTimeout(() => this.#denied(error), ANSWER_TIME) };
    }
  }

  /**
   * @override
   * @param {number} code
   * @param {string} reason
   */
  settle(code, reason) {
    for (const timer of [this.#again, this.#watch, this.#deadline, this.#doubt?.timer]) this.#clock.clearTimeout(timer);
    const [written, ...waiting] = this.#requests.splice(0);
    const why = `the connection ended (${reason || code})`;
    written?.reject(new RoomError('UNKNOWN', `${why}; not known whether it was done`));
    for (const request of waiting) request.reject(new RoomError('OFFLINE', why));
  }

  /**
   * @override
   * @param {number} code
   * @param {string} reason
   */
  lost(code, reason) {
    this.#owner.lost(this, code, reason);
  }
}

/**
 * @param {RoomData} data
 * @returns {Uint8Array}
 */
function bytes(data) {
  if (typeof data === 'string') return new TextEncoder().encode(data);
  if (data instanceof Uint8Array) return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  throw new RoomError('INVALID', 'data is bytes or a text');
}
