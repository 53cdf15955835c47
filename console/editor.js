// A text with numbered lines, marked where it is at fault and where it was evaluated; and where in a
// JSON text each value stands.

import { h } from './dom.js';

/** `mark({faults, covered, missed})` takes line numbers; `go(line, column)` puts the caret there. */
export function editor({ id, label, rows, describedBy, changed }) {
  const gutter = h('pre', { class: 'gutter', 'aria-hidden': 'true' });
  const area = h('textarea', { id, rows, wrap: 'off', spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off',
    'aria-describedby': describedBy });
  let marks = { faults: [], covered: [], missed: [] };
  const draw = () => {
    const lines = area.value.split('\n').length;
    const kind = (line) => (marks.faults.includes(line) ? 'fault' : marks.covered.includes(line) ? 'hit'
      : marks.missed.includes(line) ? 'miss' : null);
    gutter.replaceChildren(...Array.from({ length: lines }, (_, at) => h('span', { class: kind(at + 1) }, `${at + 1}\n`)));
    gutter.scrollTop = area.scrollTop;
  };
  area.addEventListener('input', () => { marks = { ...marks, covered: [], missed: [] }; draw(); changed(); });
  area.addEventListener('scroll', () => { gutter.scrollTop = area.scrollTop; });
  const node = h('div', { class: 'editor' }, h('label', { for: id }, label), h('div', { class: 'code' }, gutter, area));
  return {
    node, area,
    get: () => area.value,
    set(text) { area.value = text; marks = { faults: [], covered: [], missed: [] }; draw(); },
    mark(more) {
      marks = { ...marks, ...more };
      if (marks.faults.length) area.setAttribute('aria-invalid', 'true');
      else area.removeAttribute('aria-invalid');
      draw();
    },
    go(line, column) {
      const lines = area.value.split('\n');
      const before = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
      // Columns count characters, the caret code units.
      const at = before + [...(lines[line - 1] ?? '')].slice(0, Math.max(0, column - 1)).join('').length;
      area.focus();
      area.setSelectionRange(at, at);
      area.scrollTop = Math.max(0, (line - 4) * 18);
    },
  };
}

/** `{value, places}` of a JSON text, or `{fault: {line, column, message}}`. */
export function table(text) {
  if (!text.trim()) return { value: undefined, places: new Map() };
  try {
    return { value: JSON.parse(text), places: places(text) };
  } catch (error) {
    const offset = /position (\d+)/.exec(error.message);
    const told = /line (\d+) column (\d+)/.exec(error.message);
    const before = text.slice(0, offset ? Number(offset[1]) : text.length).split('\n');
    const [line, column] = told ? [Number(told[1]), Number(told[2])] : [before.length, before.at(-1).length + 1];
    return { fault: { line, column, message: 'the table is no JSON here', hint: 'look for a missing comma, quote or brace before it' } };
  }
}

/** JSON pointer → {line, column} of the value's key, in a text that is sound. */
function places(text) {
  const found = new Map();
  let at = 0;
  const position = (offset) => {
    const before = text.slice(0, offset).split('\n');
    return { line: before.length, column: before.at(-1).length + 1 };
  };
  const skip = () => { while (/[\s,:]/.test(text[at] ?? '')) at += 1; };
  const word = () => {
    const from = at;
    if (text[at] === '"') {
      at += 1;
      while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
      at += 1;
    } else while (at < text.length && !/[\s,:\]}]/.test(text[at])) at += 1;
    return text.slice(from, at);
  };
  const value = (pointer) => {
    skip();
    const [open] = text.slice(at);
    if (open !== '{' && open !== '[') return word();
    at += 1;
    for (let index = 0; skip(), !'}]'.includes(text[at]); index += 1) {
      const start = at;
      const key = open === '{' ? JSON.parse(word()).replaceAll('~', '~0').replaceAll('/', '~1') : index;
      const below = `${pointer}/${key}`;
      found.set(below, position(start));
      value(below);
    }
    at += 1;
    return null;
  };
  found.set('', { line: 1, column: 1 });
  value('');
  return found;
}
