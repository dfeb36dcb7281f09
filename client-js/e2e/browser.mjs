/** Chromium for the end-to-end test, and the sample app as one of its users sees it. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

/** How long anything on the page may take, in ms: far longer than it does. */
const PATIENCE = 30_000;

/** Starts Chromium, at CHROMIUM or where Debian has it. */
export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: FLAGS });
}

/** Someone with the app open in a browser profile of their own. */
export class User {
  /** What went wrong in the page: errors, and what its policy blocked. */
  troubles = [];
  /** The origins that it asked for anything. */
  origins = new Set();

  /**
   * Opens the app.
   * @param {import('playwright-core').Browser} browser
   * @param {string} url
   * @param {import('playwright-core').BrowserContextOptions} [options]
   */
  static async open(browser, url, options = {}) {
    const context = await browser.newContext({
      viewport: { width: 1180, height: 760 }, permissions: ['clipboard-read', 'clipboard-write'], reducedMotion: 'reduce', ...options,
    });
    context.setDefaultTimeout(PATIENCE);
    const user = new this(await context.newPage());
    await user.watch();
    await user.page.goto(url);
    await user.connected();
    return user;
  }

  /** @param {import('playwright-core').Page} page */
  constructor(page) {
    this.page = page;
  }

  /** Keeps account of what happens in the page from here on. */
  async watch() {
    const { page } = this;
    page.on('pageerror', (error) => this.troubles.push(String(error)));
    page.on('console', (message) => {
      if (message.type() === 'error') this.troubles.push(message.text());
    });
    page.on('request', (request) => this.origins.add(new URL(request.url()).origin));
    // Kept by the page, so that a state which lasts a moment only is seen too.
    await page.addInitScript(() => {
      window.seen = { deliveries: [], troubles: [] };
      new MutationObserver((changes) => {
        for (const { target } of changes) {
          if (target.matches('.message')) window.seen.deliveries.push(target.dataset.delivery);
          if (target.id === 'trouble' && !target.hidden) window.seen.troubles.push(target.innerText);
        }
      }).observe(document, { attributes: true, attributeFilter: ['data-delivery', 'hidden'], subtree: true });
    });
  }

  /** Waits until the app is connected, and returns its address. */
  async connected() {
    await this.page.waitForFunction(() => document.querySelector('#status').dataset.state === 'open'
      && document.querySelector('#address').textContent.trim() !== '');
    return this.address();
  }

  /** Waits until the app says that another page has its address. */
  async movedAway() {
    await this.page.waitForSelector('#trouble.moved:not([hidden])');
  }

  async address() {
    return (await this.page.textContent('#address')).trim();
  }

  async node() {
    return (await this.page.textContent('#node')).replace('on node', '').trim();
  }

  /** Opens the conversation with an address by typing it. */
  async startWith(address) {
    await this.page.fill('#peer', address);
    await this.page.press('#peer', 'Enter');
    await this.shows(address);
  }

  /** Sends a message in the conversation that is open, and waits for its delivery state. */
  async write(text, delivery = 'sent') {
    const mine = this.page.locator('.message.mine');
    const before = await mine.count();
    await this.page.fill('#text', text);
    await this.page.press('#text', 'Enter');
    const message = mine.nth(before);
    await message.and(this.page.locator(`[data-delivery="${delivery}"]`)).waitFor();
    return message;
  }

  /** Waits for a message of the other side in the conversation that is open; the text has to be exactly this. */
  async reads(text) {
    await this.page.waitForFunction((wanted) => [...document.querySelectorAll('.message.theirs .body')]
      .some((body) => body.textContent === wanted), text);
  }

  /** What the other side wrote in the conversation that is open. */
  heard() {
    return this.page.locator('.message.theirs .body').allTextContents();
  }

  /** Waits until a conversation in the list has so many unread messages. */
  async unread(peer, count) {
    await this.page.waitForFunction(([href, wanted]) => document
      .querySelector(`.peer[href="${href}"] .unread:not([hidden])`)?.textContent === wanted, [`#to=${peer}`, String(count)]);
  }

  /** Opens a conversation from the list. */
  async choose(peer) {
    await this.page.click(`.peer[href="#to=${peer}"]`);
    await this.shows(peer);
  }

  /** Waits until the conversation with a peer is the one that is shown. */
  async shows(peer) {
    await this.page.waitForFunction((wanted) => !document.querySelector('#chat').hidden
      && document.querySelector('#chat-title').textContent === wanted, peer);
  }

  /** The element that has the focus, as `#id` or `.class`. */
  focus() {
    return this.page.evaluate(() => {
      const { id, className } = document.activeElement;
      return id ? `#${id}` : `.${className}`;
    });
  }

  /** Nothing may be wider than the screen. */
  async fits() {
    const [content, screen] = await this.page.evaluate(() => [document.scrollingElement.scrollWidth, innerWidth]);
    assert.ok(content <= screen, `the page is ${content} pixels wide on a screen of ${screen}`);
  }

  /** Takes a picture of the page, if there is a place for it. */
  async shot(directory, name) {
    if (directory) await this.page.screenshot({ path: join(directory, `${name}.png`) });
  }
}
