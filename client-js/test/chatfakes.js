/** A chat client on fakes, with a relay whose every frame is scripted. */

import { ChatClient } from '../chat.js';
import { FakeClock, FakePage, FakeSocket } from './fakes.js';

export const ME = { id: 1, username: 'maria' };
export const YOU = { id: 2, username: 'yusuf' };

/** The nth message of a room. */
export function message(n, user = YOU, content = `m${n}`) {
  return { id: `${1000 + n}-0`, content, user, timestamp: 1_700_000_000_000 + n };
}

/** Messages from one to another number, both included, newest first: as in a page. */
export function page(from, to, hasMoreMessages = false, more = {}) {
  const messages = [];
  for (let n = to; n >= from; n--) messages.push(message(n));
  return { messages, hasMoreMessages, ...more };
}

/** Room 7 as `hello` has it. */
export function room(from, to, hasMoreMessages = false, more = {}) {
  return { id: '7', name: 'Harbour', ...page(from, to, hasMoreMessages), ...more };
}

/** A socket that speaks chat. */
class ChatSocket extends FakeSocket {
  /** A frame comes. */
  tell(type, payload) {
    this.say({ type, payload });
  }

  /** The handshake succeeds and the greeting comes. */
  hello(rooms = [room(1, 3)], me = ME) {
    this.shake();
    this.tell('hello', { me, rooms });
  }

  live(messages, roomId = '7') {
    this.tell('serverMessages', { roomId, messages });
  }

  history(answer, roomId = '7') {
    this.tell('roomHistory', { roomId, ...answer });
  }

  refuse(code, roomId = '7') {
    this.tell('error', { code, message: `refused: ${code}`, roomId });
  }

  /** What the client wrote, as [type, payload]; it is forgotten. */
  take() {
    return this.sent.splice(0).map(({ type, payload }) => [type, payload]);
  }

  /** Where the client says that it is. */
  get since() {
    return new URL(this.url).searchParams.get('since');
  }
}

/**
 * A client on fakes. Its jitter is half of what it may be, and its events are in
 * `log`, as [type, detail].
 */
export function setUp(options = {}) {
  const clock = new FakeClock();
  const fakePage = new FakePage();
  const sockets = [];
  const log = [];
  const client = new ChatClient({
    url: 'ws://relay.test/api/ws',
    WebSocket: class extends ChatSocket {
      constructor(url) {
        super(url);
        sockets.push(this);
      }
    },
    fetch: () => Promise.reject(new TypeError('nobody there')),
    random: () => 0.5,
    clock,
    page: fakePage,
    ...options,
  });
  for (const type of ['open', 'message', 'history', 'reset', 'gap', 'presence', 'typing', 'error', 'reconnecting', 'close', 'state']) {
    client.addEventListener(type, (event) => log.push([type, event.detail]));
  }
  return {
    client,
    clock,
    page: fakePage,
    sockets,
    log,
    get socket() {
      return sockets.at(-1);
    },
    /** The details of all events of one type. */
    events: (type) => log.filter(([t]) => t === type).map(([, detail]) => detail),
    /** What the messages that were handed on say. */
    heard: () => log.filter(([t]) => t === 'message' || t === 'gap').map(([t, d]) => (t === 'gap' ? 'gap' : d.message.content)),
    /** What a room holds. */
    holds: (roomId = '7') => client.rooms.get(roomId).messages.map(({ content }) => content),
    /** Starts the client and greets it. */
    open(rooms, me) {
      client.connect();
      sockets.at(-1).hello(rooms, me);
      return sockets.at(-1);
    },
    /** The connection is lost, and the next one dialled. */
    lose(code = 1006) {
      sockets.at(-1).die(code);
      clock.advance(log.findLast(([type]) => type === 'reconnecting')[1].delay);
      return sockets.at(-1);
    },
  };
}

/** `m1` and so on, from one to another number. */
export function contents(from, to) {
  return Array.from({ length: to - from + 1 }, (_, i) => `m${from + i}`);
}
