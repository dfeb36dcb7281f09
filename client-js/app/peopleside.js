/**
 * People and groups: one PullClient, which polls when this side was first looked at, and
 * fetches what the notifications name.
 */

import { PullClient, compareIds } from '/pull.js';
import { announce, showUnread } from './announcer.js';
import { Contacts } from './contacts.js';
import { Directory } from './directory.js';
import { page } from './elements.js';
import { isLeaving, onSignIn, onSignOut, signIn, signsOut } from './entrance.js';
import { Finder } from './finder.js';
import { GroupMaker } from './groupmaker.js';
import { Members } from './members.js';
import { Notebook, about } from './notebook.js';
import { showNotices } from './notices.js';
import { Talk } from './talk.js';

/** @import {PullError, PullUser} from '/pull.js' */

/** Conversations that are kept on the page; the one that was looked at longest ago goes. */
const TALKS = 50;

/** How long it takes to ask again who is signed in, in ms, and as much again by chance: at first, and at most. */
const AGAIN = { first: 1_000, most: 30_000 };

const pull = new PullClient();
const notebook = new Notebook(shelf(), compareIds);
const directory = new Directory(pull);
const contacts = new Contacts(pull, directory, notebook, listed);
const members = new Members(pull, directory, left);
const maker = new GroupMaker(pull, directory, made);
const finder = new Finder(pull, {
  isMe: (id) => id === me?.id,
  isFriend: (id) => contacts.isFriend(id),
  befriend,
  learn: (users) => directory.learn(users),
});

/** Who is signed in, once that is known. @type {PullUser | null} */
let me = null;

/** By "person" and id, or "group" and name; the one that was looked at last is last. @type {Map<string, Talk>} */
const talks = new Map();

/** The one on the right. @type {Talk | null} */
let shown = null;

/** What the address bar names. @type {{kind: "list" | "newgroup"} | {kind: "person" | "group", name: string}} */
let wanted = { kind: 'list' };

/** Whether the page shows this side. */
let onStage = false;

/** Whether it is being found out who is signed in, and whether somebody may be though the forms are shown. */
let entering = false;
let due = true;

/** How often it could not be found out, in a row. */
let tries = 0;

/** Whether somebody was signed in here. */
let wasIn = false;

/** When it is tried again, in ms since the epoch; 0: not known. */
let retryAt = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let retry;
/** Why it is away. */
let awayBecause = '';

// Who is signed in.

/**
 * The address bar names a person (`#person=<name>`), a group (`#group=<name>`), the form for
 * a new one (`#newgroup`), or the lists (`#people`).
 * @param {string} hash
 */
export function showPeople(hash) {
  onStage = true;
  wanted = wantedBy(hash);
  if (!me && (due || page.signedOut.hidden)) void enter();
  void show();
}

/** Another side is shown. */
export function hidePeople() {
  onStage = false;
  keepDraft();
}

async function enter() {
  if (entering || me) return;
  entering = true;
  clearTimeout(retry);
  retryAt = 0;
  try {
    me = await pull.me();
  } catch (error) {
    const { code, message, retryAfter } = /** @type {PullError} */ (error);
    entering = false;
    due = code !== 'UNAUTHORIZED';
    if (due) {
      const again = Math.min(AGAIN.most, AGAIN.first * 2 ** tries++);
      const wait = (retryAfter ?? again) + Math.random() * again;
      awayBecause = message;
      retryAt = Date.now() + wait;
      retry = setTimeout(() => void enter(), wait);
    } else if (page.signedOut.hidden) {
      signIn.show('');
    }
    showConnection();
    return;
  }
  entering = false;
  due = false;
  tries = 0;
  wasIn = true;
  awayBecause = '';
  directory.learn([me]);
  notebook.open(me.id);
  pull.start({ place: notebook.place });
  signIn.hide();
  page.peopleUsername.textContent = me.username;
  page.peopleLogoutError.textContent = '';
  page.peopleIn.hidden = false;
  changed();
  await Promise.all([contacts.load(), show()]);
}

