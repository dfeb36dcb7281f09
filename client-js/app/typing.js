/** Who is writing in the room that is shown. */

import { page } from './elements.js';

/** @import {ChatUser} from '/chat.js' */

/** How long someone counts as writing after the last sign of it, in ms: twice as long as signs are apart, and a little. */
const LINGER = 5_000;

/** Those who are writing, by room and user. */
export class Typing {
  /** @type {Map<string, Map<number, {name: string, timer: ReturnType<typeof setTimeout>}>>} */ #rooms = new Map();
  /** The room that is shown. */ #shown = '';

  /**
   * @param {string} roomId
   * @param {ChatUser} user
   */
  started(roomId, user) {
    this.stopped(roomId, user);
    const timer = setTimeout(() => this.stopped(roomId, user), LINGER);
    const writers = this.#rooms.get(roomId) ?? new Map();
    this.#rooms.set(roomId, writers.set(user.id, { name: user.username, timer }));
    this.#show();
  }

  /**
   * A message has come of it, or nothing more.
   * @param {string} roomId
   * @param {ChatUser} user
   */
  stopped(roomId, user) {
    const writers = this.#rooms.get(roomId);
    clearTimeout(writers?.get(user.id)?.timer);
    if (writers?.delete(user.id)) this.#show();
  }

  /** @param {string} roomId */
  show(roomId) {
    this.#shown = roomId;
    this.#show();
  }

  #show() {
    const names = Array.from(this.#rooms.get(this.#shown)?.values() ?? [], ({ name }) => name);
    page.typing.textContent = names.length === 0 ? '' : names.length === 1 ? `${names[0]} is typing`
      : names.length === 2 ? `${names[0]} and ${names[1]} are typing` : `${names.length} people are typing`;
  }
}
