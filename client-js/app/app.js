/** The sample app: direct messages on one side, rooms on the other, and the address bar says which. */

import { hideRooms, showRooms } from './chatside.js';
import { hideDirect, showDirect } from './direct.js';
import { page } from './elements.js';

function showWhatHashSays() {
  const { hash } = location;
  const rooms = /^#rooms?(=|$)/.test(hash);
  document.body.dataset.side = rooms ? 'rooms' : 'direct';
  mark(page.toDirect, !rooms);
  mark(page.toRooms, rooms);
  if (rooms) {
    hideDirect();
    showRooms(hash);
  } else {
    hideRooms();
    showDirect(hash);
  }
}

/**
 * @param {HTMLElement} link
 * @param {boolean} current
 */
function mark(link, current) {
  if (current) link.setAttribute('aria-current', 'page');
  else link.removeAttribute('aria-current');
}

window.addEventListener('hashchange', showWhatHashSays);
showWhatHashSays();