/** Nobody is signed in any more. @param {string} why */
function clear(why) {
  if (!me) return;
  me = null;
  pull.forget();
  notebook.forget();
  for (const talk of talks.values()) talk.close();
  talks.clear();
  directory.forget();
  contacts.clear();
  finder.clear();
  maker.clear();
  page.peopleIn.hidden = true;
  page.talkSlot.replaceChildren();
  page.talkText.value = '';
  shown = null;
  signIn.show(why);
  changed();
  showLists();
  void show();
}

onSignIn(() => {
  due = true;
  if (onStage || wasIn) void enter();
});
onSignOut(() => clear(''));
signsOut(page.peopleLogout, page.peopleLogoutError);

pull.addEventListener('close', ({ detail: { signedOut } }) => {
  if (!signedOut) return;
  clear(isLeaving() ? '' : 'You were signed out, here or elsewhere.');
  announce('Signed out');
});

// What comes.

pull.addEventListener('private', async ({ detail: { from, id, time } }) => {
  notebook.add({ id, type: 'private', name: from, time });
  changed();
  const user = await directory.byName(from).catch(() => null);
  const talk = user && talks.get(`person ${user.id}`);
  if (talk) {
    talk.rename(user);
    await arrived(talk);
  }
  if (!talk || !isLooked(talk)) announce(`${from} wrote to you`);
});

pull.addEventListener('group', async ({ detail: { group, id, time } }) => {
  notebook.add({ id, type: 'group', name: group, time });
  changed();
  if (!contacts.groups.includes(group)) await contacts.load();
  const talk = talks.get(`group ${group}`);
  if (talk) await arrived(talk);
  if (!talk || !isLooked(talk)) announce(`New message in ${group}`);
});

pull.addEventListener('groupcreated', async ({ detail: { group, id, time } }) => {
  const before = contacts.groups.includes(group);
  notebook.add({ id, type: before ? 'grown' : 'joined', name: group, time });
  await contacts.load();
  const talk = talks.get(`group ${group}`);
  if (talk) {
    talk.gone = false;
    await arrived(talk);
    if (talk === shown) await members.load();
  }
  announce(before ? `${group} has a new member` : `You are a member of ${group}`);
  changed();
});

pull.addEventListener('gap', async ({ detail: { id, time } }) => {
  if (id !== null) notebook.add({ id, type: 'gap', name: '', time });
  announce('Some notifications may be missing');
  await Promise.all([contacts.load(), members.load(), ...Array.from(talks.values(), arrived)]);
  changed();
});

pull.addEventListener('place', ({ detail: { place } }) => notebook.moveTo(place));

/** @param {Talk} talk */
async function arrived(talk) {
  await talk.news(isLooked(talk));
}

/** Whether somebody has a conversation before their eyes. @param {Talk} talk */
function isLooked(talk) {
  return talk === shown && onStage && document.visibilityState === 'visible';
}

// What is shown.

/**
 * @param {string} hash
 * @returns {typeof wanted}
 */
function wantedBy(hash) {
  if (hash === '#newgroup') return { kind: 'newgroup' };
  const [, kind, name] = /^#(person|group)=(.+)$/.exec(hash) ?? [];
  try {
    if (kind === 'person' || kind === 'group') return { kind, name: decodeURIComponent(name) };
  } catch {
    // Half of a character: nobody is called that.
  }
  return { kind: 'list' };
}

