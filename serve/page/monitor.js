// The second half of the status view: canary runs, live signals and alarms of each pair (GET /api/v1/monitor).
import { $, make } from "./dom.js";
import { draw as drawChart, shape } from "./chart.js";
import { polling } from "./polling.js";
import { qualityChart, trafficCharts } from "./series.js";
import { Problem, json } from "./server.js";
import { apply, f, t } from "./words.js";

const LOOK_MS = 15000;
const NAMES = { chrf: "chrF2", bleu: "BLEU" };

const metricOf = {};         // pair -> chrf or bleu, as chosen
const unfolded = new Set();  // the details that the user has opened, which stay open when the view is drawn again
let latest = null;
let drawn = "";

const short = (version) => (version ?? "").slice(0, 12);
const sum = (list) => list.reduce((a, b) => a + b, 0);
const score = (of) => (of ? f.number(of.score, 1) : "–");
const cells = (texts) => texts.map((text) => make("td", {}, String(text)));
const when = (seconds) => f.time(seconds * 1000);

function nameOf(pair) {
  const [source, target] = pair.split(pair.includes(":") ? ":" : "-");
  return `${f.language(source)} → ${f.language(target)}`;
}

// ---- alarms ---------------------------------------------------------------------------------------------------------

const kind = (alarm) => t("alarmKinds")[alarm.kind] ?? alarm.kind;

// What the monitor found, in its own words, which are English.
const reason = (alarm) => make("span", { lang: "en" }, alarm.reason);

function alarmLine(alarm) {
  const svg = shape("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" });
  svg.append(shape("path", { d: "M10 3 1.8 17h16.4L10 3Zm0 5.5v4M10 15v.01" }));
  const subject = alarm.version ? `${alarm.pair} ${short(alarm.version)}` : alarm.pair;
  const after = alarm.rolled_back_to ? ` ${t("rolledBack", short(alarm.rolled_back_to))}` : "";
  return make("div", { class: "st-alarm" }, svg, make("div", {}, make("strong", {}, kind(alarm)), ` · ${subject}`),
    make("time", {}, t("sinceTime", when(alarm.opened))), make("p", {}, reason(alarm), ".", after));
}

function pastAlarm(alarm) {
  const after = alarm.rolled_back_to ? ` ${t("rolledBack", short(alarm.rolled_back_to))}` : "";
  return make("li", {}, `${when(alarm.opened)} – ${when(alarm.closed)} · ${alarm.pair} ${short(alarm.version)} · ${kind(alarm)}: `, reason(alarm), after && `.${after}`);
}

// ---- a pair ---------------------------------------------------------------------------------------------------------

function tile(name, value, note, bad = false) {
  return make("div", {}, make("dt", {}, name), make("dd", {}, value, make("small", { title: note, "data-state": bad && "bad" }, note)));
}

// Traffic of the last hour, over all versions.
function lastHour(rows) {
  const newest = rows.length ? rows[rows.length - 1].time : 0;
  const recent = rows.filter((r) => r.time > newest - 3600);
  const segments = sum(recent.map((r) => r.segments));
  const flags = {};
  for (const r of recent) for (const [flag, share] of Object.entries(r.flags)) flags[flag] = (flags[flag] ?? 0) + share * r.segments;
  const timed = recent.filter((r) => r.latency_p95 !== null);
  const weight = sum(timed.map((r) => r.segments));
  return { segments, flags, p95: weight ? sum(timed.map((r) => r.latency_p95 * r.segments)) / weight : null };
}

const signed = (v) => `${v > 0 ? "+" : v < 0 ? "−" : "±"}${f.number(Math.abs(v), 2)}`;

function tiles(pair, run) {
  const bad = Boolean(run?.findings.length);
  const toBaseline = !run ? t("noRun") : run.delta === null ? t("baseline") : t("deltaOf", signed(run.delta));
  const hour = lastHour(pair.signals);
  const [worst] = Object.entries(hour.flags).sort((a, b) => b[1] - a[1])[0] ?? [];
  const mostly = !hour.segments ? t("noTraffic") : worst ? t("mostly", t("flags")[worst] ?? worst) : t("nothingFlagged");
  const scores = !run && !pair.canary ? [] : [
    tile("chrF2", score(run?.scores.chrf), toBaseline, bad),
    tile("BLEU", score(run?.scores.bleu), run ? t("onSegments", run.segments) : t("noRun")),
  ];
  return [
    ...scores,
    tile(t("flaggedHour"), hour.segments ? f.share(sum(Object.values(hour.flags)) / hour.segments) : "–", mostly),
    tile(t("p95"), hour.p95 === null ? "–" : f.duration(hour.p95), t("segmentsHour", Math.round(hour.segments))),
  ];
}

