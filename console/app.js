// Sign-in, the choice of view, and the beat of its refresh.

import { Problem, has, introduce, learn, look, send, session, takesBody } from './api.js';
import { h, morph, notice, time } from './dom.js';
import decisions from './views/decisions.js';
import detectors from './views/detectors.js';
import jobs from './views/jobs.js';
import overview from './views/overview.js';
import policies from './views/policies.js';
import reloads from './views/reloads.js';
import tenants from './views/tenants.js';

const VIEWS = [overview, detectors, tenants, jobs, decisions, policies, reloads];
const BEAT_MS = 5_000;
const at = (id) => document.getElementById(id);
const main = at('main');

let current = null;
let paused = false;
// Whoever shows a view takes the next number; what comes later for an older one is not shown.
let shown = 0;
let timer = 0;

/** Tells people who cannot see what changed. */
const say = (text) => { at('said').textContent = text; };

/** Asks for a reason; null where nobody gives one. */
function ask(title, text, yes) {
  const dialog = at('ask');
  at('ask-title').textContent = title;
  at('ask-text').textContent = text;
  at('ask-yes').textContent = yes;
  at('ask-reason').value = '';
  const back = document.activeElement;
  dialog.returnValue = 'no';
  dialog.showModal();
  at('ask-reason').focus();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      back?.focus?.();
      resolve(dialog.returnValue === 'yes' ? at('ask-reason').value.trim() : null);
    }, { once: true });
  });
}

const context = {
  say, ask, refresh: () => refresh(), refused: leave,
  /** Asks for a reason, sends it, says what became of it; whether it was done. */
  async deed({ title, text, yes, method = 'POST', path, body = {}, headers, done }) {
    const reason = await ask(title, text, yes);
    if (reason === null) return false;
    try {
      const inside = takesBody(method, path);
      const target = inside ? path : `${path}?${new URLSearchParams({ reason })}`;
      await send(method, target, inside ? { ...body, reason } : undefined, headers);
      tell(null);
      say(done);
      refresh();
      return true;
    } catch (problem) {
      fail(problem, 'do this');
      return false;
    }
  },
  fail,
};

/** Shows a problem above the view until the next deed. */
function fail(problem, what) {
  if (problem.code === 'UNAUTHORIZED') return leave(problem);
  tell(notice(problem, what));
  say(`${problem.title}. ${problem.detail}`);
}

function tell(node) {
  at('told')?.replaceChildren(...(node ? [node] : []));
}

async function refresh() {
  clearTimeout(timer);
  const view = current;
  const mine = ++shown;
  const alive = () => mine === shown && view === current;
  if (!view?.load) return;
  try {
    const data = await view.load(context);
    if (!alive()) return;
    morph(at('view'), h('div', { id: 'view' }, view.render(data)));
    at('updated').textContent = `Updated ${new Date().toLocaleTimeString('sv')}${paused ? ', paused' : ''}`;
  } catch (problem) {
    if (!alive()) return;
    if (!problem.code) throw problem;
    fail(problem);
  }
  if (alive() && !paused) timer = setTimeout(() => (document.hidden ? beat() : refresh()), BEAT_MS);
}

function beat() {
  timer = setTimeout(() => (document.hidden ? beat() : refresh()), BEAT_MS);
}

