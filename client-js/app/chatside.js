/** Rooms: one ChatClient, and the rooms of whoever is signed in. It connects when this side is first looked at. */

import { announce, showUnread } from './announcer.js';
import { page } from './elements.js';
import { chat as client, isLeaving, onSignIn, signIn, signsOut } from './entrance.js';
import { colour } from './roomlines.js';
import { RoomView } from './roomview.js';
import { Typing } from './typing.js';

/** @import {ChatRoom} from '/chat.js' */

const typing = new Typing();

/** By room, in the relay's order. @type {Map<string, RoomView<ChatRoom>>} */
let views = new Map();

/** The one on the right. @type {RoomView<ChatRoom> | null} */
let shown = null;

/** Whether the page shows this side. */
let onStage = false;

/** The room that the address bar names, which may not be known yet; '': none. */
let wanted = '';

/** Whether somebody was signed in, as far as this page knows. */
let wasSignedIn = false;

/** When the next connection is tried, in ms since the epoch; 0 while that is not known. */
let retryAt = 0;

/** Why there is no connection, as far as the relay or the client said. */
let lostBecause = '';

/**
 * The address bar names a room: `#room=<id>`; or none: `#rooms`.
 * @param {string} hash
 */
export function showRooms(hash) {
  onStage = true;
  try {
    wanted = decodeURIComponent(/^#room=(.*)$/.exec(hash)?.[1] ?? '');
  } catch {
    wanted = '';
  }
  if (client.state === 'closed' && page.signedOut.hidden) client.connect();
  show();
}

/** The other side is shown. */
export function hideRooms() {
  onStage = false;
  keepDraft();
}

function keepDraft() {
  if (shown) shown.draft = page.roomText.value;
}

onSignIn(() => { if (onStage || wasSignedIn) client.connect(); });

/** Shows the room that is wanted. */
function show() {
  const before = shown;
  keepDraft();
  if (before) before.current = false;
  shown = views.get(wanted) ?? null;
  if (onStage) document.body.dataset.pane = shown ? 'chat' : 'list';
  page.room.hidden = !shown;
  page.roomsWelcome.hidden = shown !== null;
  if (!shown) {
    typing.show('');
    if (onStage) before?.focus();
    return;
  }
  shown.current = true;
  page.roomTitle.textContent = shown.room.name;
  page.roomSlot.replaceChildren(shown.log);
  page.roomText.value = shown.draft;
  page.here.open = false;
  showHere();
  typing.show(shown.room.id);
  if (!onStage) return;
  shown.shown();
  markRead();
  // On a touch screen the focus would bring up a keyboard that hides the log.
  if (!matchMedia('(hover: none)').matches) page.roomText.focus();
}

/** What is on the screen has been read. */
function markRead() {
  if (shown && onStage && shown.following && document.visibilityState === 'visible') shown.unread = 0;
  let sum = 0;
  for (const view of views.values()) {
    view.showLast();
    sum += view.unread;
  }
  showUnread('rooms', sum);
  page.roomNew.hidden = !shown || shown.following || shown.unread === 0;
  page.roomNew.textContent = `${shown?.unread} new ${shown?.unread === 1 ? 'message' : 'messages'}`;
}

/** Who is in the room that is shown. */
function showHere() {
  const online = [...shown?.room.online ?? []].sort((a, b) => a.username.localeCompare(b.username));
  page.hereCount.textContent = `${online.length} here`;
  page.hereList.replaceChildren(...online.map(({ id, username }) => {
    const item = document.createElement('li');
    item.textContent = id === client.me?.id ? `${username} (you)` : username;
    colour(item, id);
    return item;
  }));
}

/** Shows the rooms that there are; what was shown of those that were there stays. */
function showAll() {
  const before = views;
  views = new Map();
  for (const room of client.rooms.values()) {
    const view = before.get(room.id) ?? new RoomView(client, room, markRead);
    views.set(room.id, view);
    view.update(room);
  }
  page.rooms.replaceChildren(...Array.from(views.values(), ({ item }) => item));
  page.noRooms.hidden = views.size > 0;
  if (!shown || shown !== views.get(wanted)) show();
  else showHere();
  markRead();
}

/** Nobody is signed in any more. */
function clear() {
  keepDraft();
  views = new Map();
  page.rooms.replaceChildren();
  page.roomSlot.replaceChildren();
  page.roomText.value = '';
  page.signedIn.hidden = true;
  show();
  markRead();
}

client.addEventListener('open', ({ detail: { me, fresh } }) => {
  lostBecause = '';
  if (fresh) clear();
  wasSignedIn = true;
  signIn.hide();
  page.username.textContent = me.username;
  page.logoutError.textContent = '';
  page.signedIn.hidden = false;
  showAll();
});

client.addEventListener('message', ({ detail: { roomId, message } }) => {
  const view = views.get(roomId);
  if (!view) return;
  const mine = message.user.id === client.me?.id;
  if (mine) view.pending.came(message.content);
  else view.unread++;
  typing.stopped(roomId, message.user);
  view.renderSoon();
  markRead();
  // The log that is shown announces its messages itself.
  if (!mine && (view !== shown || !onStage)) announce(`${message.user.username} in ${view.room.name}: ${message.content}`);
});

/** @param {string} roomId */
function render(roomId) {
  views.get(roomId)?.renderSoon();
}

client.addEventListener('history', ({ detail: { roomId } }) => render(roomId));
client.addEventListener('reset', ({ detail: { roomId } }) => render(roomId));
client.addEventListener('gap', ({ detail: { roomId } }) => {
  render(roomId);
  announce('Messages may be missing');
});
client.addEventListener('presence', ({ detail: { roomId } }) => {
  if (roomId === shown?.room.id) showHere();
});
client.addEventListener('typing', ({ detail: { roomId, user } }) => {
  if (user.id !== client.me?.id) typing.started(roomId, user);
});

page.roomComposer.addEventListener('submit', (event) => {
  event.preventDefault();
  const content = page.roomText.value;
  if (!shown || content.trim() === '') return;
  page.roomText.value = '';
  if (document.activeElement !== page.roomText) page.roomText.focus();
  shown.pending.write(content);
  shown.toEnd();
});

page.roomText.addEventListener('input', () => {
  if (shown && page.roomText.value.trim() !== '') client.typing(shown.room.id);
});

page.roomText.addEventListener('keydown', (event) => {
  // While an input method composes, Enter is the input method's.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  page.roomComposer.requestSubmit();
});

page.main.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || !shown || !onStage || event.isComposing) return;
  if (page.here.open) {
    page.here.open = false;
    page.here.querySelector('summary')?.focus();
  } else {
    location.hash = 'rooms';
  }
});

