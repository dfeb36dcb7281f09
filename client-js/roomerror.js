/** Why something about a relay room was refused or not done. */

import { ParleyError } from './link.js';

/**
 * Why something was refused or not done, as `code`. From the relay:
 * - REFUSED: a wrong id or secret, a full room, not the host, no such client...;
 *   `message` says which.
 * - STILL_CONNECTED: the client that would come back has not gone, as far as the
 *   relay knows.
 * - TOO_BIG, RATE: what was relayed is too long, or too much at once.
 * - FAILED: the relay could not do it; it may have happened all the same.
 * - GAP: what was relayed in the room may be missing here.
 * - NO_ROOM, UNAUTHORIZED, UNAVAILABLE: answers of the HTTP API.
 *
 * From this side:
 * - OFFLINE: there is no connection, or it ended before this was written; nothing
 *   happened.
 * - UNKNOWN: written, and the connection ended before the answer: it may have
 *   happened or not.
 * - NOT_HOST, IS_HOST: only the host may, or may not; not sent.
 * - CLOSED: the client has left.
 * - NO_WEBSOCKET: this runtime has none, and none was handed in.
 * - INVALID: no id, no secret, no data; not sent.
 * - NETWORK: no HTTP answer; not known whether the request arrived.
 * - BAD_ANSWER: the HTTP answer is none of the API: no relay, or one without rooms.
 *
 * `message` is safe to show.
 */
export class RoomError extends ParleyError {
  /**
   * @param {string} code
   * @param {string} message
   * @param {number} [status]
   * @param {number | null} [wait]
   */
  constructor(code, message, status = 0, wait = null) {
    super(code, message);
    this.name = 'RoomError';
    /** The HTTP status that the relay named; 0: it comes from this side. @readonly */
    this.status = status;
    /** How long the relay asks to wait before the next try, in ms; null: it does not say. @readonly */
    this.retryAfter = wait;
  }
}

/** Codes of the relay's statuses. @type {Record<number, string>} */
const codes = { 401: 'UNAUTHORIZED', 404: 'NO_ROOM', 413: 'TOO_BIG', 429: 'RATE', 500: 'FAILED', 503: 'UNAVAILABLE' };

/**
 * What the relay says in an answer.
 * @param {number} status
 * @param {string} message
 * @param {number | null} [wait]
 */
export function errorOf(status, message, wait = null) {
  return new RoomError(codes[status] ?? 'REFUSED', message || `status ${status}`, status, wait);
}

/**
 * What the relay says in a frame. Where one status means different things that a
 * client has to tell apart, the message does.
 * @param {number} status
 * @param {string} message
 */
export function complaintOf(status, message) {
  if (status === 400 && /\bconnected\b/.test(message) && !/\bnot\b/.test(message)) return new RoomError('STILL_CONNECTED', message, status);
  if (status === 500 && /may be missing/.test(message)) return new RoomError('GAP', message, status);
  return errorOf(status, message);
}
