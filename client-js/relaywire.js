/**
 * The messages of relay rooms as bytes: Protocol Buffers (proto3), as much of them
 * as these messages need. Fields that are not known, or have another wire type than
 * expected, are skipped; bytes that are no message are a WireError.
 */

/** Bytes that are no message. */
export class WireError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = 'WireError';
  }
}

/** What a frame is: requests of clients up to grantHost, then what the relay says. */
export const Flag = Object.freeze({
  relayMessage: 0,
  connect: 1,
  reconnect: 2,
  list: 3,
  kick: 4,
  grantHost: 5,
  relayed: 6,
  connected: 7,
  assignHost: 8,
  beginHostMigrate: 9,
  finishHostMigrate: 10,
  listed: 11,
  kicked: 12,
  error: 13,
  clientConnect: 14,
  clientDisconnect: 15,
});

/** Whom a client relays to. */
export const RelayType = Object.freeze({ broadcast: 0, target: 1, host: 2 });

/** How a field is written. An optional one is undefined where it is not there; the others have their zero. @typedef {"int32" | "bool" | "string" | "bytes" | "optional int32" | Message<any>} Kind */

/** Wire types, the low three bits of a tag. */
const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const GROUP = 3;
const GROUP_END = 4;
const FIXED32 = 5;

/** The most bytes of a varint. */
const VARINT_BYTES = 10;

/** Groups in groups that are skipped; more are no message that anybody means. */
const GROUP_DEPTH = 100;

/**
 * A type of message: how values of T are written. A field of the kind of another
 * message is repeated.
 * @template {object} T
 */
export class Message {
  /** By number. @type {Map<number, {name: string, kind: Kind}>} */ #fields;

  /** @param {Record<string, [number: number, kind: Kind]>} fields  By name. */
  constructor(fields) {
    this.#fields = new Map(Object.entries(fields).map(([name, [number, kind]]) => [number, { name, kind }]));
  }

  /**
   * The bytes of a value. Fields that are zero or empty are left out, as proto3 has it.
   * @param {T} value
   * @returns {Uint8Array<ArrayBuffer>}
   */
  encode(value) {
    /** @type {Array<number[] | Uint8Array>} */
    const parts = [];
    for (const [number, { name, kind }] of this.#fields) {
      const field = /** @type {any} */ (value)[name];
      if (kind === 'optional int32') {
        if (field !== undefined) parts.push([number << 3 | VARINT], varint(field));
      } else if (kind === 'int32' || kind === 'bool') {
        if (Number(field) !== 0) parts.push([number << 3 | VARINT], varint(Number(field)));
      } else {
        const all = kind instanceof Message ? field.map((/** @type {any} */ one) => kind.encode(one))
          : [kind === 'string' ? new TextEncoder().encode(field) : field].filter(({ length }) => length > 0);
        for (const bytes of all) parts.push([number << 3 | DELIMITED], varint(bytes.length), bytes);
      }
    }
    const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }

  /**
   * The value that bytes are of. What it holds of them is copied.
   * @param {Uint8Array} bytes
   * @returns {T}
   * @throws {WireError}
   */
  decode(bytes) {
    /** @type {Record<string, any>} */
    const value = {};
    for (const { name, kind } of this.#fields.values()) value[name] = zero(kind);
    const reader = new Reader(bytes);
    while (!reader.done) {
      const { number, type } = reader.tag();
      const { name, kind } = this.#fields.get(number) ?? { name: '', kind: undefined };
      const wanted = kind === 'int32' || kind === 'optional int32' || kind === 'bool' ? VARINT : DELIMITED;
      if (kind === undefined || type !== wanted) {
        reader.skip(number, type);
      } else if (kind === 'bool') {
        const { low, beyond } = reader.varint();
        value[name] = low !== 0 || beyond;
      } else if (type === VARINT) {
        value[name] = reader.varint().low; // of a longer one the low 32 bits count
      } else {
        const part = reader.delimited();
        if (kind instanceof Message) value[name].push(kind.decode(part));
        else value[name] = kind === 'string' ? text(part) : new Uint8Array(part);
      }
    }
    return /** @type {T} */ (value);
  }
}

/** Bytes, read from front to back. */
class Reader {
  #bytes;
  #at = 0;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
  }

  get done() {
    return this.#at === this.#bytes.length;
  }

