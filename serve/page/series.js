// What the charts of the status view show: the scores of a pair's canary runs, and the signals of its traffic.
import { f, t } from "./words.js";

// The most points of a line: neighbours are replaced by their mean, weighted by their segments.
const MAX_POINTS = 96;

const sum = (list) => list.reduce((a, b) => a + b, 0);
const short = (version) => (version ?? "").slice(0, 12);
const when = (seconds) => f.time(seconds * 1000);
const plain = (v) => f.number(v, 2, 0);
const seconds = (v) => (v ? f.duration(v) : f.number(0));

// When the clock was set back, the line must not run backwards.
function inOrder(rows) {
  let last = 0;
  return rows.map((r) => ({ ...r, x: (last = Math.max(last, r.time)) }));
}

export function qualityChart(pair, metric, name) {
  const runs = inOrder(pair.runs).filter((r) => r.state === "scored" && r.scores[metric]);
  const versions = [...new Set(runs.map((r) => r.version))];
  const series = [];
  // A version that becomes live again is a new line of the same colour, since another version lies between.
  for (const r of runs) {
    const last = series.at(-1), y = r.scores[metric].score;
    const more = r.findings.length ? t("alarm") : r.baseline ? t("baseline") : r.delta === null ? "" : t("deltaOf", f.number(r.delta, 2));
    const tooltip = [`${name} ${f.number(y, 1)}`, short(r.version), when(r.time), more].filter(Boolean).join("\n");
    const point = { x: r.x, y, bad: r.findings.length > 0, ring: r.baseline, tooltip };
    if (last && last.version === r.version) last.points.push(point);
    else series.push({ version: r.version, colour: versions.indexOf(r.version) % 6, points: [point] });
  }
  return { versions, chart: { series, dots: true, least: 4, format: (v) => f.number(v, 1, 0), label: t("runsOf", name, runs.length, pair.pair) } };
}

// The name of each chart among the words, the value of a row of signals, and how it is drawn.
const TRAFFIC = [
  ["perMinute", (s) => (s.seconds ? (60 * s.segments) / s.seconds : null), { zero: true, area: true, format: plain, least: 1 }],
  ["flaggedShare", (s) => (s.segments ? sum(Object.values(s.flags)) : null), { zero: true, area: true, format: (v) => f.share(v), least: 0.01 }],
  ["p95", (s) => s.latency_p95, { zero: true, area: true, format: seconds, least: 0.05 }],
  ["lengths", (s) => s.length_ratio, { format: plain, least: 0.2 }],
  ["inSource", (s) => s.languages.source ?? (Object.keys(s.languages).length ? 0 : null), { format: (v) => f.share(v), least: 0.1, most: 1.02 }],
  ["drift", (s) => s.drift, { zero: true, format: plain, least: 0.05, usual: (s) => s.drift_usual }],
];

function fewer(points) {
  const size = Math.ceil(points.length / MAX_POINTS);
  if (size < 2) return points;
  const means = [];
  for (let at = 0; at < points.length; at += size) {
    const part = points.slice(at, at + size);
    const weight = sum(part.map((p) => p.weight)) || 1;
    means.push({ ...part.at(-1), y: sum(part.map((p) => p.y * (p.weight || 1 / part.length))) / weight });
  }
  return means;
}

export function trafficCharts(pair) {
  const rows = inOrder(pair.signals);
  return TRAFFIC.map(([key, value, options]) => {
    const name = t("charts")[key];
    const all = rows.filter((s) => value(s) !== null).map((s) => ({ x: s.x, y: value(s), weight: s.segments, version: s.version, time: s.time }));
    const points = fewer(all).map((p) => ({ ...p, tooltip: `${options.format(p.y)}\n${short(p.version)}\n${when(p.time)}` }));
    const last = all.length ? options.format(all.at(-1).y) : "–";
    const usual = options.usual && rows.length ? options.usual(rows.at(-1)) : undefined;
    return { name, chart: { ...options, usual, last, series: [{ colour: 0, points }], label: `${name}, ${pair.pair}: ${last}` } };
  });
}