function legend(versions, live, hasAlarm) {
  const mark = (attributes) => {
    const svg = shape("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" });
    svg.append(shape("circle", { cx: 7, cy: 7, r: 5, ...attributes }));
    return svg;
  };
  const items = versions.slice(-6).map((v) => make("li", {}, mark({ class: `c${versions.indexOf(v) % 6}` }), make("code", {}, short(v)), v === live ? ` ${t("isLive")}` : ""));
  return hasAlarm ? [...items, make("li", {}, mark({ class: "bad" }), t("alarm"))] : items;
}

// A line needs two points: one is a number, with its time.
function chartOrNumber(holder, chart) {
  const points = chart.series.flatMap((s) => s.points);
  if (points.length > 1) return () => drawChart(holder, chart);
  const [{ y, x }] = points;
  holder.classList.add("st-single");
  holder.replaceChildren(make("span", { class: "value" }, chart.format(y)), make("span", { class: "soft" }, t("onlyOne", when(x))));
  return null;
}

function trafficBox(name, chart) {
  const { points } = chart.series[0];
  const last = points.length > 1 ? make("b", {}, chart.last) : "";
  const holder = points.length ? make("div", { class: "st-chart" }) : make("p", { class: "st-none" }, t("nothingSeen"));
  return { box: make("div", {}, make("h5", {}, name, last), holder), draw: points.length ? chartOrNumber(holder, chart) : null };
}

function runRow(run) {
  const hard = Object.values(run.hard);
  const outcome = run.state === "unreachable" ? t("runUnreachable") : run.findings.length ? t("runAlarm", run.findings.map((k) => t("alarmKinds")[k] ?? k).join(", "))
    : run.baseline ? t("baseline") : t("asBefore");
  const note = run.note ? make("span", { lang: "en" }, `; ${run.note}`) : "";
  const row = make("tr", { "data-state": run.findings.length > 0 && "alarm" }, ...cells([
    when(run.time), short(run.version) || "–", score(run.scores.bleu), score(run.scores.chrf), run.delta === null ? "–" : signed(run.delta),
    hard.length ? t("queueOf", sum(hard.map((h) => h[0])), sum(hard.map((h) => h[1]))) : "–",
  ]));
  row.append(make("td", {}, outcome, note));
  return row;
}

function keepUnfolded(details, name) {
  details.open = unfolded.has(name);
  details.addEventListener("toggle", () => (details.open ? unfolded.add(name) : unfolded.delete(name)));
}

function switches(pair, metric) {
  return Object.entries(NAMES).map(([name, words]) => {
    const button = make("button", { type: "button", "aria-pressed": String(name === metric) }, words);
    button.addEventListener("click", () => {
      metricOf[pair.pair] = name;
      drawn = "";
      draw();
    });
    return button;
  });
}

