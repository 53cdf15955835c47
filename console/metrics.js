// Prometheus text: series, sums, and quantiles of histograms.

/** Name → [{labels, value}]. */
export function parse(text) {
  const all = new Map();
  for (const line of text.split('\n')) {
    if (!line || line.startsWith('#')) continue;
    const found = /^([\w:]+)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    const [, name, written, value] = found;
    const labels = {};
    for (const [, label, raw] of (written ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[label] = raw.replace(/\\(.)/g, (_, char) => (char === 'n' ? '\n' : char));
    }
    if (!all.has(name)) all.set(name, []);
    all.get(name).push({ labels, value: Number(value) });
  }
  return all;
}

const PREFIX = 'orchestrator_';
const series = (all, name) => all?.get(PREFIX + name) ?? [];

/** The sum of the series that `fits` lets through. */
export function sum(all, name, fits = () => true) {
  return series(all, name).reduce((sum, { labels, value }) => sum + (fits(labels) ? value : 0), 0);
}

/** Value of `label` → sum. */
export function by(all, name, label, fits = () => true) {
  const sums = new Map();
  for (const { labels, value } of series(all, name)) {
    if (fits(labels)) sums.set(labels[label], (sums.get(labels[label]) ?? 0) + value);
  }
  return sums;
}

/** Seconds below which the share `q` lies; `before`, where given, is taken off. NaN where nothing was seen. */
export function quantile(all, name, q, { fits = () => true, before = null } = {}) {
  const now = by(all, `${name}_bucket`, 'le', fits);
  const then = before ? by(before, `${name}_bucket`, 'le', fits) : new Map();
  const edge = (le) => (le === '+Inf' ? Infinity : Number(le));
  const buckets = [...now].map(([le, seen]) => [edge(le), seen - (then.get(le) ?? 0)]);
  buckets.sort((a, b) => a[0] - b[0]);
  const total = buckets.at(-1)?.[1] ?? 0;
  if (total <= 0) return NaN;
  let [lower, below] = [0, 0];
  for (const [upper, seen] of buckets) {
    if (seen >= q * total) {
      return upper === Infinity ? lower : lower + (upper - lower) * ((q * total - below) / (seen - below || 1));
    }
    [lower, below] = [upper, seen];
  }
  return NaN;
}
