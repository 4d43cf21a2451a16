// The page at /status: loads canary runs, signals and alarms (api/v1/monitor) and draws them.
"use strict";

const $ = (id) => document.getElementById(id);
// The page at `/` keeps the key under the same name, for this tab alone.
const KEY = "tellmt.key";
const POLL_MS = 15000;
const KINDS = { quality: "Worse than it was", worthless: "Worse than no translation", hard: "Hard texts go wrong", unreachable: "Not reachable" };
const FLAGS = { language: "wrong language", copied: "left untranslated", loop: "repeats itself", truncated: "cut short", empty: "empty" };
const PROBLEMS = {
  history: "its history cannot be read or written", canary_set: "a canary set cannot be read", webhook: "the webhook does not take alarms",
  roll_back: "a version could not be rolled back", unexpected: "something unexpected went wrong",
};

const metricOf = {};     // pair -> chrf or bleu, as chosen
const unfolded = new Set();  // the details that the user has opened, which stay open when the page is drawn again
let shown = "";
let timer = 0;

function key() {
  try { return sessionStorage.getItem(KEY) ?? ""; } catch { return ""; }
}

const percent = (v, short) => `${(100 * v).toLocaleString("en", { maximumFractionDigits: short ? 1 : v < 0.1 ? 2 : 1 })} %`;
const number = (v, digits = 1) => v.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const plain = (v) => v.toLocaleString("en", { maximumFractionDigits: 2 });
const time = (v) => (v < 1 ? `${Math.round(v * 1000)} ms` : `${plain(v)} s`);
const signed = (v) => `${v > 0 ? "+" : v < 0 ? "−" : "±"}${number(Math.abs(v), 2)}`;
const when = (at) => new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }).format(at * 1000);
const short = (version) => (version ?? "").slice(0, 12);
const sum = (list) => list.reduce((a, b) => a + b, 0);

function ago(seconds) {
  for (const [size, name] of [[86400, "day"], [3600, "hour"], [60, "minute"]]) {
    if (seconds >= size) {
      const n = Math.floor(seconds / size);
      return `${n} ${name}${n === 1 ? "" : "s"} ago`;
    }
  }
  return "just now";
}

function names(pair) {
  const [source, target] = pair.includes(":") ? pair.split(":") : pair.split("-");
  const words = new Intl.DisplayNames(["en"], { type: "language" });
  const name = (tag) => { try { return words.of(tag) ?? tag; } catch { return tag; } };
  return `${name(source)} to ${name(target)}`;
}

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function setStatus(state, text) {
  $("status").dataset.state = state;
  $("status-text").textContent = text;
}

function problem(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text ?? "";
}

// ---- alarms ---------------------------------------------------------------------------------------------------------

function alarmLine(a) {
  const svg = shape("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" });
  svg.append(shape("path", { d: "M10 3 1.8 17h16.4L10 3Zm0 5.5v4M10 15v.01" }));
  const subject = `${a.pair}${a.version ? `, version ${short(a.version)}` : ""}`;
  const after = a.rolled_back_to ? ` Rolled back to ${short(a.rolled_back_to)}.` : "";
  return element("div", { className: "st-alarm" }, svg, element("div", {}, element("strong", { textContent: KINDS[a.kind] ?? a.kind }), ` · ${subject}`),
    element("time", { textContent: `since ${when(a.opened)}` }), element("p", { textContent: `${a.reason}.${after}` }));
}

// ---- a pair ---------------------------------------------------------------------------------------------------------

function tile(name, value, note, bad) {
  const small = element("small", { textContent: note, title: note });
  if (bad) small.dataset.state = "bad";
  return element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }, small));
}

// Traffic of the last hour, over all versions.
function lastHour(rows) {
  const newest = rows.length ? rows[rows.length - 1].time : 0;
  const recent = rows.filter((r) => r.time > newest - 3600);
  const segments = sum(recent.map((r) => r.segments));
  const flagged = (name) => sum(recent.map((r) => r.segments * (r.flags[name] ?? 0)));
  const all = {};
  for (const name of new Set(recent.flatMap((r) => Object.keys(r.flags)))) all[name] = segments ? flagged(name) / segments : 0;
  const timed = recent.filter((r) => r.latency_p95 !== null);
  const weight = sum(timed.map((r) => r.segments));
  const p95 = weight ? sum(timed.map((r) => r.latency_p95 * r.segments)) / weight : null;
  return { segments, seconds: sum(recent.map((r) => r.seconds)), flags: all, p95 };
}

