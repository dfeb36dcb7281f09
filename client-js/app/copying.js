/** Buttons that copy something. */

import { announce } from './announcer.js';

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages without TLS have no clipboard of the first kind.
    const field = document.createElement('textarea');
    field.value = text;
    field.className = 'sr-only';
    document.body.append(field);
    field.select();
    document.execCommand('copy');
    field.remove();
  }
}

/**
 * @param {HTMLButtonElement} button
 * @param {() => string} text  What it copies.
 */
export function copies(button, text) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  button.addEventListener('click', async () => {
    await copy(text());
    button.focus();
    announce('Copied');
    button.classList.add('copied');
    clearTimeout(timer);
    timer = setTimeout(() => button.classList.remove('copied'), 1500);
  });
}
