/** A pull client on fakes: a relay whose every answer is scripted, and time that passes when told to. */

import { PullClient } from '../pull.js';
import { FakeClock, FakePage, settled } from './fakes.js';

export const ME = { id: 1, username: 'maria', email: 'maria@example.com' };

/** Notifications, by their ids. */
export const note = (id, from = 'yusuf') => ({ notification: 'new_private_message', from, id });
export const groupNote = (id, group = 'choir') => ({ notification: 'new_group_message', group, id });
export const created = (id, group = 'choir') => ({ notification: 'group_created', group, id });
export const gap = (id) => ({ notification: 'gap', id });

/** An answer as `fetch` gives one. */
export function answer(status, body, headers = {}) {
  const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  return {
    status,
    headers: { get: (name) => lower[name.toLowerCase()] ?? null },
    text: async () => (body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body)),
  };
}

/** A request that waits for the test to answer it. */
class Asked {
  constructor(url, { method, headers, body, credentials, signal }, settle) {
    this.url = new URL(url);
    this.method = method;
    this.headers = headers;
    this.body = body === undefined ? undefined : JSON.parse(body);
    this.credentials = credentials;
    this.signal = signal;
    this.settle = settle;
  }

  /** What a poll asks for, as [timeout, after]. */
  get poll() {
    const { searchParams } = this.url;
    return [Number(searchParams.get('timeout')), searchParams.get('after')];
  }
}

/**
 * A client on fakes. Its jitter is half of what it may be, its events are in `log` as
 * [type, detail], and what it asks is in `asked`, to be answered by `answer`.
 */
export function setUp(options = {}) {
  const clock = new FakeClock();
  const page = new FakePage();
  const asked = [];
  const log = [];
  const client = new PullClient({
    url: 'https://relay.test',
    clock,
    page,
    random: () => 0.5,
    fetch: (url, init) => new Promise((resolve, reject) => {
      asked.push(new Asked(url, init, { resolve, reject }));
      init.signal.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')));
    }),
    ...options,
  });
  for (const type of ['private', 'group', 'groupcreated', 'gap', 'place', 'error', 'reconnecting', 'close', 'state']) {
    client.addEventListener(type, ({ detail }) => { log.push([type, detail]); });
  }
  return {
    client,
    clock,
    page,
    asked,
    log,
    get last() {
      return asked.at(-1);
    },
    /** The details of all events of one type. */
    events: (type) => log.filter(([t]) => t === type).map(([, detail]) => detail),
    /** The ids of what was handed on. */
    heard: () => log.filter(([type]) => ['private', 'group', 'groupcreated', 'gap'].includes(type)).map(([, { id }]) => id),
    /** Answers the latest request. */
    async answer(status, body, headers) {
      asked.at(-1).settle.resolve(answer(status, body, headers));
      await settled();
    },
    /** Answers the latest poll with notifications. */
    async tell(...notifications) {
      await this.answer(200, notifications.length ? { notifications } : {});
    },
    async fail() {
      asked.at(-1).settle.reject(new TypeError('nobody there'));
      await settled();
    },
    async pass(ms) {
      clock.advance(ms);
      await settled();
    },
    /** Starts the client, until a poll is held. */
    async open() {
      client.start();
      await settled();
      await this.tell();
    },
  };
}
