/**
 * Signing in to the sample app at the issuer, in Chromium.
 *
 *   node app.e2e.mjs --url http://localhost:PORT --url2 http://localhost:PORT
 *
 * The browser begins at --url, whose node has the issuer send it back to --url2.
 */

import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { run } from './browser.mjs';

const { values: { url, url2 } } = parseArgs({ options: { url: { type: 'string' }, url2: { type: 'string' } } });

/** Waits until the app says that somebody is signed in. */
const signedIn = ({ page }, username) => page.waitForFunction((name) => !document.querySelector('#signed-in').hidden
  && document.querySelector('#username').textContent === name, username);

await run(async ({ open, check }) => {
  await check('one who comes by the app is back in it, signed in', async () => {
    const alice = await open(`${url}/#rooms`);
    await alice.page.click('#openid-link');
    await alice.signIn('alice');
    await signedIn(alice, 'alice');
    assert.equal(alice.page.url(), `${url2}/#rooms`);
    await alice.page.reload();
    await signedIn(alice, 'alice');
    const me = await alice.page.evaluate(() => fetch('/Users/me').then((r) => r.json()));
    assert.deepEqual([me.username, me.email], ['alice', 'alice@example.com']);
  });

  await check('and so is one who comes again, by another node', async () => {
    const alice = await open(`${url2}/#rooms`);
    await alice.page.click('#openid-link');
    await alice.signIn('alice');
    await signedIn(alice, 'alice');
  });

  await check('one whose email has an account is told', async () => {
    const visitor = await open(`${url}/#rooms`);
    await visitor.page.click('#openid-link');
    await visitor.signIn('taken');
    await visitor.told('There is an account with your email address');
    await visitor.page.click('text=To the start page');
    await visitor.page.waitForURL(`${url2}/`);
  });
});
