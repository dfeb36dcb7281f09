/** The board: one RoomClient, and the drawing that it shares with whoever has the board's link. */

import { RoomClient, RoomsApi } from '/relayroom.js';
import { announce } from './announcer.js';
import { BoardCanvas, hueOf } from './canvas.js';
import { copies } from './copying.js';
import { page } from './elements.js';
import { People } from './people.js';
import { saveBoard, savedBoard } from './saved.js';
import { Sharing } from './sharing.js';

/** @import {RoomError} from '/relayroom.js' */

/** How many may draw on a board at once. */
const PLACES = 10;

/** How long a page that was loaded anew waits for the place that it had, in ms; then it comes as somebody new. */
const REJOIN = 5_000;

/** How long a notice stands, in ms. */
const LINGER = 12_000;

const client = new RoomClient();
const sharing = new Sharing(client, changed, () => void people.look());
const people = new People(client, looked);
const canvas = new BoardCanvas(page.canvas, page.canvasCursor, sharing);

/** The board that this page is at, or on its way to. @type {{roomId: number, secret: number} | null} */
let board = null;

/** The room that this page has made last. @type {number | null} */
let made = null;

/** Whether it was there once, and whether it has had the drawing. */
let arrived = false;
let drawn = false;

/** Whether it has noted that the connection is lost. */
let away = false;

/** Who was host when this page was told last; null: it was told of nobody. @type {number | null} */
let lastHost = null;

/** Whether it was here before, and has come back. */
let isBack = false;

/** Whether the page shows this side. */
let onStage = false;

/** When the next connection is tried, in ms since the epoch; 0 while that is not known. */
let retryAt = 0;

/** Why there is no connection, as far as the relay or the client said. */
let lostBecause = '';

/** @type {ReturnType<typeof setTimeout> | undefined} */
let noticeTimer;

/** What is told while the host is silent. */
const SILENT = 'The host does not answer. If its connection is gone, somebody else is host within 15 seconds. Keep drawing: nothing is lost.';

// Which board.

/**
 * The address bar names a board, `#board=<room>.<secret>`, or the menu, `#board`.
 * @param {string} hash
 */
export function showBoard(hash) {
  onStage = true;
  const wanted = boardOf(hash);
  if (!wanted && hash.startsWith('#board=')) {
    say('That link does not lead to a board.');
    location.replace('#board');
    return;
  }
  document.body.dataset.pane = wanted ? 'chat' : 'list';
  if (wanted && (wanted.roomId !== board?.roomId || wanted.secret !== board.secret)) void enter(wanted);
  show();
}

/** Another side is shown. */
export function hideBoard() {
  onStage = false;
  canvas.lift();
}

/**
 * @param {string} text  A link, or its end.
 * @returns {{roomId: number, secret: number} | null}
 */
function boardOf(text) {
  const [, roomId, secret] = /#?board=(\d{1,10})\.(\d{1,10})\s*$/.exec(text) ?? [];
  return roomId === undefined ? null : { roomId: Number(roomId), secret: Number(secret) };
}

/** @param {{roomId: number, secret: number}} place */
function hashOf({ roomId, secret }) {
  return `#board=${roomId}.${secret}`;
}

/** @param {{roomId: number, secret: number}} place */
async function enter(place) {
  client.leave();
  board = place;
  arrived = drawn = away = false;
  lastHost = null;
  isBack = false;
  lostBecause = '';
  say('');
  hideNotice();
  const saved = savedBoard(place);
  sharing.reset(saved?.drawing);
  people.reset();
  show();
  try {
    if (saved && await comesBack({ ...place, clientId: saved.clientId, clientSecret: saved.clientSecret, rejoinTimeout: REJOIN })) return;
    if (board === place) await client.join(place);
  } catch (error) {
    if (board === place) refused(/** @type {RoomError} */ (error));
  }
}

/**
 * Takes the place back that this tab had, if that is still to be had.
 * @param {Parameters<RoomClient["join"]>[0]} place
 */
async function comesBack(place) {
  try {
    await client.join(place);
    return true;
  } catch (error) {
    if (/** @type {RoomError} */ (error).code === 'CLOSED') throw error;
    return false;
  }
}

/** @param {RoomError} error */
function refused({ code, message }) {
  if (code === 'CLOSED') return;
  stop();
  say(/full/.test(message) ? 'That board is full.' : code === 'BAD_ANSWER' ? 'This relay has no rooms, so there are no boards here.'
    : `That board is not to be had (${message}). Perhaps it has ended: a board ends when the last one leaves it, or a while after nobody is there any more.`);
}

