/** Chromium, as somebody uses it who signs in. */

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

/** How long anything may take, in ms: far longer than it does. */
const PATIENCE = 30_000;

const PHONE = { viewport: { width: 360, height: 640 } };

/**
 * Runs a test with a browser, says how it went, and sets the exit code.
 * @param {(stage: {open: (url: string) => Promise<Visitor>, check: (what: string, run: () => Promise<void>) => Promise<void>}) => Promise<void>} test
 */
export async function run(test) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: FLAGS });
  /** @type {Visitor[]} */
  const visitors = [];
  try {
    await test({
      /** Somebody new, with cookies of their own, at an address. */
      async open(url) {
        const context = await browser.newContext(PHONE);
        context.setDefaultTimeout(PATIENCE);
        // The issuer's pages would have fonts from elsewhere.
        await context.route((address) => !['127.0.0.1', 'localhost'].includes(address.hostname), (route) => route.abort());
        const visitor = new Visitor(context, await context.newPage());
        visitors.push(visitor);
        await visitor.page.goto(url);
        return visitor;
      },
      async check(what, part) {
        try {
          await part();
        } catch (error) {
          throw new Error(what, { cause: error });
        }
        console.log(`PASS ${what}`);
      },
    });
    console.log('PASS all');
  } catch (error) {
    console.error(`FAIL ${error.message}\n${error.cause?.stack ?? error.stack}`);
    for (const { page } of visitors) console.error(`at ${page.url()}: ${await page.innerText('body').catch(() => '')}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}

/** Somebody in front of a browser. */
export class Visitor {
  constructor(context, page) {
    this.context = context;
    this.page = page;
  }

  /** The same person, in one more tab. */
  async tab(url) {
    const visitor = new Visitor(this.context, await this.context.newPage());
    await visitor.page.goto(url);
    return visitor;
  }

  /** Types a name at the issuer, with any password, and says yes to what it asks. */
  async signIn(name) {
    const { page } = this;
    await page.fill('input[name=login]', name);
    await page.fill('input[name=password]', 'any');
    await page.click('button:text("Sign-in")');
    await this.consent();
  }

  /** Says yes, if the issuer asks. */
  async consent() {
    const { page } = this;
    await page.waitForURL((url) => !url.pathname.startsWith('/interaction/') || !url.href.includes('login'));
    const button = page.locator('button:text("Continue")');
    if (new URL(page.url()).pathname.startsWith('/interaction/')) await button.click();
  }

  /** Says no. */
  async cancel() {
    await this.page.click('a:text("Cancel")');
  }

  /** Waits until the page is one of a node's about a failure, and checks how it looks. */
  async told(title, shots) {
    const { page } = this;
    await page.waitForFunction((wanted) => document.querySelector('h1')?.textContent === wanted, title);
    const [content, screen] = await page.evaluate(() => [document.scrollingElement.scrollWidth, innerWidth]);
    assert.ok(content <= screen, `the page is ${content} pixels wide on a screen of ${screen}`);
    assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector('h1')).fontSize), '24px', 'the policy lets the style in');
    if (shots) {
      mkdirSync(shots, { recursive: true });
      await page.screenshot({ path: join(shots, `openid-${title.toLowerCase().replaceAll(/\W+/g, '-')}.png`) });
    }
  }

  /** The cookies that nodes have set here, by name. */
  async cookies() {
    const all = await this.context.cookies();
    return new Map(all.filter(({ name }) => name === 'sid' || name.startsWith('openid-')).map((cookie) => [cookie.name, cookie]));
  }
}
