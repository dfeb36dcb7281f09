/** Who is in the group that is shown, and the way in and out of it. */

import { announce } from './announcer.js';
import { page } from './elements.js';
import { colour } from './roomlines.js';

/**
 * @import {PullClient, PullError} from '/pull.js'
 * @import {Directory} from './directory.js'
 */

/** How long the button that leaves a group waits for the second press, in ms. */
const SURE = 6_000;

/** Why somebody could not be added. @type {Record<string, string>} */
const reasons = {
  NOT_FOUND: 'There is nobody of this name.',
  FORBIDDEN: 'You are no member any more.',
  TOO_MANY: 'There is no room for more: in the group, or in their list of groups.',
  INVALID: 'This is no name.',
};

/** @param {PullError} error */
function wordsOf({ code, message }) {
  return reasons[code] ?? `That did not work: ${message}.`;
}

export class Members {
  // Fixed after construction.
  /** @type {PullClient} */ #pull;
  /** @type {Directory} */ #directory;
  /** @type {(name: string) => void} */ #left;

  /** The group that is shown; null: none. @type {string | null} */ #group = null;
  #me = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #sure;

  /**
   * @param {PullClient} pull
   * @param {Directory} directory
   * @param {(name: string) => void} left  This user has left a group.
   */
  constructor(pull, directory, left) {
    this.#pull = pull;
    this.#directory = directory;
    this.#left = left;
    page.addMember.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#add();
    });
    page.leaveGroup.addEventListener('click', () => void this.#leave());
    page.members.addEventListener('toggle', () => { if (page.members.open) void this.load(); });
    // Elsewhere on the page a box that lies over it is in the way.
    document.addEventListener('click', ({ target }) => {
      if (target instanceof Node && !page.members.contains(target)) page.members.open = false;
    });
  }

  /**
   * Shows another group; null: none.
   * @param {string | null} group
   * @param {number} me
   */
  show(group, me) {
    if (group === this.#group) return;
    this.#group = group;
    this.#me = me;
    page.members.hidden = group === null;
    page.members.open = false;
    page.membersCount.textContent = 'Members';
    page.membersList.replaceChildren();
    page.membersError.textContent = '';
    page.addMemberName.value = '';
    this.#unsure();
    if (group !== null) void this.load();
  }

  /** Fetches who is in the group. */
  async load() {
    const group = this.#group;
    if (group === null) return;
    try {
      const { members } = await this.#pull.group(group);
      if (group === this.#group) page.membersCount.textContent = members.length === 1 ? '1 member' : `${members.length} members`;
      // A group may have a thousand: they are asked for when somebody wants to see them.
      if (page.members.open) await this.#list(group, members);
    } catch {
      // The log says what is wrong.
    }
  }

  /**
   * @param {string} group
   * @param {number[]} ids
   */
  async #list(group, ids) {
    await this.#directory.know(ids);
    if (group !== this.#group) return;
    page.membersList.replaceChildren(...ids.map((id) => ({ id, name: this.#directory.nameOf(id) })).sort((a, b) => a.name.localeCompare(b.name)).map(({ id, name }) => {
      const item = document.createElement('li');
      const text = document.createElement('bdi');
      text.textContent = name;
      item.append(text, ...id === this.#me ? [' (you)'] : []);
      colour(item, id);
      return item;
    }));
  }

  async #add() {
    const group = this.#group;
    const name = page.addMemberName.value;
    if (group === null || name === '') return;
    page.membersError.textContent = '';
    try {
      const { id } = await this.#directory.byName(name);
      await this.#pull.addMember(group, id);
      if (group !== this.#group) return;
      page.addMemberName.value = '';
      announce(`${name} is a member`);
      await this.load();
    } catch (error) {
      if (group === this.#group) page.membersError.textContent = wordsOf(/** @type {PullError} */ (error));
    }
  }

  async #leave() {
    const group = this.#group;
    if (group === null) return;
    if (page.leaveGroup.dataset.sure !== 'asked') {
      page.leaveGroup.dataset.sure = 'asked';
      page.leaveGroup.textContent = 'Really leave?';
      announce('Press again to leave the group');
      this.#sure = setTimeout(() => this.#unsure(), SURE);
      return;
    }
    this.#unsure();
    try {
      await this.#pull.leaveGroup(group);
      this.#left(group);
    } catch (error) {
      const { code } = /** @type {PullError} */ (error);
      if (code === 'NOT_FOUND' || code === 'FORBIDDEN') this.#left(group);
      else if (group === this.#group) page.membersError.textContent = wordsOf(/** @type {PullError} */ (error));
    }
  }

  #unsure() {
    clearTimeout(this.#sure);
    delete page.leaveGroup.dataset.sure;
    page.leaveGroup.textContent = 'Leave';
  }
}
