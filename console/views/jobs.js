// Jobs and dead letters.

import { can, look } from '../api.js';
import { button, h, mark, notice, percent, section, table, time } from '../dom.js';

async function load() {
  const [jobs, letters, tellings] = await Promise.all(['/jobs?limit=50', '/admin/dlq?limit=50', '/admin/dlq?kind=webhooks&limit=50'].map(look));
  return { jobs, letters, tellings };
}

const STATE = { completed: 'good', running: 'good', failed: 'bad', paused: 'warn', cancelled: 'none', queued: 'none' };
const MAY = { queued: ['pause', 'cancel'], running: ['pause', 'cancel'], paused: ['resume', 'cancel'], failed: ['retry'] };
const verb = (how) => how[0].toUpperCase() + how.slice(1);
/** Lists are named by what they hold. */
const items = (value) => Object.values(value ?? {}).find(Array.isArray) ?? [];
const idOf = (one) => one.job_id ?? one.id;
const said = (error) => (typeof error === 'string' ? error : [error?.code, error?.message].filter(Boolean).join(': '));

function job(one) {
  const id = idOf(one);
  const may = (MAY[one.state] ?? []).filter((how) => can('POST', `/jobs/x/${how}`));
  return { key: id, cells: [h('code', { title: id }, id), mark(STATE[one.state] ?? 'none', one.state), one.job_type ?? '',
    one.priority ?? '', String(one.attempts ?? 0), percent(one.progress ?? 0, 1), time(one.created_at), time(one.updated_at), said(one.error),
    h('div', { class: 'row' }, may.map((how) => button('job', verb(how), { id, how, label: `${verb(how)} job ${id}` })))] };
}

function letter(one) {
  // A telling's own id: its job's names another letter, or none.
  const { id } = one;
  const may = ['requeue', 'discard'].filter((how) => can('POST', `/admin/dlq/x/${how}`));
  return { key: id, cells: [h('code', { title: id }, one.job_id), one.tenant, String(one.attempts), said(one.last_error), time(one.dead_at),
    h('div', { class: 'row' }, may.map((how) => button('letter', verb(how), { id, how, label: `${verb(how)} ${id}` })))] };
}

const JOBS = [['Job'], ['State'], ['Type'], ['Priority'], ['Attempts', 'num'], ['Progress', 'num'], ['Created'], ['Changed'], ['Error'], ['Control']];
const LETTERS = [['Job'], ['Tenant'], ['Tries', 'num'], ['Error'], ['Since'], ['Control']];

/** A part of the service that this release may not have. */
function part({ value, problem }, what, show) {
  if (problem?.code === 'NOT_SERVED' || problem?.status === 404) {
    return h('p', { class: 'notice lack' }, `This service has no ${what} yet: there is nothing to show.`);
  }
  return problem ? notice(problem, `see ${what}`) : show(items(value));
}

export default {
  id: 'jobs',
  title: 'Jobs',
  load,
  render({ jobs, letters, tellings }) {
    return [
      section('Jobs', part(jobs, 'jobs', (list) => table('Jobs, newest first', JOBS, list.map(job), 'No jobs.'))),
      section('Dead letters', part(letters, 'dead letters',
        (list) => table('Jobs that ended for good without a result', LETTERS, list.map(letter), 'No dead letters.'))),
      section('Callbacks', part(tellings, 'dead callbacks',
        (list) => table('Ends of jobs that nobody took', LETTERS, list.map(letter), 'Every end was taken, or is told again soon.'))),
    ];
  },
  actions: {
    job(target, context) {
      const { id, how } = target.dataset;
      context.deed({ title: `${verb(how)} this job?`, text: id, yes: verb(how), path: `/jobs/${encodeURIComponent(id)}/${how}`, done: `${verb(how)} is done.` });
    },
    letter(target, context) {
      const { id, how } = target.dataset;
      const text = how === 'discard' ? `${id}. It is gone for good.` : `${id}. It is tried again from the beginning.`;
      context.deed({ title: `${verb(how)} this dead letter?`, text, yes: verb(how), path: `/admin/dlq/${encodeURIComponent(id)}/${how}`, done: `${verb(how)} is done.` });
    },
  },
};
