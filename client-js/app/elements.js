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

  toDirect: byId('to-direct', HTMLElement),
  directUnread: byId('direct-unread', HTMLElement),
  toRooms: byId('to-rooms', HTMLElement),
  roomsUnread: byId('rooms-unread', HTMLElement),

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

  roomsStatus: byId('rooms-status', HTMLElement),
  roomsStatusText: byId('rooms-status-text', HTMLElement),
  roomsTrouble: byId('rooms-trouble', HTMLElement),
  roomsTroubleText: byId('rooms-trouble-text', HTMLElement),
  roomsTryNow: byId('rooms-try-now', HTMLButtonElement),
  signedOut: byId('signed-out', HTMLElement),
  signedOutText: byId('signed-out-text', HTMLElement),
  login: byId('login', HTMLFormElement),
  signup: byId('signup', HTMLFormElement),
  toSignup: byId('to-signup', HTMLButtonElement),
  toLogin: byId('to-login', HTMLButtonElement),
  signedIn: byId('signed-in', HTMLElement),
  username: byId('username', HTMLElement),
  logout: byId('logout', HTMLButtonElement),
  logoutError: byId('logout-error', HTMLElement),
  rooms: byId('rooms', HTMLElement),
  noRooms: byId('no-rooms', HTMLElement),
  roomsWelcome: byId('rooms-welcome', HTMLElement),
  room: byId('room', HTMLElement),
  roomTitle: byId('room-title', HTMLElement),
  here: byId('here', HTMLDetailsElement),
  hereCount: byId('here-count', HTMLElement),
  hereList: byId('here-list', HTMLElement),
  roomSlot: byId('room-slot', HTMLElement),
  roomNew: byId('room-new', HTMLButtonElement),
  typing: byId('typing', HTMLElement),
  roomComposer: byId('room-composer', HTMLFormElement),
  roomText: byId('room-text', HTMLTextAreaElement),

  openid: byId('openid', HTMLElement),
  openidLink: byId('openid-link', HTMLAnchorElement),
  openidIssuer: byId('openid-issuer', HTMLElement),

  toPeople: byId('to-people', HTMLElement),
  peopleUnread: byId('people-unread', HTMLElement),
  peopleStatus: byId('people-status', HTMLElement),
  peopleStatusText: byId('people-status-text', HTMLElement),
  peopleTrouble: byId('people-trouble', HTMLElement),
  peopleTroubleText: byId('people-trouble-text', HTMLElement),
  peopleTryNow: byId('people-try-now', HTMLButtonElement),
  peopleIn: byId('people-in', HTMLElement),
  peopleUsername: byId('people-username', HTMLElement),
  peopleLogout: byId('people-logout', HTMLButtonElement),
  peopleLogoutError: byId('people-logout-error', HTMLElement),
  find: byId('find', HTMLFormElement),
  findText: byId('find-text', HTMLInputElement),
  foundPlace: byId('found-place', HTMLElement),
  foundHint: byId('found-hint', HTMLElement),
  found: byId('found', HTMLElement),
  foundMore: byId('found-more', HTMLButtonElement),
  contacts: byId('contacts', HTMLElement),
  noContacts: byId('no-contacts', HTMLElement),
  groups: byId('groups', HTMLElement),
  noGroups: byId('no-groups', HTMLElement),
  notices: byId('notices', HTMLElement),
  noNotices: byId('no-notices', HTMLElement),
  peopleWelcome: byId('people-welcome', HTMLElement),
  talk: byId('talk', HTMLElement),
  talkTitle: byId('talk-title', HTMLElement),
  talkFriend: byId('talk-friend', HTMLButtonElement),
  talkProblem: byId('talk-problem', HTMLElement),
  talkSlot: byId('talk-slot', HTMLElement),
  talkNew: byId('talk-new', HTMLButtonElement),
  talkComposer: byId('talk-composer', HTMLFormElement),
  talkText: byId('talk-text', HTMLTextAreaElement),
  members: byId('members', HTMLDetailsElement),
  membersCount: byId('members-count', HTMLElement),
  membersList: byId('members-list', HTMLElement),
  membersError: byId('members-error', HTMLElement),
  addMember: byId('add-member', HTMLFormElement),
  addMemberName: byId('add-member-name', HTMLInputElement),
  leaveGroup: byId('leave-group', HTMLButtonElement),
  newGroup: byId('new-group', HTMLElement),
  groupForm: byId('group-form', HTMLFormElement),
  groupName: byId('group-name', HTMLInputElement),
  groupMembers: byId('group-members', HTMLElement),
  groupOther: byId('group-other', HTMLInputElement),
  groupAdd: byId('group-add', HTMLButtonElement),
  groupMessage: byId('group-message', HTMLInputElement),
  groupError: byId('group-error', HTMLElement),
  groupMake: byId('group-make', HTMLButtonElement),

  toBoard: byId('to-board', HTMLAnchorElement),
  boardStatus: byId('board-status', HTMLElement),
  boardStatusText: byId('board-status-text', HTMLElement),
  boardTrouble: byId('board-trouble', HTMLElement),
  boardTroubleText: byId('board-trouble-text', HTMLElement),
  boardTryNow: byId('board-try-now', HTMLButtonElement),
  boardNotice: byId('board-notice', HTMLElement),
  boardNoticeText: byId('board-notice-text', HTMLElement),
  boardNoticeClose: byId('board-notice-close', HTMLButtonElement),
  boardOut: byId('board-out', HTMLElement),
  boardProblem: byId('board-problem', HTMLElement),
  boardNew: byId('board-new', HTMLFormElement),
  boardMake: byId('board-make', HTMLButtonElement),
  boardTokenField: byId('board-token-field', HTMLElement),
  boardToken: byId('board-token', HTMLInputElement),
  boardJoin: byId('board-join', HTMLFormElement),
  boardLink: byId('board-link', HTMLInputElement),
  boardLinkError: byId('board-link-error', HTMLElement),
  boardIn: byId('board-in', HTMLElement),
  boardCopy: byId('board-copy', HTMLButtonElement),
  boardAlone: byId('board-alone', HTMLElement),
  boardLeave: byId('board-leave', HTMLButtonElement),
  toDrawing: byId('to-drawing', HTMLAnchorElement),
  peopleTitle: byId('people-title', HTMLElement),
  people: byId('people', HTMLElement),
  peopleError: byId('people-error', HTMLElement),
  happened: byId('happened', HTMLElement),
  boardWelcome: byId('board-welcome', HTMLElement),
  board: byId('board', HTMLElement),
  boardHost: byId('board-host', HTMLElement),
  canvas: byId('canvas', HTMLCanvasElement),
  canvasCursor: byId('canvas-cursor', HTMLElement),
  canvasWaiting: byId('canvas-waiting', HTMLElement),
  pens: byId('pens', HTMLFieldSetElement),
  boardClear: byId('board-clear', HTMLButtonElement),
};

const templates = {
  conversation: byId('conversation-template', HTMLTemplateElement),
  log: byId('log-template', HTMLTemplateElement),
  message: byId('message-template', HTMLTemplateElement),
  note: byId('note-template', HTMLTemplateElement),
  gap: byId('gap-template', HTMLTemplateElement),
  room: byId('room-template', HTMLTemplateElement),
  roomLog: byId('room-log-template', HTMLTemplateElement),
  roomMessage: byId('room-message-template', HTMLTemplateElement),
  pending: byId('pending-template', HTMLTemplateElement),
  contact: byId('contact-template', HTMLTemplateElement),
  found: byId('found-template', HTMLTemplateElement),
  candidate: byId('candidate-template', HTMLTemplateElement),
  told: byId('told-template', HTMLTemplateElement),
  person: byId('person-template', HTMLTemplateElement),
  event: byId('event-template', HTMLTemplateElement),
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
