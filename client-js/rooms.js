/**
 * All rooms of a chat client: follows them over one connection after another,
 * closes the holes, and takes turns with what is asked about each.
 */

import { ChatError } from './account.js';
import { Room } from './room.js';
import { Outgoing, Traffic, Wish } from './traffic.js';

/**
 * @import {ChatEvents} from './chat.js'
 * @import {ChatLink, Hello, Request} from './chatlink.js'
 * @import {Clock} from './connection.js'
 * @import {ChatMessage, ChatUser, News, Page} from './room.js'
 */

/** Tells the client's listeners. @typedef {<K extends keyof ChatEvents>(type: K, detail: ChatEvents[K]["detail"]) => void} Emit */

/** Pages that are fetched by themselves to close a hole; more than that was missed: the room begins anew. */
export const CATCH_UP_PAGES = 10;

export class Rooms {
  // Fixed after construction.
  /** @type {Emit} */ #emit;
  /** @type {Clock} */ #clock;
  /** @type {number} */ #patience;
  /** @type {number} */ #limit;

  /** @type {ChatUser | null} */ me = null;
  /** In the relay's order. @type {Map<string, Room>} */ all = new Map();
  /** Set while open, once what was missed has been told. @type {ChatLink | null} */ #link = null;
  /** Set from the greeting on. @type {ChatLink | null} */ #greeted = null;
  /** Listeners hear of messages: what they send is not what is heard of. */ #telling = false;
  /** By room; also of rooms that are not known yet. @type {Map<string, Traffic>} */ #traffic = new Map();

  /**
   * @param {Emit} emit
   * @param {Clock} clock
   * @param {number} patience  How long holes are worked at, in ms; what is newer is held back meanwhile.
   * @param {number} limit  Messages that are kept of each.
   */
  constructor(emit, clock, patience, limit) {
    this.#emit = emit;
    this.#clock = clock;
    this.#patience = patience;
    this.#limit = limit;
  }

  /** Up to where each room has been followed, as the relay reads it; empty when nothing is known. */
  get places() {
    return [...this.all.values()]
      .flatMap(({ id, last }) => (last === null ? [] : [`${encodeURIComponent(id)}:${last}`])).join(',');
  }