function tiles(pair, latest) {
  const tiles = [];
  for (const [metric, name] of [["chrf", "chrF2"], ["bleu", "BLEU"]]) {
    const score = latest?.scores[metric];
    const bad = Boolean(latest?.findings.length);
    const note = !latest ? "no run yet" : metric === "bleu" ? `on ${latest.segments} segments` : latest.delta === null ? "baseline" : `${signed(latest.delta)} to the baseline`;
    tiles.push(tile(name, score ? number(score.score) : "–", note, bad && metric === "chrf"));
  }
  const hour = lastHour(pair.signals);
  const worst = Object.entries(hour.flags).sort((a, b) => b[1] - a[1])[0];
  const flagged = worst ? `most: ${FLAGS[worst[0]] ?? worst[0]}` : "nothing flagged";
  tiles.push(tile("Flags in the last hour", hour.segments ? percent(sum(Object.values(hour.flags)), true) : "–", hour.segments ? flagged : "no traffic"));
  tiles.push(tile("95th percentile of time", hour.p95 === null ? "–" : time(hour.p95), `${plain(hour.segments)} segments in the last hour`));
  return tiles;
}

// When the clock was set back, the line must not run backwards.
function inOrder(rows) {
  let last = 0;
  return rows.map((r) => ({ ...r, x: (last = Math.max(last, r.time)) }));
}

function qualityChart(pair, metric) {
  const runs = inOrder(pair.runs).filter((r) => r.state === "scored" && r.scores[metric]);
  const versions = [...new Set(runs.map((r) => r.version))];
  const name = metric === "chrf" ? "chrF2" : "BLEU";
  const series = [];
  // A version that becomes live again is a new line of the same colour, since another version lies between.
  for (const r of runs) {
    const last = series[series.length - 1];
    const colour = versions.indexOf(r.version) % 6;
    const finding = r.findings.length ? `\nalarm: ${r.findings.join(", ")}` : r.baseline ? "\nbaseline" : r.delta === null ? "" : `\n${signed(r.delta)} chrF2 to the baseline`;
    const point = { x: r.x, y: r.scores[metric].score, bad: r.findings.length > 0, ring: r.baseline, tooltip: `${name} ${number(r.scores[metric].score)}\n${short(r.version)}\n${when(r.time)}${finding}` };
    if (last && last.version === r.version) last.points.push(point);
    else series.push({ version: r.version, colour, points: [point] });
  }
  return { versions, chart: { series, dots: true, least: 4, format: (v) => plain(v), label: `${name} of ${runs.length} canary runs of ${pair.pair}` } };
}

