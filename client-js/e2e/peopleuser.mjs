/** People and groups of the sample app as one of their users sees them. */

import { RoomUser } from './roomuser.mjs';

/** Someone who looks at the side of people. */
export class PeopleUser extends RoomUser {
  /** Opens the app at its people. */
  static async open(browser, url, options = {}) {
    const user = await super.openAt(browser, `${url}/#people`, options);
    await user.page.waitForSelector('#login', { state: 'visible' });
    return user;
  }

  async connected() {
    await this.page.waitForFunction(() => document.querySelector('#people-status').dataset.state === 'open'
      || !document.querySelector('#signed-out').hidden);
    return '';
  }

  async signedIn(username) {
    await this.page.waitForFunction((name) => !document.querySelector('#people-in').hidden
      && document.querySelector('#people-username').textContent === name, username);
    this.username = username;
  }

  /** Looks for a part of a name, and waits until exactly these are found. */
  async finds(text, ...names) {
    await this.page.fill('#find-text', text);
    await this.page.waitForFunction((wanted) => JSON.stringify([...document.querySelectorAll('#found .who')].map((who) => who.textContent)) === wanted,
      JSON.stringify(names));
  }

  /** Opens the conversation with somebody who was found. */
  async openFound(name) {
    await this.page.locator('#found a', { hasText: name }).click();
    await this.shows(name);
  }

  /** A line of the lists on the left. */
  line(kind, name) {
    return this.page.locator(`#${kind === 'person' ? 'contacts' : 'groups'} a[href="#${kind}=${encodeURIComponent(name)}"]`);
  }

  /** Opens a conversation from the lists. */
  async choosePartner(kind, name) {
    await this.line(kind, name).click();
    await this.shows(name);
  }

  /** Waits until a conversation is the one that is shown. */
  async shows(name) {
    await this.page.waitForFunction((wanted) => !document.querySelector('#talk').hidden && !document.querySelector('#talk-composer').hidden
      && document.querySelector('#talk-title').textContent === wanted, name);
  }

  /** Waits until a line has so many unread messages; 0: none. */
  async unreadOf(kind, name, count) {
    const badge = this.line(kind, name).locator('.unread');
    if (count === 0) await badge.waitFor({ state: 'hidden' });
    else await badge.and(this.page.locator(`:text-is("${count}")`)).waitFor();
  }

  /** Sends a message in the conversation that is open, and waits until it is stored. */
  async write(text) {
    await this.page.fill('#talk-text', text);
    await this.page.press('#talk-text', 'Enter');
    await this.reads(text);
    await this.page.waitForFunction(() => !document.querySelector('#talk-slot [data-delivery="sending"]'));
  }

  /** Waits for a message in the conversation that is open; the text has to be exactly this. */
  async reads(text) {
    await this.page.waitForFunction((wanted) => [...document.querySelectorAll('#talk-slot .lines .body')]
      .some((body) => body.textContent === wanted), text);
  }

  /** All messages of the conversation that is open, from top to bottom. */
  heard() {
    return this.page.locator('#talk-slot .lines .body').allTextContents();
  }

  /** Writes to somebody by requests of this page, one after another. */
  async post(path, messages) {
    await this.page.evaluate(async ([where, all]) => {
      const me = await (await fetch('/Users/me')).json();
      for (const message of all) {
        const answer = await fetch(where, {
          method: 'POST', headers: { 'Content-Type': 'application/json' },
          body: JSON.stringify(where.startsWith('/Groups') ? { userId: me.id, message } : { name: me.username, message }),
        });
        if (answer.status !== 201) throw new Error(`${where}: ${answer.status} ${await answer.text()}`);
      }
    }, [path, messages]);
  }

  /** The id of somebody. */
  idOf(username) {
    return this.page.evaluate(async (name) => (await (await fetch(`/Users?Name=${encodeURIComponent(name)}`)).json()).id, username);
  }

  /** Where a message is on the screen, in pixels from the top. */
  placeOf(text) {
    return this.page.evaluate((wanted) => [...document.querySelectorAll('#talk-slot .lines .message')]
      .find((message) => message.querySelector('.body').textContent === wanted).getBoundingClientRect().top, text);
  }
}
