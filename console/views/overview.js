// What goes on: traffic, what was decided, how fast, what was left unjudged; and the three questions.

import { can, look } from '../api.js';
import { bars, lines } from '../chart.js';
import * as diagnose from '../diagnose.js';
import { count, h, mark, ms, notice, number, percent, section, table } from '../dom.js';
import { by, parse, quantile, sum } from '../metrics.js';

const ACTIONS = ['allow', 'flag', 'redact', 'review', 'block'];
const KEPT = 120;
const judged = (labels) => labels.route === '/api/v1/orchestrate';

/** What was seen since the page was opened: {at, metrics}, oldest first. */
let seen = [];

/** What went on between two looks. */
function step(before, now) {
  const seconds = (now.at - before.at) / 1000;
  const gone = (name, label, value) => Math.max(0,
    sum(now.metrics, name, (l) => l[label] === value) - sum(before.metrics, name, (l) => l[label] === value));
  const rates = ACTIONS.map((action) => gone('decisions_total', 'action', action) / seconds);
  const of = (q) => quantile(now.metrics, 'http_request_duration_seconds', q, { fits: judged, before: before.metrics });
  return { at: now.at, rates, p50: of(0.5) * 1000, p99: of(0.99) * 1000 };
}

function keep(text) {
  const next = { at: Date.now(), metrics: parse(text) };
  const last = seen.at(-1);
  // The service started anew: its counts did too.
  const fell = last && sum(next.metrics, 'decisions_total') < sum(last.metrics, 'decisions_total');
  seen = fell ? [next] : [...seen, next].slice(-KEPT);
  return next.metrics;
}

async function load() {
  const paths = ['/metrics', '/generations', '/detectors', '/breakers', '/fairness', '/health/detailed', '/performance'];
  const [metrics, generations, listed, breakers, fairness, health, performance] = await Promise.all(paths.map(look));
  const revisions = can('GET', '/evidence/revisions') ? await look('/evidence/revisions') : {};
  return { metrics, generations, listed, breakers, fairness, health, performance, revisions,
    parsed: metrics.value ? keep(metrics.value) : null };
}

function tile(title, value, note) {
  return h('div', { class: 'tile' }, h('dt', {}, title), h('dd', {}, value), note ? h('dd', { class: 'quiet' }, note) : null);
}

function questions(data) {
  const { parsed } = data;
  const answers = diagnose.answers({
    sick: diagnose.detectors({ listed: data.listed.value?.detectors, breakers: data.breakers.value?.breakers, metrics: parsed }),
    angry: diagnose.tenants({ metrics: parsed, shares: data.fairness.value?.tenants }),
    bad: diagnose.edit(data.generations.value, data.revisions.value),
  });
  const needed = { sick: ['metrics', 'breakers', 'listed'], angry: ['metrics', 'fairness'], edit: ['generations'] };
  // An edit that decided little yet, or whose decisions may not be counted, may do harm.
  const harmless = diagnose.harmless(data.generations.value, data.revisions.value) > 0;
  const known = (id) => needed[id].every((part) => data[part].value !== undefined) && (id !== 'edit' || harmless);
  const card = ({ id, question, view, label, why }) => h('a', { class: 'card', href: `#/${view}`, id: `ask-${id}` },
    h('span', { class: 'quiet' }, question),
    label ? h('strong', {}, mark('bad', label)) : h('strong', {}, known(id) ? mark('good', 'none') : mark('none', 'not known')),
    h('span', {}, label ? why : ''));
  return h('div', { class: 'cards' }, answers.map(card));
}

function tiles(all, health, performance) {
  const decisions = sum(all, 'decisions_total');
  const partial = sum(all, 'decisions_total', (labels) => labels.complete === 'false');
  const steps = seen.slice(-13);
  const rate = steps.length > 1
    ? (decisions - sum(steps[0].metrics, 'decisions_total')) / ((steps.at(-1).at - steps[0].at) / 1000) : NaN;
  const of = (q) => ms(quantile(all, 'http_request_duration_seconds', q, { fits: judged }));
  const status = health.value?.status;
  return h('dl', { class: 'tiles' },
    tile('Health', status ? mark({ healthy: 'good', degraded: 'warn' }[status] ?? 'bad', status) : '–'),
    tile('Decisions per second', number(rate), 'the last minute'),
    tile('Decisions', count(decisions), 'since the start'),
    tile('p50', of(0.5), 'since the start'),
    tile('p99', of(0.99), 'since the start'),
    tile('Incomplete', percent(partial, decisions), `${count(partial)} decisions`),
    tile('Refused', count(sum(all, 'rate_limit_exceeded_total')), 'rate or quota, 429'),
    tile('Shed', count(sum(all, 'shed_total')), 'at the limit, 503'),
    performance.value?.efficiency_score === undefined ? null
      : tile('Efficiency', number(performance.value.efficiency_score), 'score, 0 to 1'));
}

function charts() {
  const steps = seen.slice(1).map((now, at) => step(seen[at], now));
  if (steps.length < 2) return h('p', { class: 'quiet' }, 'Charts begin after a few seconds.');
  const latency = [['p50', steps.map((one) => one.p50)], ['p99', steps.map((one) => one.p99)]];
  return h('div', { class: 'pair' },
    bars('Decisions per second by action', ACTIONS, steps.map((one) => ({ at: one.at, values: one.rates }))),
    lines('Latency in milliseconds', latency, steps.map((one) => one.at)));
}

function mix(all) {
  const total = sum(all, 'decisions_total');
  const actions = by(all, 'decisions_total', 'action');
  const rows = ACTIONS.map((action) => ({ key: action, cells: [h('span', { class: `dot ${action}` }, action),
    count(actions.get(action) ?? 0), percent(actions.get(action) ?? 0, total)] }));
  return table('What was decided, since the start', [['Action'], ['Decisions', 'num'], ['Share', 'num']], rows);
}

function unjudged(all) {
  const rows = [...by(all, 'unjudged_total', 'reason')].sort((a, b) => b[1] - a[1])
    .map(([reason, gaps]) => ({ key: reason, cells: [reason, count(gaps)] }));
  return table('What was left unjudged, since the start', [['Reason'], ['Gaps', 'num']], rows, 'Nothing was left unjudged.');
}

function tenants(all) {
  const rows = diagnose.tenants({ metrics: all }).slice(0, 10).map((one) => ({ key: one.name, cells: [one.name,
    count(one.decisions), percent(one.stopped, one.decisions), count(one.refused)] }));
  return table('By tenant, since the start', [['Tenant'], ['Decisions', 'num'], ['Blocked or review', 'num'], ['Refused', 'num']], rows, 'Nobody asked yet.');
}

function detectors(all) {
  const rows = diagnose.detectors({ metrics: all }).slice(0, 10).map((one) => ({ key: one.name, cells: [one.name,
    count(one.calls), percent(one.failed, one.calls), ms(one.p95)] }));
  return table('By detector, since the start', [['Detector'], ['Calls', 'num'], ['Failed', 'num'], ['p95', 'num']], rows, 'None was asked yet.');
}

export default {
  id: 'overview',
  title: 'Overview',
  load,
  render(data) {
    const { parsed, metrics, health, performance } = data;
    return [
      questions(data),
      parsed ? [tiles(parsed, health, performance), charts(),
        section('Decisions', h('div', { class: 'pair' }, mix(parsed), unjudged(parsed))),
        section('Where they come from', h('div', { class: 'pair' }, tenants(parsed), detectors(parsed)))]
        : notice(metrics.problem, 'see the metrics'),
    ];
  },
};
