// Decisions on record, and one with its whole explanation. Texts stay in this page unless somebody has them judged.

import { can, get, lacks, send } from '../api.js';
import { asking, count, digest, h, mark, notice, number, section, table, time } from '../dom.js';
import { found } from '../found.js';
import { highlight } from '../highlight.js';

const ACTION = { allow: 'good', flag: 'warn', redact: 'warn', review: 'warn', block: 'bad' };
/** Decisions that were judged here; ids and words of the verdict only. */
const recent = [];

/** The same shape from an answer of the moment and from a record. */
function ofAnswer(answer) {
  return { ...answer, id: answer.evidence?.id, revision: answer.policy.revision, policy: answer.policy.name,
    complete: answer.coverage.complete, unjudged: answer.unjudged };
}

function ofRecord({ record, ...row }) {
  if (!record) return { ...row, reasons: [], findings: [], unjudged: [], purged: true };
  const { verdict, findings, reports, coverage, resolution, plan, degraded = [] } = record;
  return {
    ...row, would: verdict.would, reasons: verdict.reasons, degraded, coverage, unjudged: coverage.unjudged,
    plan, conflicts: resolution.conflicts ?? [], reproducible: record.reproducible, categories: resolution.categories,
    findings: findings.map((one) => ({ ...one, detectors: one.detectors ?? [one.detector] })),
    detectors: reports.map((one) => ({ ...one, name: one.detector, duration_ms: one.duration_us / 1000 })),
    shadows: record.shadows,
  };
}

const span = (one) => (one.span ? `${one.span.pointer} ${one.span.start}–${one.span.end}` : 'the whole');
const list = (values) => (values?.length ? values.join(', ') : '–');

function findings(one) {
  const rows = one.findings.map((finding) => ({ key: `${finding.id}`, cells: [`${finding.id}`, h('code', {}, finding.category),
    finding.label, number(finding.score), finding.severity, list(finding.detectors), h('code', {}, span(finding)),
    finding.standing === undefined ? '' : finding.standing ? 'stands' : 'cleared'] }));
  return table('Findings', [['#'], ['Category'], ['Label'], ['Score', 'num'], ['Severity'], ['Found by'], ['Where'], ['Votes']], rows, 'Nothing was found.');
}

function reports(one) {
  const rows = (one.detectors ?? []).map((report, at) => ({ key: `${at}`, cells: [report.name, report.version,
    mark(report.status === 'success' ? 'good' : report.status === 'skipped' ? 'none' : 'bad', report.status),
    [report.error, report.detail].filter(Boolean).join(': '), report.label ?? '', number(report.score ?? NaN),
    count(report.attempts), `${number(report.duration_ms)} ms`] }));
  return table('What each detector said', [['Detector'], ['Version'], ['Status'], ['Error'], ['Label'], ['Score', 'num'], ['Attempts', 'num'], ['Took', 'num']], rows, 'None was asked.');
}

function conflicts(one) {
  const rows = (one.conflicts ?? []).map((conflict) => ({ key: conflict.scope, cells: [h('code', {}, conflict.scope),
    conflict.strategy, conflict.winner ?? '–', conflict.detector ?? '–', conflict.tie_breaker ?? '–', number(conflict.delta)] }));
  return rows.length ? table('Disagreements, and how they were settled', [['Scope'], ['Strategy'], ['Winner'], ['Detector'], ['Tie broken by'], ['Delta', 'num']], rows) : null;
}

function unjudged(one) {
  const where = (gap) => (gap.span ? `${gap.pointer ?? ''} ${gap.span.start ?? gap.span[0]}–${gap.span.end ?? gap.span[1]}` : gap.pointer ?? 'all of it');
  const rows = (one.unjudged ?? []).map((gap, at) => ({ key: `${at}`, cells: [h('code', {}, where(gap)), gap.detector ?? 'nobody judged it', gap.reason] }));
  return table('What was not judged', [['Where'], ['Detector'], ['Reason']], rows, 'Everything required was judged.');
}

