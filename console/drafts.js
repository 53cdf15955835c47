// What is edited and not stored, by tenant and policy: in this page's memory until it is stored,
// discarded, or its author signs out.

const kept = new Map();
const key = (tenant, bundle) => `${tenant}/${bundle}`;

export const get = (tenant, bundle) => kept.get(key(tenant, bundle));
export const keep = (tenant, bundle, draft) => kept.set(key(tenant, bundle), draft);
export const drop = (tenant, bundle) => kept.delete(key(tenant, bundle));
export const forget = () => kept.clear();

// The browser asks before a page with edits goes away.
addEventListener('beforeunload', (event) => {
  if (kept.size) event.preventDefault();
});
