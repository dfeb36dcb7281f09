/** What the end-to-end tests have in common: users in one browser, parts that pass or fail, and a caller who kills nodes. */

import { mkdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { launch } from './browser.mjs';

/**
 * Starts a browser.
 * @template {import('./browser.mjs').User} U
 * @param {{open(browser: import('playwright-core').Browser, url: string, options?: object): Promise<U>}} type  Of the users.
 * @param {string | undefined} shots  The directory for pictures; none: no pictures.
 */
export async function start(type, shots) {
  if (shots) mkdirSync(shots, { recursive: true });
  const browser = await launch();
  /** @type {U[]} */
  const users = [];

  return {
    users,

    /** Opens the app for one more user. */
    async enter(address, options) {
      const user = await type.open(browser, address, options);
      users.push(user);
      return user;
    },

    /** Runs one part of the test, and says that it passed. */
    async check(what, run) {
      try {
        await run();
      } catch (error) {
        throw new Error(what, { cause: error });
      }
      console.log(`PASS ${what}`);
    },

    /** The next line on standard input. */
    nextLine() {
      return new Promise((resolve, reject) => {
        const lines = createInterface({ input: process.stdin });
        lines.once('line', (line) => resolve(line.trim()));
        lines.once('close', () => reject(new Error('standard input ended')));
      });
    },

    /** Runs the whole test, says how it went, and ends the browser. */
    async finish(run) {
      try {
        await run();
        console.log('PASS all');
      } catch (error) {
        console.error(`FAIL ${error.message}\n${error.cause?.stack ?? error.stack}`);
        for (const [i, user] of users.entries()) {
          if (user.troubles.length) console.error(`the page of user ${i} said: ${user.troubles.join('; ')}`);
          await user.shot(shots, `failed-${i}`).catch(() => {});
        }
        process.exitCode = 1;
      } finally {
        await browser.close();
        process.stdin.destroy(); // the caller may keep its end open
      }
    },
  };
}
