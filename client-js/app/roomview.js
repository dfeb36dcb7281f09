/** One room as the page shows it: its line in the list, and its log with what is older and what is on its way. */

import { fillBadge } from './announcer.js';
import { clone, find } from './elements.js';
import { Pending } from './pending.js';
import { linesOf, showTime } from './roomlines.js';

/** @import {ChatRoom, ChatUser} from '/chat.js' */

/** What is shown of a room, or of what looks like one. @typedef {Pick<ChatRoom, "id" | "name" | "messages" | "hasMoreMessages" | "gaps"> & {beginning?: string}} Shown */

/**
 * As much of a ChatClient as a view takes.
 * @typedef {object} Talker
 * @property {Pick<ChatUser, "id"> | null} me
 * @property {string} state
 * @property {(roomId: string, content: string) => Promise<unknown>} send
 * @property {(roomId: string) => Promise<unknown>} loadOlder
 */

/** How far from the end, in pixels, a log still counts as read to the end. */
const NEAR_END = 80;

/** How far from the top older messages are asked for. */
const NEAR_TOP = 400;

/**
 * @template {Shown} [R=Shown]
 */
export class RoomView {
  /** Messages that came while nobody looked. */
  unread = 0;
  /** What is typed and not sent. */
  draft = '';
  log = clone('roomLog');
  item = clone('room');
  pending;

  #client;
  /** Changes as messages come. @type {R} */ #room;
  #older = find(this.log, '.older');
  #lines = find(this.log, '.lines');
  /** Of the lines that are shown, by key. @type {Map<string, HTMLElement>} */ #elements = new Map();
  /** Whether the log is read to its end, and follows it. */
  #following = true;
  #loading = false;
  /** Whether it is about to be rendered. */
  #soon = false;
  /** Why older messages did not come. */
  #failure = '';
  #onRead;

  /**
   * @param {Talker} client
   * @param {R} room
   * @param {() => void} onRead  Called when the log is scrolled to its end, or from it.
   */
  constructor(client, room, onRead) {
    this.#client = client;
    this.#room = room;
    this.#onRead = onRead;
    this.pending = new Pending(find(this.log, '.pending'), (content) => client.send(room.id, content), () => {
      this.#follow();
      this.showLast();
    });
    this.log.addEventListener('scroll', () => this.#scrolled());
    // The log grows at its end, and a keyboard that comes up on a phone takes its room there.
    const size = new ResizeObserver(() => this.#follow());
    size.observe(this.log);
    size.observe(this.#lines);
    find(this.#older, 'button').addEventListener('click', () => void this.#loadOlder());
    find(this.item, 'a').setAttribute('href', `#room=${encodeURIComponent(room.id)}`);
    this.update(room);
  }

  get room() {
    return this.#room;
  }

  /** Whether the log is read to its end. */
  get following() {
    return this.#following;
  }

  /** The room may be another object now, or have changed in any way. @param {R} room */
  update(room) {
    this.#room = room;
    this.#failure = '';
    this.log.setAttribute('aria-label', `Messages in ${room.name}`);
    find(this.item, '.who').textContent = room.name;
    this.render();
  }

  /** Shows what the room holds once all is told that came together. */
  renderSoon() {
    if (this.#soon) return;
    this.#soon = true;
    queueMicrotask(() => {
      this.#soon = false;
      this.render();
    });
  }

  /** Shows what the room holds, without moving what is being read. */
  render() {
    const held = this.#following ? null : this.#held();
    const lines = linesOf(this.#room, this.#client.me?.id ?? -1);
    const last = lines.at(-1);
    // What is put in front is not news.
    if (last && this.#elements.has(last.key)) this.log.setAttribute('aria-live', 'off');
    const keys = new Set(lines.map(({ key }) => key));
    for (const [key, element] of this.#elements) {
      if (keys.has(key)) continue;
      element.remove();
      this.#elements.delete(key);
    }
    /** @type {Element | null} */
    let next = this.#lines.firstElementChild;
    for (const { key, make, follows } of lines) {
      const element = this.#elements.get(key) ?? make();
      this.#elements.set(key, element);
      element.classList.toggle('follows', follows);
      if (element === next) next = next.nextElementSibling;
      else this.#lines.insertBefore(element, next);
    }
    this.#showOlder();
    this.showLast();
    if (held?.element.isConnected) this.log.scrollTop += held.element.getBoundingClientRect().top - held.top;
    else this.#follow();
    requestAnimationFrame(() => this.log.removeAttribute('aria-live'));
  }

  /** Whether this is the room that the page shows. @param {boolean} current */
  set current(current) {
    const link = find(this.item, 'a');
    if (current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }

  /** Shows the last message, and how many are unread, in the list. */
  showLast() {
    const last = this.#room.messages.at(-1);
    const underway = this.pending?.last ?? null;
    const words = find(this.item, '.last');
    if (underway !== null) words.textContent = `You: ${underway}`;
    else if (last) words.textContent = `${last.user.id === this.#client.me?.id ? 'You' : last.user.username}: ${last.content}`;
    else words.textContent = 'No messages yet';
    if (last) showTime(find(this.item, '.when'), last.timestamp, true);
    fillBadge(find(this.item, '.unread'), this.unread);
    this.item.classList.toggle('has-unread', this.unread > 0);
  }

  /** The log has come on the screen. */
  shown() {
    this.toEnd();
    this.#fill();
  }

  /** Shows the end of the log, now and when more comes. */
  toEnd() {
    this.#following = true;
    this.#follow();
    this.#onRead();
  }

  focus() {
    find(this.item, 'a').focus();
  }

  #follow() {
    if (this.#following) this.log.scrollTop = this.log.scrollHeight;
  }

  #scrolled() {
    if (this.log.clientHeight === 0) return;
    const { scrollTop, scrollHeight, clientHeight } = this.log;
    const following = scrollHeight - scrollTop - clientHeight < NEAR_END;
    if (following !== this.#following) {
      this.#following = following;
      this.#onRead();
    }
    this.#fill();
  }

  /** Asks for older messages while the top is near. */
  #fill() {
    if (this.log.clientHeight > 0 && this.log.scrollTop < NEAR_TOP && this.#failure === '') void this.#loadOlder();
  }

  async #loadOlder() {
    if (this.#loading || !this.#room.hasMoreMessages || this.#client.state !== 'open') return;
    this.#loading = true;
    this.#failure = '';
    this.#showOlder();
    try {
      await this.#client.loadOlder(this.#room.id);
    } catch {
      // The button is there to try again.
      this.#failure = 'They did not come. ';
    }
    this.#loading = false;
    this.#showOlder();
    // One page may not fill a tall screen.
    if (this.#failure === '') requestAnimationFrame(() => this.#fill());
  }

  #showOlder() {
    const { hasMoreMessages, name, beginning = `This is where ${name} begins.` } = this.#room;
    const button = find(this.#older, 'button');
    const hint = find(this.#older, '.hint');
    const focused = document.activeElement === button;
    button.hidden = !hasMoreMessages || this.#loading;
    hint.textContent = this.#loading ? 'Loading older messages' : hasMoreMessages ? this.#failure : beginning;
    if (focused && button.hidden) this.log.focus();
  }

  /** The first message that is on the screen, and where. Days do not stay where they are when older messages come. */
  #held() {
    const { top } = this.log.getBoundingClientRect();
    for (const element of this.#lines.querySelectorAll('.message')) {
      const box = element.getBoundingClientRect();
      if (box.bottom > top) return { element, top: box.top };
    }
    return null;
  }
}
