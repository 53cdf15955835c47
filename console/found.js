// Decisions on record, looked for by when they were made, what was decided, and who found what.

import { can, get, has, lacks } from './api.js';
import { asking, digest, h, mark, notice, table, time } from './dom.js';

const ACTION = { allow: 'good', flag: 'warn', redact: 'warn', review: 'warn', block: 'bad' };
const COLUMNS = [['Made'], ['Action'], ['Coverage'], ['Policy'], ['Revision'], ['Found'], ['Did not answer'], ['Open']];
const list = (values) => (values.length ? values.join(', ') : '–');

/** A row links to its decision: Tab goes there, Enter opens it. */
const row = (one) => ({ key: one.id, cells: [time(one.at), mark(ACTION[one.action], one.action),
  one.complete ? mark('good', 'complete') : mark('bad', 'incomplete'), one.policy, digest(one.revision),
  list(one.categories), list(one.failed),
  h('a', { href: `#/decisions/${one.id}`, 'aria-label': `Open ${one.id}` }, 'Open')] });

const field = (id, label, control) => h('div', {}, h('label', { for: id }, label), control);
const text = (id, attributes = {}) => h('input', { id, autocomplete: 'off', spellcheck: 'false', ...attributes });
const choice = (id, options) => h('select', { id },
  options.map(([value, shown]) => h('option', { value }, shown)));

/** A time of this browser's clock, as the service reads it. */
const moment = (local) => (local ? new Date(local).toISOString() : '');

/** The form and what it found; `wanted` is filled in and looked for at once. */
export function found(context, wanted = {}) {
  if (!has('GET', '/evidence')) return null;
  const rows = h('div', { id: 'found', 'aria-live': 'polite' });
  const looking = asking('filter-help', 'Look', lacks('GET', '/evidence'),
    'To be listed stands in no custody; to open a decision does.');
  const form = h('form', { id: 'filter', 'aria-label': 'Look for decisions' }, h('div', { class: 'fields' },
    field('filter-from', 'Made from', text('filter-from', { type: 'datetime-local', step: 1 })),
    field('filter-to', 'Made before', text('filter-to', { type: 'datetime-local', step: 1 })),
    field('filter-action', 'Action', choice('filter-action', [['', 'any'], ...Object.keys(ACTION).map((one) => [one, one])])),
    field('filter-complete', 'Coverage', choice('filter-complete', [['', 'any'], ['true', 'complete'], ['false', 'incomplete']])),
    field('filter-policy', 'Policy', text('filter-policy')),
    field('filter-revision', 'Revision, 8 digits or more', text('filter-revision', { pattern: '[0-9a-f]{8,64}', value: wanted.revision ?? null })),
    field('filter-detector', 'Detector that was asked', text('filter-detector')),
    field('filter-category', 'Category that was found', text('filter-category'))),
  h('p', {}, looking.button));
  const value = (name) => form.querySelector(`#filter-${name}`).value.trim();
  const query = () => {
    const all = { from: moment(value('from')), to: moment(value('to')) };
    for (const name of ['action', 'complete', 'policy', 'revision', 'detector', 'category']) all[name] = value(name);
    return new URLSearchParams(Object.entries(all).filter(([, one]) => one));
  };
  let shown = [];
  const look = async (cursor) => {
    const asked = query();
    if (cursor) asked.set('cursor', cursor);
    try {
      const { decisions, next } = await get(`/evidence?${asked}`);
      shown = cursor ? [...shown, ...decisions] : decisions;
      const more = h('button', { type: 'button', id: 'found-more' }, 'Older ones');
      more.addEventListener('click', () => look(next));
      const none = next ? 'None among those that were looked at.' : 'None.';
      rows.replaceChildren(table('Decisions, newest first', COLUMNS, shown.map(row), none), ...(next ? [h('p', {}, more)] : []));
      context.say(`${shown.length} decisions${next ? ', and there may be older ones' : ''}.`);
      if (cursor) (document.getElementById('found-more') ?? rows.querySelector('tr:last-child a'))?.focus();
    } catch (problem) {
      if (!problem.code || problem.code === 'UNAUTHORIZED') throw problem;
      rows.replaceChildren(notice(problem, 'see which decisions there are'));
    }
  };
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    look();
  });
  if (can('GET', '/evidence')) look();
  return h('section', { 'aria-labelledby': 'found-title' }, h('h2', { id: 'found-title' }, 'Decisions on record'), form, rows,
    looking.help);
}
