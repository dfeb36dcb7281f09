/**
 * Signing in at the issuer, in Chromium.
 *
 *   node signin.e2e.mjs --url http://localhost:PORT [--url2 http://localhost:PORT] [--all] [--shots DIR]
 *
 * The browser begins at --url and the issuer sends it back to --url2. /home there shows
 * whose session it has, as `NAME (ID)` in #who, and in #navigated what the page itself was asked
 * for with. With --all everything is tried; there is an account with a password then
 * that has the email taken@example.com.
 */

import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { run } from './browser.mjs';

const { values: { url, url2 = url, all, shots } } = parseArgs({
  options: { url: { type: 'string' }, url2: { type: 'string' }, all: { type: 'boolean' }, shots: { type: 'string' } },
});

const HOME = '/home?day=today#top';
const login = (redirect) => `${url}/auth/login?redirect=${encodeURIComponent(redirect)}`;

/** Waits until somebody is at home, and returns who it is there. */
async function atHome({ page }) {
  await page.waitForURL(url2 + HOME);
  await page.waitForFunction(() => document.querySelector('#who')?.textContent !== '');
  return page.textContent('#who');
}

await run(async ({ open, check }) => {
  let who;

  await check('the first time makes an account', async () => {
    const alice = await open(login(HOME));
    await alice.signIn('alice');
    who = await atHome(alice);
    assert.match(who, /^alice \(\d+\)$/);
    const cookies = await alice.cookies();
    assert.deepEqual([...cookies.keys()], ['sid']);
    assert.equal(cookies.get('sid').sameSite, 'Lax');
    assert.equal(cookies.get('sid').httpOnly, true);
    assert.equal(await alice.page.textContent('#navigated'), who, 'the cookie came along, across sites');
  });

  await check('the second time finds it', async () => {
    const alice = await open(login(HOME));
    await alice.signIn('alice');
    assert.equal(await atHome(alice), who);
    await alice.page.goto(login(HOME)); // the issuer knows the browser now
    await alice.consent();
    assert.equal(await atHome(alice), who);
  });

  if (!all) return;

  await check('one who cancels is told, and may try again', async () => {
    const bob = await open(login(HOME));
    await bob.cancel();
    await bob.told('You are not signed in', shots);
    assert.equal((await bob.cookies()).size, 0);
    await bob.page.click('text=Try again');
    await bob.signIn('bob');
    assert.match(await atHome(bob), /^bob-\d+ \(\d+\)$/, 'a short name gets longer');
  });

  await check('two tabs sign in at once', async () => {
    const one = await open(login(HOME));
    const two = await one.tab(login(HOME));
    await two.signIn('caroline');
    const name = await atHome(two);
    await one.signIn('caroline');
    assert.equal(await atHome(one), name);
    assert.deepEqual([...(await one.cookies()).keys()], ['sid']);
  });

  await check('what has ended does not begin again, and not in another browser', async () => {
    const dora = await open(login(HOME));
    const [back] = await Promise.all([
      dora.page.waitForRequest((request) => new URL(request.url()).pathname === '/auth/callback'),
      dora.signIn('dora'),
    ]);
    await atHome(dora);
    await dora.page.goto(back.url());
    await dora.told('This sign-in is not under way', shots);
    const eve = await open(back.url());
    await eve.told('This sign-in is not under way');
    assert.equal((await eve.cookies()).size, 0);
  });

  await check('one without an email is told', async () => {
    const visitor = await open(login(HOME));
    await visitor.signIn('nomail');
    await visitor.told('Your email address is missing', shots);
  });

  await check('an account with a password is not taken over', async () => {
    const visitor = await open(login(HOME));
    await visitor.signIn('taken');
    await visitor.told('There is an account with your email address', shots);
    assert.equal((await visitor.cookies()).size, 0);
  });

  await check('nobody is sent elsewhere', async () => {
    for (const redirect of ['https://evil.test/', '//evil.test/', '/\\evil.test', '/\t/evil.test', '\\\\evil.test', 'https:evil.test', '/%2f%2fevil.test',
      '/%5cevil.test', 'javascript:alert(1)', ' //evil.test', '/a/..//evil.test', '/auth/login']) {
      const visitor = await open(login(redirect));
      await visitor.told('This link is not right', redirect.startsWith('//') && shots);
      assert.equal(new URL(visitor.page.url()).origin, new URL(url).origin);
      await visitor.context.close();
    }
  });
});
