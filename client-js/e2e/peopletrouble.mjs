/** What goes wrong for users who look at people and groups: notifications that are lost, and messages that do not go through. */

import assert from 'node:assert/strict';

/** Somebody's notifications are lost; the words are put in the relay's mouth, since it loses nothing by itself. */
export async function gap(alice, user, shots) {
  const { page } = user;
  user.tampered = true;
  await user.signUp('gapster');
  await alice.finds('gapster', 'gapster');
  await alice.openFound('gapster');
  await alice.write('Before');
  await user.unreadOf('person', 'alice', 1);
  await user.choosePartner('person', 'alice');
  let id = '';
  const polls = [];
  await page.route('**/me?*', async (route) => {
    const { searchParams } = new URL(route.request().url());
    if (id === '') id = searchParams.get('after');
    // Held back until it is told what to say.
    if (searchParams.get('after') === id && polls.length < 2) polls.push(route);
    else await route.continue();
  });
  await page.context().setOffline(true);
  await page.context().setOffline(false);
  await page.evaluate(() => window.dispatchEvent(new Event('online')));
  await alice.write('Missed');
  await until('a poll is held back', () => polls.length > 0);
  await polls.at(-1).fulfill({ contentType: 'application/json', body: JSON.stringify({ notifications: [{ notification: 'gap', id }] }) });
  await user.reads('Missed');
  await page.waitForFunction(() => /may be missing/.test(document.querySelector('#notices').textContent));
  await user.shot(shots, 'people-gap-light');
  assert.deepEqual(await user.heard(), ['Before', 'Missed']);
}

/** Somebody whose messages do not go through at first. */
export async function sendAgain(alice, user, shots) {
  const { page } = user;
  user.tampered = true;
  await user.signUp('sendagain');
  await user.finds('alice', 'alice');
  await user.openFound('alice');
  await page.fill('#talk-text', 'x'.repeat(200_000));
  await page.press('#talk-text', 'Enter');
  const failed = page.locator('#talk-slot .pending [data-delivery="failed"]');
  await failed.waitFor();
  assert.match(await failed.locator('.delivery').textContent(), /too long/);
  await failed.locator('.discard').click();
  await failed.waitFor({ state: 'detached' });

  let cut = true;
  await page.route('**/Users/*', async (route) => {
    if (!cut || route.request().method() !== 'POST') return route.continue();
    cut = false;
    return route.abort();
  });
  await page.fill('#talk-text', 'cut me');
  await page.press('#talk-text', 'Enter');
  await failed.waitFor();
  assert.match(await failed.locator('.delivery').textContent(), /may not have arrived/);
  await user.shot(shots, 'people-failed-light');
  await failed.locator('.retry:not(.discard)').click();
  await failed.waitFor({ state: 'detached' });
  await user.reads('cut me');
  await alice.choosePartner('person', 'sendagain');
  await alice.reads('cut me');
  assert.deepEqual(await alice.heard(), ['cut me']);
}

/** Waits until something is so. */
async function until(what, holds) {
  for (const end = Date.now() + 30_000; !holds(); await new Promise((resolve) => { setTimeout(resolve, 10); })) assert.ok(Date.now() < end, what);
}
