/**
 * A small fleet of relay nodes in one process: Texto v1 as far as the SDK and
 * the sample app see it, with nodes that can be killed, started again on their
 * port, and made to refuse.
 */

import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

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
  ...['parley.js', 'link.js'].map((name) => [`/${name}`, new URL(`../${name}`, import.meta.url)]),
  ...readdirSync(new URL('../app/', import.meta.url)).map((name) => [`/${name}`, new URL(`../app/${name}`, import.meta.url)]),
]);
FILES.set('/', FILES.get('/index.html'));

/** The nodes share the clients, as the nodes of a fleet share a Redis. */
export class Fleet {
  /** Sockets by address. */
  clients = new Map();
  /** What the clients acknowledged, as [address, id]. */
  acknowledged = [];

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
        this.#sockets.handleUpgrade(request, socket, head, (websocket) => this.#greet(websocket));
      }
    });
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Ends at once, with all its connections, as a process that is killed. */
  async kill() {
    for (const socket of this.#sockets.clients) socket.terminate();
    const closed = new Promise((resolve) => { this.server.close(resolve); });
    this.server.closeAllConnections();
    await closed;
  }

  /** Closes every connection with a code, and stays. */
  hangUp(code, reason = '') {
    for (const socket of this.#sockets.clients) socket.close(code, reason);
  }

  async #serve(request, response) {
    const { pathname } = new URL(request.url, 'http://node');
    if (pathname === '/v1/texto') {
      const { status, retryAfter } = this.refusal ?? { status: 426 };
      response.writeHead(status, retryAfter === undefined ? {} : { 'Retry-After': retryAfter }).end();
      return;
    }
    const file = FILES.get(pathname);
    if (!file) {
      response.writeHead(404).end();
      return;
    }
    const type = TYPES[file.pathname.split('.').pop()];
    response.writeHead(200, { 'Content-Type': `${type}; charset=utf-8`, 'Content-Security-Policy': CSP });
    response.end(await readFile(file));
  }

  #greet(socket) {
    const address = randomUUID();
    this.fleet.clients.set(address, socket);
    socket.on('close', () => this.fleet.clients.delete(address));
    socket.on('message', (raw) => this.#hear(socket, address, JSON.parse(raw)));
    write(socket, address, randomUUID(), 'connection', { client_id: address, node: this.name });
  }

  #hear(socket, address, { id, kind, data }) {
    if (kind === 'registration') {
      write(socket, address, id, 'connection', { client_id: address, node: this.name });
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
      const receiver = this.fleet.clients.get(data.receiver_id.toLowerCase());
      if (receiver) write(receiver, data.receiver_id, randomUUID(), 'receive', { sender_id: address, text: data.text });
    }
  }
}

function write(socket, address, id, kind, data) {
  socket.send(JSON.stringify({ client_id: address, id, kind, data }));
}
