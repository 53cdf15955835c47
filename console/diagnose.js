// Three questions of an operator: which detector is sick, which tenant is angry, which edit was bad.

import { by, quantile, sum } from './metrics.js';
import { count, percent } from './dom.js';

/** Decisions of a revision, as many as the service wants of each that it compares. */
const ENOUGH = 5;

/** Every detector with what ails it, sickest first. */
export function detectors({ listed = [], breakers = [], metrics = null }) {
  const names = new Set([...listed, ...breakers].map((one) => one.name));
  for (const name of by(metrics, 'detector_calls_total', 'detector').keys()) names.add(name);
  const all = [...names].map((name) => one(name, listed, breakers, metrics));
  return all.sort((a, b) => b.sickness - a.sickness || a.name.localeCompare(b.name));
}

function one(name, listed, breakers, metrics) {
  const known = listed.find((detector) => detector.name === name);
  const own = breakers.filter((breaker) => breaker.name === name);
  const is = (labels) => labels.detector === name;
  const fell = (labels) => is(labels) && !['success', 'skipped'].includes(labels.status);
  const calls = sum(metrics, 'detector_calls_total', (labels) => is(labels) && labels.status !== 'skipped');
  const failed = sum(metrics, 'detector_calls_total', fell);
  // What the breaker refused says nothing of the cause.
  const cause = (error) => (error === 'circuit_open' ? 1 : 0);
  const errors = [...by(metrics, 'detector_calls_total', 'error', fell)]
    .sort((a, b) => cause(a[0]) - cause(b[0]) || b[1] - a[1]);
  const p95 = quantile(metrics, 'detector_duration_seconds', 0.95, { fits: is });
  const state = ['open', 'half_open', 'closed'].find((one) => own.some((breaker) => breaker.state === one))
    ?? known?.breaker ?? 'closed';
  const rejections = own.reduce((sum, breaker) => sum + breaker.stats.rejections, 0);
  const why = [];
  let sickness = 0;
  const ails = (weight, words) => { sickness += weight; why.push(words); };
  if (state === 'open') ails(100, 'breaker open');
  if (state === 'half_open') ails(60, 'breaker half open');
  if (known?.health === 'unhealthy') ails(50, 'unhealthy');
  if (known?.health === 'degraded') ails(20, 'degraded');
  if (known?.status === 'pending') ails(10, 'has not answered yet');
  if (failed > 0) {
    const most = errors[0]?.[0];
    ails(40 * (failed / calls), `${count(failed)} of ${count(calls)} calls failed`
      + (most ? ` (${most})` : ''));
  }
  return { name, known, own, state, calls, failed, rejections, sickness, why,
    p95: Number.isFinite(p95) ? p95 : (known?.p95_ms ?? NaN) / 1000 };
}

/** Every tenant that asked with what it suffers, angriest first. */
export function tenants({ metrics = null, shares = [], listed = [] }) {
  const names = new Set([...shares.map((share) => share.tenant), ...listed.map((tenant) => tenant.id)]);
  for (const name of by(metrics, 'decisions_total', 'tenant').keys()) names.add(name);
  for (const name of by(metrics, 'rate_limit_exceeded_total', 'tenant').keys()) names.add(name);
  names.delete('');
  const all = [...names].map((name) => {
    const is = (labels) => labels.tenant === name;
    const share = shares.find((one) => one.tenant === name);
    const known = listed.find((tenant) => tenant.id === name);
    const decisions = sum(metrics, 'decisions_total', is);
    const stopped = sum(metrics, 'decisions_total', (l) => is(l) && ['block', 'review'].includes(l.action));
    const partial = sum(metrics, 'decisions_total', (l) => is(l) && l.complete === 'false');
    // The metric counts since the start, the share this hour.
    const refused = Math.max(sum(metrics, 'rate_limit_exceeded_total', is), share?.refused ?? 0);
    const why = [];
    let anger = 0;
    const suffers = (weight, words) => { anger += weight; why.push(words); };
    if (share?.starving) suffers(100, 'starving');
    if (known?.paused) suffers(5, 'paused');
    if (refused > 0) suffers(60 * (refused / (refused + decisions)) + 10, `${count(refused)} requests refused (429)`);
    if (stopped > 0) suffers(20 * (stopped / decisions), `${percent(stopped, decisions)} blocked or for review`);
    if (partial > 0) suffers(20 * (partial / decisions), `${percent(partial, decisions)} incomplete`);
    return { name, share, known, decisions, stopped, partial, refused, anger, why };
  });
  return all.sort((a, b) => b.anger - a.anger || a.name.localeCompare(b.name));
}

/** The bad edit: one that was refused, else one that was taken and stops more than what was there
 * before; null where all is well. */
export function edit(generations, revisions) {
  const fault = generations?.faults?.[0];
  if (fault) return { where: place(fault), what: fault.message, hint: fault.hint, fault };
  const suspect = revisions?.suspect;
  if (!suspect) return null;
  const made = generations?.history?.find((one) => one.revision === suspect.revision && one.changed.length && one.result !== 'refused');
  const what = `${percent(suspect.stopped_share, 1)} for review, blocked or incomplete since, ${percent(suspect.before_share, 1)} before`;
  return { where: made ? made.changed.join(', ') : `revision ${suspect.revision.slice(0, 12)}`, what, suspect };
}

/** Decisions that say that what serves does no harm: of it, where it and one before it made enough of them
 * to compare; 0 where nobody can tell. */
export function harmless(generations, revisions) {
  const all = revisions?.revisions ?? [];
  const own = all.find((one) => one.revision === generations?.revision);
  const enough = (one) => one.decisions >= ENOUGH;
  const compared = all.length === 1 || all.some((one) => one !== own && enough(one));
  return own && enough(own) && compared ? own.decisions : 0;
}

export const place = (fault) => (fault.line ? `${fault.file}:${fault.line}:${fault.column}` : fault.file);

/** The three answers in a sentence each. */
export function answers({ sick, angry, bad }) {
  const first = (list, weight) => (list[0] && list[0][weight] > 0 ? list[0] : null);
  const ill = first(sick, 'sickness');
  const cross = first(angry, 'anger');
  return [
    ['sick', 'Which detector is sick?', 'detectors', ill && ill.name, ill?.why.join('; ')],
    ['angry', 'Which tenant is angry?', 'tenants', cross && cross.name, cross?.why.join('; ')],
    ['edit', 'Which edit was bad?', 'reloads', bad && bad.where, bad && bad.what],
  ].map(([id, question, view, label, why]) => ({ id, question, view, label, why }));
}
