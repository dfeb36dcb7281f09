/** The rooms of the sample app as one of their users sees them. */

import { User } from './browser.mjs';

export const PASSWORD = 'correct horse battery';

/** Someone who looks at the rooms' side of the app. */
export class RoomUser extends User {
  /** Opens the app at its rooms. */
  static async open(browser, url, options = {}) {
    const user = await this.openAt(browser, `${url}/#rooms`, options);
    await user.page.waitForSelector('#login');
    return user;
  }

  /** Opens the app at some side of it. */
  static openAt(browser, url, options) {
    return User.open.call(this, browser, url, options);
  }

  async connected() {
    await this.page.waitForFunction(() => document.querySelector('#rooms-status').dataset.state === 'open'
      || !document.querySelector('#signed-out').hidden);
    return '';
  }

  /** Makes an account, and waits for the rooms. */
  async signUp(username) {
    const { page } = this;
    await page.click('#to-signup');
    await page.fill('#signup-username', username);
    await page.fill('#signup-email', `${username}@example.com`);
    await page.fill('#signup-password', PASSWORD);
    await page.press('#signup-password', 'Enter');
    await this.signedIn(username);
  }

  /** Signs in, and waits for the rooms. */
  async logIn(username) {
    const { page } = this;
    await page.fill('#login-email', `${username}@example.com`);
    await page.fill('#login-password', PASSWORD);
    await page.press('#login-password', 'Enter');
    await this.signedIn(username);
  }

  async signedIn(username) {
    await this.page.waitForFunction((name) => !document.querySelector('#signed-in').hidden
      && document.querySelector('#username').textContent === name, username);
    this.username = username;
  }

  /** The ids of the rooms, in the order of the list. */
  roomIds() {
    return this.page.locator('.room').evaluateAll((links) => links.map((link) => decodeURIComponent(link.hash.replace('#room=', ''))));
  }

  link(id) {
    return this.page.locator(`.room[href="#room=${encodeURIComponent(id)}"]`);
  }

  /** Opens a room from the list. */
  async choose(id) {
    await this.link(id).click();
    await this.page.waitForSelector('#room:not([hidden])');
  }

  /** Waits until a room in the list has so many unread messages; 0: until it has none. */
  async unread(id, count) {
    const badge = this.link(id).locator('.unread');
    if (count === 0) await badge.waitFor({ state: 'hidden' });
    else await badge.and(this.page.locator(`:text-is("${count}")`)).waitFor();
  }

  /** Sends a message in the room that is open, and waits until it has come back. */
  async write(text) {
    await this.page.fill('#room-text', text);
    await this.page.press('#room-text', 'Enter');
    await this.reads(text);
    await this.page.waitForFunction(() => !document.querySelector('#room-slot [data-delivery="sending"]'));
  }

  /** Waits for a message in the room that is open; the text has to be exactly this. */
  async reads(text) {
    await this.page.waitForFunction((wanted) => [...document.querySelectorAll('#room-slot .lines .body')]
      .some((body) => body.textContent === wanted), text);
  }

  /** All messages of the room that is open, from top to bottom. */
  heard() {
    return this.page.locator('#room-slot .lines .body').allTextContents();
  }

  /** Those who are here, by the list in the head of the room. */
  here() {
    return this.page.locator('#here-list li').allTextContents();
  }

  /** Sends many messages by another connection of this user, as many at a time as go. */
  async flood(roomId, contents) {
    await this.page.evaluate(async ([id, all]) => {
      const socket = new WebSocket('/api/ws');
      let [sent, back] = [0, 0];
      const next = () => {
        const messages = all.slice(sent, sent + 100).map((content) => ({ content }));
        sent += messages.length;
        socket.send(JSON.stringify({ type: 'clientMessages', payload: { roomId: id, messages } }));
      };
      await new Promise((resolve, reject) => {
        socket.onclose = ({ code }) => reject(new Error(`closed with ${code}`));
        socket.onmessage = ({ data }) => {
          const { type, payload } = JSON.parse(data);
          if (type === 'error') reject(new Error(payload.code));
          if (type === 'hello') next();
          // What comes back is what was sent: nobody else writes in the room meanwhile.
          if (type !== 'serverMessages' || payload.roomId !== id) return;
          back += payload.messages.length;
          if (back === all.length) resolve();
          else if (back === sent) next();
        };
      });
      socket.onclose = null;
      socket.close();
    }, [roomId, contents]);
  }

  /** Where a message is on the screen, in pixels from the top. */
  placeOf(text) {
    return this.page.evaluate((wanted) => [...document.querySelectorAll('#room-slot .lines .message')]
      .find((message) => message.querySelector('.body').textContent === wanted).getBoundingClientRect().top, text);
  }
}