/** Shows what is wanted. */
async function show() {
  const want = wanted;
  if (onStage) document.body.dataset.pane = me && want.kind !== 'list' ? 'chat' : 'list';
  if (me && want.kind === 'newgroup') maker.show(contacts.friends);
  page.newGroup.hidden = !me || want.kind !== 'newgroup';
  const before = shown;
  let talk = null;
  /** @type {string} */
  let problem = '';
  if (me && (want.kind === 'person' || want.kind === 'group')) {
    try {
      talk = await open(want);
    } catch (error) {
      const { code, message } = /** @type {PullError} */ (error);
      problem = code === 'NOT_FOUND' ? `There is nobody called ${want.name}.` : code === 'OWN' ? 'This is you.' : `That did not work: ${message}.`;
      if (code === 'NOT_FOUND') notebook.markRead(about.person(want.name));
    }
    if (want !== wanted) return;
  }
  if (before !== talk) {
    keepDraft();
    page.talkText.value = talk?.view.draft ?? '';
  }
  shown = talk;
  page.talk.hidden = !talk && problem === '';
  page.talkComposer.hidden = !talk;
  page.peopleWelcome.hidden = !page.talk.hidden || !page.newGroup.hidden;
  contacts.current = talk?.key ?? '';
  members.show(talk?.partner.kind === 'group' ? talk.name : null, me?.id ?? 0);
  page.talkTitle.textContent = talk?.name ?? (want.kind === 'person' ? want.name : '');
  page.talkSlot.replaceChildren(...talk ? [talk.view.log] : []);
  showFriend();
  changed();
  showProblem(problem);
  if (!onStage) return;
  if (!talk) {
    if (want.kind === 'newgroup') focusUnlessTouch(page.groupName);
    else if (before && want.kind === 'list') contacts.focus(before.key);
    return;
  }
  talk.view.shown();
  focusUnlessTouch(page.talkText);
  await talk.looked();
}

/**
 * The conversation with somebody, which is there from now on.
 * @param {{kind: "person" | "group", name: string}} want
 * @returns {Promise<Talk>} rejected with a PullError.
 */
async function open({ kind, name }) {
  const user = kind === 'person' ? await directory.byName(name) : null;
  if (!me || user?.id === me.id) throw Object.assign(new Error('this is you'), { code: 'OWN' });
  const key = user ? `person ${user.id}` : `group ${name}`;
  const talk = talks.get(key) ?? new Talk(user ? { kind: 'person', user } : { kind: 'group', name }, { pull, me, directory, changed });
  if (user) {
    talk.rename(user);
    contacts.visit(user.username);
  }
  // A group may be there again.
  talk.gone = false;
  const fresh = !talks.has(key);
  talks.delete(key);
  talks.set(key, talk);
  if (fresh || talk.problem !== '') void talk.fetch(false);
  for (const [oldest, other] of talks) {
    if (talks.size <= TALKS) break;
    if (other === shown) continue;
    other.close();
    talks.delete(oldest);
  }
  return talk;
}

/** @param {HTMLElement} field */
function focusUnlessTouch(field) {
  // On a touch screen the focus would bring up a keyboard that hides what is above it.
  if (!matchMedia('(hover: none)').matches) field.focus();
}

function keepDraft() {
  if (shown) shown.view.draft = page.talkText.value;
}

