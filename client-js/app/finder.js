/** Finding people, and groups of one's own, by a part of the name, as one types. */

import { announce } from './announcer.js';
import { clone, find, page } from './elements.js';

/** @import {PullClient, PullFound, PullUser} from '/pull.js' */

/** How long nobody has to type before it is asked, in ms. */
const PAUSE = 250;

/**
 * What the finder has to know.
 * @typedef {object} FinderOwner
 * @property {(id: number) => boolean} isMe
 * @property {(id: number) => boolean} isFriend
 * @property {(user: PullUser, wanted: boolean) => Promise<void>} befriend  Never rejected.
 * @property {(users: PullUser[]) => void} learn
 */

export class Finder {
  /** @type {PullClient} */ #pull;
  /** @type {FinderOwner} */ #owner;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  /** Counts what was asked: only the answer to the last counts. */ #turn = 0;
  /** @type {PullFound} */ #found = { users: [], groups: [], next: null };
  #text = '';

  /**
   * @param {PullClient} pull
   * @param {FinderOwner} owner
   */
  constructor(pull, owner) {
    this.#pull = pull;
    this.#owner = owner;
    page.findText.addEventListener('input', () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => void this.#ask(), PAUSE);
    });
    page.find.addEventListener('submit', (event) => {
      event.preventDefault();
      clearTimeout(this.#timer);
      void this.#ask();
    });
    page.foundMore.addEventListener('click', () => void this.#more());
  }

  /** Nothing is looked for any more. */
  clear() {
    clearTimeout(this.#timer);
    page.findText.value = '';
    void this.#ask();
  }

  /** Shows anew who is a friend. */
  show() {
    const items = [...page.found.children];
    const focused = items.findIndex((item) => item.contains(document.activeElement));
    const on = document.activeElement?.tagName.toLowerCase() ?? '';
    page.found.replaceChildren(
      ...this.#found.users.map((user) => this.#person(user)),
      ...this.#found.groups.map((name) => line(name, `#group=${encodeURIComponent(name)}`, 'Group')),
    );
    page.foundMore.hidden = this.#found.next === null;
    if (focused < 0) return;
    const again = page.found.children[focused]?.querySelector(on);
    if (again instanceof HTMLElement) again.focus();
  }

  async #ask() {
    const turn = ++this.#turn;
    const text = page.findText.value.trim();
    this.#text = text;
    page.foundPlace.hidden = text === '';
    if (text === '') {
      this.#found = { users: [], groups: [], next: null };
      this.#say('');
      this.show();
      return;
    }
    const found = await this.#search(turn, null);
    if (!found) return;
    this.#found = found;
    const count = found.users.length + found.groups.length;
    this.#say(count === 0 ? 'Nobody is called that.' : '');
    if (count > 0) announce(`${count}${found.next === null ? '' : ' or more'} found`);
    this.show();
  }

  async #more() {
    page.foundMore.disabled = true;
    const before = page.found.childElementCount;
    const found = await this.#search(this.#turn, this.#found.next);
    page.foundMore.disabled = false;
    if (!found) return;
    this.#found = { users: [...this.#found.users, ...found.users], groups: [...this.#found.groups, ...found.groups], next: found.next };
    this.show();
    announce(`${page.found.childElementCount - before} more found`);
    if (page.foundMore.hidden) page.found.querySelector('li:last-child a')?.scrollIntoView({ block: 'nearest' });
  }

  /**
   * @param {number} turn
   * @param {string | null} after
   * @returns {Promise<PullFound | null>} null: it is of no use any more.
   */
  async #search(turn, after) {
    try {
      const found = await this.#pull.search(this.#text, { after });
      if (turn !== this.#turn) return null;
      this.#owner.learn(found.users);
      return found;
    } catch {
      if (turn === this.#turn) this.#say('The relay does not answer. Try again.');
      return null;
    }
  }

  /** @param {PullUser} user */
  #person(user) {
    const { isMe, isFriend, befriend } = this.#owner;
    if (isMe(user.id)) return line(user.username, null, 'You');
    const item = line(user.username, `#person=${encodeURIComponent(user.username)}`, '');
    const button = find(item, 'button');
    const friend = isFriend(user.id);
    button.hidden = false;
    button.textContent = friend ? 'Friend' : 'Add';
    button.setAttribute('aria-pressed', String(friend));
    button.setAttribute('aria-label', `${user.username}: ${friend ? 'friend' : 'add to friends'}`);
    button.addEventListener('click', () => void befriend(user, !friend));
    return item;
  }

  /** @param {string} text */
  #say(text) {
    page.foundHint.textContent = text;
  }
}

/**
 * @param {string} name
 * @param {string | null} href  Null: it leads nowhere.
 * @param {string} hint
 */
function line(name, href, hint) {
  const item = clone('found');
  find(item, '.who').textContent = name;
  find(item, '.hint').textContent = hint;
  find(item, 'button').hidden = true;
  if (href !== null) find(item, 'a').setAttribute('href', href);
  return item;
}