function legend(versions, live, bad) {
  const mark = (attributes) => { const svg = shape("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }); svg.append(shape("circle", { cx: 7, cy: 7, r: 5, ...attributes })); return svg; };
  const items = versions.slice(-6).map((v) => {
    const code = element("code", { textContent: short(v) });
    return element("li", {}, mark({ class: `c${versions.indexOf(v) % 6}` }), code, v === live ? " live" : "");
  });
  if (bad) items.push(element("li", {}, mark({ class: "bad" }), "alarm"));
  return items;
}

const TRAFFIC = [
  ["Segments a minute", (s) => (s.seconds ? (60 * s.segments) / s.seconds : null), { zero: true, area: true, format: plain, least: 1 }],
  ["Segments with a flag", (s) => (s.segments ? sum(Object.values(s.flags)) : null), { zero: true, area: true, format: percent, least: 0.01 }],
  ["95th percentile of time", (s) => s.latency_p95, { zero: true, area: true, format: time, least: 0.05 }],
  ["Length, translation to source", (s) => s.length_ratio, { format: plain, least: 0.2 }],
  ["Input in the source language", (s) => s.languages.source ?? (Object.keys(s.languages).length ? 0 : null), { format: percent, least: 0.1, most: 1.02 }],
  ["Drift of the input (dashed: usual)", (s) => s.drift, { zero: true, format: plain, least: 0.05, usual: (s) => s.drift_usual }],
];

// The most points of a line: neighbours are replaced by their mean, weighted by their segments.
const MAX_POINTS = 96;

function fewer(points) {
  const size = Math.ceil(points.length / MAX_POINTS);
  if (size < 2) return points;
  const means = [];
  for (let at = 0; at < points.length; at += size) {
    const part = points.slice(at, at + size);
    const weight = sum(part.map((p) => p.weight)) || 1;
    means.push({ ...part[part.length - 1], y: sum(part.map((p) => p.y * (p.weight || 1 / part.length))) / weight });
  }
  return means;
}

function traffic(pair) {
  const rows = inOrder(pair.signals);
  return TRAFFIC.map(([name, value, options]) => {
    const all = rows.filter((s) => value(s) !== null).map((s) => ({ x: s.x, y: value(s), weight: s.segments, version: s.version, time: s.time }));
    const points = fewer(all).map((p) => ({ ...p, tooltip: `${options.format(p.y)}\n${short(p.version)}\n${when(p.time)}` }));
    const last = all.length ? options.format(all[all.length - 1].y) : "–";
    const head = element("h4", {}, name, element("b", { textContent: last }));
    const holder = element("div", { className: "st-chart" });
    const usual = options.usual && rows.length ? options.usual(rows[rows.length - 1]) : undefined;
    const chart = { ...options, usual, series: [{ colour: 0, points }], label: `${name}, ${pair.pair}, now ${last}` };
    return { box: element("div", {}, head, points.length ? holder : element("p", { className: "st-none", textContent: "Nothing seen yet." })), draw: points.length ? () => draw(holder, chart) : null };
  });
}

function runRow(r) {
  const hard = Object.values(r.hard);
  const result = r.state === "unreachable" ? `not reachable: ${r.note}` : r.findings.length ? `alarm: ${r.findings.join(", ")}` : r.baseline ? "baseline" : "as before";
  const note = r.note && r.state !== "unreachable" ? `; ${r.note}` : "";
  const cells = [when(r.time), short(r.version) || "–", r.scores.bleu ? number(r.scores.bleu.score) : "–", r.scores.chrf ? number(r.scores.chrf.score) : "–",
    r.delta === null ? "–" : signed(r.delta), hard.length ? `${sum(hard.map((h) => h[0]))} of ${sum(hard.map((h) => h[1]))}` : "–", result + note];
  const row = element("tr", {}, ...cells.map((c) => element("td", { textContent: c })));
  if (r.findings.length) row.dataset.state = "alarm";
  return row;
}

function keepUnfolded(details, name) {
  details.open = unfolded.has(name);
  details.addEventListener("toggle", () => (details.open ? unfolded.add(name) : unfolded.delete(name)));
}

function pairCard(pair, alarms, enabled) {
  const card = $("pair").content.firstElementChild.cloneNode(true);
  const find = (selector) => card.querySelector(selector);
  const drawings = [];
  const scored = pair.runs.filter((r) => r.state === "scored");
  const latest = scored[scored.length - 1];
  const openAlarms = alarms.filter((a) => a.pair === pair.pair && a.closed === null);
  find("h2").textContent = names(pair.pair);
  find(".st-version").append(pair.pair, " · ", pair.live ? element("code", { textContent: short(pair.live) }) : "nothing is loaded", pair.canary ? ` · canary set of ${pair.segments} segments` : "");
  const state = openAlarms.length ? "alarm" : latest ? "good" : "none";
  find(".st-badge").dataset.state = state;
  find(".st-badge").textContent = { alarm: openAlarms.length === 1 ? "Alarm" : `${openAlarms.length} alarms`, good: "As it should be", none: pair.canary ? "No run yet" : "Not watched" }[state];
  if (latest || pair.signals.length) find(".st-tiles").append(...tiles(pair, latest));
  else find(".st-tiles").remove();

  const metric = (metricOf[pair.pair] ??= "chrf");
  for (const [name, words] of [["chrf", "chrF2"], ["bleu", "BLEU"]]) {
    const button = element("button", { type: "button", textContent: words });
    button.setAttribute("aria-pressed", String(name === metric));
    button.addEventListener("click", () => { metricOf[pair.pair] = name; shown = ""; load(); });
    find(".st-switch").append(button);
  }
  if (scored.length) {
    const { versions, chart } = qualityChart(pair, metric);
    drawings.push(() => draw(find(".st-large"), chart));
    find(".st-legend").append(...legend(versions, pair.live, scored.some((r) => r.findings.length)));
  } else {
    const how = !enabled ? "This service keeps no history: start it with --monitor." : pair.canary ? "The first run comes in a moment." : `Freeze a canary set: tellmt monitor freeze ${pair.pair} --corpus CORPUS`;
    find(".st-switch").hidden = true;
    find(".st-large").replaceWith(element("p", { className: "st-none", textContent: how }));
  }
  const rows = traffic(pair);
  if (pair.signals.length) {
    find(".st-grid").append(...rows.map((r) => r.box));
    drawings.push(...rows.map((r) => r.draw).filter(Boolean));
  } else {
    find(".st-grid").replaceWith(element("p", { className: "st-none", textContent: "No requests since the service started." }));
  }
  const [runs, corrections] = card.querySelectorAll(".st-more");
  runs.hidden = !pair.runs.length;
  runs.querySelector("tbody").append(...pair.runs.slice(-25).reverse().map(runRow));
  find(".st-signature").textContent = latest ? Object.entries(latest.scores).map(([n, s]) => `${n === "chrf" ? "chrF2" : "BLEU"}: ${s.signature}`).join("  ") : "";
  keepUnfolded(runs, `${pair.pair} runs`);
  corrections.hidden = !pair.feedback.length;
  corrections.querySelector("tbody").append(...pair.feedback.map((f) => element("tr", {}, ...[short(f.version), plain(f.segments),
    ...["bleu", "chrf", "ter"].map((m) => (f.scores[m] ? number(f.scores[m].score) : "–"))].map((c) => element("td", { textContent: c })))));
  keepUnfolded(corrections, `${pair.pair} corrections`);
  return { card, drawings };
}

// ---- the page -------------------------------------------------------------------------------------------------------

function show(state) {
  const open = state.alarms.filter((a) => a.closed === null), closed = state.alarms.filter((a) => a.closed !== null);
  const live = state.pairs.filter((p) => p.live).length;
  if (open.length) setStatus("error", open.length === 1 ? "1 alarm" : `${open.length} alarms`);
  else setStatus(live ? "live" : "empty", live === 1 ? "1 pair live" : `${live} pairs live`);
  $("updated").textContent = `${state.waiting ? `${plain(state.waiting)} segments waiting · ` : ""}as of ${when(Date.parse(state.time) / 1000)}`;
  problem(state.problems.length ? `Part of the monitor does not work: ${state.problems.map((p) => PROBLEMS[p] ?? p).join("; ")}. The log says more.` : null);
  // Without a change nothing is drawn again under the pointer.
  const content = JSON.stringify([state.alarms, state.pairs]);
  if (content === shown) return;
  shown = content;
  $("alarms").replaceChildren(...open.map(alarmLine));
  $("hint").hidden = state.pairs.length > 0;
  $("hint").textContent = "No pair is served yet.";
  // Pairs with an alarm first, then pairs with canary runs.
  const rank = (p) => (open.some((a) => a.pair === p.pair) ? 0 : p.runs.length ? 1 : p.signals.length ? 2 : 3);
  const cards = state.pairs.slice().sort((a, b) => rank(a) - rank(b) || a.pair.localeCompare(b.pair)).map((p) => pairCard(p, state.alarms, state.enabled));
  $("pairs").replaceChildren(...cards.map((c) => c.card));
  for (const c of cards) for (const drawing of c.drawings) drawing();
  $("past").hidden = !closed.length;
  $("past-list").replaceChildren(...closed.map((a) => element("li", {
    textContent: `${when(a.opened)} to ${when(a.closed)} · ${a.pair} ${short(a.version)} · ${KINDS[a.kind] ?? a.kind}: ${a.reason}${a.rolled_back_to ? `; rolled back to ${short(a.rolled_back_to)}` : ""}`,
  })));
}

async function load() {
  clearTimeout(timer);
  try {
    const response = await fetch("api/v1/monitor", { headers: key() ? { "X-API-Key": key() } : {} });
    const body = await response.json();
    if (response.status === 401 || response.status === 403) {
      $("key-form").hidden = false;
      setStatus("error", "No key");
      problem(key() ? `This API key may not see the status: ${body.error}.` : null);
      return;
    }
    if (!response.ok) throw new Error(body.error);
    $("key-form").hidden = true;
    show(body);
  } catch (e) {
    setStatus("error", "Not reachable");
    problem("The server cannot be reached. Is it still running?");
  }
  timer = setTimeout(load, POLL_MS);
}

$("key-form").addEventListener("submit", (e) => {
  e.preventDefault();
  try { sessionStorage.setItem(KEY, $("key").value.trim()); } catch { /* the key is then used only once */ }
  $("key").value = "";
  load();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) load(); });
load();
