/** The lists on the left: people (friends, and whoever has written), and groups. */

import { fillBadge } from './announcer.js';
import { clone, find, page } from './elements.js';
import { about } from './notebook.js';
import { showTime } from './roomlines.js';

/**
 * @import {PullClient, PullUser} from '/pull.js'
 * @import {Directory} from './directory.js'
 * @import {Notebook} from './notebook.js'
 */

/** After so many ms lists that did not come are asked for again. */
const AGAIN = 3_000;

export class Contacts {
  // Fixed after construction.
  /** @type {PullClient} */ #pull;
  /** @type {Directory} */ #directory;
  /** @type {Notebook} */ #notebook;
  /** @type {() => void} */ #changed;

  /** Ordered by name. @type {PullUser[]} */ #friends = [];
  /** @type {string[]} */ #groups = [];
  /** Names of those whom this page has written to, or looked at. @type {Set<string>} */ #visited = new Set();
  /** By key: a line is used again, so that the focus stays. @type {Map<string, HTMLElement>} */ #lines = new Map();
  #current = '';
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #again;
  /** Counts the users: what was asked for one is not shown to the next. */ #turn = 0;

  /**
   * @param {PullClient} pull
   * @param {Directory} directory
   * @param {Notebook} notebook
   * @param {() => void} changed  The lists may be different now.
   */
  constructor(pull, directory, notebook, changed) {
    this.#pull = pull;
    this.#directory = directory;
    this.#notebook = notebook;
    this.#changed = changed;
    for (const list of [page.contacts, page.groups]) list.addEventListener('keydown', (event) => walk(list, event));
  }

  /** @returns {readonly PullUser[]} */
  get friends() {
    return this.#friends;
  }

  /** @returns {readonly string[]} */
  get groups() {
    return this.#groups;
  }

  /** @param {number} id */
  isFriend(id) {
    return this.#friends.some((friend) => friend.id === id);
  }

  /** Fetches the lists, again and again until they come. */
  async load() {
    const turn = this.#turn;
    clearTimeout(this.#again);
    try {
      const [friends, groups] = await Promise.all([this.#pull.friends(), this.#pull.groups()]);
      if (turn !== this.#turn) return;
      this.#friends = friends;
      this.#groups = groups;
      this.#directory.learn(friends);
      // What is left of groups that are gone cannot be read any more.
      for (const { type, name } of this.#notebook.notes) {
        if (type !== 'private' && type !== 'gap' && !groups.includes(name)) this.#notebook.markRead(about.group(name));
      }
      this.#changed();
    } catch {
      if (turn === this.#turn) this.#again = setTimeout(() => void this.load(), AGAIN);
    }
  }

  /**
   * Puts somebody on the list of friends, or takes them off it.
   * @param {PullUser} user
   * @param {boolean} wanted
   * @returns {Promise<void>} rejected with a PullError.
   */
  async befriend(user, wanted) {
    if (wanted) await this.#pull.befriend(user.username);
    else await this.#pull.unfriend(user.username);
    this.#visited.add(user.username);
    await this.load();
  }

  /** Somebody is looked at, and stays in the list. @param {string} username */
  visit(username) {
    this.#visited.add(username);
  }

  /** The one that is shown on the right; '': none. @param {string} key */
  set current(key) {
    this.#current = key;
  }

  /** Gives the focus to a line. @param {string} key */
  focus(key) {
    this.#lines.get(key)?.querySelector('a')?.focus();
  }

  show() {
    const { writers } = this.#notebook;
    const friends = this.#friends.map(({ username }) => username);
    const names = [...new Set([...friends, ...writers, ...this.#visited])];
    // Whoever has written last is first; those who have not come by name.
    const people = names.map((name) => ({ name, time: this.#notebook.lastTime(about.person(name)) }))
      .sort((a, b) => b.time - a.time || a.name.localeCompare(b.name));
    const groups = this.#groups.map((name) => ({ name, time: this.#notebook.lastTime(about.group(name)) }));
    const known = new Set(friends);
    /** @type {Map<string, HTMLElement>} */
    const lines = new Map();
    this.#fill(page.contacts, people, lines, about.person, 'person', (name) => (known.has(name) ? '' : 'Not among your friends'));
    this.#fill(page.groups, groups, lines, about.group, 'group', () => '');
    this.#lines = lines;
    page.noContacts.hidden = people.length > 0;
    page.noGroups.hidden = groups.length > 0;
  }

  /** Nobody is signed in any more. */
  clear() {
    this.#turn++;
    clearTimeout(this.#again);
    this.#friends = [];
    this.#groups = [];
    this.#visited.clear();
    this.#current = '';
    this.show();
  }

  /**
   * @param {HTMLElement} list
   * @param {{name: string, time: number}[]} all
   * @param {Map<string, HTMLElement>} lines
   * @param {(name: string) => string} keyOf
   * @param {"person" | "group"} kind
   * @param {(name: string) => string} hint
   */
  #fill(list, all, lines, keyOf, kind, hint) {
    const items = all.map(({ name, time }) => {
      const key = keyOf(name);
      const item = this.#lines.get(key) ?? clone('contact');
      const link = find(item, 'a');
      lines.set(key, item);
      link.setAttribute('href', `#${kind}=${encodeURIComponent(name)}`);
      if (key === this.#current) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
      find(item, '.who').textContent = name;
      find(item, '.last').textContent = hint(name);
      if (time > 0) showTime(find(item, '.when'), time, true);
      const unread = this.#notebook.unread(key);
      fillBadge(find(item, '.unread'), unread);
      item.classList.toggle('has-unread', unread > 0);
      return item;
    });
    // Moving what is where it should be would take its focus.
    if (items.length === list.childElementCount && items.every((item, i) => item === list.children[i])) return;
    const focused = document.activeElement;
    list.replaceChildren(...items);
    if (focused instanceof HTMLElement && list.contains(focused)) focused.focus();
  }
}

/**
 * @param {HTMLElement} list
 * @param {KeyboardEvent} event
 */
function walk(list, event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const links = [...list.querySelectorAll('a')];
  links[links.findIndex((link) => link === document.activeElement) + step]?.focus();
}
