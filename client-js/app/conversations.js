/**
 * Conversations by peer: what is in the list on the left and in the log on the
 * right. They live as long as the page. What others wrote enters the page as
 * text nodes only.
 */

import { fillBadge } from './announcer.js';
import { clone, find, page } from './elements.js';
import { portrait, shortAddress } from './portrait.js';

/** Messages kept of one conversation, so that a flood fills no memory. */
const MESSAGE_LIMIT = 500;

/** Conversations kept, likewise; the one that was silent longest goes. */
const CONVERSATION_LIMIT = 200;

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });

/** What a log says where messages may be missing. */
const GAP = 'Messages may be missing here.';

/** How far from the end, in pixels, a log still counts as read to the end. */
const NEAR_END = 80;

/** A message of mine on its way. */
export class Delivery {
  #item;
  #label;
  #retry;

  /**
   * @param {HTMLElement} item  The message in the log.
   * @param {string} text
   * @param {(delivery: Delivery) => void} send  Called for each attempt.
   */
  constructor(item, text, send) {
    this.#item = item;
    this.#label = find(item, '.delivery');
    this.#retry = find(item, '.retry');
    this.#label.hidden = false;
    this.text = text;
    this.#retry.addEventListener('click', () => send(this));
  }

  sending() {
    this.#show('sending', 'Sending');
  }

  sent() {
    this.#show('sent', 'Sent');
  }

  /** @param {string} why */
  failed(why) {
    this.#show('failed', why);
  }

  /**
   * @param {"sending" | "sent" | "failed"} state
   * @param {string} label
   */
  #show(state, label) {
    this.#item.dataset.delivery = state;
    this.#label.textContent = label;
    this.#retry.hidden = state !== 'failed';
  }
}

/** All that was said with one peer. */
export class Conversation {
  /** Messages that came while nobody looked. */
  unread = 0;
  /** What is typed and not sent. */
  draft = '';
  log = clone('log');
  item = clone('conversation');
  #messages = find(this.log, 'ol');
  /** Whether the log is read to its end, and follows it. */
  #following = true;

  /** @param {string} peer */
  constructor(peer) {
    this.peer = peer;
    this.log.addEventListener('scroll', () => {
      const { scrollTop, scrollHeight, clientHeight } = this.log;
      this.#following = scrollHeight - scrollTop - clientHeight < NEAR_END;
    });
    // The log grows at its end, and a keyboard that comes up on a phone takes its room there.
    const size = new ResizeObserver(() => this.#follow());
    size.observe(this.log);
    size.observe(this.#messages);
    this.log.setAttribute('aria-label', `Messages with ${shortAddress(peer)}`);
    find(this.item, '.slot').replaceWith(portrait(peer));
    find(this.item, '.who').textContent = shortAddress(peer);
    find(this.item, '.peer').setAttribute('href', `#to=${peer}`);
    find(this.item, '.last').textContent = 'No messages yet';
  }

  /**
   * Adds a message that came.
   * @param {string} text
   */
  received(text) {
    this.#add('theirs', shortAddress(this.peer), text);
    find(this.item, '.last').textContent = text;
  }

  /**
   * Adds a message of mine, and sends it.
   * @param {string} text
   * @param {(delivery: Delivery) => void} send  Called now, and each time that it is to be sent again.
   */
  written(text, send) {
    const item = this.#add('mine', 'You', text);
    find(this.item, '.last').textContent = `You: ${text}`;
    this.#following = true;
    send(new Delivery(item, text, send));
  }

  /**
   * Adds a line that nobody wrote, unless nothing was written here, or the
   * line stands there already.
   * @param {string} text
   */
  note(text) {
    const last = this.#messages.lastElementChild;
    if (!last || last.textContent === text) return;
    const item = clone('note');
    item.textContent = text;
    this.#append(item);
  }

  /** Whether this is the conversation that the page shows. @param {boolean} current */
  set current(current) {
    const link = find(this.item, '.peer');
    if (current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }

  /** Shows the unread count in the list. */
  showUnread() {
    fillBadge(find(this.item, '.unread'), this.unread);
    this.item.classList.toggle('has-unread', this.unread > 0);
  }

  /** Shows the end of the log, now and when more comes. */
  toEnd() {
    this.#following = true;
    this.#follow();
  }

  #follow() {
    if (this.#following) this.log.scrollTop = this.log.scrollHeight;
  }

  focus() {
    find(this.item, '.peer').focus();
  }

  /**
   * @param {"mine" | "theirs"} side
   * @param {string} author
   * @param {string} text
   */
  #add(side, author, text) {
    const item = clone('message');
    const now = new Date();
    item.classList.add(side);
    find(item, '.author').textContent = `${author}: `;
    find(item, '.body').textContent = text;
    for (const time of [find(item, 'time'), find(this.item, '.when')]) {
      time.setAttribute('datetime', now.toISOString());
      time.textContent = clock.format(now);
    }
    this.#append(item);
    return item;
  }

  /** @param {HTMLElement} item */
  #append(item) {
    this.#messages.append(item);
    if (this.#messages.childElementCount > MESSAGE_LIMIT) this.#messages.firstElementChild?.remove();
  }
}

/** The list of conversations: the one that was active last is first. */
export class Conversations {
  /** By peer; the one that was active last is last. @type {Map<string, Conversation>} */
  #all = new Map();
  /** The line in the list above which everything is newer than the last gap. */
  #gap = clone('gap');

  [Symbol.iterator]() {
    return this.#all.values();
  }

  /**
   * The conversation with a peer, which begins here if there was none.
   * @param {string} peer
   */
  with(peer) {
    let conversation = this.#all.get(peer);
    if (!conversation) {
      conversation = new Conversation(peer);
      this.#all.set(peer, conversation);
      page.conversations.prepend(conversation.item);
      page.noConversations.hidden = true;
    }
    return conversation;
  }

  /**
   * Moves a conversation to the top, and lets go of one if there are too many.
   * @param {Conversation} conversation
   * @param {Conversation | null} shown  The one that is not let go of.
   */
  touch(conversation, shown) {
    this.#all.delete(conversation.peer);
    this.#all.set(conversation.peer, conversation);
    if (page.conversations.firstElementChild !== conversation.item) {
      const focused = conversation.item.contains(document.activeElement);
      page.conversations.prepend(conversation.item);
      if (focused) conversation.focus();
    }
    if (this.#all.size <= CONVERSATION_LIMIT) return;
    for (const candidate of this.#all.values()) {
      if (candidate === shown || candidate === conversation) continue;
      this.#all.delete(candidate.peer);
      candidate.item.remove();
      return;
    }
  }

  /** Shows that messages may be missing at this moment: of each conversation, and of others that are not there for it. */
  gap() {
    for (const conversation of this.#all.values()) conversation.note(GAP);
    find(this.#gap, 'time').textContent = clock.format(new Date());
    page.conversations.prepend(this.#gap);
  }

  get unread() {
    let sum = 0;
    for (const { unread } of this.#all.values()) sum += unread;
    return sum;
  }
}
