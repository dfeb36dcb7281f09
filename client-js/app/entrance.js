/** The way in that rooms and people have in common: one account, one session, one pair of forms. */

import { ChatClient } from '/chat.js';
import { PullApi } from '/pull.js';
import { page } from './elements.js';
import { SignIn } from './signin.js';

/** It signs in and out, by a cookie that all of the page's requests carry. */
export const chat = new ChatClient();

/** Who wants to be told that somebody has signed in, and that they have signed out here. @type {{in: (() => void)[], out: (() => void)[]}} */
const told = { in: [], out: [] };

export const signIn = new SignIn(chat, () => { for (const run of told.in) run(); });

/** Whether it is this page that signs out. */
let leaving = false;

/**
 * Has somebody told when somebody has signed in.
 * @param {() => void} run
 */
export function onSignIn(run) {
  told.in.push(run);
}

/**
 * Has somebody told when this page has signed out.
 * @param {() => void} run
 */
export function onSignOut(run) {
  told.out.push(run);
}

/** Whether it is this page that signs out. */
export function isLeaving() {
  return leaving;
}

/**
 * Has a button sign out.
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} problem  Where it says what has gone wrong.
 */
export function signsOut(button, problem) {
  button.addEventListener('click', async () => {
    button.disabled = true;
    leaving = true;
    problem.textContent = '';
    try {
      await chat.logOut();
      for (const run of told.out) run();
    } catch {
      problem.textContent = 'That did not work: the relay does not answer. Try again.';
    }
    leaving = false;
    button.disabled = false;
  });
}

/** Whether the relay has been asked how one may sign in. */
let asked = false;

/** Offers the sign-in elsewhere, if the relay has one. */
async function offerOpenID() {
  if (asked || page.signedOut.hidden) return;
  asked = true;
  try {
    const { methods, issuer } = await new PullApi().methods();
    if (!methods.includes('openid')) return;
    page.openidIssuer.textContent = issuer === null ? 'OpenID' : hostOf(issuer);
    page.openid.hidden = false;
  } catch {
    // Asked again when the forms are shown the next time.
    asked = false;
  }
}

/** @param {string} issuer */
function hostOf(issuer) {
  try {
    return new URL(issuer).host;
  } catch {
    return 'OpenID';
  }
}

/** One comes back to the side that one has come from. */
function aim() {
  page.openidLink.href = `/auth/login?redirect=${encodeURIComponent(/^#rooms?(=|$)/.test(location.hash) ? '/#rooms' : '/#people')}`;
}

window.addEventListener('hashchange', aim);
aim();

new MutationObserver(() => void offerOpenID()).observe(page.signedOut, { attributes: true, attributeFilter: ['hidden'] });