/** The page is at no board any more. */
function stop() {
  canvas.lift();
  board = null;
  hideNotice();
  if (onStage) location.hash = 'board';
  show();
}

/** Says what is wrong, where one makes and joins boards. @param {string} text */
function say(text) {
  page.boardProblem.textContent = text;
}

/** The relay's rooms, with the token if somebody has given one. */
function rooms() {
  const token = page.boardToken.value.trim();
  return new RoomsApi({ ...token && { token } });
}

page.boardNew.addEventListener('submit', async (event) => {
  event.preventDefault();
  page.boardMake.disabled = true;
  say('');
  try {
    const { id: roomId, secret } = await rooms().create(PLACES);
    made = roomId;
    location.hash = hashOf({ roomId, secret });
  } catch (error) {
    const { code, message } = /** @type {RoomError} */ (error);
    if (code === 'UNAUTHORIZED') page.boardTokenField.hidden = false;
    say({
      UNAUTHORIZED: page.boardToken.value === '' ? 'This relay lets only those make boards who have its token. Whoever has a link can join.' : 'That is not its token.',
      BAD_ANSWER: 'This relay has no rooms, so there are no boards here.',
      NETWORK: 'The relay does not answer. Try again.',
      UNAVAILABLE: 'Boards are not to be had right now: the relay does not reach its store. Try again.',
      REFUSED: 'There are too many boards on this relay: no place for another one. Try later: a board in which nobody is ends after an hour, or at once when the last one leaves it by \u201cLeave\u201d. Whoever runs the relay can make more places (--rooms-max-clients).',
    }[code] ?? `That did not work: ${message}.`);
  }
  page.boardMake.disabled = false;
});

page.boardJoin.addEventListener('submit', (event) => {
  event.preventDefault();
  const wanted = boardOf(page.boardLink.value);
  page.boardLinkError.textContent = wanted ? '' : 'That is no link of a board.';
  page.boardLink.setAttribute('aria-invalid', String(!wanted));
  if (!wanted) return;
  page.boardLink.value = '';
  location.hash = hashOf(wanted);
});

page.boardLink.addEventListener('input', () => {
  page.boardLinkError.textContent = '';
  page.boardLink.removeAttribute('aria-invalid');
});

page.boardLeave.addEventListener('click', () => {
  const left = people.alone || !arrived && board?.roomId === made ? board : null;
  saveBoard(null);
  client.leave();
  stop();
  // Else its places would be taken for as long as the relay keeps it. Where only those with a token may, it does.
  if (left) void rooms().delete(left.roomId).catch(() => {});
});

copies(page.boardCopy, () => `${location.origin}/${board ? hashOf(board) : '#board'}`);

// The board.

function changed() {
  drawn ||= sharing.synced;
  page.canvasWaiting.hidden = drawn;
  page.canvas.inert = !drawn;
  page.canvas.setAttribute('aria-label', `The drawing: ${sharing.drawing.strokes.size} strokes`);
  // For those who look at the page from outside.
  page.canvas.dataset.pending = String(sharing.pending.length);
  canvas.show();
}

page.pens.addEventListener('change', ({ target }) => {
  if (target instanceof HTMLInputElement) canvas.pen = Number(target.value);
});

page.boardClear.addEventListener('click', () => {
  sharing.clear();
  people.note('You cleared the board');
});

page.board.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') location.hash = 'board';
});

/** Keeps what leads back to the place that this page has. */
function keep() {
  if (!board || !client.session) return;
  const { age, strokes } = sharing.drawing;
  saveBoard({ ...client.session, drawing: { age, strokes: [...strokes.values()] } });
}

window.addEventListener('pagehide', keep);

// The host, and the connection.

client.addEventListener('connect', ({ detail: { clientId, rejoined } }) => {
  arrived = true;
  page.pens.style.setProperty('--hue', String(hueOf(clientId)));
  people.note(rejoined ? `You are back as guest ${clientId + 1}` : `You are guest ${clientId + 1}`);
  isBack = rejoined;
  void people.look();
  show();
});

/** Who has come back was told of no change of the host meanwhile. */
function looked() {
  const { hostId, isHost } = client;
  if (hostId !== null && hostId !== lastHost) {
    if (isBack && !isHost) {
      people.note(`${people.name(hostId)} is the host now`);
      if (lastHost !== null) notify(`The host has changed: it is ${people.name(hostId)} now.`);
    }
    lastHost = hostId;
  }
  show();
}

