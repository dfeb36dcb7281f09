/** The forms by which one signs in or makes an account. Errors stand at the field that they are about. */

import { page } from './elements.js';

/** @import {ChatClient, ChatError} from '/chat.js' */

/** What the relay takes: characters of a name, of an address at most, of a password. */
const NAME = { least: 4, most: 100 };
const EMAIL = { most: 100 };
const PASSWORD = { least: 10, most: 100 };

/** Which field a code is about, and what to say. @type {Record<string, [field: string, words: string]>} */
const answers = {
  USERNAME_EXISTS: ['username', 'Someone has this name already.'],
  EMAIL_EXISTS: ['email', 'There is an account with this address already.'],
  LOGIN_FAILED: ['', 'The email or the password is wrong.'],
  BAD_REQUEST: ['', 'The relay did not take this.'],
  NETWORK: ['', 'The relay does not answer. Try again.'],
  UNAVAILABLE: ['', 'Accounts are not available right now. Try again.'],
};

/** What a form holds, by the names of its fields. @typedef {{username: string, email: string, password: string}} Fields */

/** One of the forms. */
class AccountForm {
  #form;
  #submit;
  #send;

  /**
   * @param {HTMLFormElement} form
   * @param {boolean} fresh  Whether what is typed becomes an account, and has to keep its rules.
   * @param {(fields: Fields) => Promise<void>} send
   */
  constructor(form, fresh, send) {
    this.#form = form;
    this.#submit = /** @type {HTMLButtonElement} */ (form.querySelector('[type="submit"]'));
    this.#send = send;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#try(fresh);
    });
    form.addEventListener('input', ({ target }) => {
      if (target instanceof HTMLInputElement) this.#say(target.name, '');
    });
  }

  show() {
    this.#form.hidden = false;
    this.#say('', '');
    // On a touch screen the focus would bring up a keyboard that hides the form.
    if (!matchMedia('(hover: none)').matches) this.#form.querySelector('input')?.focus();
  }

  hide() {
    this.#form.hidden = true;
    this.#form.reset();
    for (const name of ['', ...this.#names()]) this.#say(name, '');
  }

  /** @param {boolean} fresh */
  async #try(fresh) {
    if (this.#submit.disabled) return;
    const fields = /** @type {Fields} */ (Object.fromEntries(this.#names().map((name) => [name, this.#field(name).value])));
    fields.email = fields.email.trim();
    const wrong = fresh ? objections(fields, this.#field('email').validity.typeMismatch) : missing(fields);
    for (const name of ['', ...this.#names()]) this.#say(name, wrong[name] ?? '');
    const [first] = Object.keys(wrong);
    if (first !== undefined) {
      this.#field(first).focus();
      return;
    }
    this.#submit.disabled = true;
    try {
      await this.#send(fields);
    } catch (error) {
      let { code = '' } = /** @type {Partial<ChatError>} */ (error);
      const { message = '', retryAfter = null } = /** @type {Partial<ChatError>} */ (error);
      if (code === '') throw error;
      // No account has a password that is too short, say.
      if (!fresh && code === 'BAD_REQUEST') code = 'LOGIN_FAILED';
      const [name, words] = code === 'TOO_MANY_REQUESTS' ? ['', tooMany(retryAfter)] : answers[code] ?? ['', `That did not work: ${message}`];
      this.#say(name, words);
      if (name !== '') this.#field(name).focus();
      else if (code === 'LOGIN_FAILED') this.#field('password').select();
    } finally {
      this.#submit.disabled = false;
    }
  }

  /**
   * Says what is wrong with a field, or with the whole; '' for nothing.
   * @param {string} name
   * @param {string} words
   */
  #say(name, words) {
    const { id } = this.#form;
    const place = document.getElementById(name === '' ? `${id}-error` : `${id}-${name}-error`);
    if (place) place.textContent = words;
    if (name !== '') this.#field(name).setAttribute('aria-invalid', String(words !== ''));
  }

  /** @param {string} name */
  #field(name) {
    return /** @type {HTMLInputElement} */ (this.#form.elements.namedItem(name));
  }

  #names() {
    return Array.from(this.#form.querySelectorAll('input'), ({ name }) => name);
  }
}

/**
 * What is wrong with an account that is to be made.
 * @param {Fields} fields
 * @param {boolean} noAddress  Whether the browser does not take the email for an address.
 * @returns {Record<string, string>}
 */
function objections({ username, email, password }, noAddress) {
  /** @type {Record<string, string>} */
  const wrong = {};
  const [name, secret] = [[...username].length, [...password].length];
  if (name < NAME.least || name > NAME.most) wrong.username = `A name has ${NAME.least} to ${NAME.most} characters.`;
  if (email === '' || noAddress || [...email].length > EMAIL.most) wrong.email = 'This is no email address.';
  if (secret < PASSWORD.least || secret > PASSWORD.most) wrong.password = `A password has ${PASSWORD.least} to ${PASSWORD.most} characters.`;
  return wrong;
}

/**
 * What is missing to sign in.
 * @param {Fields} fields
 * @returns {Record<string, string>}
 */
function missing({ email, password }) {
  return {
    ...email === '' && { email: 'Your email address is missing.' },
    ...password === '' && { password: 'Your password is missing.' },
  };
}

/** @param {number | null} wait  In ms. */
function tooMany(wait) {
  if (wait === null) return 'Too many tries. Wait a while.';
  const seconds = Math.max(1, Math.ceil(wait / 1000));
  return `Too many tries. Try again in ${seconds < 120 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`}.`;
}

/** The two forms, of which one is shown. */
export class SignIn {
  #login;
  #signup;

  /**
   * @param {ChatClient} client
   * @param {() => void} done  Called once somebody has signed in.
   */
  constructor(client, done) {
    this.#login = new AccountForm(page.login, false, (fields) => client.logIn(fields).then(done));
    this.#signup = new AccountForm(page.signup, true, (fields) => client.signUp(fields).then(done));
    page.toSignup.addEventListener('click', () => this.#change(this.#login, this.#signup));
    page.toLogin.addEventListener('click', () => this.#change(this.#signup, this.#login));
  }

  /**
   * Shows the form for those who have an account.
   * @param {string} why  What has happened, if anything has.
   */
  show(why) {
    page.signedOutText.textContent = why;
    page.signedOut.hidden = false;
    this.#change(this.#signup, this.#login);
  }

  hide() {
    page.signedOut.hidden = true;
    page.signedOutText.textContent = '';
    this.#login.hide();
    this.#signup.hide();
  }

  /**
   * @param {AccountForm} from
   * @param {AccountForm} to
   */
  #change(from, to) {
    from.hide();
    to.show();
  }
}
