/** The chat of the small fleet: accounts, sessions, rooms with history, and who is here, shared by its nodes. */

import { randomUUID } from 'node:crypto';
import { compareIds } from '../room.js';

const PAGE = 100;

/** The rooms that a relay has unless it is told otherwise are of no matter here. */
const ROOMS = [['harbour', 'Harbour'], ['mill', 'Mill'], ['attic', 'Attic']];

/** The longest content, in bytes. */
const CONTENT_LIMIT = 65_536;

export class Chat {
  /** By email, in lower case: {user, password}. */
  accounts = new Map();
  /** Users by session id. */
  sessions = new Map();
  /** By id; messages oldest first. */
  rooms = new Map(ROOMS.map(([id, name]) => [id, { id, name, messages: [] }]));
  /** Sockets that were greeted: {sid, user, presence}. */
  clients = new Map();
  /** Told of sessions that have ended. @type {(sid: string) => void} */
  onEnd = () => {};
  /** When set, history waits for it. @type {Promise<void> | null} */
  slowly = null;
  #lastId = 0;

  /** Answers a request for /api/...; false when there is no such path. */
  serve(request, response, pathname) {
    const action = { '/api/create-account': this.#create, '/api/login': this.#login, '/api/logout': this.#logout }[pathname];
    if (!action) return false;
    if (request.method !== 'POST') {
      response.writeHead(405).end();
      return true;
    }
    let body = '';
    request.setEncoding('utf8').on('data', (part) => { body += part; }).on('end', () => {
      try {
        action.call(this, request, response, body && JSON.parse(body));
      } catch {
        refuse(response, 'BAD_REQUEST');
      }
    });
    return true;
  }

  #create(request, response, { username, email, password }) {
    if ([...username].length < 4 || [...password].length < 10 || !/^\S+@\S+$/.test(email)) return refuse(response, 'BAD_REQUEST');
    const all = [...this.accounts.values()];
    if (this.accounts.has(email.toLowerCase())) return refuse(response, 'EMAIL_EXISTS');
    if (all.some(({ user }) => user.username === username)) return refuse(response, 'USERNAME_EXISTS');
    const user = { id: all.length + 1, username };
    this.accounts.set(email.toLowerCase(), { user, password });
    return this.#begin(response, user);
  }

  #login(request, response, { email, password }) {
    const account = this.accounts.get(email.toLowerCase());
    if (account?.password !== password) return refuse(response, 'LOGIN_FAILED');
    return this.#begin(response, account.user);
  }

  #begin(response, user) {
    const sid = randomUUID();
    this.sessions.set(sid, user);
    response.writeHead(204, { 'Set-Cookie': `sid=${sid}; HttpOnly; SameSite=Strict; Path=/` }).end();
  }

  #logout(request, response) {
    const ended = sidOf(request);
    this.sessions.delete(ended);
    this.onEnd(ended);
    response.writeHead(204, { 'Set-Cookie': 'sid=; Max-Age=0; Path=/' }).end();
    for (const [socket, { sid }] of this.clients) if (sid === ended) socket.close(1008, 'signed out');
  }

  /** A connection to /api/ws. */
  greet(socket, request) {
    const sid = sidOf(request);
    const user = this.sessions.get(sid);
    if (!user) {
      socket.close(1008, 'sign in first');
      return;
    }
    const query = new URL(request.url, 'http://node').searchParams;
    const since = new Map((query.get('since') ?? '').split(',').map((part) => part.split(':')));
    const arrived = !this.#isHere(user);
    this.clients.set(socket, { sid, user, presence: query.get('presence') === '1' });
    const online = [...new Map([...this.clients.values()].map((client) => [client.user.id, client.user])).values()];
    say(socket, 'hello', {
      me: user,
      rooms: [...this.rooms.values()].map((room) => ({
        id: room.id, name: room.name, online, ...since.has(room.id) ? this.#after(room, since.get(room.id)) : page(room.messages),
      })),
    });
    if (arrived) this.#tellPresence(user, true, socket);
    socket.on('close', () => {
      this.clients.delete(socket);
      if (!this.#isHere(user)) this.#tellPresence(user, false);
    });
    socket.on('message', (raw) => this.#hear(socket, user, JSON.parse(raw)));
  }

  async #hear(socket, user, { type, payload }) {
    const { roomId } = payload;
    const room = this.rooms.get(roomId);
    const fail = (code) => say(socket, 'error', { code, message: `refused: ${code}`, roomId: roomId ?? null });
    if (type === 'resume') {
      for (const [id, last] of Object.entries(payload.rooms)) {
        say(socket, 'roomHistory', { roomId: id, ...this.#after(this.rooms.get(id), last) });
      }
    } else if (!room) {
      fail('UNKNOWN_ROOM');
    } else if (type === 'clientMessages') {
      const contents = payload.messages.map(({ content }) => content);
      if (contents.some((content) => Buffer.byteLength(content) > CONTENT_LIMIT)) fail('MESSAGE_TOO_LONG');
      else this.store(roomId, user, contents);
    } else if (type === 'requestRoomHistory') {
      await this.slowly;
      const at = room.messages.findIndex(({ id }) => compareIds(id, payload.firstMessageId) >= 0);
      say(socket, 'roomHistory', { roomId, ...page(room.messages.slice(0, at < 0 ? undefined : at)) });
    } else if (type === 'typing') {
      for (const [other, { presence }] of this.clients) if (presence && other !== socket) say(other, 'typing', { roomId, user });
    }
  }

  /** Stores messages and tells all clients. */
  store(roomId, user, contents) {
    const messages = contents.map((content) => {
      this.#lastId = Math.max(this.#lastId + 1, Date.now());
      return { id: `${this.#lastId}-0`, content, user, timestamp: Date.now() };
    });
    this.rooms.get(roomId).messages.push(...messages);
    for (const socket of this.clients.keys()) say(socket, 'serverMessages', { roomId, messages });
  }

  #after(room, last) {
    const missed = room.messages.filter(({ id }) => compareIds(id, last) > 0);
    return { ...page(missed), hasMoreMessages: room.messages.length > Math.min(missed.length, PAGE), recovered: true };
  }

  #isHere({ id }) {
    return [...this.clients.values()].some(({ user }) => user.id === id);
  }

  #tellPresence(user, online, except) {
    for (const [socket, { presence }] of this.clients) {
      for (const roomId of this.rooms.keys()) if (presence && socket !== except) say(socket, 'presence', { roomId, user, online });
    }
  }
}

/** The newest of some messages, newest first. */
function page(messages) {
  return { messages: messages.slice(-PAGE).reverse(), hasMoreMessages: messages.length > PAGE };
}

function sidOf(request) {
  return /(?:^|; )sid=([^;]+)/.exec(request.headers.cookie ?? '')?.[1];
}

function say(socket, type, payload) {
  socket.send(JSON.stringify({ type, payload }));
}

function refuse(response, code) {
  response.writeHead(400, { 'Content-Type': 'application/json' }).end(JSON.stringify({ id: code, message: `refused: ${code}` }));
}
