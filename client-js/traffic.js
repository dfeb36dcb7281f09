/** What a chat client wants of one room: messages to be sent, and older ones to be fetched. */

import { ChatError } from './account.js';

/** @import {ChatMessage} from './room.js' */

/** Messages that one call to `sendMessages` may hold: what the relay takes in a frame. */
export const FRAME_LIMIT = 100;

/** Messages that are sent together, and the promise of their sender. */
export class Outgoing {
  /** @type {readonly string[]} */ contents;
  /** @type {(messages: ChatMessage[]) => void} */ resolve;
  /** @type {(error: ChatError) => void} */ reject;
  /** What came in the room since they were written, as many as these. @type {ChatMessage[]} */ #latest = [];

  /**
   * @param {readonly string[]} contents
   * @param {(messages: ChatMessage[]) => void} resolve
   * @param {(error: ChatError) => void} reject
   */
  constructor(contents, resolve, reject) {
    this.contents = contents.map(wellFormed);
    this.resolve = resolve;
    this.reject = reject;
  }

  /**
   * Takes the next message of the room, and returns the messages if that was
   * the last one of these coming back.
   * @param {ChatMessage} message
   * @param {number} me
   */
  back(message, me) {
    this.#latest.push(message);
    if (this.#latest.length > this.contents.length) this.#latest.shift();
    return this.#latest.length === this.contents.length
      && this.#latest.every(({ user, content }, i) => user.id === me && content === this.contents[i]) ? this.#latest : null;
  }
}

/** Someone's wish for older messages, with the promise that they hold. */
export class Wish {
  /** @type {(messages: readonly ChatMessage[]) => void} */ resolve = () => {};
  /** @type {(error: ChatError) => void} */ reject = () => {};
  /** @type {Promise<readonly ChatMessage[]>} */ promise = new Promise((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });
}

/** What waits for its turn in a room, and what is under way there. */
export class Traffic {
  /** Never written to any connection. @type {Outgoing[]} */ queue = [];
  /** Written, and not seen coming back. @type {Outgoing | null} */ sending = null;
  /** Wanted, or under way. @type {Wish | null} */ wish = null;
  /** Pages that were asked for to close the hole that there is. */ pages = 0;
  /** Gives up the hole. @type {any} */ deadline = null;

  /**
   * What was never written is not going to be.
   * @param {string} code
   * @param {string} message
   */
  refuse(code, message) {
    for (const { reject } of this.queue.splice(0)) reject(new ChatError(code, message));
  }

  /** What is under way has failed, or has been refused. @param {ChatError} error */
  failSending(error) {
    const { sending } = this;
    this.sending = null;
    sending?.reject(error);
  }

  /** @param {ChatError} error */
  failWish(error) {
    const { wish } = this;
    this.wish = null;
    wish?.reject(error);
  }
}

/**
 * What is wrong with messages that are to be sent, as far as this side knows.
 * @param {readonly string[]} contents
 */
export function objection(contents) {
  if (!Array.isArray(contents) || !contents.every((content) => typeof content === 'string')) {
    return new ChatError('BAD_REQUEST', 'messages are texts');
  }
  if (contents.length === 0 || contents.includes('')) return new ChatError('EMPTY_MESSAGE', 'there is nothing to send');
  if (contents.length > FRAME_LIMIT) return new ChatError('TOO_MANY_MESSAGES', `more than ${FRAME_LIMIT} messages at once`);
  return null;
}

/**
 * A text as it comes back: halves of surrogate pairs are none, and would come
 * back as something else.
 * @param {string} content
 */
function wellFormed(content) {
  return content.replace(/\p{Surrogate}/gu, '\ufffd');
}
