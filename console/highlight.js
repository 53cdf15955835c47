// Spans of findings shown on a text that stays in this page.

import { h } from './dom.js';

const RANK = ['low', 'medium', 'high', 'critical'];

/** The text with a mark over each span of `pointer`; spans count code points. Null where none fits. */
export function highlight(text, findings, pointer) {
  const chars = [...text];
  const own = findings.filter(({ span }) => span && span.pointer === pointer && span.end <= chars.length);
  const edges = new Set([0, chars.length, ...own.flatMap(({ span }) => [span.start, span.end])]);
  const cuts = [...edges].sort((a, b) => a - b);
  const parts = cuts.slice(0, -1).map((start, at) => {
    const end = cuts[at + 1];
    const piece = chars.slice(start, end).join('');
    const over = own.filter(({ span }) => span.start <= start && span.end >= end);
    if (!over.length) return piece;
    const worst = over.map((finding) => finding.severity).sort((a, b) => RANK.indexOf(b) - RANK.indexOf(a))[0];
    const begins = over.filter(({ span }) => span.start === start);
    const words = over.map((finding) => `${finding.category}, score ${finding.score}`).join('; ');
    return [h('mark', { class: worst, title: words }, piece),
      begins.length ? h('sup', {}, begins.map((finding) => `${finding.id}`).join(' ')) : null];
  });
  const beyond = findings.filter(({ span }) => span && span.pointer === pointer && span.end > chars.length).length;
  return h('div', {}, beyond ? h('p', { class: 'notice bad' }, `${beyond} findings lie behind the end of this text: it is not the text that was judged.`) : null,
    h('p', { class: 'text', id: 'highlighted' }, parts));
}
