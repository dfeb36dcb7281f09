/** The session as this tab keeps it, so that the page goes on with it when it is loaded anew. */

const KEY = 'parley.session';

/**
 * What was kept last; nothing in a tab that is new, or that may keep nothing.
 * @returns {{token?: string, last?: string}}
 */
export function savedSession() {
  try {
    const { token, last } = JSON.parse(sessionStorage.getItem(KEY) ?? '{}');
    return { token, last };
  } catch {
    return {};
  }
}

/** @param {{token: string | null, last: string | null}} session */
export function saveSession(session) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(session));
  } catch {
    // A browser that lets the page keep nothing: the address ends with the page.
  }
}
