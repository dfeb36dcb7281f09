/** Why something that a pull client has asked for was refused or not done. */

import { ParleyError } from './link.js';

/**
 * Why something was refused or not done, as `code`. From the relay: BAD_REQUEST,
 * UNAUTHORIZED (no session, or it has ended), LOGIN_FAILED, FORBIDDEN, NOT_FOUND,
 * METHOD_NOT_ALLOWED, USERNAME_TAKEN, EMAIL_TAKEN, GROUP_TAKEN, TOO_MANY (friends,
 * members, groups), TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, TOO_MANY_REQUESTS, INTERNAL (it
 * may have been done), UNAVAILABLE (it may have been done). From this side:
 * - NETWORK: no answer; not known whether the request arrived.
 * - BAD_ANSWER: the answer is none of the protocol: no relay, or one without this.
 * - INVALID: what was handed in cannot be asked for; not sent.
 * - HANDLER: of the event `error` alone: a listener was rejected; `cause` is why.
 *
 * `message` is safe to show.
 */
export class PullError extends ParleyError {
  /**
   * @param {string} code
   * @param {string} message
   * @param {number} [status]
   * @param {number | null} [wait]
   */
  constructor(code, message, status = 0, wait = null) {
    super(code, message);
    this.name = 'PullError';
    /** The HTTP status of the answer; 0: there was none. @readonly */
    this.status = status;
    /** How long the relay asks to wait before the next try, in ms; null: it does not say. @readonly */
    this.retryAfter = wait;
  }
}

/** Codes of statuses that a balancer may answer by itself, without a code. @type {Record<number, string>} */
const codes = {
  401: 'UNAUTHORIZED', 413: 'TOO_LARGE', 429: 'TOO_MANY_REQUESTS', 502: 'UNAVAILABLE', 503: 'UNAVAILABLE', 504: 'UNAVAILABLE',
};

/**
 * What an answer that is no success says.
 * @param {number} status
 * @param {any} body  What it holds; null when that is no JSON.
 * @param {number | null} wait  Its Retry-After in ms.
 */
export function refusalOf(status, body, wait) {
  const { code, message } = body?.error ?? {};
  if (typeof code === 'string' && code !== '') {
    return new PullError(code.toUpperCase(), typeof message === 'string' && message !== '' ? message : code, status, wait);
  }
  return codes[status] ? new PullError(codes[status], `the relay answered with HTTP status ${status}`, status, wait) : badAnswer(`HTTP status ${status}`, status, wait);
}

/**
 * @param {string} what
 * @param {number} [status]
 * @param {number | null} [wait]
 */
export function badAnswer(what, status = 0, wait = null) {
  return new PullError('BAD_ANSWER', `the relay answered with what is no answer of this protocol (${what})`, status, wait);
}
