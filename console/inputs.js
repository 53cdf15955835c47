// Documents that policies can be tried on: samples, what was just judged, what is on record.

const finding = (id, category, path, label, score, severity) => ({
  id, detector: 'sample', category, path, label, score, severity, standing: true,
  span: { pointer: '/content', start: 0, end: 1 }, attributes: {},
});

const complete = { achieved: 1, threshold: 1, complete: true, missing: [], unjudged: [] };
const verdict = (findings) => ({ findings, results: [], categories: {}, coverage: complete, conflicts: [] });

/** Documents of a verdict that need nobody's content. */
export const SAMPLES = [
  ['An e-mail address', [finding(0, 'pii.email', ['pii.email', 'pii'], 'EMAIL', 0.98, 'medium')]],
  ['A cloud key', [finding(0, 'secrets.aws_access_key', ['secrets.aws_access_key', 'secrets'], 'AWS_ACCESS_KEY', 0.99, 'critical')]],
  ['An insult', [finding(0, 'toxicity.insult', ['toxicity.insult', 'toxicity'], 'insult', 0.9, 'high')]],
  ['A prompt injection', [finding(0, 'injection.prompt', ['injection.prompt', 'injection'], 'injection', 0.9, 'high')]],
  ['Nothing found', []],
].map(([name, findings]) => ({ name, document: verdict(findings) }));

/** Of an answer: what the verdict was asked about, as far as the answer tells. */
export function ofAnswer(name, answer) {
  const findings = answer.findings.map(({ detectors, ...one }) => ({ ...one, detector: detectors[0] ?? '', standing: true }));
  const results = answer.detectors.map(({ name, status, label, score }) => ({ detector: name, status, label, score }));
  const { achieved, threshold, complete: whole, missing } = answer.coverage;
  return { name, document: { ...verdict(findings), results: results.map(bare),
    coverage: { achieved, threshold, complete: whole, missing, unjudged: answer.unjudged.map(gap) } } };
}

/** Of a record: the very document, its table aside, which is the one that is tried. */
export function ofRecord(name, { record }) {
  const { findings, reports, coverage, resolution, points } = record;
  const { achieved, threshold, complete: whole, missing, unjudged } = coverage;
  return { name, document: { ...points.head,
    findings: findings.map(({ detectors, ...one }) => one),
    results: reports.map(({ detector, status, label, score }) => bare({ detector, status, label, score })),
    categories: resolution.categories, conflicts: resolution.conflicts ?? [],
    coverage: { achieved, threshold, complete: whole, missing, unjudged: unjudged.map(gap) } } };
}

const bare = (object) => Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined && value !== null));
const gap = ({ reason, pointer, detector }) => bare({ reason, pointer, detector });
