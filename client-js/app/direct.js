/** Direct messages: one TextoClient, and conversations with whoever writes or is written to. */

import { ParleyError, TextoClient, isAddress } from '/parley.js';
import { announce, showUnread } from './announcer.js';
import { copies } from './copying.js';
import { Conversations } from './conversations.js';
import { page } from './elements.js';
import { portrait, shortAddress } from './portrait.js';
import { saveSession, savedSession } from './saved.js';

/** @import {Conversation, Delivery} from './conversations.js' */

const client = new TextoClient(savedSession());
const conversations = new Conversations();

/** The one on the right. @type {Conversation | null} */
let shown = null;

/** Whether the page shows this side. */
let onStage = true;

/** My address, also while the connection is away. */
let address = '';

/** When the next connection is tried, in ms since the epoch; 0 while that is not known. */
let retryAt = 0;

/** Why there is no connection, as far as the relay or the client said. */
let lostBecause = '';

/** Whether another page has gone on with this address. */
let takenOver = false;

/** Why a message was not sent, in words for whoever wrote it. @type {Record<string, string>} */
const reasons = {
  ERATE: 'Not sent: too many messages at once',
  ETOOBIG: 'Not sent: the message is too long',
  EBROKER: 'Not sent: the relay could not pass it on',
  EQUEUE: 'Not sent: too many messages are waiting',
  ECLOSED: 'Not sent: there is no connection',
  ECONN: 'The connection broke: it may not have arrived',
  ETIMEOUT: 'No answer: it may not have arrived',
};

// Conversations and what is shown of them.

/**
 * The address bar names a conversation: `#to=<address>`; or none.
 * @param {string} hash
 */
export function showDirect(hash) {
  const peer = /^#to=(.+)$/.exec(hash)?.[1].toLowerCase() ?? '';
  if (peer !== '' && !isAddress(peer)) {
    notify('That link does not hold an address.', false);
  } else if (peer !== '' && peer === address) {
    notify('That is your own link. Give it to someone else, and they can write to you.', false);
  } else {
    show(peer === '' ? null : conversations.with(peer));
    return;
  }
  history.replaceState(null, '', '#');
  show(null);
}

/** The other side is shown: a conversation that is open stays so, unread from here on. */
export function hideDirect() {
  onStage = false;
}

/** @param {Conversation | null} conversation */
function show(conversation) {
  const before = shown;
  onStage = true;
  if (before) {
    before.draft = page.text.value;
    before.current = false;
  }
  shown = conversation;
  document.body.dataset.pane = conversation ? 'chat' : 'list';
  page.chat.hidden = !conversation;
  page.welcome.hidden = conversation !== null;
  if (!conversation) {
    before?.focus();
    return;
  }
  conversation.current = true;
  page.chatPortrait.replaceChildren(portrait(conversation.peer));
  page.chatTitle.textContent = conversation.peer;
  page.logSlot.replaceChildren(conversation.log);
  page.text.value = conversation.draft;
  conversation.toEnd();
  markRead();
  // On a touch screen the focus would bring up a keyboard that hides the log.
  if (!matchMedia('(hover: none)').matches) page.text.focus();
}

/** What is on the screen has been read. */
function markRead() {
  if (shown && onStage && document.visibilityState === 'visible') {
    shown.unread = 0;
    shown.showUnread();
  }
  showUnread('direct', conversations.unread);
}

client.addEventListener('message', ({ detail: { senderId, text } }) => {
  const conversation = conversations.with(senderId.toLowerCase());
  conversation.received(text);
  conversations.touch(conversation, shown);
  conversation.unread++;
  conversation.showUnread();
  markRead();
  // The log that is shown announces its messages itself.
  if (conversation !== shown || !onStage) announce(`Message from ${shortAddress(conversation.peer)}: ${text}`);
});

/**
 * Sends a message, or sends it again.
 * @param {Conversation} conversation
 * @param {Delivery} delivery
 */
async function deliver(conversation, delivery) {
  delivery.sending();
  try {
    await client.send(conversation.peer, delivery.text);
    delivery.sent();
  } catch (error) {
    if (!(error instanceof ParleyError)) throw error;
    const why = reasons[error.code] ?? `Not sent: ${error.message}`;
    delivery.failed(why);
    announce(why);
  }
}

page.composer.addEventListener('submit', (event) => {
  event.preventDefault();
  const text = page.text.value;
  const conversation = shown;
  if (!conversation || text.trim() === '') return;
  page.text.value = '';
  if (document.activeElement !== page.text) page.text.focus();
  conversation.written(text, (delivery) => void deliver(conversation, delivery));
  conversations.touch(conversation, shown);
});