  tag() {
    const { low, beyond } = this.varint();
    const number = low >>> 3;
    if (beyond || number === 0) throw new WireError('a field has no valid number');
    return { number, type: low & 7 };
  }

  /** A varint's low 32 bits, with their sign, and whether there are ones beyond them. */
  varint() {
    let low = 0;
    let beyond = false;
    for (let i = 0; i < VARINT_BYTES; i++) {
      const byte = this.#take(1)[0];
      const bits = byte & 0x7f;
      if (i < 5) low |= bits << 7 * i; // of the fifth the shift drops what is beyond
      if (i === 4 ? bits > 0x0f : i > 4 && bits > 0) beyond = true;
      if (i === VARINT_BYTES - 1 && byte > 1) break; // more than 64 bits
      if (byte < 0x80) return { low, beyond };
    }
    throw new WireError('a number is too long');
  }

  delimited() {
    const { low, beyond } = this.varint();
    if (beyond || low < 0) throw new WireError('a field is longer than the message');
    return this.#take(low);
  }

  /**
   * Passes over a field whose tag was read.
   * @param {number} number
   * @param {number} type
   * @param {number} [depth]  Groups around it.
   */
  skip(number, type, depth = 0) {
    switch (type) {
      case VARINT:
        this.varint();
        return;
      case FIXED64:
        this.#take(8);
        return;
      case DELIMITED:
        this.delimited();
        return;
      case FIXED32:
        this.#take(4);
        return;
      case GROUP:
        if (depth === GROUP_DEPTH) throw new WireError('groups are nested too deeply');
        for (let tag = this.tag(); tag.type !== GROUP_END || tag.number !== number; tag = this.tag()) {
          this.skip(tag.number, tag.type, depth + 1);
        }
        return;
      default: // the end of a group that did not begin, or nothing that there is
        throw new WireError(`a field has the wire type ${type}`);
    }
  }

  /** @param {number} length */
  #take(length) {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new WireError('the message ends in the middle of a field');
    const part = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return part;
  }
}

/**
 * @param {Kind} kind
 * @returns {unknown}
 */
function zero(kind) {
  switch (kind) {
    case 'int32': return 0;
    case 'bool': return false;
    case 'string': return '';
    case 'bytes': return new Uint8Array();
    case 'optional int32': return undefined;
    default: return [];
  }
}

/**
 * The bytes of a 32-bit number as a varint of 64 bits, which is how an int32 below 0
 * is written: ten bytes, the sign in all that are beyond.
 * @param {number} value
 */
function varint(value) {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(value | 0));
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return bytes;
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @param {Uint8Array} bytes */
function text(bytes) {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new WireError('a text is not UTF-8');
  }
}

// The messages. Ids and secrets are int32.

/** A frame: what it is, and the message of that. @type {Message<{flag: number, data: Uint8Array}>} */
export const Payload = new Message({ flag: [1, 'int32'], data: [2, 'bytes'] });

/** @type {Message<{code: number, message: string}>} */
export const Failure = new Message({ code: [1, 'int32'], message: [2, 'string'] });

/** @type {Message<{roomId: number, roomSecret: number}>} */
export const JoinRequest = new Message({ roomId: [1, 'int32'], roomSecret: [2, 'int32'] });

/** @type {Message<{roomId: number, roomSecret: number, clientId: number, clientSecret: number}>} */
export const RejoinRequest = new Message({
  roomId: [1, 'int32'], roomSecret: [2, 'int32'], clientId: [3, 'int32'], clientSecret: [4, 'int32'],
});

/** @type {Message<{id: number, secret: number}>} */
export const Client = new Message({ id: [1, 'int32'], secret: [2, 'int32'] });

/** A client as others see it. @typedef {{id: number, host: boolean}} RoomMember */

/** @type {Message<RoomMember>} */
export const Member = new Message({ id: [1, 'int32'], host: [2, 'bool'] });

/** @type {Message<{list: RoomMember[]}>} */
export const MemberList = new Message({ list: [1, Member] });

/** Of a kick, its answer, a grant, and a host's assignment: whom it is about. @type {Message<{id: number}>} */
export const Subject = new Message({ id: [1, 'int32'] });

/** @type {Message<{type: number, target: number | undefined, data: Uint8Array}>} */
export const Relay = new Message({ type: [1, 'int32'], target: [2, 'optional int32'], data: [3, 'bytes'] });
