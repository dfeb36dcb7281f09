/**
 * One connection that speaks chat: its frames, and what was asked and has no
 * answer yet. ChatClient in chat.js makes one after another.
 */

import { ChatError } from './account.js';
import { CloseCode, Connection, strings } from './connection.js';

/**
 * @import {Clock, SocketLike} from './connection.js'
 * @import {ChatMessage, ChatUser, Page} from './room.js'
 */

/** A room as `hello` has it. @typedef {Page & {id: string, name: string, recovered: boolean | undefined, online: ChatUser[]}} RoomNews */

/** @typedef {{me: ChatUser, rooms: RoomNews[]}} Hello */

/**
 * What was asked about a room: to store messages, for older ones, or for what
 * came after the last one. Answers do not name what they answer, so there is one
 * request a room at a time.
 * @typedef {{kind: "send", contents: readonly string[]} | {kind: "history", before: string} | {kind: "resume", after: string}} Request
 */

/**
 * What a link tells its owner; nothing once it has ended, but `failed` and `lost`.
 * @typedef {object} ChatLinkOwner
 * @property {(link: ChatLink, hello: Hello) => void} greeted  Once.
 * @property {(roomId: string, messages: ChatMessage[]) => void} received  Oldest first.
 * @property {(roomId: string, request: Request, page: Page, recovered: boolean | undefined) => void} answered  Of history and resume.
 * @property {(roomId: string, request: Request, error: ChatError) => void} failed
 * @property {(roomId: string, user: ChatUser, online: boolean) => void} presence
 * @property {(roomId: string, user: ChatUser) => void} typing
 * @property {(roomId: string) => void} gap  Messages of the room may be missing here.
 * @property {(roomId: string | null, error: ChatError) => void} complained  An error that answers nothing.
 * @property {(link: ChatLink, code: number, reason: string) => void} lost  The link has ended, not by its `close()`; all its requests have failed.
 */

/** The place before every message: what is older is nothing, for every relay to say. */
const BEGINNING = '0-0';

export class ChatLink extends Connection {
  // Fixed after construction.
  /** @type {Clock} */ #clock;
  /** @type {number} */ #timeout;
  /** @type {ChatLinkOwner} */ #owner;

  /** Written and not answered, by room. @type {Map<string, {request: Request, timer: any}>} */
  #requests = new Map();

  /**
   * @param {SocketLike} socket  Just made, and of this link alone from here on.
   * @param {Clock} clock
   * @param {number} timeout  How long the greeting and each answer may take, in ms.
   * @param {ChatLinkOwner} owner
   */
  constructor(socket, clock, timeout, owner) {
    super(socket, clock, timeout);
    this.#clock = clock;
    this.#timeout = timeout;
    this.#owner = owner;
  }

  /**
   * Whether a request about the room waits for its answer.
   * @param {string} roomId
   */
  busy(roomId) {
    return this.#requests.has(roomId);
  }

  /**
   * Writes a request. Only while ready, and while the room is not busy.
   * @param {string} roomId
   * @param {Request} request
   */
  ask(roomId, request) {
    // Without its answer nobody would know any more what later ones answer.
    const timer = this.#clock.setTimeout(() => this.drop('no answer in time'), this.#timeout);
    this.#requests.set(roomId, { request, timer });
    switch (request.kind) {
      case 'send':
        this.#say('clientMessages', { roomId, messages: request.contents.map((content) => ({ content })) });
        break;
      case 'history':
        this.#say('requestRoomHistory', { roomId, firstMessageId: request.before });
        break;
      case 'resume':
        this.#say('resume', { rooms: { [roomId]: request.after } });
    }
  }

  /**
   * The room's request is answered; it returns that. The messages of a `send`
   * are recognised by the owner.
   * @param {string} roomId
   */
  done(roomId) {
    const { request, timer } = this.#requests.get(roomId) ?? {};
    this.#clock.clearTimeout(timer);
    this.#requests.delete(roomId);
    return request;
  }

  /** @param {string} roomId */
  typing(roomId) {
    this.#say('typing', { roomId });
  }

  /**
   * Finds out whether the connection still lives: without an answer in time the
   * link is lost.
   * @param {string} roomId  Of any room.
   * @param {string | null} last  Of its messages.
   */
  probe(roomId, last) {
    // What is under way is such a question already.
    if (!this.ready || this.#requests.size > 0) return;
    this.ask(roomId, last === null ? { kind: 'history', before: BEGINNING } : { kind: 'resume', after: last });
  }

  /**
   * @param {string} type
   * @param {object} payload
   */
  #say(type, payload) {
    this.write({ type, payload });
  }

