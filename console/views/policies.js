// A playground: the tenant's overlay edited here, checked while one types, and tried on inputs beside
// what is stored. Nothing is stored until that is asked for.

import { can, get, look, send } from '../api.js';
import { button, digest, h, mark, notice, section, table } from '../dom.js';
import * as drafts from '../drafts.js';
import { editor, table as parseTable } from '../editor.js';
import * as inputs from '../inputs.js';
import * as pending from '../pending.js';

const ACTION = { allow: 'good', flag: 'warn', redact: 'warn', review: 'warn', block: 'bad' };
const RULES = ['block', 'review', 'redact', 'flag', 'ignore', 'obligations', 'headers'];
const WAIT_MS = 500;

const KEYWORDS = /^(as|contains|default|else|every|false|if|import|in|not|null|package|some|true|with)$/;
const part = (name) => (/^[a-z]\w*$/.test(name) && !KEYWORDS.test(name) ? `.${name}` : `["${name}"]`);

/** What the buttons above the editors do, while the view is shown. */
let review = () => {};
let discard = () => {};

const starter = (tenant, bundle) => `package tenants${part(tenant)}${part(bundle)}

import rego.v1

# block contains {"finding": f.id, "reason": "no secrets"} if {
# 	some f in input.findings
# 	"secrets" in f.path
# }
`;

/** One file, by the name that its author gave it. */
const own = (file) => (file ?? '').split('/').at(-1);

