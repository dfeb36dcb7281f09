/** What this tab keeps, so that the page goes on with it when it is loaded anew: its session, and its board. */

/** @import {RoomSession} from '/relayroom.js' */
/** @import {Stroke} from './drawing.js' */

const KEY = 'parley.session';
const BOARD_KEY = 'parley.board';

/**
 * What was kept last; nothing in a tab that is new, or that may keep nothing.
 * @returns {{token?: string, last?: string}}
 */
export function savedSession() {
  try {
    const { token, last } = JSON.parse(sessionStorage.getItem(KEY) ?? '{}');
    return { token, last };
  } catch {
    return {};
  }
}

/** @param {{token: string | null, last: string | null}} session */
export function saveSession(session) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(session));
  } catch {
    // A browser that lets the page keep nothing: the address ends with the page.
  }
}

/** A board, the place on it, and what was drawn. @typedef {RoomSession & {drawing: {age: number, strokes: Stroke[]}}} SavedBoard */

/**
 * The board that was kept last, if it is this one.
 * @param {{roomId: number, secret: number}} board
 * @returns {SavedBoard | null}
 */
export function savedBoard({ roomId, secret }) {
  try {
    const saved = JSON.parse(sessionStorage.getItem(BOARD_KEY) ?? 'null');
    return saved?.roomId === roomId && saved.secret === secret && Number.isInteger(saved.clientId) ? saved : null;
  } catch {
    return null;
  }
}

/** @param {SavedBoard | null} board  None: what was kept is forgotten. */
export function saveBoard(board) {
  try {
    if (board) sessionStorage.setItem(BOARD_KEY, JSON.stringify(board));
    else sessionStorage.removeItem(BOARD_KEY);
  } catch {
    // The page that is loaded anew comes as somebody new, to a board that the others keep.
  }
}