page.text.addEventListener('keydown', (event) => {
  // While an input method composes, Enter is the input method's.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  page.composer.requestSubmit();
});

page.main.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && shown && onStage && !event.isComposing) location.hash = '';
});

page.conversations.addEventListener('keydown', (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const links = [...page.conversations.querySelectorAll('a')];
  links[links.findIndex((link) => link === document.activeElement) + step]?.focus();
});

page.start.addEventListener('submit', (event) => {
  event.preventDefault();
  const peer = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/i.exec(page.peer.value)?.[0].toLowerCase();
  page.peer.setAttribute('aria-invalid', String(!peer));
  page.startError.textContent = peer ? '' : 'That holds no address: 36 characters, like the one above.';
  if (!peer) return;
  page.peer.value = '';
  if (location.hash === `#to=${peer}`) showDirect(location.hash);
  else location.hash = `to=${peer}`;
});

document.addEventListener('visibilitychange', markRead);

// The connection.

client.addEventListener('open', ({ detail: { clientId, node } }) => {
  const before = address;
  address = clientId.toLowerCase();
  lostBecause = '';
  page.address.textContent = address;
  page.node.textContent = node ? `on node ${node}` : '';
  showConnection();
  if (before === '' || before === address) return;
  for (const conversation of conversations) {
    conversation.note(`Your address is now ${shortAddress(address)}. They cannot answer to the old one: write first.`);
  }
});

client.addEventListener('gap', ({ detail: { reason } }) => {
  conversations.gap();
  if (reason === 'expired') notify('You are back under a new address. The old one no longer reaches you.', true);
  else announce('Messages may be missing');
});

client.addEventListener('session', ({ detail }) => saveSession(detail));

client.addEventListener('reconnecting', ({ detail: { delay, reason } }) => {
  retryAt = Date.now() + delay;
  lostBecause = reason;
  showConnection();
});

client.addEventListener('close', ({ detail: { code, reason } }) => {
  lostBecause = reason;
  takenOver = code === 4001;
  showConnection();
  if (takenOver) announce(page.troubleText.textContent ?? '');
});

client.addEventListener('state', ({ detail: { state } }) => {
  retryAt = 0;
  takenOver = false;
  showConnection();
  announce({ open: 'Connected', waiting: 'Connection lost, trying again', closed: 'Disconnected', connecting: '' }[state]);
});

function showConnection() {
  const { state } = client;
  page.status.dataset.state = state;
  page.statusText.textContent = {
    connecting: 'Connecting', open: 'Connected', waiting: 'Reconnecting', closed: takenOver ? 'Open elsewhere' : 'Disconnected',
  }[state];
  // An address that will be gone by the time the connection is back is not for giving away.
  for (const button of [page.copyLink, page.copyAddress, page.welcomeCopy, page.noticeCopy]) {
    button.disabled = address === '' || (state !== 'open' && client.token === null);
  }
  const away = state === 'waiting' || state === 'closed';
  page.trouble.hidden = !away;
  if (!away) return;
  page.trouble.classList.toggle('moved', takenOver);
  page.tryNow.textContent = takenOver ? 'Use it here' : 'Try now';
  if (takenOver) {
    page.troubleText.textContent = 'This address is open in another tab or window: messages arrive there now.';
    return;
  }
  const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  const next = state === 'closed' || retryAt === 0 ? '' : seconds > 0 ? ` Next try in ${seconds} s.` : ' Trying again.';
  const why = lostBecause && ` (${lostBecause})`;
  page.troubleText.textContent = `${navigator.onLine ? 'No connection' : 'You are offline'}${why}.${next}`;
}

// The wait is shown as it runs down.
setInterval(() => {
  if (client.state === 'waiting') showConnection();
}, 1000);

page.tryNow.addEventListener('click', () => client.connect());

// Notices, and what is given away.

/**
 * @param {string} text
 * @param {boolean} offerLink
 */
function notify(text, offerLink) {
  page.noticeText.textContent = text;
  page.noticeCopy.hidden = !offerLink;
  page.notice.hidden = false;
  announce(text);
}

page.noticeClose.addEventListener('click', () => { page.notice.hidden = true; });

const link = () => `${location.origin}/#to=${address}`;
copies(page.copyLink, link);
copies(page.welcomeCopy, link);
copies(page.noticeCopy, link);
copies(page.copyAddress, () => address);
copies(page.copyPeer, () => shown?.peer ?? '');

client.connect();
