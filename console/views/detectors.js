// Detectors and their breakers, the sickest first, with manual control.

import { can, look } from '../api.js';
import * as diagnose from '../diagnose.js';
import { button, count, h, mark, ms, notice, percent, table } from '../dom.js';
import { parse } from '../metrics.js';

async function load() {
  const [listed, breakers, metrics] = await Promise.all(['/detectors', '/breakers', '/metrics'].map(look));
  return { listed, breakers, metrics };
}

const HEALTH = { healthy: 'good', degraded: 'warn', unhealthy: 'bad' };
const STATE = { closed: 'good', half_open: 'warn', open: 'bad' };
const COLUMNS = [['Detector'], ['Health'], ['Breaker'], ['Calls', 'num'], ['Failed', 'num'], ['Rejected', 'num'],
  ['p95', 'num'], ['Finds'], ['Control']];

function control(one) {
  if (!one.own.length || !can('POST', '/breakers/x/open')) return '';
  const name = one.name;
  const to = (how, text) => button('force', text, { name, how, label: `${text} the breaker of ${name}` });
  return h('div', { class: 'row' }, one.state === 'open' ? null : to('open', 'Open'),
    one.state === 'closed' ? null : to('close', 'Close'), to('reset', 'Reset'));
}

function row(one) {
  const { known, own, state } = one;
  const next = own.find((breaker) => breaker.next_attempt_ms !== null)?.next_attempt_ms;
  const status = known && known.status !== 'active' ? ` (${known.status})` : '';
  const whose = own.find((breaker) => breaker.tenant)?.tenant;
  const versions = known?.versions ?? own.map((breaker) => breaker.version);
  return {
    key: one.name, class: one.sickness > 0 ? 'ill' : null, cells: [
      [h('span', {}, one.name), h('div', { class: 'quiet' }, [`version ${versions.join(', ')}`, status, whose ? `, of ${whose}` : ''])],
      known ? mark(HEALTH[known.health] ?? 'none', known.health) : '–',
      own.length || known ? [mark(STATE[state], state.replace('_', ' ')),
        next === undefined ? null : h('div', { class: 'quiet' }, `probe in ${ms(next / 1000)}`)] : '–',
      count(one.calls), percent(one.failed, one.calls), count(one.rejections), ms(one.p95),
      h('span', { class: 'quiet' }, (known?.categories ?? []).join(' ')), control(one)],
  };
}

export default {
  id: 'detectors',
  title: 'Detectors',
  load,
  render({ listed, breakers, metrics }) {
    const all = diagnose.detectors({ listed: listed.value?.detectors, breakers: breakers.value?.breakers,
      metrics: metrics.value ? parse(metrics.value) : null });
    const ill = all.filter((one) => one.sickness > 0);
    const problems = [[listed, 'see detectors'], [breakers, 'see breakers'], [metrics, 'see the metrics']];
    const lacks = problems.filter(([part]) => part.problem);
    return [
      h('p', { id: 'sick', class: 'lead' }, ill.length
        ? [mark('bad', ill[0].name), ` is the sickest: ${ill[0].why.join('; ')}.`]
        : lacks.length ? mark('none', 'Not all can be seen: whether a detector is sick is not known.') : mark('good', 'No detector is sick.')),
      lacks.map(([part, what]) => notice(part.problem, what)),
      table('Detectors, the sickest first', COLUMNS, all.map(row), 'No detector is visible.'),
      h('p', { class: 'quiet' }, 'Calls are counted since the start. A breaker acts on all versions of a detector; '
        + 'what was opened or closed by hand stays so until it is reset.'),
    ];
  },
  actions: {
    force(target, context) {
      const { name, how } = target.dataset;
      const text = { open: 'No call reaches it until somebody closes or resets the breaker. What requires it is incomplete meanwhile.',
        close: 'Every call reaches it, however many fail, until the breaker is reset or opened by hand.',
        reset: 'The breaker is closed and opens and closes by itself again.' }[how];
      const verb = { open: 'Open', close: 'Close', reset: 'Reset' }[how];
      context.deed({ title: `${verb} the breaker of ${name}?`, text, yes: verb,
        path: `/breakers/${encodeURIComponent(name)}/${how}`, done: `The breaker of ${name}: ${how} is done.` });
    },
  },
};
