// Tenants and their quotas, the angriest first; pausing one.

import { can, look, session } from '../api.js';
import * as diagnose from '../diagnose.js';
import { button, count, h, mark, notice, number, percent, table, time } from '../dom.js';
import { parse } from '../metrics.js';

/** Quotas are asked one by one: for so many tenants. */
const QUOTAS_MAX = 25;

/** The tenant of a key that may not list them. */
async function own() {
  const resolved = await look('/policies/resolve');
  return resolved.value ? [resolved.value.tenant] : [];
}

async function load() {
  const [listed, fairness, metrics] = await Promise.all(['/tenants?limit=200', '/fairness', '/metrics'].map(look));
  const chosen = session.tenant();
  const ids = listed.value ? listed.value.tenants.map((tenant) => tenant.id) : await own();
  const all = diagnose.tenants({ listed: listed.value?.tenants, shares: fairness.value?.tenants,
    metrics: metrics.value ? parse(metrics.value) : null }).filter((one) => !chosen || one.name === chosen);
  const asked = all.map((one) => one.name).filter((name) => ids.includes(name)).slice(0, QUOTAS_MAX);
  const wanted = asked.length ? asked : ids.slice(0, 1);
  const quotas = await Promise.all(wanted.map((name) => look(`/quotas/${encodeURIComponent(name)}`)));
  return { listed, fairness, metrics, all, quotas: new Map(wanted.map((name, at) => [name, quotas[at]])) };
}

const COLUMNS = [['Tenant'], ['State'], ['Decisions', 'num'], ['Blocked or review', 'num'], ['Incomplete', 'num'],
  ['Refused (429)', 'num'], ['Used this hour', 'num'], ['At once', 'num'], ['Rate per minute', 'num'], ['Control']];

function state(one) {
  if (one.known && !one.known.serves) return mark('bad', 'does not serve');
  if (one.known?.paused) return mark('warn', 'paused');
  return one.share?.starving ? mark('bad', 'starving') : mark('good', 'serves');
}

function control(one) {
  if (!one.known || !can('POST', '/admin/tenants/x/pause')) return '';
  return one.known.paused ? button('resume', 'Resume', { name: one.name, label: `Resume ${one.name}` })
    : button('pause', 'Pause', { name: one.name, label: `Pause ${one.name}` });
}

function row(one, quota) {
  const value = quota?.value;
  const of = (used, most) => (value ? `${count(used)} of ${most === null ? 'any' : count(most)}` : '–');
  const tier = one.known?.tier ?? value?.tier;
  return {
    key: one.name, class: one.anger > 0 ? 'ill' : null, cells: [
      [h('span', {}, one.name), tier ? h('div', { class: 'quiet' }, `${tier}, weight ${number(one.share?.weight ?? one.known?.weight)}`) : null],
      state(one), count(one.decisions), percent(one.stopped, one.decisions), percent(one.partial, one.decisions), count(one.refused),
      of(value?.used, value?.requests_per_hour),
      of(value?.running, value?.concurrent),
      value ? [count(value.rate_limit.per_minute), h('div', { class: 'quiet' }, `burst ${count(value.rate_limit.burst)}`)] : '–', control(one)],
  };
}

export default {
  id: 'tenants',
  title: 'Tenants',
  load,
  render({ listed, fairness, metrics, all, quotas }) {
    const angry = all.filter((one) => one.anger > 0);
    const refused = [...quotas.values()].find((quota) => quota.problem) ?? {};
    const problems = [[listed, 'list tenants'], [refused, 'see quotas'], [fairness, 'see fairness'], [metrics, 'see the metrics']];
    const any = [...quotas.values()].find((quota) => quota.value)?.value;
    const { index, violation } = fairness.value ?? {};
    return [
      h('p', { id: 'angry', class: 'lead' }, angry.length
        ? [mark('bad', angry[0].name), ` is the angriest: ${angry[0].why.join('; ')}.`]
        : fairness.problem || metrics.problem ? mark('none', 'Not all can be seen: whether a tenant is angry is not known.') : mark('good', 'No tenant is angry.')),
      problems.filter(([part]) => part.problem).map(([part, what]) => notice(part.problem, what)),
      table('Tenants, the angriest first', COLUMNS, all.map((one) => row(one, quotas.get(one.name))), 'No tenant asked yet.'),
      listed.value?.next ? h('p', {}, 'There are more than the first 200 tenants: choose by the API.') : null,
      h('p', { class: 'quiet' },
        fairness.value ? `Fairness ${number(index)} of 1 (Jain), violation: ${violation}. ` : '',
        any ? ['The hour ends at ', time(any.resets_at), any.enforced ? '.' : '; quotas are counted and not enforced here.'] : ''),
    ];
  },
  actions: {
    pause: (target, context) => change(target.dataset.name, 'pause', context),
    resume: (target, context) => change(target.dataset.name, 'resume', context),
  },
};

function change(name, how, context) {
  const pauses = how === 'pause';
  const verb = pauses ? 'Pause' : 'Resume';
  context.deed({ title: `${verb} ${name}?`, yes: verb,
    text: pauses ? 'Every request of its credentials is refused until it is resumed.' : 'Its credentials are let in again at once.',
    path: `/admin/tenants/${encodeURIComponent(name)}/${how}`, done: `${name} is ${pauses ? 'paused' : 'resumed'}.` });
}