function show() {
  if (!signed) return null;
  const [id, ...rest] = location.hash.replace(/^#\/?/, '').split('/');
  const view = VIEWS.find((one) => one.id === id) ?? overview;
  clearTimeout(timer);
  shown += 1;
  say('');
  current?.unmount?.();
  current = view;
  document.title = `${view.title} · Detector Orchestrator`;
  for (const link of at('nav').querySelectorAll('a')) {
    if (link.hash === `#/${view.id}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  at('updated').textContent = '';
  at('pause').hidden = !view.load;
  const title = h('h1', { tabindex: '-1' }, view.title);
  const body = h('div', { id: 'view' }, view.load ? h('p', { class: 'quiet' }, 'Loading…') : null);
  main.replaceChildren(title, h('div', { id: 'told' }), body);
  title.focus({ preventScroll: true });
  scrollTo(0, 0);
  if (!view.mount) return refresh();
  return Promise.resolve(view.mount(body, context, rest)).catch((problem) => {
    if (!problem.code) throw problem;
    fail(problem);
  });
}

main.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  const act = button && current?.actions?.[button.dataset.act];
  if (act) act(button, context);
});

let signed = false;

/** Whoever crosses tenants may choose one; others have their own. */
async function whose() {
  const list = has('GET', '/tenants') ? await look('/tenants?limit=200') : {};
  const ids = (list.value?.tenants ?? []).map((tenant) => tenant.id);
  const many = ids.length > 1;
  at('whose').hidden = !many;
  const all = h('option', { value: '' }, 'all, or default');
  at('tenant').replaceChildren(all, ...ids.map((id) => h('option', { value: id }, id)));
}

/** Who is signed in, for whom, and until when. */
function who(self) {
  if (!self) return [];
  const { key_prefix: prefix, actor, tenant, roles, scopes, expires_at: end } = self;
  const names = roles.length ? roles.join(', ') : `${scopes.length} scopes`;
  return [h('span', { title: `May do: ${scopes.join(' ')}` }, 'Signed in as ', h('code', {}, prefix ?? actor),
    ` (${names}) for ${tenant ?? 'every tenant'}`, end ? [', until ', time(end)] : null), ' '];
}

async function enter(key, keep) {
  // No header can carry other characters, so that nothing could be asked.
  if (/[^\x21-\x7e]/.test(key)) {
    throw new Problem({ title: 'This is no key', code: 'NO_KEY', status: 0,
      detail: 'Keys and tokens hold Latin letters, digits and - . _ only: copy it again.' });
  }
  session.begin(key, keep);
  await learn();
  try {
    await introduce();
  } catch (problem) {
    session.end();
    throw problem;
  }
  signed = true;
  at('who').replaceChildren(...who(session.self()));
  say('');
  await whose();
  for (const id of ['nav', 'pause', 'leave']) at(id).hidden = false;
  show();
}

function leave(problem) {
  clearTimeout(timer);
  shown += 1;
  current?.unmount?.();
  current = null;
  for (const view of VIEWS) view.forget?.();
  signed = false;
  session.end();
  for (const id of ['nav', 'pause', 'leave', 'whose']) at(id).hidden = true;
  at('updated').textContent = '';
  at('who').replaceChildren();
  document.title = 'Sign in · Detector Orchestrator';
  const form = h('form', { class: 'sign', id: 'sign' },
    h('label', { for: 'key' }, 'API key or token'),
    h('input', { id: 'key', type: 'password', autocomplete: 'off', spellcheck: 'false', required: true,
      'aria-describedby': 'key-help' }),
    h('p', { id: 'key-help', class: 'quiet' }, 'It is kept in this page’s memory, and sent to this service only.'),
    h('label', { class: 'check' }, h('input', { id: 'keep', type: 'checkbox' }), ' Keep it until this tab is closed'),
    h('div', { class: 'row' }, h('button', { class: 'main' }, 'Sign in'),
      h('button', { type: 'button', id: 'without' }, 'Go on without a key')),
    h('p', { class: 'quiet' }, 'Without a key works in development on the service’s own machine.'));
  main.replaceChildren(h('h1', { tabindex: '-1' }, 'Sign in'),
    h('div', { id: 'told' }, problem?.code ? notice(problem) : null), form);
  const begin = (key) => {
    enter(key, at('keep').checked).catch((refused) => {
      if (!refused.code) throw refused;
      tell(notice(refused));
      say(`${refused.title}. ${refused.detail}`);
      at('key')?.focus();
    });
  };
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    begin(at('key').value.trim());
  });
  at('without').addEventListener('click', () => begin(''));
  at('key').focus();
}

at('nav').replaceChildren(h('ul', {}, VIEWS.map((view) => h('li', {}, h('a', { href: `#/${view.id}` }, view.title)))));
at('leave').addEventListener('click', () => leave());
at('pause').addEventListener('click', () => {
  paused = !paused;
  at('pause').setAttribute('aria-pressed', String(paused));
  say(paused ? 'Updates are paused.' : 'Updates go on.');
  if (paused) {
    clearTimeout(timer);
    at('updated').textContent += ', paused';
  } else refresh();
});
at('tenant').addEventListener('change', () => {
  session.choose(at('tenant').value);
  show();
  at('tenant').focus();
});
const theme = at('theme');
theme.value = localStorage.getItem('theme') ?? 'auto';
theme.addEventListener('change', () => {
  localStorage.setItem('theme', theme.value);
  if (theme.value === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
});
addEventListener('hashchange', show);
document.querySelector('.skip').addEventListener('click', (event) => {
  // The fragment is the view's name here.
  event.preventDefault();
  main.focus();
});

const kept = sessionStorage.getItem('key');
if (kept) enter(kept, true).catch((problem) => leave(problem));
else leave();
