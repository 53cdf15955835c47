// What is live, what of the last edits was refused and where, and who changed what.

import { can, look, of } from '../api.js';
import * as diagnose from '../diagnose.js';
import { button, count, digest, h, mark, notice, percent, section, table, time } from '../dom.js';

async function load() {
  const [generations, audit] = await Promise.all(['/generations', '/audit?limit=50'].map(look));
  const revisions = can('GET', '/evidence/revisions') ? await look('/evidence/revisions') : {};
  return { generations, audit, revisions };
}

const decided = (revision) => `#/decisions/by/${encodeURIComponent(revision)}`;
const REVISIONS = [['Revision'], ['First decision'], ['Last decision'], ['Decisions', 'num'], ['Review', 'num'], ['Block', 'num'],
  ['Incomplete', 'num'], ['Stopped', 'num'], ['Show']];
const revision = (suspect) => (one) => ({ key: one.revision, class: one.revision === suspect?.revision ? 'ill' : null, cells: [
  digest(one.revision), time(one.first_at), time(one.last_at), count(one.decisions), count(one.actions.review), count(one.actions.block),
  count(one.incomplete), percent(one.stopped_share, 1),
  h('a', { href: decided(one.revision), 'aria-label': `Decisions of ${one.revision.slice(0, 12)}` }, 'Decisions')] });

/** Which edit was bad, in a sentence. */
function verdict(bad, value, revisions) {
  const live = value?.revision;
  const counted = diagnose.harmless(value, revisions.value);
  const whose = h('code', {}, of());
  if (!bad && counted > 0) {
    return [mark('good', 'The last edit serves'), ` and stops no more than the one before it, by its ${count(counted)} decisions for `, whose, '.'];
  }
  if (!bad) {
    const why = revisions.problem?.detail ?? (revisions.value ? ['too few decisions of it and of one before it are on record for ', whose] : 'that takes a key with the scope audit:read');
    return [mark('none', live ? 'The last edit serves.' : 'What serves is not known.'), ' Whether an edit does harm is not known: ', why, '.'];
  }
  const first = [mark('bad', bad.where), ` is the bad edit: ${bad.what}`];
  if (bad.fault) return [...first, `${bad.hint ? `; ${bad.hint}` : ''}. What served before still serves.`];
  if (!live) return first;
  return [...first, bad.suspect.revision === live ? '. It serves. ' : '. It serves no more. ',
    h('a', { href: decided(bad.suspect.revision) }, 'What it decided')];
}

const FAULTS = [['Where'], ['What is wrong'], ['What to do'], ['Code']];
const fault = (one, at) => ({ key: `${at}`, cells: [h('code', {}, diagnose.place(one)), one.message, one.hint ?? '', h('code', {}, one.code)] });

function live({ revision, generation, loaded_at: loaded, wanted, instances }) {
  return [h('dl', { class: 'tiles' },
    h('div', { class: 'tile' }, h('dt', {}, 'Serves'), h('dd', {}, digest(revision)), h('dd', { class: 'quiet' }, `generation ${generation}`)),
    h('div', { class: 'tile' }, h('dt', {}, 'Since'), h('dd', {}, time(loaded))),
    h('div', { class: 'tile' }, h('dt', {}, 'Wanted by the files'), h('dd', {}, digest(wanted)),
      h('dd', { class: 'quiet' }, wanted === revision ? 'the same' : 'differs: refused'))),
  instances.length > 1 ? table('Instances', [['Instance'], ['Serves'], ['Since']], instances.map((one) => ({ key: one.instance,
    cells: [h('code', {}, one.instance), digest(one.revision), time(one.loaded_at)] }))) : null];
}

const RESULT = { refused: 'bad', loaded: 'good', stored: 'good', restored: 'good' };
const HISTORY = [['When'], ['Result'], ['Changed'], ['First fault'], ['Revision']];
function past(one) {
  const first = one.faults[0];
  return { key: `${one.at} ${one.revision}`, cells: [time(one.at), mark(RESULT[one.result] ?? 'none', one.result),
    one.changed.length ? h('ul', { class: 'plain' }, one.changed.map((name) => h('li', {}, h('code', {}, name)))) : '–',
    first ? [h('code', {}, diagnose.place(first)), ` ${first.message}`] : '', digest(one.revision)] };
}

const ACTS = [['When'], ['Who'], ['What'], ['On'], ['Tenant'], ['Why']];
const act = (one, at) => ({ key: `${one.at} ${at}`, cells: [time(one.at), h('code', {}, one.actor), one.action, one.target, one.tenant ?? '', one.reason] });

const decisions = ({ value }) => (value ? section('What each revision decided', table('Revisions, newest first; stopped is for review, blocked or incomplete',
  REVISIONS, value.revisions.map(revision(value.suspect)), 'Nothing was decided yet.')) : null);

export default {
  id: 'reloads',
  title: 'Reloads',
  load,
  render({ generations, audit, revisions }) {
    const { value } = generations;
    const bad = diagnose.edit(value, revisions.value);
    const lead = h('p', { id: 'bad-edit', class: 'lead' }, verdict(bad, value, revisions));
    if (!value) return [lead, notice(generations.problem, 'see what is live'), decisions(revisions)];
    return [
      lead,
      live(value),
      can('POST', '/admin/reload') ? h('p', {}, button('reload', 'Look at the files now')) : null,
      value.faults.length ? section('Why the last edit is refused', table('Faults', FAULTS, value.faults.map(fault))) : null,
      value.warnings.length ? section('Odd, but it serves', table('Warnings', FAULTS, value.warnings.map(fault))) : null,
      value.history ? section('Edits of this process', table('Edits, newest first', HISTORY, value.history.map(past), 'Nothing was edited since the start.')) : null,
      decisions(revisions),
      section('Who changed what', audit.problem ? notice(audit.problem, 'see the audit')
        : table('Audit, newest first', ACTS, audit.value.audit.map(act), 'Nobody changed anything.')),
    ];
  },
  actions: {
    reload(_, context) {
      context.deed({ title: 'Look at the files now?', yes: 'Look', path: '/admin/reload', done: 'The files were looked at.',
        text: 'The service does so by itself within seconds; what is at fault never serves.' });
    },
  },
};