export default {
  id: 'policies',
  title: 'Policies',
  unmount() { this.end?.(); },
  forget: drafts.forget,
  actions: {
    approve: () => review('approve'),
    reject: () => review('reject'),
    discard: () => discard(),
  },
  async mount(root, context) {
    const state = { modules: [], open: 0, stored: null, etag: null, cases: [], tenant: '', bundle: '', faults: [], doubts: [], inputs: [...inputs.SAMPLES], turn: 0 };
    let timer = 0;
    this.end = () => { clearTimeout(timer); state.turn += 1; };

    const choice = h('select', { id: 'bundle' });
    const file = h('select', { id: 'file' });
    const more = h('button', { type: 'button' }, 'Add a file');
    const about = h('div', {});
    const edited = h('p', { id: 'edited', class: 'quiet', hidden: true },
      'You edited what is not stored. It stays in this page until you store it, discard it or sign out. ', button('discard', 'Discard my edits'));
    const told = h('div', { id: 'faults', role: 'status', 'aria-live': 'polite' });
    const results = h('div', { id: 'results' });
    const later = () => { clearTimeout(timer); timer = setTimeout(check, WAIT_MS); };
    const changed = () => { keepDraft(); later(); };
    const rules = editor({ id: 'rules', label: 'Rules (Rego)', rows: 18, describedBy: 'faults', changed() {
      state.modules[state.open].rego = rules.get();
      changed();
    } });
    const data = editor({ id: 'table', label: 'Table (JSON): what differs from the layers below', rows: 18, describedBy: 'faults', changed });

    const drafted = () => {
      const parsed = parseTable(data.get());
      const untouched = starter(state.tenant, state.bundle);
      const modules = state.modules.filter((module) => module.rego.trim() && module.rego !== untouched);
      return { parsed, overlay: { modules, ...(parsed.value === undefined ? {} : { data: parsed.value }) } };
    };
    const empty = ({ modules, data: value }) => !modules.length && value === undefined;

    /** As it is stored, for the editors. */
    const asStored = () => ({
      modules: state.stored?.modules?.length ? state.stored.modules.map((module) => ({ ...module }))
        : [{ path: 'verdict.rego', rego: starter(state.tenant, state.bundle) }],
      table: state.stored?.data ? JSON.stringify(state.stored.data, null, 2) : '',
    });
    function keepDraft() {
      const now = { modules: state.modules, table: data.get() };
      const same = JSON.stringify(now) === JSON.stringify(asStored());
      if (same) drafts.drop(state.tenant, state.bundle);
      else drafts.keep(state.tenant, state.bundle, { ...now, etag: state.etag });
      edited.hidden = same;
    }
    function fill({ modules, table: text }) {
      state.modules = modules;
      openFile(0);
      data.set(text);
    }

    /** Faults of a refusal, each with the line of its editor. */
    function placed(problem, parsed) {
      return (problem.errors ?? []).map((fault) => {
        const inTable = fault.pointer?.startsWith('/data') && parsed.places?.get(fault.pointer.slice('/data'.length));
        return { ...fault, message: fault.detail, ...(inTable ? { ...inTable, file: 'data.yaml' } : {}) };
      });
    }

    function showFaults(faults, words) {
      state.faults = faults;
      const name = state.modules[state.open]?.path;
      const lines = (mine) => faults.filter(mine).map((fault) => fault.line).filter(Boolean);
      rules.mark({ faults: lines((fault) => own(fault.file) === name) });
      data.mark({ faults: lines((fault) => own(fault.file) === 'data.yaml') });
      const item = (fault, at) => h('li', {}, h('button', { type: 'button', class: 'link', 'data-act': 'go', 'data-at': at },
        fault.line ? `${own(fault.file)}, line ${fault.line}, column ${fault.column}` : own(fault.file) || 'the overlay'),
      ` ${fault.message}${fault.hint ? `; ${fault.hint}` : ''}. `, h('code', {}, fault.code));
      told.replaceChildren(...(faults.length
        ? [h('p', {}, mark('bad', `${faults.length} ${faults.length === 1 ? 'fault' : 'faults'}`)), h('ol', {}, faults.map(item))]
        : [h('p', {}, words), h('ul', {}, state.doubts.map(doubt))]));
    }
    const doubt = (one) => h('li', {}, mark('warn', `${own(one.file)}, line ${one.line}`), ` ${one.message}; ${one.hint ?? ''}`);

    /** Checks what is written: each file by itself, then all layers together. */
    async function check() {
      const turn = ++state.turn;
      const { parsed, overlay } = drafted();
      state.doubts = [];
      if (parsed.fault) return showFaults([{ file: 'data.yaml', code: 'json', ...parsed.fault }]);
      if (empty(overlay)) return showFaults([], 'Write rules or a table.');
      try {
        if (overlay.modules.length) {
          const { value } = await send('POST', '/policies/validate', { modules: overlay.modules });
          if (turn !== state.turn) return null;
          state.doubts = value.warnings;
          if (value.errors.length) return showFaults(value.errors);
        }
        await tried(inputs.SAMPLES.at(-1).document, overlay);
        if (turn === state.turn) showFaults([], mark('good', 'It loads with every layer.'));
      } catch (problem) {
        if (turn !== state.turn) return null;
        refused(problem, parsed);
      }
      return null;
    }

    function refused(problem, parsed) {
      if (!problem.code) throw problem;
      const faults = placed(problem, parsed);
      if (problem.code === 'OVERLOADED') return later();
      if (problem.code === 'UNAUTHORIZED') return context.refused(problem);
      if (problem.code === 'POLICY_INVALID' && faults.length) return showFaults(faults);
      return told.replaceChildren(notice(problem, 'try policies'));
    }

    const ask = async (document, more = {}) => (await send('POST', '/policies/evaluate',
      { policy: state.bundle, point: 'verdict', input: document, ...more })).value;
    const tried = (document, overlay) => ask(document, { overlay });

    /** What rules said, in words that can be compared. */
    function said({ result }) {
      const words = RULES.flatMap((rule) => {
        const value = result[rule];
        const list = Array.isArray(value) ? value : value && Object.keys(value).length ? [value] : [];
        return list.map((one) => `${rule}: ${typeof one === 'object' ? one.reason ?? JSON.stringify(one) : one}`);
      });
      const floor = Object.entries(result.floor ?? {}).filter(([, list]) => list?.length).map(([rule]) => `floor ${rule}`);
      return [...words, ...floor];
    }

    function difference(before, after) {
      if (!after) return '';
      const [old, now] = [said(before), said(after)];
      const gone = old.filter((word) => !now.includes(word)).map((word) => h('li', { class: 'gone' }, `− ${word}`));
      const come = now.filter((word) => !old.includes(word)).map((word) => h('li', { class: 'come' }, `+ ${word}`));
      const action = before.result.action === after.result.action ? null : h('li', {}, h('strong', {}, `${before.result.action} → ${after.result.action}`));
      return action || gone.length || come.length ? h('ul', { class: 'plain' }, action, come, gone) : 'the same';
    }

    async function evaluate() {
      const { parsed, overlay } = drafted();
      if (parsed.fault) return showFaults([{ file: 'data.yaml', code: 'json', ...parsed.fault }]);
      const turn = ++state.turn;
      clearTimeout(timer);
      const rows = [];
      const covered = new Map();
      try {
        for (const { name, document } of state.inputs) {
          const before = await ask(document);
          const after = empty(overlay) ? null : await tried(document, overlay);
          if (turn !== state.turn) return null;
          cover(covered, after?.coverage ?? []);
          const verdict = (one) => (one ? h('span', {}, mark(ACTION[one.result.action], one.result.action), h('div', { class: 'quiet' }, said(one).join('; '))) : '–');
          rows.push({ key: name, cells: [name, verdict(before), verdict(after), difference(before, after)] });
        }
      } catch (problem) {
        refused(problem, parsed);
        if (!rows.length) return null;
      }
      state.covered = covered;
      showFaults([], empty(overlay) ? 'Nothing is edited: only what is stored was asked.' : mark('good', 'It loads with every layer.'));
      showCovered();
      results.replaceChildren(table('What each input is answered', [['Input'], ['Stored'], ['Edited'], ['Difference']], rows),
        h('p', { class: 'quiet' }, 'The action is that of the rules alone, before coverage, the tenant’s mode and its on_incomplete.'));
      return context.say('Evaluated.');
    }

    function cover(all, files) {
      for (const { file: path, covered, missed } of files) {
        const known = all.get(own(path)) ?? { covered: new Set(), missed: new Set() };
        covered.forEach((line) => known.covered.add(line));
        missed.forEach((line) => known.missed.add(line));
        all.set(own(path), known);
      }
    }

    function showCovered() {
      const known = state.covered?.get(state.modules[state.open]?.path);
      if (!known) return;
      const hit = [...known.covered];
      const miss = [...known.missed].filter((line) => !known.covered.has(line));
      rules.mark({ covered: hit, missed: miss });
      if (hit.length + miss.length) {
        told.append(h('p', { id: 'covered', class: 'quiet' }, `${hit.length} of ${hit.length + miss.length} lines were evaluated by these inputs (│ evaluated, ┆ not).`,
          miss.length ? ` Not evaluated: ${miss.join(', ')}.` : ''));
      }
    }

    function openFile(at) {
      state.open = at;
      file.replaceChildren(...state.modules.map((module, index) => h('option', { value: index, selected: index === at }, module.path)));
      rules.set(state.modules[at].rego);
    }

    async function openBundle() {
      try {
        const [{ value, etag }, resolved] = await Promise.all([send('GET', `/policies/${encodeURIComponent(choice.value)}`),
          get(`/policies/resolve?policy=${encodeURIComponent(choice.value)}`)]);
        Object.assign(state, { bundle: choice.value, stored: value.overlay, etag, cases: value.overlay?.cases ?? [],
          tenant: resolved.tenant, covered: null, pending: value.pending });
        const draft = drafts.get(state.tenant, state.bundle);
        // What another one stored meanwhile is not written over: the draft keeps its own ETag.
        if (draft) state.etag = draft.etag;
        fill(draft ?? asStored());
        edited.hidden = !draft;
        const from = h('details', {}, h('summary', {}, 'The merged table, and the layer that set each key'),
          table('Merged table', [['Key'], ['Set by']], Object.entries(resolved.origin).map(([pointer, layer]) => ({ key: pointer, cells: [h('code', {}, pointer), layer] }))));
        about.replaceChildren(h('p', {}, 'Tenant ', h('code', {}, resolved.tenant), ', layers ', h('code', {}, value.layers.join(' → ')), ', revision ', digest(value.revision),
          value.overlay ? `; stored overlay, version ${value.overlay.version}${value.overlay.shadowed ? ', shadowed by files' : ''}` : '; no overlay is stored',
          value.broken ? mark('bad', 'the overlay does not fit the files') : ''), ...pending.shown(value.pending, state.bundle), from);
        results.replaceChildren();
        check();
      } catch (problem) {
        if (!problem.code) throw problem;
        context.fail(problem, 'see policies');
      }
    }

    async function store() {
      const { parsed, overlay } = drafted();
      if (parsed.fault || empty(overlay)) return check();
      const waits = state.pending ? ` It takes the place of the change of ${state.pending.author} that waits.` : '';
      const reason = await context.ask('Store this overlay?', `It decides for ${state.tenant} under ${state.bundle} at once, or after a review where those are required.${waits}`, 'Store');
      if (reason === null) return null;
      const condition = state.etag ? { 'If-Match': state.etag } : { 'If-None-Match': '*' };
      try {
        const { status } = await send('PUT', `/policies/${encodeURIComponent(state.bundle)}`, { ...overlay, cases: state.cases, reason }, condition);
        // What waits is no more than a proposal: the editors keep it.
        if (status !== 202) drafts.drop(state.tenant, state.bundle);
        context.say(status === 202 ? 'It waits for another person’s review, and decides nothing yet.' : 'The overlay is stored.');
        await openBundle();
      } catch (problem) {
        if (problem.code === 'POLICY_INVALID') refused(problem, parsed);
        else context.fail(problem, 'store policies');
      }
      return null;
    }

    const texts = h('form', {}, h('label', { for: 'input-text' }, 'Add a text'),
      h('div', { class: 'row' }, h('input', { id: 'input-text', required: true, autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'input-help' }), h('button', {}, 'Judge and add')),
      h('p', { id: 'input-help', class: 'quiet' }, 'It is sent to this service to be judged, and not stored.'));
    const records = h('form', {}, h('label', { for: 'input-record' }, 'Add a recorded decision'),
      h('div', { class: 'row' }, h('input', { id: 'input-record', required: true, autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'record-help' }), h('button', {}, 'Add')),
      h('p', { id: 'record-help', class: 'quiet' }, 'By the id of its record; the very document that the policy was asked about.'));
    const known = h('p', { class: 'quiet', id: 'inputs' });
    const listed = () => { known.textContent = `Tried on: ${state.inputs.map((input) => input.name).join(', ')}.`; };
    const add = (form, work, what) => form.addEventListener('submit', async (event) => {
      event.preventDefault();
      const field = form.querySelector('input');
      try {
        const input = await work(field.value.trim());
        state.inputs = [...state.inputs.filter((one) => one.name !== input.name), input];
        field.value = '';
        listed();
        context.say(`${input.name} is added.`);
      } catch (problem) {
        if (!problem.code) throw problem;
        context.fail(problem, what);
      }
    });
    let texts_added = 0;
    add(texts, async (text) => {
      const include = ['detectors', 'coverage'];
      const { value } = await send('POST', '/orchestrate', { content: text, policy: state.bundle, include });
      texts_added += 1;
      return inputs.ofAnswer(`Text ${texts_added}`, value);
    }, 'have content judged');
    add(records, async (id) => inputs.ofRecord(`Record ${id.slice(-6)}`, await get(`/evidence/${encodeURIComponent(id)}`)), 'read decisions');

    told.addEventListener('click', (event) => {
      const fault = state.faults[event.target.closest('[data-act=go]')?.dataset.at];
      if (!fault) return;
      if (own(fault.file) === 'data.yaml') return data.go(fault.line, fault.column);
      const at = state.modules.findIndex((module) => module.path === own(fault.file));
      if (at >= 0 && at !== state.open) openFile(at);
      rules.go(fault.line || 1, fault.column || 1);
    });
    file.addEventListener('change', () => { openFile(Number(file.value)); showFaults(state.faults, ''); showCovered(); });
    more.addEventListener('click', () => {
      const at = state.modules.length;
      state.modules.push({ path: `rules_${at + 1}.rego`, rego: starter(state.tenant, state.bundle) });
      openFile(at);
      rules.area.focus();
    });
    choice.addEventListener('change', openBundle);
    review = async (decision) => {
      if (await pending.end(state.pending, state.bundle, decision, context)) await openBundle();
    };
    discard = () => {
      drafts.drop(state.tenant, state.bundle);
      fill(asStored());
      edited.hidden = true;
      context.say('Your edits are discarded.');
      return openBundle();
    };
    const go = h('button', { type: 'button', class: 'main', id: 'evaluate' }, 'Evaluate all inputs');
    const keep = h('button', { type: 'button', id: 'store' }, 'Store as overlay…');
    go.addEventListener('click', evaluate);
    keep.addEventListener('click', store);

    const policies = await look('/policies');
    if (policies.problem) return root.append(notice(policies.problem, 'see policies'));
    choice.append(...policies.value.policies.map((policy) => h('option', { value: policy.name, selected: policy.default },
      `${policy.name}${policy.default ? ' (default)' : ''}`)));
    root.append(h('div', { class: 'row' }, h('label', {}, 'Policy ', choice), h('label', {}, 'File ', file), more), about, edited,
      h('div', { class: 'pair' }, rules.node, data.node), h('div', { class: 'row' }, go, can('PUT', '/policies/x') ? keep : null), told,
      results, section('Inputs', known, h('div', { class: 'pair' }, texts, records)));
    listed();
    return openBundle();
  },
};