/** Shows what may have changed: what is unread, and who is there. */
function changed() {
  if (shown && isLooked(shown) && shown.view.following) {
    shown.view.unread = 0;
    notebook.markRead(shown.key);
  }
  showUnread('people', me ? notebook.sum : 0);
  const count = shown?.view.unread ?? 0;
  page.talkNew.hidden = !shown || shown.view.following || count === 0;
  page.talkNew.textContent = `${count} new ${count === 1 ? 'message' : 'messages'}`;
  if (shown) {
    page.talkTitle.textContent = shown.name;
    showProblem(shown.problem);
  }
  showFriend();
  soon ??= setTimeout(showLists, 0);
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let soon;

/** Shows the lists, once for all that happens at once: they may be long. */
function showLists() {
  soon = undefined;
  contacts.show();
  showNotices(notebook.notes);
}

/** The lists have come. */
function listed() {
  finder.show();
  if (wanted.kind === 'newgroup') maker.show(contacts.friends);
  changed();
}

/** @param {string} problem */
function showProblem(problem) {
  page.talkProblem.hidden = problem === '';
  if (page.talkProblem.textContent !== problem) page.talkProblem.textContent = problem;
}

function showFriend() {
  const user = shown?.partner.kind === 'person' ? shown.partner.user : null;
  page.talkFriend.hidden = !user;
  if (user) page.talkFriend.textContent = contacts.isFriend(user.id) ? 'Remove friend' : 'Add friend';
}

/**
 * @param {PullUser} user
 * @param {boolean} want
 */
async function befriend(user, want) {
  try {
    await contacts.befriend(user, want);
    announce(want ? `${user.username} is a friend now` : `${user.username} is no friend any more`);
  } catch (error) {
    const { code, message } = /** @type {PullError} */ (error);
    announce(code === 'TOO_MANY' ? 'You have as many friends as there may be.' : `That did not work: ${message}.`);
  }
}

/** @param {string} name */
function made(name) {
  location.hash = `group=${encodeURIComponent(name)}`;
  void contacts.load();
}

/** @param {string} name */
function left(name) {
  const key = `group ${name}`;
  talks.get(key)?.close();
  talks.delete(key);
  notebook.markRead(about.group(name));
  if (shown?.partner.kind === 'group' && shown.name === name) location.hash = 'people';
  void contacts.load();
}

page.talkFriend.addEventListener('click', async () => {
  const user = shown?.partner.kind === 'person' ? shown.partner.user : null;
  if (user) await befriend(user, !contacts.isFriend(user.id));
});

page.talkComposer.addEventListener('submit', (event) => {
  event.preventDefault();
  const content = page.talkText.value;
  if (!shown || content.trim() === '') return;
  page.talkText.value = '';
  if (document.activeElement !== page.talkText) page.talkText.focus();
  shown.view.pending.write(content);
  shown.view.toEnd();
});

page.talkText.addEventListener('keydown', (event) => {
  // While an input method composes, Enter is the input method's.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  page.talkComposer.requestSubmit();
});

page.talkNew.addEventListener('click', () => {
  shown?.view.toEnd();
  page.talkText.focus();
});

page.main.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || !onStage || wanted.kind === 'list' || event.isComposing) return;
  if (page.members.open) {
    page.members.open = false;
    page.members.querySelector('summary')?.focus();
  } else {
    location.hash = 'people';
  }
});

document.addEventListener('visibilitychange', () => {
  changed();
  if (shown && isLooked(shown)) void shown.looked();
});

// Another tab has written something down.
window.addEventListener('storage', () => {
  if (!me) return;
  notebook.reload();
  changed();
});

// The connection.

pull.addEventListener('reconnecting', ({ detail: { delay, reason } }) => {
  retryAt = Date.now() + delay;
  awayBecause = reason;
  showConnection();
});

pull.addEventListener('state', ({ detail: { state } }) => {
  if (state !== 'waiting') retryAt = 0;
  showConnection();
  if (onStage) announce({ open: 'Connected', waiting: 'Connection lost, trying again', closed: '', connecting: '' }[state]);
});

function showConnection() {
  const away = me ? pull.state === 'waiting' : retryAt > 0;
  const state = away ? 'waiting' : entering ? 'connecting' : pull.state;
  page.peopleStatus.dataset.state = state;
  page.peopleStatusText.textContent = { connecting: 'Connecting', open: 'Waiting for news', waiting: 'Away', closed: 'Not signed in' }[state];
  page.peopleTrouble.hidden = !away;
  if (!away) return;
  const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  const next = retryAt === 0 ? '' : seconds > 0 ? ` Next try in ${seconds} s.` : ' Trying again.';
  page.peopleTroubleText.textContent = `${navigator.onLine ? 'No connection' : 'You are offline'}${awayBecause && ` (${awayBecause})`}.${next}`;
}

// The wait is shown as it runs down.
setInterval(showConnection, 1000);

window.addEventListener('online', () => { if (retryAt > 0) void enter(); });

page.peopleTryNow.addEventListener('click', () => {
  if (me) pull.start();
  else void enter();
});

/** Where this browser keeps things; null: nowhere. */
function shelf() {
  try {
    return localStorage;
  } catch {
    return null;
  }
}
