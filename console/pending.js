// A change of a policy that waits for another person: what it is, and the two ends of a review.

import { can } from './api.js';
import { button, digest, h, mark, time } from './dom.js';

const WHAT = { put: 'A change', delete: 'The deletion of the overlay', rollback: 'A return to an earlier version' };
const path = (bundle, version) => `/policies/${encodeURIComponent(bundle)}/versions/${version}/review`;

const file = (name, text) => h('details', {}, h('summary', {}, name), h('pre', { tabindex: '0' }, text));

/** What waits, to be read before it is reviewed: one element, none where nothing waits. */
export function shown(waits, bundle) {
  if (!waits) return [];
  const { act, author, version, proposed_at: at, reason, modules, cases, data } = waits;
  return [h('div', { id: 'pending', class: 'notice lack' },
    h('p', {}, mark('warn', `${WHAT[act] ?? act} waits for a review`), ` and decides nothing yet: version ${version} by `,
      h('code', {}, author), ', ', time(at), reason ? `, “${reason}”` : '', '; digest ', digest(waits.digest), '.'),
    modules.map((module) => file(module.path, module.rego)), cases.map((one) => file(one.path, one.yaml)),
    data ? file('data.yaml', JSON.stringify(data, null, 2)) : null,
    can('POST', path(bundle, version))
      ? h('div', { class: 'row' }, button('approve', 'Approve…'), button('reject', 'Reject…')) : null)];
}

/** Ends it, by the digest that was shown; whether it was done. */
export function end(waits, bundle, decision, context) {
  const approve = decision === 'approve';
  return context.deed({
    title: approve ? 'Approve this change?' : 'Reject this change?', yes: approve ? 'Approve' : 'Reject',
    text: approve ? `It decides under ${bundle} at once. Its author cannot approve it.` : 'It is forgotten; its author reads of it in the audit.',
    path: path(bundle, waits.version), body: { decision, digest: waits.digest },
    done: approve ? 'It is approved and serves.' : 'It is rejected.',
  });
}
