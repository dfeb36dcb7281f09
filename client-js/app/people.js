/** Who is at the board, and what has happened there. */

import { announce } from './announcer.js';
import { hueOf } from './canvas.js';
import { clone, find, page } from './elements.js';

/** @import {RoomClient, RoomError, RoomMember} from '/relayroom.js' */

/** Lines that are kept of what happened. */
const LINES = 50;

/** How often everybody is asked for, in ms, besides when somebody comes or goes. */
const LOOK = 10_000;

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });

export class People {
  // Fixed after construction.
  /** @type {RoomClient} */ #client;
  /** @type {() => void} */ #looked;

  /** Who was here at the last look; null: before the first. @type {RoomMember[] | null} */ #members = null;
  /** Whether a list is on its way, and whether it may be too old already. */
  #asking = false;
  #again = false;
  /** Who was heard to come, how many, and how many of them the last look has seen. */
  #came = 0;
  #seen = 0;

  /**
   * @param {RoomClient} client
   * @param {() => void} looked  Who is here may be different now, and who is host.
   */
  constructor(client, looked) {
    this.#client = client;
    this.#looked = looked;
    client.addEventListener('clientconnect', ({ detail: { id } }) => { if (id !== client.clientId) this.#came++; });
    setInterval(() => { if (client.state === 'open') void this.look(); }, LOOK);
  }

  /** Nobody is known any more. */
  reset() {
    this.#members = null;
    page.happened.replaceChildren();
    page.peopleError.textContent = '';
    this.show();
  }

  /** Asks who is here. */
  async look() {
    this.#again = this.#asking;
    if (this.#asking) return;
    this.#asking = true;
    const came = this.#came;
    try {
      const members = await this.#client.list();
      this.#compare(this.#members, members);
      this.#members = members;
      this.#seen = came;
    } catch {
      // Without a connection nobody knows; the next one looks again.
    }
    this.#asking = false;
    this.#looked();
    if (this.#again) void this.look();
  }

  /** Whether nobody else is here, which only a host knows for certain: it is told who comes. */
  get alone() {
    return this.#client.isHost && this.#members?.length === 1 && this.#seen === this.#came;
  }

  /** What somebody is called here. @param {number | null} id */
  name(id) {
    if (id === null) return 'Nobody';
    return id === this.#client.clientId ? 'You' : `Guest ${id + 1}`;
  }

  show() {
    const { clientId, hostId, isHost } = this.#client;
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.does : undefined;
    page.peopleTitle.textContent = this.#members ? `Here (${this.#members.length})` : 'Here';
    page.people.replaceChildren(...(this.#members ?? []).map(({ id }) => {
      const item = clone('person');
      item.style.setProperty('--hue', String(hueOf(id)));
      item.dataset.id = String(id);
      find(item, '.name').textContent = id === clientId ? `Guest ${id + 1} (you)` : this.name(id);
      find(item, '.role').hidden = id !== hostId;
      this.#offer(find(item, '.make-host'), isHost && id !== clientId, id, `Make guest ${id + 1} host`, () => this.#client.grantHost(id));
      this.#offer(find(item, '.kick'), isHost && id !== clientId, id, `Send guest ${id + 1} away`, () => this.#client.kick(id));
      return item;
    }));
    const again = focused && page.people.querySelector(`[data-does="${focused}"]`);
    if (again instanceof HTMLElement && !again.hidden) again.focus();
  }

  /** Notes that something has happened. @param {string} text */
  note(text) {
    const line = clone('event');
    const now = new Date();
    const time = find(line, 'time');
    time.setAttribute('datetime', now.toISOString());
    time.textContent = clock.format(now);
    find(line, 'span').textContent = text;
    page.happened.prepend(line);
    if (page.happened.children.length > LINES) page.happened.lastElementChild?.remove();
    announce(text);
  }

  /**
   * @param {RoomMember[] | null} before
   * @param {RoomMember[]} now
   */
  #compare(before, now) {
    if (!before) return;
    const me = this.#client.clientId;
    for (const { id } of now) if (id !== me && !before.some((member) => member.id === id)) this.note(`${this.name(id)} came`);
    for (const { id } of before) if (id !== me && !now.some((member) => member.id === id)) this.note(`${this.name(id)} left`);
  }

  /**
   * @param {HTMLElement} button
   * @param {boolean} offered
   * @param {number} id
   * @param {string} label
   * @param {() => Promise<void>} act
   */
  #offer(button, offered, id, label, act) {
    button.hidden = !offered;
    button.dataset.does = `${button.className} ${id}`;
    button.setAttribute('aria-label', label);
    button.addEventListener('click', async () => {
      page.peopleError.textContent = '';
      try {
        await act();
      } catch (error) {
        page.peopleError.textContent = `That did not work: ${/** @type {RoomError} */ (error).message}.`;
      }
    });
  }
}
