// The service: every call of the console goes through here, to the console's own origin.

const PREFIX = '/api/v1';
const WAIT_MS = 15_000;

/** What a call was refused with, in the service's words. */
export class Problem extends Error {
  constructor({ status = 0, title, detail, code, request_id: requestId, errors }) {
    super(detail ?? title);
    Object.assign(this, { status, title, detail, code, requestId, errors });
  }
}

// The key lives here, and in sessionStorage only where that was asked for.
let key = sessionStorage.getItem('key') ?? '';
let whose = '';
let routes = null;
/** What the service says of the key; null where it does not say. */
let self = null;

export const session = {
  open: () => key !== '',
  begin(given, keep) {
    key = given;
    if (keep && given) sessionStorage.setItem('key', given);
    else sessionStorage.removeItem('key');
  },
  end() { key = ''; whose = ''; self = null; sessionStorage.removeItem('key'); },
  self: () => self,
  choose(tenant) { whose = tenant; },
  tenant: () => whose,
};

function headers(more) {
  const all = { Accept: 'application/json', ...more };
  if (/^[\w-]+\.[\w-]+\.[\w-]+$/.test(key)) all.Authorization = `Bearer ${key}`;
  else if (key) all['X-API-Key'] = key;
  if (whose) all['X-Tenant-ID'] = whose;
  return all;
}

/** Sends; the answer is `{value, etag, status}`. Throws a `Problem`. */
export async function send(method, path, body, more = {}) {
  const type = body === undefined ? {} : { 'Content-Type': 'application/json' };
  let response;
  try {
    response = await fetch(PREFIX + path, {
      method, headers: headers({ ...type, ...more }), cache: 'no-store', credentials: 'omit',
      redirect: 'error', signal: AbortSignal.timeout(WAIT_MS),
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Problem({ title: 'The service does not answer',
      detail: 'Check that it runs and that you can reach it; the console tries again.', code: 'NO_ANSWER' });
  }
  const text = await response.text();
  const json = /json/.test(response.headers.get('content-type') ?? '');
  const value = json && text ? JSON.parse(text) : text;
  const known = response.ok || (json && value.checks);
  if (!known) {
    throw new Problem(json ? value : { status: response.status, title: 'Unexpected answer',
      detail: `The service answered ${response.status}.`, code: 'UNKNOWN' });
  }
  return { value, etag: response.headers.get('etag'), status: response.status };
}

export const get = async (path) => (await send('GET', path)).value;

/** The answer, or the problem in its place: one part of a view must not take the others away. */
export async function look(path) {
  if (!has('GET', path)) {
    return { problem: new Problem({ title: 'Not in this release', code: 'NOT_SERVED', status: 404,
      detail: `This service does not serve GET ${PREFIX}${path.split('?')[0]}.` }) };
  }
  try {
    return { value: await get(path) };
  } catch (problem) {
    if (problem.code === 'UNAUTHORIZED' || !(problem instanceof Problem)) throw problem;
    return { problem };
  }
}

/** Reads which routes there are, from the service's own document. */
export async function learn() {
  const response = await fetch('/openapi.json', { credentials: 'omit' });
  routes = (await response.json()).paths;
}

/** Asks whose key it is: whatever it may do, the service answers whether it is one. */
export async function introduce() {
  self = has('GET', '/whoami') ? await get('/whoami') : null;
}

/** Whether the service serves it to this key; where its scopes are not known, the service will say. */
export function can(method, path) {
  return has(method, path) && lacks(method, path).length === 0;
}

/** The scopes that this key lacks for it; none where its scopes are not known. */
export function lacks(method, path) {
  const needed = (operation(method, path)?.security ?? []).flatMap((way) => Object.values(way).flat());
  return [...new Set(needed)].filter((scope) => self && !self.scopes.includes(scope));
}

/** Whose decisions are asked for: the chosen tenant's, the key's, or what the service takes where neither is said. */
export const of = () => whose || self?.tenant || 'default';

/** Whether the service serves it; `path` is as it stands in a call. */
export const has = (method, path) => operation(method, path) !== undefined;

/** Whether it takes a body; what takes none is given its reason in the query. */
export const takesBody = (method, path) => operation(method, path)?.requestBody !== undefined;

function operation(method, path) {
  const parts = (PREFIX + path.split('?')[0]).split('/');
  const fits = (template) => {
    const known = template.split('/');
    return known.length === parts.length
      && known.every((part, at) => part.startsWith('{') || part === parts[at]);
  };
  const found = Object.entries(routes ?? {}).find(([template, methods]) => fits(template)
    && method.toLowerCase() in methods);
  return found?.[1][method.toLowerCase()];
}