function explain(one) {
  if (!one.explain?.length) return null;
  const rows = one.explain.map((rule, at) => ({ key: `${at}`, cells: [h('code', {}, rule.rule), rule.layer,
    h('ul', { class: 'plain' }, rule.positions.map((place) => h('li', {}, h('code', {}, place)))), h('code', { class: 'wrap' }, JSON.stringify(rule.value))] }));
  return table('Rules that held', [['Rule'], ['Layer'], ['Written at'], ['Gave']], rows);
}

function summary(one) {
  const row = (name, value) => [h('dt', {}, name), h('dd', {}, value)];
  return h('dl', { class: 'facts' },
    row('Action', h('strong', { id: 'action' }, mark(ACTION[one.action], one.action))),
    one.would ? row('Would be', `${one.would}, were it not in monitor mode`) : null,
    row('Why', one.reasons.length ? h('ul', { class: 'plain' }, one.reasons.map((reason) => h('li', {}, h('code', {}, reason.code), ` ${reason.message ?? ''}`))) : 'No rule objects.'),
    row('Coverage', [one.complete ? mark('good', 'complete') : mark('bad', one.coverage?.code ?? 'incomplete'),
      one.coverage ? ` ${number(one.coverage.achieved)} of 1` : '']),
    row('Policy', [one.policy, ' at ', digest(one.revision)]),
    one.plan ? row('Plan', [`required ${list(one.plan.required)}; optional ${list(one.plan.optional)}; ${one.plan.execution}`]) : null,
    one.plan?.relaxed?.length ? row('Loosened by the caller', list(one.plan.relaxed)) : null,
    one.degraded?.length ? row('Worked around', h('ul', { class: 'plain' }, one.degraded.map((what) => h('li', {}, `${what.what}: ${what.why}`)))) : null,
    row('Request', h('code', {}, one.request_id)),
    one.at ? row('At', time(one.at)) : null,
    one.id ? row('Record', h('code', { id: 'record' }, one.id)) : null,
    one.duration_ms === undefined ? null : row('Took', `${number(one.duration_ms)} ms`),
    one.leaf ? row('In the log', ['leaf ', count(one.leaf.leaf_index), ' of ', digest(one.leaf.log_id)]) : null);
}

/** The text stays here: it is compared with spans, and neither sent nor kept. */
function overlaid(one, text) {
  const pointers = [...new Set(one.findings.filter((finding) => finding.span).map((finding) => finding.span.pointer))];
  if (!pointers.length) return null;
  const shown = h('div', { 'aria-live': 'polite' });
  const choice = h('select', { id: 'pointer' }, pointers.map((pointer) => h('option', { value: pointer }, pointer)));
  const area = h('textarea', { id: 'overlay-text', rows: 4, spellcheck: 'false', autocomplete: 'off', 'aria-describedby': 'overlay-help' });
  const draw = () => shown.replaceChildren(...(area.value ? [highlight(area.value, one.findings, choice.value)] : []));
  area.value = text;
  area.addEventListener('input', draw);
  choice.addEventListener('change', draw);
  draw();
  return section('Findings on the text',
    h('label', { for: 'overlay-text' }, 'The text that was judged'), area,
    h('p', { id: 'overlay-help', class: 'quiet' }, 'No text is stored with a decision. Paste it here: it stays in this page and is sent nowhere.'),
    pointers.length > 1 ? h('label', {}, 'It is the part ', choice) : null, shown);
}

function verification(one, context) {
  if (!one.id || !can('POST', '/evidence/x/verify')) return null;
  const told = h('div', { id: 'verified', 'aria-live': 'polite' });
  const go = h('button', { type: 'button' }, 'Verify the record');
  go.addEventListener('click', async () => {
    try {
      const { value } = await send('POST', `/evidence/${encodeURIComponent(one.id)}/verify`, {});
      const kind = { true: 'good', false: 'bad' };
      told.replaceChildren(h('p', {}, mark(value.overall_valid ? 'good' : 'bad', value.overall_valid ? 'sound' : 'not sound')),
        h('ul', { class: 'plain' }, Object.entries(value.checks).map(([name, holds]) => h('li', {}, mark(kind[holds] ?? 'none',
          `${name.replaceAll('_', ' ')}: ${holds === true ? 'holds' : holds === false ? 'fails' : 'not checked'}`)))),
        ...value.faults.map((fault) => h('p', { class: 'notice bad' }, `${fault.check}: ${fault.detail}`)));
    } catch (problem) {
      told.replaceChildren(notice(problem, 'verify records'));
    }
  });
  return h('div', {}, h('p', {}, go), told);
}

