// Two small charts. Each says in words what it shows; the numbers stand in the tables beside them.

import { h, number } from './dom.js';

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [560, 150, 44, 18, 8];
const time = (at) => new Date(at).toLocaleTimeString('sv');

/** The next round number, so that the scale does not tremble. */
function top(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * unit).find((step) => step >= value);
}

function frame(title, words, most, times, marks, legend) {
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
  const grid = [0, most / 2, most].map((value) => [
    h('line', { class: 'grid', x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value) }),
    h('text', { x: LEFT - 6, y: y(value) + 4, 'text-anchor': 'end' }, number(value)),
  ]);
  const foot = [h('text', { x: LEFT, y: HEIGHT - 3 }, time(times[0])),
    h('text', { x: WIDTH, y: HEIGHT - 3, 'text-anchor': 'end' }, time(times.at(-1)))];
  return h('figure', {}, h('figcaption', {}, title),
    h('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': `${title}: ${words}` }, grid, marks(y), foot),
    h('p', { class: 'legend' }, legend));
}

/** Stacked bars. `steps`: [{at, values}], a value for each name. */
export function bars(title, names, steps) {
  const sums = steps.map((step) => step.values.reduce((sum, value) => sum + value, 0));
  const most = top(Math.max(...sums));
  const wide = (WIDTH - LEFT) / steps.length;
  const marks = (y) => steps.flatMap((step, at) => {
    let below = 0;
    return step.values.map((value, name) => {
      const from = below;
      below += value;
      if (value <= 0) return null;
      const x = LEFT + at * wide;
      return h('rect', { class: names[name], x: x + wide * 0.1, width: wide * 0.8, y: y(below), height: Math.max(0, y(from) - y(below)) });
    });
  });
  const words = `now ${number(sums.at(-1))}, at most ${number(Math.max(...sums))}`;
  const legend = names.map((name) => h('span', { class: `dot ${name}` }, name));
  return frame(title, words, most, steps.map((step) => step.at), marks, legend);
}

/** Lines. `series`: [[name, values]]; a value that is not finite is a gap. */
export function lines(title, series, times) {
  const known = series.flatMap(([, values]) => values).filter(Number.isFinite);
  const most = top(Math.max(0, ...known));
  const x = (at) => LEFT + ((WIDTH - LEFT) * at) / Math.max(1, times.length - 1);
  const path = (values, y) => values.map((value, at) => {
    if (!Number.isFinite(value)) return '';
    const joins = at > 0 && Number.isFinite(values[at - 1]);
    return `${joins ? 'L' : 'M'}${x(at).toFixed(1)} ${y(value).toFixed(1)}${joins ? '' : 'h1'}`;
  }).join('');
  const marks = (y) => series.map(([name, values]) => h('path', { class: `line ${name}`, d: path(values, y) || 'M0 0' }));
  const last = (values) => number(values.findLast(Number.isFinite) ?? NaN);
  const words = series.map(([name, values]) => `${name} now ${last(values)}`).join(', ');
  const legend = series.map(([name, values]) => h('span', { class: `dot ${name}` }, `${name} ${last(values)}`));
  return frame(title, words, most, times, marks, legend);
}