client.addEventListener('host', ({ detail: { host } }) => {
  if (host) {
    lastHost = client.clientId;
    people.note('You are the host');
  }
  show();
});

client.addEventListener('migratebegin', () => {
  people.note('The host changes');
  notify('The host changes. Keep drawing: nothing is lost.');
  show();
});

client.addEventListener('migratefinish', ({ detail: { hostId, host } }) => {
  lastHost = hostId;
  if (!host) people.note(`${people.name(hostId)} is the host now`);
  notify(host ? 'The host has changed: it is you. What the others draw goes through this page.' : `The host has changed: it is ${people.name(hostId)} now.`);
  show();
});

client.addEventListener('error', ({ detail: { code } }) => {
  if (code === 'GAP') people.note('Something may be missing: asking the host for the drawing');
});

client.addEventListener('closed', ({ detail: { end, reason } }) => {
  if (end === 'left' || !arrived) return;
  if (end === 'kicked' && board) {
    keep();
    page.boardLink.value = `${location.origin}/${hashOf(board)}`;
  }
  say({
    kicked: 'The host has sent you away. The link still leads back.',
    room: 'That board was ended.',
    refused: `You lost your place at the board (${reason}).`,
  }[end]);
  stop();
  announce(page.boardProblem.textContent ?? '');
});

client.addEventListener('reconnecting', ({ detail: { delay, reason, code } }) => {
  retryAt = Date.now() + delay;
  lostBecause = code === 400 ? 'the relay still holds your place for your old connection' : reason;
  show();
  if (!arrived) void lookForRooms();
});

/** Nothing came of the first connection: perhaps there is nothing to connect to. */
async function lookForRooms() {
  const wanted = board;
  try {
    await new RoomsApi().summary();
  } catch (error) {
    if (/** @type {RoomError} */ (error).code !== 'BAD_ANSWER' || board !== wanted || arrived) return;
    client.leave();
    refused(/** @type {RoomError} */ (error));
  }
}

client.addEventListener('state', ({ detail: { state } }) => {
  retryAt = 0;
  if (state === 'open') away = false;
  if (state === 'waiting' && arrived && !away) {
    away = true;
    people.note('Connection lost');
    hideNotice(); // who is host now nobody knows
  }
  show();
});

/** @param {string} text */
function notify(text) {
  page.boardNoticeText.textContent = text;
  page.boardNotice.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(hideNotice, LINGER);
}

function hideNotice() {
  page.boardNotice.hidden = true;
}

page.boardNoticeClose.addEventListener('click', hideNotice);
page.boardTryNow.addEventListener('click', () => client.hasten());

/** Shows where the page is, who is host, and how the connection is. */
function show() {
  const { state, isHost, hostId } = client;
  page.boardOut.hidden = board !== null;
  page.boardIn.hidden = board === null;
  page.board.hidden = board === null;
  page.boardWelcome.hidden = board !== null;
  page.toBoard.href = page.toDrawing.href = board ? hashOf(board) : '#board';
  page.boardStatus.dataset.state = state;
  page.boardStatusText.textContent = { connecting: 'Connecting', open: 'Connected', waiting: 'Reconnecting', closed: 'No board' }[state];
  page.boardHost.dataset.host = isHost ? 'me' : hostId === null ? 'none' : 'other';
  page.boardHost.textContent = isHost ? 'You are the host' : hostId === null ? 'Looking for the host' : `Host: ${people.name(hostId)}`;
  page.boardClear.hidden = !isHost;
  page.boardAlone.hidden = !people.alone;
  people.show();
  showTrouble();
}

function showTrouble() {
  const { state } = client;
  if (state === 'open' && sharing.stuck) notify(SILENT);
  else if (page.boardNoticeText.textContent === SILENT) hideNotice();
  // Also while it waits for its place, which it does with a connection.
  page.boardTrouble.hidden = board === null || state === 'open' || retryAt === 0;
  if (page.boardTrouble.hidden) return;
  const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  const next = seconds > 0 ? ` Next try in ${seconds} s.` : ' Trying again.';
  const why = lostBecause && ` (${lostBecause})`;
  page.boardTroubleText.textContent = `${navigator.onLine ? 'No connection' : 'You are offline'}${why}.${next}`;
}

// The wait is shown as it runs down.
setInterval(showTrouble, 1000);
