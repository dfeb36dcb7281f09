/** A conversation with a person or a group, as the page shows it: its thread, in a log like that of a room. */

import { about } from './notebook.js';
import { RoomView } from './roomview.js';
import { Thread } from './thread.js';

/**
 * @import {PullClient, PullError, PullMessage, PullUser} from '/pull.js'
 * @import {Directory} from './directory.js'
 * @import {Shown} from './roomview.js'
 */

/** After so many ms what could not be fetched is asked for again, unless the relay says otherwise. */
const AGAIN = 3_000;

/** What was pulled at once and is shown as it came; of more, the pages show the newest. */
const PULLED = 100;

/** Pulls in a row: what is left then the next one gets. */
const PULLS = 20;

/** Whom it is with. @typedef {{kind: "person", user: PullUser} | {kind: "group", name: string}} Partner */

/** What all conversations have in common. @typedef {{pull: PullClient, me: PullUser, directory: Directory, changed: () => void}} Common */

export class Talk {
  view;
  /** Why the newest messages could not be fetched; '' when they could. */
  problem = '';
  /** Whether it is gone for good, or closed to this user. */
  gone = false;

  // Fixed after construction.
  /** @type {Partner} */ partner;
  /** @type {Common} */ #common;
  /** @type {Thread} */ #thread;

  /** What the view shows. @type {Shown & {messages: {id: string, content: string, user: PullUser, timestamp: number}[]}} */ #room;
  /** The ids of messages that were shown. */ #seen = new Set();
  #loaded = false;
  /** Whether the person has written what was not pulled. */ #unpulled = true;
  /** Whether all was pulled once, and the pages were read after that: then what is pulled and not known is newer than all that is. */
  #inStep = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #again;
  #closed = false;

  /**
   * @param {Partner} partner
   * @param {Common} common
   */
  constructor(partner, common) {
    this.partner = partner;
    this.#common = common;
    const { pull } = common;
    this.#thread = new Thread((index) => (partner.kind === 'person' ? pull.page(partner.user.id, index) : pull.groupPage(partner.name, index)));
    this.#room = { id: this.key, name: this.name, messages: [], hasMoreMessages: true, gaps: new Set(), beginning: 'Nothing was said before this.' };
    this.view = new RoomView({
      me: common.me,
      state: 'open',
      send: (_, content) => this.#send(content),
      loadOlder: () => this.#older(),
    }, this.#room, common.changed);
  }

  /** What it is called in the notebook. */
  get key() {
    return this.partner.kind === 'person' ? about.person(this.partner.user.username) : about.group(this.partner.name);
  }

  get name() {
    return this.partner.kind === 'person' ? this.partner.user.username : this.partner.name;
  }

  /** The person is called otherwise now. @param {PullUser} user */
  rename(user) {
    if (this.partner.kind !== 'person' || this.partner.user.username === user.username) return;
    this.partner = { kind: 'person', user };
    this.#room.name = user.username;
    this.view.update(this.#room);
  }

  /** Something has come: it is fetched and shown. @param {boolean} looked  Whether somebody looks at it, so that it counts as read. */
  async news(looked) {
    if (this.partner.kind === 'person') this.#unpulled = true;
    await this.fetch(looked);
  }

  /**
   * Fetches what is new. It is tried again until that succeeds, but for what is gone.
   * @param {boolean} looked
   */
  async fetch(looked) {
    clearTimeout(this.#again);
    if (this.#closed || this.gone) return;
    let wait = null;
    try {
      if (looked) await this.#pull();
    } catch (error) {
      // The pages have all that a pull has; only the place of this user stays where it is for now.
      wait = /** @type {PullError} */ (error).retryAfter ?? AGAIN;
    }
    try {
      await this.#thread.refresh();
      this.problem = '';
      this.#inStep ||= looked && !this.#unpulled;
    } catch (error) {
      wait = this.#failed(/** @type {PullError} */ (error));
    }
    if (wait !== null && !this.#closed) this.#again = setTimeout(() => void this.fetch(looked), wait);
    await this.#show();
    this.#loaded ||= this.problem === '';
  }

  /** Somebody looks at it: what waits to be pulled is. */
  async looked() {
    if (this.#unpulled && !this.gone) await this.fetch(true);
  }

  /** It is not shown any more, for good. */
  close() {
    this.#closed = true;
    clearTimeout(this.#again);
  }

  /** Moves the place of this user in the conversation behind what has come, and shows that before the pages do. */
  async #pull() {
    if (this.partner.kind !== 'person' || !this.#unpulled) return;
    this.#unpulled = false;
    try {
      for (let i = 0; i < PULLS; i++) {
        const { messages, hasMore } = await this.#common.pull.pull(this.partner.user.id);
        if (this.#inStep && !hasMore && i === 0 && messages.length <= PULLED) {
          this.#thread.add(messages);
          await this.#show();
        }
        if (!hasMore) return;
      }
      this.#unpulled = true;
    } catch (error) {
      this.#unpulled = true;
      throw error;
    }
  }

  /** @param {string} content */
  async #send(content) {
    const { pull, me } = this.#common;
    const sent = this.partner.kind === 'person' ? await pull.send(this.partner.user.id, content) : await pull.sendToGroup(this.partner.name, content);
    this.#thread.add([{ ...sent, senderId: me.id, message: content }]);
    await this.#show();
    // Where it stands among what the others have written meanwhile, the pages tell.
    void this.fetch(false);
  }

  async #older() {
    await this.#thread.older();
    await this.#show();
  }

  /**
   * @param {PullError} error
   * @returns {number | null} when to try again, in ms; null: not at all.
   */
  #failed({ code, message = '', retryAfter = null }) {
    if (code === undefined) throw new TypeError(message);
    this.gone = code === 'NOT_FOUND' || code === 'FORBIDDEN';
    if (this.gone) this.problem = this.partner.kind === 'group' ? 'This group is gone, or you are no member any more.' : 'There is no such person any more.';
    if (this.gone || code === 'UNAUTHORIZED') return null;
    this.problem = 'What is new here did not come. Trying again.';
    return retryAfter ?? AGAIN;
  }

  async #show() {
    const { directory, me } = this.#common;
    const messages = this.#thread.messages;
    await directory.know(new Set(messages.map(({ senderId }) => senderId)));
    if (this.#closed) return;
    this.#room.messages = messages.map(({ id, senderId, message, timestamp }) => ({
      id, content: message, user: { id: senderId, username: directory.nameOf(senderId) }, timestamp,
    }));
    this.#room.hasMoreMessages = this.#thread.hasOlder;
    this.#notice(messages, me.id);
    this.view.render();
    this.#common.changed();
  }

  /**
   * Takes note of what was not shown before; what stands in front of all that was is history.
   * @param {PullMessage[]} messages
   * @param {number} me
   */
  #notice(messages, me) {
    const first = messages.findIndex(({ id }) => this.#seen.has(id));
    for (const [i, { id, senderId, message }] of messages.entries()) {
      if (this.#seen.has(id)) continue;
      this.#seen.add(id);
      if (!this.#loaded || i < first) continue;
      if (senderId === me) this.view.pending.came(message);
      else this.view.unread++;
    }
  }
}
