/** Messages of mine that have not come back: on their way, or failed. */

import { announce } from './announcer.js';
import { clone, find } from './elements.js';

/** @import {ParleyError} from '/chat.js' */

/** Why a message was not sent, in words for whoever wrote it. @type {Record<string, string>} */
const reasons = {
  MESSAGE_TOO_LONG: 'Not sent: the message is too long',
  RATE_LIMITED: 'Not sent: too many messages at once',
  ROOM_FULL: 'Not sent: the room takes no messages now',
  UNAVAILABLE: 'The relay could not confirm it: it may not have arrived',
  UNKNOWN: 'The connection broke: it may not have arrived',
  QUEUE_FULL: 'Not sent: too many messages are waiting',
  CLOSED: 'Not sent: you were signed out',
  UNKNOWN_ROOM: 'Not sent: this room is gone',
  TOO_LARGE: 'Not sent: the message is too long',
  TOO_MANY_REQUESTS: 'Not sent: too many messages at once',
  NOT_FOUND: 'Not sent: there is nobody to read it any more',
  FORBIDDEN: 'Not sent: you are no member any more',
  UNAUTHORIZED: 'Not sent: you were signed out',
  NETWORK: 'The relay did not answer: it may not have arrived',
  INTERNAL: 'The relay could not confirm it: it may not have arrived',
};

/** After these a message may have been stored nevertheless, and then it comes. */
const UNCERTAIN = ['UNAVAILABLE', 'UNKNOWN', 'NETWORK', 'INTERNAL'];

/** One message. */
class Underway {
  item = clone('pending');
  /** Whether it failed, and may come nevertheless. */
  uncertain = false;
  sending = false;

  /** @param {string} content */
  constructor(content) {
    this.content = content;
    find(this.item, '.body').textContent = content;
  }

  /**
   * @param {"sending" | "failed"} state
   * @param {string} label
   */
  show(state, label) {
    this.sending = state === 'sending';
    this.item.dataset.delivery = state;
    find(this.item, '.delivery').textContent = label;
    for (const button of this.item.querySelectorAll('button')) button.hidden = this.sending;
  }
}

/** Those of one room, in the order in which they were written. */
export class Pending {
  /** @type {Set<Underway>} */ #all = new Set();
  #list;
  #send;
  #changed;

  /**
   * @param {HTMLElement} list  Where they are shown.
   * @param {(content: string) => Promise<unknown>} send  Fulfilled when the message has come back; rejected with a ParleyError.
   * @param {() => void} changed  Called when the list has changed its height.
   */
  constructor(list, send, changed) {
    this.#list = list;
    this.#send = send;
    this.#changed = changed;
  }

  /** What was written last and has not come back; null: nothing. */
  get last() {
    return [...this.#all].at(-1)?.content ?? null;
  }

  /** @param {string} content */
  write(content) {
    const message = new Underway(content);
    find(message.item, '.retry').addEventListener('click', () => void this.#attempt(message));
    find(message.item, '.discard').addEventListener('click', () => this.#drop(message));
    this.#all.add(message);
    this.#list.append(message.item);
    void this.#attempt(message);
  }

  /**
   * A message of mine has come. One that seemed to have failed is not shown twice.
   * @param {string} content
   */
  came(content) {
    const same = [...this.#all].filter((message) => message.content === content);
    // While one is on its way, this is that one.
    if (same.some(({ sending }) => sending)) return;
    const failed = same.find(({ uncertain }) => uncertain);
    if (failed) this.#drop(failed);
  }

  /** @param {Underway} message */
  async #attempt(message) {
    message.uncertain = false;
    message.show('sending', 'Sending');
    this.#changed();
    try {
      await this.#send(message.content);
      this.#drop(message);
    } catch (error) {
      const { code = '', message: words = '' } = /** @type {Partial<ParleyError>} */ (error);
      if (code === '') throw error;
      message.uncertain = UNCERTAIN.includes(code);
      message.show('failed', reasons[code] ?? `Not sent: ${words}`);
      announce(reasons[code] ?? `Not sent: ${words}`);
      this.#changed();
    }
  }

  /** @param {Underway} message */
  #drop(message) {
    const focused = message.item.contains(document.activeElement);
    this.#all.delete(message);
    message.item.remove();
    if (focused) this.#list.parentElement?.focus();
    this.#changed();
  }
}
