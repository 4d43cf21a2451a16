// The status view: how busy the service is (GET /api/v1/load), and which adapter translates each pair (GET /api/v1/adapters).
import { $, hideProblem, make, showProblem } from "./dom.js";
import { polling } from "./polling.js";
import { Problem, json } from "./server.js";
import { f, t } from "./words.js";

const LOOK_MS = 3000;
const SCORES = [["bleu", "BLEU"], ["chrf", "chrF2"]];

let latest = null;   // {load, status, ready, at}
let failed = false;

// ---- tiles ----------------------------------------------------------------------------------------------------------

function tile(name, value, note = "", extra = null, kind = "") {
  const definition = make("dd", {}, make("span", { class: "value" }, value), extra, note && make("span", { class: "soft" }, note));
  return make("div", { class: `tile ${kind}` }, make("dt", {}, name), definition);
}

function tiles({ load, status, ready }) {
  const { segments, documents, adapters, translated } = load;
  const full = make("meter", { min: 0, max: segments.limit, value: segments.waiting, high: segments.limit * 0.75, "aria-label": t("queue") });
  const words = { ready: t("ready"), starting: t("starting"), stopping: t("stopping"), down: t("down"), empty: t("empty") };
  return [
    tile(t("service"), words[ready] ?? ready, `tellmt ${load.version}`, null, ready === "ready" ? "good" : "wait"),
    tile(t("running"), f.duration(load.uptime), t("sinceTime", f.time(load.started))),
    tile(t("base"), status.base, `${t("engine")}: ${load.engine}`),
    tile(t("adapters"), t("adaptersOf", adapters.loaded, adapters.limit)),
    tile(t("queue"), t("queueOf", segments.waiting, segments.limit), t("queueNote", segments.running, load.requests), full),
    tile(t("documents"), t("documentsNow", documents.queued + documents.translating), t("documentsNote", documents.kept)),
    tile(t("translated"), t("translatedValue", translated.segments), t("translatedNote", translated.characters, translated.flagged), null, "wide"),
  ];
}

// ---- pairs ----------------------------------------------------------------------------------------------------------

const cell = (key, ...children) => make("td", { "data-label": t(key) }, ...children);

function score(test) {
  const scores = test?.systems?.adapter;
  if (!scores) return null;
  const parts = SCORES.filter(([key]) => typeof scores[key]?.score === "number").map(([key, name]) => {
    const { score, ci, signature } = scores[key];
    const interval = typeof ci === "number" ? make("small", {}, ` ± ${f.number(ci, 1)}`) : null;
    return make("span", { class: "score", title: signature ?? "" }, `${name} `, make("b", {}, f.number(score, 1)), interval);
  });
  return parts.length ? make("div", { class: "scores" }, make("span", { class: "soft" }, test.name ?? ""), ...parts) : null;
}

function row(pair) {
  const nameOf = (side) => f.language(side.code, side.name);
  const name = pair.source && pair.target ? `${nameOf(pair.source)} → ${nameOf(pair.target)}` : pair.pair;
  const marks = [pair.pinned && t("pinned")].filter(Boolean);
  // `shipped` is said of the version that is wanted.
  const origin = pair.shipped ? t("shipped") : pair.wanted ? t("fromRegistry") : "";
  const scores = pair.scores.map(score).filter(Boolean);
  const version = pair.adapter ?? pair.wanted;
  const badge = make("span", { class: "badge", "data-state": pair.state }, t("states")[pair.state] ?? pair.state);
  return make("tr", {},
    make("th", { scope: "row" }, name, marks.length ? make("span", { class: "soft" }, marks.join(", ")) : null),
    cell("colState", badge, pair.reason ? make("span", { class: "reason", lang: "en" }, pair.reason) : null),
    cell("colAdapter", version ? make("code", { title: version }, version.slice(0, 12)) : "–", origin && make("span", { class: "soft" }, origin),
      pair.adapter && pair.wanted && pair.wanted !== pair.adapter ? make("span", { class: "soft" }, t("wanted", pair.wanted.slice(0, 12))) : null),
    cell("colScores", ...(scores.length ? scores : [make("span", { class: "soft" }, t("notScored"))])),
    cell("colSince", pair.since ? f.time(pair.since) : "–"),
    make("td", { "data-label": t("colNow"), class: "number" }, t("requestsNow", pair.in_flight)),
  );
}

// ---- drawing --------------------------------------------------------------------------------------------------------

export function draw() {
  if (!latest) return;
  const { status } = latest;
  $("tiles").replaceChildren(...tiles(latest));
  const none = make("tr", {}, make("td", { colspan: 6 }, t("noPairs")));
  const rows = status.pairs.length ? status.pairs.map(row) : [none];
  if (status.reason) rows.unshift(make("tr", {}, make("td", { colspan: 6, class: "reason" }, t("registryReason", status.reason))));
  $("pairs").tBodies[0].replaceChildren(...rows);
  $("updated").textContent = t("updated", f.time(latest.at, true));
}

function refused(on) {
  $("overview-refused").hidden = !on;
  $("tiles").hidden = $("pairs-card").hidden = on;
  if (on) $("other-key").hidden = false;
}

async function ask() {
  try {
    const readiness = fetch("ready").then((r) => r.json()).catch(() => ({ status: "down" }));
    const [load, status, ready] = await Promise.all([json("api/v1/load"), json("api/v1/adapters"), readiness]);
    latest = { load, status, ready: ready.status, at: Date.now() };
    if (failed) hideProblem();
    failed = false;
    refused(false);
    draw();
  } catch (e) {
    failed = e.status !== 403;
    if (!(e instanceof Problem)) console.error(e);
    // A key for metrics alone may see the other half of the view.
    if (!failed) $("overview-refused").textContent = t("needsTranslate");
    else showProblem(e instanceof Problem ? e : new Problem(t("broken")));
    refused(!failed);
  }
}

export const { shown, start } = polling(ask, LOOK_MS);