function pairCard(pair, alarms, enabled) {
  const card = $("history").content.firstElementChild.cloneNode(true);
  apply(card);
  const find = (selector) => card.querySelector(selector);
  const drawings = [];
  const scored = pair.runs.filter((r) => r.state === "scored");
  const latestRun = scored.at(-1);
  const open = alarms.filter((a) => a.pair === pair.pair && a.closed === null);
  find("h3").textContent = nameOf(pair.pair);
  find(".st-version").append(pair.pair, " · ", pair.live ? make("code", {}, short(pair.live)) : t("notLoaded"), pair.canary ? ` · ${t("canaryOf", pair.segments)}` : "");
  const state = open.length ? "alarm" : latestRun ? "good" : "none";
  find(".st-badge").dataset.state = state;
  find(".st-badge").textContent = open.length ? t("alarmCount", open.length) : t(latestRun ? "asItShould" : pair.canary ? "noRun" : "notWatched");
  if (latestRun || pair.signals.length) find(".st-tiles").append(...tiles(pair, latestRun));
  else find(".st-tiles").remove();

  const metric = (metricOf[pair.pair] ??= "chrf");
  if (scored.length) {
    find(".st-switch").append(...switches(pair, metric));
    const { versions, chart } = qualityChart(pair, metric, NAMES[metric]);
    if (chart.series.length) drawings.push(chartOrNumber(find(".st-large"), chart));
    find(".st-legend").append(...legend(versions, pair.live, scored.some((r) => r.findings.length)));
  } else {
    // That the service keeps no history is said once, above all pairs.
    find(".st-quality").hidden = !enabled;
    find(".st-switch").hidden = true;
    find(".st-large").replaceWith(make("p", { class: "st-none" }, pair.canary ? t("runComes") : t("freeze", pair.pair)));
  }
  if (pair.signals.length) {
    const boxes = trafficCharts(pair).map(({ name, chart }) => trafficBox(name, chart));
    find(".st-grid").append(...boxes.map((b) => b.box));
    drawings.push(...boxes.map((b) => b.draw));
  } else find(".st-grid").replaceWith(make("p", { class: "st-none" }, t("noRequests")));
  const [runs, corrections] = card.querySelectorAll(".st-more");
  runs.hidden = !pair.runs.length;
  runs.querySelector("tbody").append(...pair.runs.slice(-25).reverse().map(runRow));
  find(".st-signature").textContent = Object.entries(latestRun?.scores ?? {}).map(([n, s]) => `${NAMES[n]}: ${s.signature}`).join("  ");
  keepUnfolded(runs, `${pair.pair} runs`);
  corrections.hidden = !pair.feedback.length;
  corrections.querySelector("tbody").append(...pair.feedback.map((of) => make("tr", {}, ...cells([
    short(of.version), f.number(of.segments), ...["bleu", "chrf", "ter"].map((m) => score(of.scores[m])),
  ]))));
  keepUnfolded(corrections, `${pair.pair} corrections`);
  return { card, drawings: drawings.filter(Boolean) };
}

// ---- the view -------------------------------------------------------------------------------------------------------

const worthACard = (pair, state) => state.enabled || pair.runs.length > 0 || pair.signals.length > 0;

// Without a change nothing is drawn again under the pointer. `everything`: the language has changed.
export function draw(everything = true) {
  if (!latest) return;
  const state = latest;
  const broken = state.problems.map((p) => t("monitorProblems")[p] ?? p);
  const parts = [state.enabled ? "" : t("noHistory"), broken.length ? t("monitorBroken", broken) : ""];
  $("history-note").textContent = parts.filter(Boolean).join(" ");
  const content = JSON.stringify([state.alarms, state.pairs]);
  if (!everything && content === drawn) return;
  drawn = content;
  const open = state.alarms.filter((a) => a.closed === null), closed = state.alarms.filter((a) => a.closed !== null);
  document.dispatchEvent(new CustomEvent("tellmt:alarms", { detail: open.length }));
  $("alarms").replaceChildren(...open.map(alarmLine));
  // Pairs with an alarm first, then pairs with canary runs.
  const rank = (p) => (open.some((a) => a.pair === p.pair) ? 0 : p.runs.length ? 1 : p.signals.length ? 2 : 3);
  const shown = state.pairs.filter((p) => worthACard(p, state)).sort((a, b) => rank(a) - rank(b) || a.pair.localeCompare(b.pair));
  const cards = shown.map((p) => pairCard(p, state.alarms, state.enabled));
  $("histories").replaceChildren(...cards.map((c) => c.card));
  for (const c of cards) for (const drawing of c.drawings) drawing();
  $("past").hidden = !closed.length;
  $("past-list").replaceChildren(...closed.map(pastAlarm));
}

async function ask() {
  try {
    latest = await json("api/v1/monitor");
    draw(false);
  } catch (e) {
    // The first half of the view says what is wrong with the service, and asks for a key.
    if (!(e instanceof Problem)) console.error(e);
    if (e.status === 403) $("other-key").hidden = false;
    $("history-note").textContent = e.status === 403 ? t("needsMetrics") : e instanceof Problem ? e.message : t("broken");
  }
}

export const { shown, start } = polling(ask, LOOK_MS);
