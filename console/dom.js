// Elements: made, compared with what stands, and shown.

const SVG = new Set(['svg', 'g', 'path', 'rect', 'line', 'text', 'title']);

/** An element. Attributes that are null or false are left out; text is never read as markup. */
export function h(tag, attributes, ...children) {
  const element = SVG.has(tag)
    ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined
    && child !== false));
  return element;
}

/** Makes `old` what `next` is, and keeps the nodes that stay, with focus and what was typed. */
export function morph(old, next) {
  const focused = document.activeElement;
  patch(old, next);
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

const keyOf = (node) => node.dataset?.key;

function patch(old, next) {
  if (old.nodeName !== next.nodeName || keyOf(old) !== keyOf(next)) {
    old.replaceWith(next);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    const kept = name === 'open' && old.nodeName === 'DETAILS';
    if (!next.hasAttribute(name) && !kept) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const keyed = new Map([...old.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let at = old.firstChild;
  for (const child of [...next.childNodes]) {
    const same = keyOf(child) ? keyed.get(keyOf(child)) : at;
    if (!same || (!keyOf(child) && keyOf(same))) {
      old.insertBefore(child, at);
      continue;
    }
    if (same !== at) old.insertBefore(same, at);
    else at = at.nextSibling;
    patch(same, child);
  }
  while (at) {
    const rest = at.nextSibling;
    at.remove();
    at = rest;
  }
}

/** A table that scrolls sideways in its own region. `columns`: [title, class?]; `rows`: {key, cells, class?}. */
export function table(caption, columns, rows, empty = 'Nothing.') {
  const head = columns.map(([title, kind]) => h('th', { scope: 'col', class: kind }, title));
  const cell = (value, at) => (at === 0
    ? h('th', { scope: 'row' }, value) : h('td', { class: columns[at][1] }, value));
  const body = rows.map((row) => h('tr', { 'data-key': row.key, class: row.class }, row.cells.map(cell)));
  const none = h('tr', {}, h('td', { colspan: columns.length, class: 'quiet' }, empty));
  return h('div', { class: 'scroll', role: 'region', 'aria-label': caption, tabindex: '0' },
    h('table', {}, h('caption', {}, caption), h('thead', {}, h('tr', {}, head)),
      h('tbody', {}, rows.length ? body : none)));
}

export const section = (title, ...children) => h('section', {}, h('h2', {}, title), ...children);

/** What went wrong, in the words of the service. */
export function notice(problem, what) {
  if (problem.code === 'INSUFFICIENT_SCOPE') {
    const scope = /scope ([a-z]+:[a-z]+)/.exec(problem.detail)?.[1];
    return h('div', { class: 'notice lack' },
      h('p', {}, h('strong', {}, `Your key may not ${what ?? 'see this'}. `), 'It lacks the scope ',
        h('code', {}, scope ?? 'for it'), '; ask whoever manages your keys for one that holds it.'),
      small(problem));
  }
  return h('div', { class: 'notice bad' },
    h('p', {}, h('strong', {}, `${problem.title}. `), problem.detail),
    (problem.errors ?? []).length
      ? h('ul', {}, problem.errors.map((fault) => h('li', {}, h('code', {}, fault.pointer || fault.file || '/'),
        ` ${fault.detail}`, fault.hint ? `; ${fault.hint}` : ''))) : null,
    small(problem));
}

const small = (problem) => h('p', { class: 'quiet' }, `${problem.code} · status ${problem.status}`,
  problem.requestId ? ` · request ${problem.requestId}` : '');

/** The button of a form, and what it does or why this key may not; `missing` are the scopes for it. */
export function asking(id, text, missing, help, attributes = {}) {
  const told = missing.length
    ? ['Your key lacks the scope ', h('code', {}, missing.join(', ')), ' for it.'] : [help];
  return { button: h('button', { ...attributes, disabled: missing.length > 0, 'aria-describedby': id }, text),
    help: h('p', { id, class: 'quiet' }, ...told) };
}

/** A word with a colour and a sign, so that the colour never speaks alone. */
export function mark(kind, word) {
  const sign = { good: '✓', warn: '!', bad: '✕', none: '–' }[kind];
  return h('span', { class: `mark ${kind}` }, h('span', { 'aria-hidden': 'true' }, `${sign} `), word);
}

export const button = (act, text, data = {}) => h('button', {
  type: 'button', 'data-act': act,
  ...Object.fromEntries(Object.entries(data).map(([name, value]) => [`data-${name}`, value])),
  'aria-label': data.label ?? null,
}, text);

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
export const count = (value) => whole.format(Math.round(value));
export const number = (value) => (Number.isFinite(value) ? short.format(value) : '–');
export const percent = (part, all) => (all > 0 ? `${short.format((100 * part) / all)} %` : '–');
/** A time in seconds, in the unit that people read. */
export function ms(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  return seconds < 1 ? `${short.format(seconds * 1000)} ms` : `${short.format(seconds)} s`;
}
export const digest = (hex) => h('code', { title: hex }, (hex ?? '').slice(0, 12));
export function time(at) {
  const when = new Date(at);
  if (Number.isNaN(when.getTime())) return '–';
  const today = when.toDateString() === new Date().toDateString();
  const day = today ? '' : `${when.toLocaleDateString('sv')} `;
  return h('time', { datetime: when.toISOString() }, day + when.toLocaleTimeString('sv'));
}