page.rooms.addEventListener('keydown', (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const links = [...page.rooms.querySelectorAll('a')];
  links[links.findIndex((link) => link === document.activeElement) + step]?.focus();
});

page.roomNew.addEventListener('click', () => {
  shown?.toEnd();
  page.roomText.focus();
});

// Elsewhere on the page a list that lies over it is in the way.
document.addEventListener('click', ({ target }) => {
  if (target instanceof Node && !page.here.contains(target)) page.here.open = false;
});

document.addEventListener('visibilitychange', markRead);

// The connection.

signsOut(page.logout, page.logoutError);

client.addEventListener('close', ({ detail: { signedOut, reason } }) => {
  lostBecause = reason;
  if (signedOut || isLeaving()) {
    clear();
    signIn.show(isLeaving() || !wasSignedIn ? '' : 'You were signed out, here or elsewhere.');
    if (wasSignedIn) announce('Signed out');
    wasSignedIn = false;
  }
  showConnection();
});

client.addEventListener('reconnecting', ({ detail: { delay, reason } }) => {
  retryAt = Date.now() + delay;
  lostBecause = reason;
  showConnection();
});

client.addEventListener('state', ({ detail: { state } }) => {
  retryAt = 0;
  showConnection();
  if (onStage) announce({ open: 'Connected', waiting: 'Connection lost, trying again', closed: '', connecting: '' }[state]);
});

function showConnection() {
  const { state } = client;
  page.roomsStatus.dataset.state = state;
  page.roomsStatusText.textContent = { connecting: 'Connecting', open: 'Connected', waiting: 'Reconnecting', closed: 'Not signed in' }[state];
  // Who is here is not known meanwhile.
  page.here.hidden = state !== 'open';
  page.roomsTrouble.hidden = state !== 'waiting';
  if (state !== 'waiting') return;
  const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  const next = retryAt === 0 ? '' : seconds > 0 ? ` Next try in ${seconds} s.` : ' Trying again.';
  const why = lostBecause && ` (${lostBecause})`;
  page.roomsTroubleText.textContent = `${navigator.onLine ? 'No connection' : 'You are offline'}${why}.${next}`;
}

// The wait is shown as it runs down.
setInterval(showConnection, 1000);

page.roomsTryNow.addEventListener('click', () => client.connect());