  /**
   * Takes a frame. One that is not of the protocol, or of a later version, is passed over.
   * @override
   * @param {unknown} raw
   */
  hear(raw) {
    const { type, payload } = parse(raw);
    if (this.since === null) {
      if (type === 'hello') this.#takeHello(payload);
      else if (type === 'error') this.complaint = strings(payload).message ?? '';
      return;
    }
    const { roomId } = strings(payload);
    if (type === 'error') {
      this.#takeError(roomId ?? null, strings(payload));
    } else if (roomId === undefined) {
      return;
    } else if (type === 'serverMessages') {
      this.#owner.received(roomId, messages(payload.messages));
    } else if (type === 'roomHistory') {
      this.#takeHistory(roomId, payload);
    } else if (type === 'presence' && isUser(payload.user)) {
      this.#owner.presence(roomId, payload.user, payload.online === true);
    } else if (type === 'typing' && isUser(payload.user)) {
      this.#owner.typing(roomId, payload.user);
    }
  }

  /** @param {any} payload */
  #takeHello(payload) {
    if (!isUser(payload.me) || !Array.isArray(payload.rooms)) return;
    this.greeted();
    const rooms = payload.rooms.filter((/** @type {any} */ room) => {
      const { id, name } = strings(room);
      return id !== undefined && name !== undefined;
    });
    this.#owner.greeted(this, {
      me: payload.me,
      rooms: rooms.map((/** @type {any} */ room) => ({
        ...page(room),
        id: room.id,
        name: room.name,
        recovered: recovered(room),
        online: Array.isArray(room.online) ? room.online.filter(isUser) : [],
      })),
    });
  }

  /**
   * @param {string} roomId
   * @param {any} payload
   */
  #takeHistory(roomId, payload) {
    const kind = this.#requests.get(roomId)?.request.kind;
    if (kind !== 'history' && kind !== 'resume') return;
    const request = /** @type {Request} */ (this.done(roomId));
    this.#owner.answered(roomId, request, page(payload), recovered(payload));
  }

  /**
   * @param {string | null} roomId
   * @param {Record<string, string | undefined>} error
   */
  #takeError(roomId, { code = '', message = code }) {
    if (code === 'HISTORY_GAP') {
      if (roomId !== null) this.#owner.gap(roomId);
      return;
    }
    const error = new ChatError(code, message);
    if (roomId !== null && !this.busy(roomId)) {
      this.#owner.complained(roomId, error);
      return;
    }
    // One that names no room is about any of them: what was asked about others may have been done.
    const rooms = roomId === null ? [...this.#requests.keys()] : [roomId];
    if (rooms.length === 0) this.#owner.complained(null, error);
    for (const room of rooms) {
      const request = this.done(room);
      if (request) this.#owner.failed(room, request, rooms.length > 1 ? uncertain(request, message) : error);
    }
  }

  /**
   * @override
   * @param {number} code
   * @param {string} reason
   */
  settle(code, reason) {
    const requests = [...this.#requests];
    this.#requests.clear();
    // A relay that closes over a frame that is too big does not say which one:
    // the biggest without an answer is too big for certain.
    const biggest = code === CloseCode.tooBig ? Math.max(...requests.map(([, { request }]) => size(request))) : Infinity;
    for (const [roomId, { request, timer }] of requests) {
      this.#clock.clearTimeout(timer);
      this.#owner.failed(roomId, request, request.kind === 'send' && size(request) >= biggest
        ? new ChatError('MESSAGE_TOO_LONG', 'the messages are too long for the relay')
        : uncertain(request, `the connection ended (${reason || code})`));
    }
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
 * @param {Request} request
 * @param {string} why
 */
function uncertain({ kind }, why) {
  return kind === 'send'
    ? new ChatError('UNKNOWN', `${why}; not known whether the messages were stored`)
    : new ChatError('OFFLINE', why);
}

/** @param {Request} request */
function size(request) {
  return request.kind === 'send' ? new TextEncoder().encode(JSON.stringify(request.contents)).length : 0;
}

/**
 * A frame, with an empty type when it is none.
 * @param {unknown} raw
 * @returns {{type: string, payload: any}}
 */
function parse(raw) {
  try {
    const { type, payload } = JSON.parse(/** @type {string} */ (raw));
    return { type: typeof type === 'string' && payload ? type : '', payload };
  } catch {
    return { type: '', payload: null };
  }
}

/**
 * @param {any} value
 * @returns {value is ChatUser}
 */
function isUser(value) {
  return typeof value?.id === 'number' && typeof value.username === 'string';
}

/**
 * @param {unknown} value
 * @returns {ChatMessage[]}
 */
function messages(value) {
  return Array.isArray(value) ? value.filter(isMessage) : [];
}

/** @param {any} value */
function isMessage(value) {
  return /^\d+-\d+$/.test(value?.id) && typeof value.content === 'string' && isUser(value.user) && typeof value.timestamp === 'number';
}

/**
 * @param {any} value
 * @returns {Page}
 */
function page(value) {
  return {
    messages: messages(value.messages),
    hasMoreMessages: value.hasMoreMessages === true,
    complete: typeof value.complete === 'boolean' ? value.complete : undefined,
  };
}

/**
 * @param {any} value
 * @returns {boolean | undefined}
 */
function recovered(value) {
  return typeof value.recovered === 'boolean' ? value.recovered : undefined;
}
