/** The elements of index.html that the scripts touch, looked up once and typed. */

/**
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function byId(id, type) {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new Error(`the page lacks #${id}`);
  return element;
}

export const page = {
  status: byId('status', HTMLElement),
  statusText: byId('status-text', HTMLElement),
  trouble: byId('trouble', HTMLElement),
  troubleText: byId('trouble-text', HTMLElement),
  tryNow: byId('try-now', HTMLButtonElement),
  notice: byId('notice', HTMLElement),
  noticeText: byId('notice-text', HTMLElement),
  noticeCopy: byId('notice-copy', HTMLButtonElement),
  noticeClose: byId('notice-close', HTMLButtonElement),
  announcer: byId('announcer', HTMLElement),

  address: byId('address', HTMLElement),
  node: byId('node', HTMLElement),
  copyLink: byId('copy-link', HTMLButtonElement),
  copyAddress: byId('copy-address', HTMLButtonElement),
  welcomeCopy: byId('welcome-copy', HTMLButtonElement),

  start: byId('start', HTMLFormElement),
  peer: byId('peer', HTMLInputElement),
  startError: byId('start-error', HTMLElement),
  conversations: byId('conversations', HTMLElement),
  noConversations: byId('no-conversations', HTMLElement),

  main: byId('main', HTMLElement),
  welcome: byId('welcome', HTMLElement),
  chat: byId('chat', HTMLElement),
  chatPortrait: byId('chat-portrait', HTMLElement),
  chatTitle: byId('chat-title', HTMLElement),
  copyPeer: byId('copy-peer', HTMLButtonElement),
  logSlot: byId('log-slot', HTMLElement),
  composer: byId('composer', HTMLFormElement),
  text: byId('text', HTMLTextAreaElement),
};

const templates = {
  conversation: byId('conversation-template', HTMLTemplateElement),
  log: byId('log-template', HTMLTemplateElement),
  message: byId('message-template', HTMLTemplateElement),
  note: byId('note-template', HTMLTemplateElement),
  gap: byId('gap-template', HTMLTemplateElement),
};

/**
 * A fresh copy of a template's one element.
 * @param {keyof typeof templates} name
 */
export function clone(name) {
  return find(/** @type {DocumentFragment} */ (templates[name].content.cloneNode(true)), '*');
}

/**
 * The first element in a template's copy that matches.
 * @param {ParentNode} parent
 * @param {string} selector
 */
export function find(parent, selector) {
  const element = parent.querySelector(selector);
  if (!(element instanceof HTMLElement)) throw new Error(`the template lacks ${selector}`);
  return element;
}