  /** How many calls to send wait. */
  get waiting() {
    let sum = 0;
    for (const { queue } of this.#traffic.values()) sum += queue.length;
    return sum;
  }

  /**
   * A connection was greeted. The rooms are there when this returns; what they
   * missed is told by the function that it returns.
   * @param {ChatLink} link
   * @param {Hello} hello
   * @returns {{fresh: boolean, goOn: () => void}} fresh: no room was known.
   */
  greeted(link, hello) {
    const same = this.me?.id === hello.me.id;
    const before = same ? this.all : new Map();
    if (this.me && !same) for (const traffic of this.#traffic.values()) traffic.refuse('CLOSED', 'someone else has signed in');
    this.#greeted = link;
    this.me = hello.me;
    this.all = new Map(hello.rooms.map((news) => {
      const room = before.get(news.id) ?? new Room(news.id, news, this.#limit);
      room.name = news.name;
      room.here(news.online);
      return [news.id, room];
    }));
    return {
      fresh: before.size === 0,
      goOn: () => {
        for (const news of hello.rooms) {
          const room = before.get(news.id);
          // A listener may have closed the client.
          if (this.#greeted !== link) return;
          if (room) this.#tell(room, room.resume(news, news.recovered));
        }
        if (this.#greeted !== link) return;
        this.#link = link;
        for (const [roomId, traffic] of this.#traffic) {
          if (!this.all.has(roomId)) traffic.refuse('UNKNOWN_ROOM', 'there is no such room');
        }
        this.#pumpAll();
      },
    };
  }

  /** The connection has ended: nothing is fetched any more, and the next one begins with what is missing. */
  rest() {
    this.#link = null;
    this.#greeted = null;
    for (const traffic of this.#traffic.values()) {
      this.#clock.clearTimeout(traffic.deadline);
      traffic.deadline = null;
      traffic.pages = 0;
      traffic.failWish(new ChatError('OFFLINE', 'the connection ended'));
    }
  }

  /** What was never written is not going to be. */
  stop() {
    for (const traffic of this.#traffic.values()) traffic.refuse('CLOSED', 'the client was closed before the messages were sent');
  }

  /** Whoever signs in next begins anew. */
  forget() {
    this.me = null;
    this.all = new Map();
    this.#traffic.clear();
  }

  /**
   * @param {string} roomId
   * @param {Outgoing} outgoing
   */
  send(roomId, outgoing) {
    this.#at(roomId).queue.push(outgoing);
    this.#pump(roomId);
  }

  /**
   * Asks for a page of older messages, of a room that has some.
   * @param {string} roomId
   */
  older(roomId) {
    const { promise } = this.#at(roomId).wish ??= new Wish();
    this.#pump(roomId);
    return promise;
  }

  // What the link tells.

  /**
   * @param {string} roomId
   * @param {ChatMessage[]} messages
   */
  received(roomId, messages) {
    const room = this.all.get(roomId);
    if (room) this.#tell(room, room.live(messages));
  }

  /** @param {string} roomId */
  gap(roomId) {
    const room = this.all.get(roomId);
    if (room) this.#tell(room, room.gap());
  }

  /**
   * @param {string} roomId
   * @param {ChatUser} user
   * @param {boolean} online
   */
  presence(roomId, user, online) {
    const room = this.all.get(roomId);
    if (!room) return;
    room.presence(user, online);
    this.#emit('presence', { roomId, user, online });
  }

  /**
   * @param {string} roomId
   * @param {Request} request
   * @param {Page} page
   * @param {boolean | undefined} recovered
   */
  answered(roomId, request, page, recovered) {
    const room = this.all.get(roomId);
    if (!room) return;
    if (request.kind === 'resume') {
      this.#tell(room, room.resume(page, recovered));
      return;
    }
    if (request.kind !== 'history') return;
    const traffic = this.#at(roomId);
    const catchingUp = room.holeBefore !== null;
    const { older, news } = room.history(request.before, page);
    if (room.holeBefore !== null && traffic.pages >= CATCH_UP_PAGES) {
      this.#skip(room);
      return;
    }
    if (older.length > 0) this.#emit('history', { roomId, messages: older, hasMoreMessages: room.hasMoreMessages });
    // A page that was fetched for a hole is not what was wished for.
    if (!catchingUp && traffic.wish) {
      const { wish } = traffic;
      traffic.wish = null;
      wish.resolve(older);
    }
    this.#tell(room, news);
  }

  /**
   * @param {string} roomId
   * @param {Request} request
   * @param {ChatError} error
   */
  failed(roomId, request, error) {
    const traffic = this.#at(roomId);
    const room = this.all.get(roomId);
    if (request.kind === 'send') traffic.failSending(error);
    else if (request.kind === 'history' && traffic.pages === 0) traffic.failWish(error);
    else if (request.kind === 'history' && room && this.#link?.ready) this.#skip(room);
    this.#pump(roomId);
  }

  /** @param {string} roomId */
  #at(roomId) {
    let traffic = this.#traffic.get(roomId);
    if (!traffic) this.#traffic.set(roomId, traffic = new Traffic());
    return traffic;
  }

  /**
   * Asks the next thing about a room, if nothing is under way there: first what
   * closes a hole, then what is to be sent, then older messages.
   * @param {string} roomId
   */
  #pump(roomId) {
    const link = this.#link;
    const room = this.all.get(roomId);
    if (!link?.ready || !room || link.busy(roomId) || this.#telling) return;
    const traffic = this.#at(roomId);
    if (room.holeBefore !== null) {
      traffic.pages++;
      link.ask(roomId, { kind: 'history', before: room.holeBefore });
    } else if (traffic.queue.length > 0) {
      traffic.sending = /** @type {Outgoing} */ (traffic.queue.shift());
      link.ask(roomId, { kind: 'send', contents: traffic.sending.contents });
    } else if (traffic.wish && room.hasMoreMessages) {
      link.ask(roomId, { kind: 'history', before: room.messages[0].id });
    } else if (traffic.wish) {
      traffic.wish.resolve([]);
      traffic.wish = null;
    }
  }

  /**
   * Hands on what a room has taken, and sees to what is still missing.
   * @param {Room} room
   * @param {News[]} news
   */
  #tell(room, news) {
    const traffic = this.#at(room.id);
    if (room.holeBefore === null) {
      this.#clock.clearTimeout(traffic.deadline);
      traffic.deadline = null;
      traffic.pages = 0;
    } else {
      traffic.deadline ??= this.#clock.setTimeout(() => this.#skip(room), this.#patience);
    }
    const telling = this.#telling;
    this.#telling = true;
    for (const { message, gap } of news) {
      if (gap !== undefined) {
        this.#emit('gap', { roomId: room.id, after: gap || null });
      } else {
        this.#emit('message', { roomId: room.id, message });
        this.#recognise(room.id, message);
      }
    }
    this.#telling = telling;
    this.#pumpAll();
  }

  #pumpAll() {
    for (const roomId of this.#traffic.keys()) this.#pump(roomId);
  }

  /**
   * Looks whether what was sent has come back.
   * @param {string} roomId
   * @param {ChatMessage} message  In the room's order.
   */
  #recognise(roomId, message) {
    const traffic = this.#at(roomId);
    const { sending } = traffic;
    const back = sending?.back(message, /** @type {ChatUser} */ (this.me).id);
    if (!sending || !back) return;
    traffic.sending = null;
    this.#link?.done(roomId);
    sending.resolve(back);
  }

  /**
   * Gives up a hole.
   * @param {Room} room
   */
  #skip(room) {
    const messages = room.skip();
    this.#emit('reset', { roomId: room.id });
    for (const message of messages) this.#recognise(room.id, message);
    this.#tell(room, []);
  }
}
