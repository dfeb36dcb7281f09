/**
 * Fakes for the tests of the SDK: time that passes when told to, a relay whose
 * every frame is scripted, a page whose events are fired by hand.
 */

import { webcrypto } from 'node:crypto';
import { TextoClient } from '../parley.js';

// The tests also run on the Node 18 of Debian 12, which lacks two globals of every browser.
globalThis.crypto ??= webcrypto;
globalThis.CustomEvent ??= class extends Event {
  constructor(type, { detail }) {
    super(type);
    this.detail = detail;
  }
};

/** The addresses of the tests. */
export const ME = '11111111-1111-4111-8111-111111111111';
export const YOU = '22222222-2222-4222-8222-222222222222';

/** Time that passes in `advance` only. */
export class FakeClock {
  #now = 1_700_000_000_000;
  #next = 1;
  #timers = new Map();

  now = () => this.#now;

  setTimeout = (run, ms) => {
    const id = this.#next++;
    this.#timers.set(id, { run, at: this.#now + ms });
    return id;
  };

  clearTimeout = (id) => {
    this.#timers.delete(id);
  };

  /** How many timers are set. */
  get size() {
    return this.#timers.size;
  }

  /** Lets ms pass and runs what falls due, in order of time. */
  advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      const [id, timer] = [...this.#timers].filter(([, { at }]) => at <= end)
        .sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (!timer) break;
      this.#timers.delete(id);
      this.#now = Math.max(this.#now, timer.at);
      timer.run();
    }
    this.#now = end;
  }
}

/** A WebSocket of which the test is the other end. */
export class FakeSocket extends EventTarget {
  readyState = 0;
  /** The frames that the client wrote, decoded. */
  sent = [];
  /** The code that the client closed it with, null for none, undefined while it has not. */
  closedWith = undefined;

  constructor(url) {
    super();
    this.url = url;
  }

  send(data) {
    if (this.readyState !== 1) throw new Error(`send in readyState ${this.readyState}`);
    this.sent.push(JSON.parse(data));
  }

  close(code = null) {
    this.readyState = 2;
    this.closedWith = code;
  }

  /** The handshake succeeds. */
  shake() {
    this.readyState = 1;
    this.dispatchEvent(new Event('open'));
  }

  /** The handshake succeeds and the greeting comes, with what more it says. */
  greet(clientId = ME, node = 'n1', more = {}) {
    this.shake();
    this.tell('greeting', { node, ...more }, clientId);
  }

  /** A `connection` message comes. */
  tell(id, data, clientId = ME) {
    this.say({ kind: 'connection', id, client_id: clientId, data: { client_id: clientId, ...data } });
  }

  /** A message from another client comes. */
  receive(id, text = id) {
    this.say({ kind: 'receive', id, client_id: ME, data: { sender_id: YOU, text } });
  }

  /** A frame comes: an object is encoded, anything else comes as it is. */
  say(frame) {
    const data = typeof frame === 'object' && !(frame instanceof ArrayBuffer) ? JSON.stringify(frame) : frame;
    this.dispatchEvent(Object.assign(new Event('message'), { data }));
  }

  /** The answer to the nth frame that the client wrote. */
  ack(n) {
    this.say({ kind: 'ack', id: this.sent[n].id, client_id: ME, data: null });
  }

  refuse(n, code, description = code) {
    this.say({ kind: 'error', id: this.sent[n].id, client_id: ME, data: { code, description } });
  }

  /** The connection ends, not by the client. */
  die(code = 1006, reason = '') {
    this.readyState = 3;
    this.dispatchEvent(new Event('error'));
    this.dispatchEvent(Object.assign(new Event('close'), { code, reason }));
  }
}

/** A target of events that tells how many listeners it has. */
class FakeTarget {
  #listeners = new Set();

  addEventListener(type, listener) {
    this.#listeners.add(listener);
  }

  removeEventListener(type, listener) {
    this.#listeners.delete(listener);
  }

  get count() {
    return this.#listeners.size;
  }

  /** Calls the listeners; a fake knows one type of event only. */
  fire() {
    for (const listener of this.#listeners) listener();
  }
}

/** A page: fire it for `online`, and its document for `visibilitychange`. */
export class FakePage extends FakeTarget {
  document = Object.assign(new FakeTarget(), { visibilityState: 'visible' });
}

/**
 * A client on fakes. Its jitter is half of what it may be, and its events are
 * in `log`, as [type, detail].
 */
export function setUp(options = {}) {
  const clock = new FakeClock();
  const page = new FakePage();
  const sockets = [];
  const log = [];
  const client = new TextoClient({
    url: 'ws://relay.test/v1/texto',
    WebSocket: class extends FakeSocket {
      constructor(url) {
        super(url);
        sockets.push(this);
      }
    },
    fetch: null,
    random: () => 0.5,
    clock,
    page,
    ...options,
  });
  for (const type of ['open', 'message', 'gap', 'session', 'reconnecting', 'close', 'state']) {
    client.addEventListener(type, (event) => log.push([type, event.detail]));
  }
  return {
    client,
    clock,
    page,
    sockets,
    log,
    /** The latest connection. */
    get socket() {
      return sockets.at(-1);
    },
    /** The details of all events of one type. */
    events: (type) => log.filter(([t]) => t === type).map(([, detail]) => detail),
    /** Starts the client and greets it. */
    open() {
      client.connect();
      sockets.at(-1).greet();
      return sockets.at(-1);
    },
  };
}

/** Lets everything run that waits for promises which are settled already. */
export function settled() {
  return new Promise((resolve) => { setImmediate(resolve); });
}

/** How a promise stands: "pending", "fulfilled", or the code of its error. */
export async function outcome(promise) {
  const pending = settled().then(() => 'pending');
  return Promise.race([promise.then(() => 'fulfilled', (error) => error.code ?? String(error)), pending]);
}
