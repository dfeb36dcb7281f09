/**
 * A small fleet of relay nodes in one process: Texto v1, chat, relay rooms, and people by pull, as far as the
 * SDK and the sample app see them, sessions that are resumed included, with nodes
 * that can be killed, started again on their port, and made to refuse.
 */

import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { Chat } from './chatfleet.js';
import { Pulls } from './pullfleet.js';
import { RelayRooms } from './relayfleet.js';

/** What the page may do: nothing but what it was served with. */
const CSP = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
  "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
].join('; ');

/** The limits of a relay: messages at once, how many ms until there is room for one more, bytes of a text. */
const BURST = 200;
const REFILL = 20;
const MESSAGE_LIMIT = 65_536;

const TYPES = { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' };

/** What is served, by path: the SDK and the app beside each other. */
const FILES = new Map([
  ...readdirSync(new URL('../', import.meta.url)).filter((name) => name.endsWith('.js')).map((name) => [`/${name}`, new URL(`../${name}`, import.meta.url)]),
  ...readdirSync(new URL('../app/', import.meta.url)).map((name) => [`/${name}`, new URL(`../app/${name}`, import.meta.url)]),
]);
FILES.set('/', FILES.get('/index.html'));

/** One client's session: who holds it, and what was sent to it. */
class Session {
  /** The connection that holds it, or null. */
  socket = null;
  /** Whether that one came with a token, and what it was told: undefined, true or false. */
  recovered = undefined;
  /** All messages to it, oldest first. */
  kept = [];
  /** The history that places are of; it changes when messages are lost. */
  epoch = 1;

  constructor(address) {
    this.address = address;
  }
}

/** The nodes share the sessions, as the nodes of a fleet share a Redis. */
export class Fleet {
  /** By address. */
  sessions = new Map();
  /** False: a fleet that keeps no messages. */
  keeps = true;
  /** Tokens of other secrets are refused. */
  secret = randomUUID();
  /** What the clients acknowledged, as [address, id]. */
  acknowledged = [];
  chat = new Chat();
  rooms = new RelayRooms();
  pulls = new Pulls(this.chat);

  /** Resumes a session from a place on. */
  token({ address, epoch }, place) {
    return Buffer.from(JSON.stringify([this.secret, address, epoch, place])).toString('base64url');
  }

  /** The session of a token with its epoch and place, or null. */
  read(token) {
    try {
      const [secret, address, epoch, place] = JSON.parse(Buffer.from(token, 'base64url'));
      const session = this.sessions.get(address);
      return secret === this.secret && session ? { session, epoch, place } : null;
    } catch {
      return null;
    }
  }

  /** Loses everything that was kept, and tells each client. */
  forget() {
    for (const session of this.sessions.values()) {
      session.kept = [];
      session.epoch++;
      if (session.socket) write(session.socket, session.address, randomUUID(), 'connection', this.describe(session, { recovered: false }));
    }
  }

  /** The data of a `connection` message, with a token of this moment unless another is given. */
  describe(session, more) {
    return { client_id: session.address, resume: this.token(session, session.kept.length), ...more };
  }

  /** Starts a node on a loopback port; 0 picks one. */
  async start(name, port = 0) {
    const node = new Node(this, name);
    await new Promise((resolve, reject) => {
      node.server.once('error', reject).listen(port, '127.0.0.1', resolve);
    });
    node.port = node.server.address().port;
    return node;
  }
}

class Node {
  /** Where it listens, also once it has been killed. */
  port = 0;
  /** When set, new connections are refused with this: {status, retryAfter}. */
  refusal = null;
  killed = false;
  /** Whether its clients are asked to go elsewhere. */
  draining = false;
  #sockets = new WebSocketServer({ noServer: true });

  constructor(fleet, name) {
    this.fleet = fleet;
    this.name = name;
    this.server = createServer((request, response) => this.#serve(request, response));
    this.server.on('upgrade', (request, socket, head) => {
      if (this.refusal) {
        const { status, retryAfter } = this.refusal;
        socket.end(`HTTP/1.1 ${status} Refused\r\nRetry-After: ${retryAfter}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
      } else {
        this.#sockets.handleUpgrade(request, socket, head, (websocket) => {
          if (request.url.startsWith('/api/ws')) fleet.chat.greet(websocket, request);
          else if (request.url === '/v1/websocket') fleet.rooms.greet(websocket, this);
          else this.#greet(websocket, request.url);
        });
      }
    });
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Ends at once, with all its connections, as a process that is killed. */
  async kill() {
    this.killed = true;
    for (const socket of this.#sockets.clients) socket.terminate();
    const closed = new Promise((resolve) => { this.server.close(resolve); });
    this.server.closeAllConnections();
    await closed;
  }

  /** Has its polls answered, now and later, as a node that is about to stop. */
  drain() {
    this.draining = true;
    this.fleet.pulls.drain(this);
  }

  /** Closes every connection with a code, and stays. */
  hangUp(code, reason = '') {
    for (const socket of this.#sockets.clients) socket.close(code, reason);
  }

  async #serve(request, response) {
    const { pathname } = new URL(request.url, 'http://node');
    if (pathname === '/v1/texto' || pathname === '/v1/websocket' || pathname === '/api/ws') {
      const { status, retryAfter } = this.refusal ?? { status: 426 };
      response.writeHead(status, retryAfter === undefined ? {} : { 'Retry-After': retryAfter }).end();
      return;
    }
    if (this.fleet.chat.serve(request, response, pathname) || this.fleet.rooms.serve(request, response, pathname)
      || this.fleet.pulls.serve(request, response, this)) return;
    const file = FILES.get(pathname);
    if (!file) {
      response.writeHead(404).end();
      return;
    }
    const type = TYPES[file.pathname.split('.').pop()];
    response.writeHead(200, { 'Content-Type': `${type}; charset=utf-8`, 'Content-Security-Policy': CSP });
    response.end(await readFile(file));
  }

  #greet(socket, url) {
    const query = new URL(url, 'http://node').searchParams;
    const resumed = this.fleet.read(query.get('resume'));
    const session = resumed?.session ?? new Session(randomUUID());
    const { address } = session;
    if (query.has('resume') && !resumed) {
      write(socket, address, randomUUID(), 'error', { code: 'ERESUME', description: 'the session cannot be resumed' });
    }
    this.fleet.sessions.set(address, session);
    session.socket?.close(4001, 'taken over by another connection');
    session.socket = socket;
    socket.on('close', () => { if (session.socket === socket) session.socket = null; });
    socket.on('message', (raw) => this.#hear(socket, session, JSON.parse(raw)));

    session.recovered = resumed ? this.fleet.keeps && resumed.epoch === session.epoch : undefined;
    const handled = session.kept.findIndex(({ id }) => id === query.get('last'));
    const place = handled >= 0 ? handled + 1 : session.recovered ? resumed.place : 0;
    write(socket, address, randomUUID(), 'connection', this.#describe(session, { resume: this.fleet.token(session, place) }));
    for (const { id, data } of session.kept.slice(place)) write(socket, address, id, 'receive', data);
  }

  #describe(session, more = {}) {
    return this.fleet.describe(session, { node: this.name, recovered: session.recovered, ...more });
  }

  #hear(socket, session, { id, kind, data }) {
    const { address } = session;
    if (kind === 'registration') {
      write(socket, address, id, 'connection', this.#describe(session));
    } else if (kind === 'ack') {
      this.fleet.acknowledged.push([address, id]);
    } else if (kind === 'send') {
      const now = Date.now();
      socket.busyUntil = Math.max(socket.busyUntil ?? 0, now) + REFILL;
      const flooded = socket.busyUntil > now + BURST * REFILL;
      if (flooded) socket.busyUntil -= REFILL;
      const code = flooded ? 'ERATE' : Buffer.byteLength(data.text) > MESSAGE_LIMIT ? 'ETOOBIG' : '';
      if (code) {
        write(socket, address, id, 'error', { code, description: `refused: ${code}` });
        return;
      }
      write(socket, address, id, 'ack', null);
      const receiver = this.fleet.sessions.get(data.receiver_id.toLowerCase());
      if (!receiver) return;
      const message = { id: randomUUID(), data: { sender_id: address, text: data.text } };
      if (this.fleet.keeps) receiver.kept.push(message);
      if (receiver.socket) write(receiver.socket, receiver.address, message.id, 'receive', message.data);
    }
  }
}

function write(socket, address, id, kind, data) {
  socket.send(JSON.stringify({ client_id: address, id, kind, data }));
}