function whole(one, text, context) {
  return h('article', { 'aria-labelledby': 'one' }, h('h2', { id: 'one', tabindex: '-1' }, 'The decision'),
    one.purged ? h('p', { class: 'notice lack' }, 'The record is over its retention and was taken away; its place in the log stays.') : null,
    summary(one), overlaid(one, text), section('Details', findings(one), unjudged(one), reports(one), conflicts(one), explain(one)),
    verification(one, context));
}

export default {
  id: 'decisions',
  title: 'Decisions',
  mount(root, context, [id, revision]) {
    // `by` and a revision are no record's id.
    const by = id === 'by' ? { revision: decodeURIComponent(revision ?? '') } : {};
    const place = h('div', { id: 'decision' });
    const past = h('div', {});
    const show = (one, text) => {
      place.replaceChildren(whole(one, text, context));
      document.getElementById('one').focus({ preventScroll: true });
      place.scrollIntoView({ block: 'start' });
      context.say(`The action is ${one.action}.`);
    };
    const attempt = async (work, what) => {
      try {
        document.getElementById('told').replaceChildren();
        await work();
      } catch (problem) {
        if (!problem.code) throw problem;
        context.fail(problem, what);
      }
    };
    const draw = () => past.replaceChildren(...(recent.length ? [table('Judged in this page', [['Record'], ['Action'], ['At'], ['Show']],
      recent.map((one) => ({ key: one.id, cells: [h('code', {}, one.id), mark(ACTION[one.action], one.action), time(one.at),
        h('a', { href: `#/decisions/${one.id}`, 'aria-label': `Open ${one.id}` }, 'Open')] })))] : []));
    const open = (wanted) => attempt(async () => show(ofRecord(await get(`/evidence/${encodeURIComponent(wanted)}`)), ''), 'read decisions');
    const judging = asking('judge-help', 'Judge', lacks('POST', '/orchestrate'),
      'It is sent to this service, judged as your tenant’s, and counted; it is not stored.', { class: 'main' });
    const judge = h('form', { id: 'judge' }, h('label', { for: 'judge-text' }, 'Text to judge'),
      h('textarea', { id: 'judge-text', rows: 4, required: true, spellcheck: 'false', autocomplete: 'off', 'aria-describedby': 'judge-help' }),
      judging.help, judging.button);
    judge.addEventListener('submit', (event) => {
      event.preventDefault();
      const text = document.getElementById('judge-text').value;
      const include = ['detectors', 'coverage', 'plan', 'conflicts', 'explain', 'evidence'];
      attempt(async () => {
        const { value } = await send('POST', '/orchestrate', { content: text, include });
        const one = ofAnswer(value);
        if (one.id) recent.unshift({ id: one.id, action: one.action, at: Date.now() });
        recent.splice(20);
        draw();
        show(one, text);
      }, 'have content judged');
    });
    const opening = asking('find-help', 'Open', lacks('GET', '/evidence/x'),
      'The id stands in an answer under evidence.id. That you read it is put on record.');
    const find = h('form', { id: 'find' }, h('label', { for: 'find-id' }, 'Record of a decision'),
      h('div', { class: 'row' }, h('input', { id: 'find-id', required: true, spellcheck: 'false', autocomplete: 'off', 'aria-describedby': 'find-help' }), opening.button),
      opening.help);
    find.addEventListener('submit', (event) => {
      event.preventDefault();
      const wanted = document.getElementById('find-id').value.trim();
      const there = `#/decisions/${encodeURIComponent(wanted)}`;
      if (location.hash === there) open(wanted);
      else location.hash = there;
    });
    const listed = found(context, by);
    root.append(h('div', { class: 'pair' }, find, judge), past, place, ...(listed ? [listed] : []));
    draw();
    if (id && id !== 'by') {
      document.getElementById('find-id').value = decodeURIComponent(id);
      open(decodeURIComponent(id));
    }
  },
};
