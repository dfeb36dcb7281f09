/**
 * One WebSocket connection, whatever is spoken on it: the time its greeting may
 * take, how it is given up, and its end. Link in link.js speaks Texto on it,
 * ChatLink in chatlink.js chat, RelayLink in relaylink.js that of relay rooms.
 */

/**
 * As much of a WebSocket as the clients use.
 * @typedef {object} SocketLike
 * @property {number} readyState
 * @property {any} [binaryType]  Set to "arraybuffer" where frames are bytes.
 * @property {(data: any) => void} send  A string, or bytes where frames are such.
 * @property {(code?: number) => void} close
 * @property {(type: "open" | "message" | "close" | "error", listener: (event: any) => void) => void} addEventListener
 */

/**
 * @typedef {object} Clock
 * @property {(run: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} now  Milliseconds since the epoch.
 */

/** The timers that everybody has. @type {Clock} */
export const systemClock = {
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  now: () => Date.now(),
};

/** Close codes that decide what comes next. */
export const CloseCode = Object.freeze({
  normal: 1000,
  abnormal: 1006,
  /** Texto: a flood. Chat: no session, or one that has ended. */
  policy: 1008,
  tooBig: 1009,
  restart: 1012,
  tryLater: 1013,
  takenOver: 4001,
  /** Relay rooms: the host has sent this client away. */
  kicked: 4002,
  /** Relay rooms: the room is no more. */
  roomClosed: 4003,
});

/** WebSocket.OPEN, which an implementation handed in need not have. */
const OPEN = 1;

/**
 * A connection, from dialling until it has ended. It is used once. What speaks
 * on it overrides `hear`, `settle` and `lost`.
 */
export class Connection {
  /** Whether the WebSocket handshake succeeded. */
  shaken = false;
  /** When the greeting came; null until then. @type {number | null} */
  since = null;
  /** Frames that came in. */
  heard = 0;
  /** What the relay complained of last: why the connection ended, when its close does not say. */
  complaint = '';

  // Fixed after construction.
  /** @type {SocketLike} */ #socket;
  /** @type {Clock} */ #clock;
  /** @type {number} */ #timeout;

  #ended = false;
  /** The timer that the greeting has to beat. @type {any} */ #deadline;

  /**
   * @param {SocketLike} socket  Just made, and of this connection alone from here on.
   * @param {Clock} clock
   * @param {number} timeout  How long the greeting may take, in ms.
   */
  constructor(socket, clock, timeout) {
    this.#socket = socket;
    this.#clock = clock;
    this.#timeout = timeout;
    this.expectGreeting();
    socket.addEventListener('open', () => {
      this.shaken = true;
      if (!this.#ended) this.shook();
    });
    socket.addEventListener('message', (event) => {
      if (this.#ended) return;
      this.heard++;
      this.hear(event.data);
    });
    socket.addEventListener('close', (event) => this.#lost(event.code, event.reason));
    // It says nothing that `close` does not, but Node's implementations throw an unheard one.
    socket.addEventListener('error', () => {});
  }

  /** Whether it has ended, from either side. */
  get ended() {
    return this.#ended;
  }

  /** Whether it was greeted, and what is written now can reach the relay. */
  get ready() {
    return this.since !== null && !this.#ended && this.#socket.readyState === OPEN;
  }

  /** From now on the greeting may take its time, whatever it has taken already. */
  expectGreeting() {
    this.#clock.clearTimeout(this.#deadline);
    this.#deadline = this.#clock.setTimeout(() => this.drop('no greeting in time'), this.#timeout);
  }

  /** The greeting has come. */
  greeted() {
    this.#clock.clearTimeout(this.#deadline);
    this.since = this.#clock.now();
  }

  /**
   * Writes a frame. Only while ready.
   * @param {object} frame
   */
  write(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  /**
   * Writes a frame of bytes. Only once shaken.
   * @param {Uint8Array<ArrayBuffer>} frame
   */
  writeBytes(frame) {
    this.#socket.send(frame);
  }

  /** Ends the connection from this side, which `lost` is not told. */
  close() {
    if (this.#ended) return;
    this.#socket.close(CloseCode.normal);
    this.#end(CloseCode.normal, '');
  }

  /**
   * Gives up a connection that does not answer.
   * @param {string} reason
   */
  drop(reason) {
    if (this.#ended) return;
    this.#socket.close();
    this.#lost(CloseCode.abnormal, reason);
  }

  /** The WebSocket handshake has succeeded. */
  shook() {}

  /**
   * Takes a frame; not after the end.
   * @param {unknown} _raw
   */
  hear(_raw) {}

  /**
   * Settles what waits for an answer: the connection has ended, by either side.
   * @param {number} _code
   * @param {string} _reason
   */
  settle(_code, _reason) {}

  /**
   * The connection has ended, not by `close()`, and all is settled.
   * @param {number} _code
   * @param {string} _reason
   */
  lost(_code, _reason) {}

  /**
   * @param {number} code
   * @param {string} reason
   */
  #lost(code, reason) {
    if (this.#ended) return;
    reason ||= this.complaint;
    this.#end(code, reason);
    this.lost(code, reason);
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #end(code, reason) {
    this.#ended = true;
    this.#clock.clearTimeout(this.#deadline);
    this.settle(code, reason);
  }
}

/**
 * The members of a JSON object that are strings.
 * @param {unknown} value
 * @returns {Record<string, string | undefined>}
 */
export function strings(value) {
  return Object.fromEntries(Object.entries(value ?? {}).filter(([, member]) => typeof member === 'string'));
}
