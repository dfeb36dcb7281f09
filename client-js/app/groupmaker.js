/** The form that makes a group. */

import { announce } from './announcer.js';
import { clone, find, page } from './elements.js';

/**
 * @import {PullClient, PullError, PullUser} from '/pull.js'
 * @import {Directory} from './directory.js'
 */

/** Why there is no group. @type {Record<string, string>} */
const reasons = {
  GROUP_TAKEN: 'There is a group of this name already.',
  NOT_FOUND: 'Somebody of these does not exist any more.',
  TOO_MANY: 'Too many members, or somebody is in too many groups.',
  TOO_LARGE: 'The first message is too long.',
  BAD_REQUEST: 'This cannot be the name of a group: it has 1 to 100 characters, and no slash.',
  TOO_MANY_REQUESTS: 'Too much at once. Wait a moment.',
};

export class GroupMaker {
  // Fixed after construction.
  /** @type {PullClient} */ #pull;
  /** @type {Directory} */ #directory;
  /** @type {(name: string) => void} */ #made;

  /** Those who may be chosen, and whether they are. @type {Map<number, {user: PullUser, chosen: boolean}>} */ #candidates = new Map();

  /**
   * @param {PullClient} pull
   * @param {Directory} directory
   * @param {(name: string) => void} made  There is a group.
   */
  constructor(pull, directory, made) {
    this.#pull = pull;
    this.#directory = directory;
    this.#made = made;
    page.groupAdd.addEventListener('click', () => void this.#add());
    page.groupOther.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.isComposing) return;
      event.preventDefault();
      void this.#add();
    });
    page.groupForm.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#make();
    });
  }

  /**
   * Offers the friends; what is chosen and typed already stays.
   * @param {readonly PullUser[]} friends
   */
  show(friends) {
    for (const user of friends) if (!this.#candidates.has(user.id)) this.#candidates.set(user.id, { user, chosen: false });
    this.#list();
  }

  /** Everything is empty again. */
  clear() {
    this.#candidates.clear();
    page.groupForm.reset();
    page.groupError.textContent = '';
    this.#list();
  }

  #list() {
    const focused = document.activeElement instanceof HTMLInputElement ? document.activeElement.value : '';
    page.groupMembers.replaceChildren(...Array.from(this.#candidates.values(), (candidate) => {
      const item = clone('candidate');
      const box = /** @type {HTMLInputElement} */ (find(item, 'input'));
      box.value = String(candidate.user.id);
      box.checked = candidate.chosen;
      box.addEventListener('change', () => { candidate.chosen = box.checked; });
      find(item, 'bdi').textContent = candidate.user.username;
      return item;
    }));
    if (focused) [...page.groupMembers.querySelectorAll('input')].find(({ value }) => value === focused)?.focus();
  }

  /** @returns {Promise<boolean>} whether the name that was typed, if any, is among the chosen now. */
  async #add() {
    const name = page.groupOther.value;
    if (name === '') return true;
    page.groupError.textContent = '';
    try {
      const user = await this.#directory.byName(name);
      this.#candidates.set(user.id, { user, chosen: true });
      page.groupOther.value = '';
      this.#list();
      announce(`${name} is chosen`);
      return true;
    } catch (error) {
      const { code, message } = /** @type {PullError} */ (error);
      page.groupError.textContent = code === 'NOT_FOUND' ? `There is nobody called ${name}.` : `That did not work: ${message}.`;
      return false;
    }
  }

  async #make() {
    if (page.groupMake.disabled) return;
    page.groupMake.disabled = true;
    page.groupError.textContent = '';
    try {
      if (!await this.#add()) return;
      const members = [...this.#candidates.values()].filter(({ chosen }) => chosen).map(({ user }) => user.id);
      const { name } = await this.#pull.createGroup({
        members, ...page.groupName.value !== '' && { name: page.groupName.value }, ...page.groupMessage.value !== '' && { message: page.groupMessage.value },
      });
      this.clear();
      this.#made(name);
    } catch (error) {
      const { code, message } = /** @type {PullError} */ (error);
      page.groupError.textContent = reasons[code] ?? `That did not work: ${message}.`;
    } finally {
      page.groupMake.disabled = false;
    }
  }
}
