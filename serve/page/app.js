// The page at `/`: chooses the view, the language and the key, and loads the pairs that the service translates.
import * as alternatives from "./alternatives.js";
import * as correct from "./correct.js";
import { $, hideProblem, make, showProblem } from "./dom.js";
import * as files from "./files.js";
import * as monitor from "./monitor.js";
import * as origin from "./origin.js";
import * as pairs from "./pairs.js";
import { Problem, apiKey, json, keepKey } from "./server.js";
import * as status from "./overview.js";
import * as text from "./text.js";
import { chooseLanguage, t, uiLanguage } from "./words.js";

// How often to look for a live pair while there is none; later the list is loaded again when the user returns to the page.
const POLL_MS = 3000;
const VIEWS = ["text", "documents", "status"];

let view = "text";
let live = false;    // whether there is a pair
let info = null;     // what the service accepts, from `api/v1/service`
let alarms = 0;      // as far as the status view has asked
let poll = 0;

// ---- views ----------------------------------------------------------------------------------------------------------

function show(name) {
  view = VIEWS.includes(name) ? name : "text";
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  $("heading").dataset.t = { text: "headingText", documents: "headingDocuments", status: "headingStatus" }[view];
  $("heading").textContent = t($("heading").dataset.t);
  $("work").hidden = !live || view === "status";
  for (const panel of document.querySelectorAll("[data-panel]")) panel.hidden = panel.dataset.panel !== view || !live && view !== "status";
  // Panels that are shown only at times.
  correct.close();
  alternatives.close();
  for (const id of ["correct", "others"]) $(id).hidden = true;
  $("thanks").textContent = "";
  $("starting").hidden = $("starting").dataset.on !== "true" || live || view === "status";
  $("empty").hidden = $("empty").dataset.on !== "true" || live || view === "status";
  status.shown(view === "status");
  monitor.shown(view === "status");
}

// ---- the service --------------------------------------------------------------------------------------------------

function setStatus(state, words) {
  $("status").dataset.state = state;
  // From now on a change of language must not overwrite it with a text of the page.
  delete $("status-text").dataset.t;
  if ($("status-text").textContent !== words) $("status-text").textContent = words;
}

function drawStatus() {
  const n = pairs.count();
  if (alarms) setStatus("error", t("alarmCount", alarms));
  else if (live) setStatus("live", t("pairsLive", n));
}

async function load() {
  clearTimeout(poll);
  try {
    info = await json("api/v1/service");
    await origin.load(info);
    await pairs.load(origin.own());
  } catch (e) {
    setStatus("error", t("notReachable"));
    showProblem(e);
    clearTimeout(poll);
    poll = setTimeout(load, POLL_MS);
    return;
  }
  const wasUnreachable = $("status").dataset.state === "error", wasLive = live;
  live = pairs.count() > 0;
  if (wasUnreachable) hideProblem();
  // Where it asks for another key it stays: the user may have looked for one in another tab.
  if (!info.keys || !apiKey()) $("key-form").hidden = !info.keys;
  $("told").textContent = info.notice ?? "";
  $("told").hidden = !info.notice;
  text.draw(info);
  files.draw(info);
  drawStatus();
  if (!live) {
    await explainNothing();
    poll = setTimeout(load, POLL_MS);
  }
  if (live !== wasLive || !live) show(view);
  if (live && !wasLive) {
    if (!info.keys || apiKey()) files.resume();
    if (view === "text") $("source-text").focus({ preventScroll: true });
  }
}

// Explains why there is no pair: the server is still starting, no adapter is published, or the published ones cannot be used.
async function explainNothing() {
  let starting = false, refused = [];
  try {
    starting = (await (await fetch("ready")).json()).status === "starting";
    refused = (await json("api/v1/adapters")).pairs.filter((p) => p.state === "refused" && p.wanted && p.reason);
  } catch {
    // The plain explanation stays; the next attempt may give a reason.
  }
  setStatus("empty", t(starting ? "starting" : "noPair"));
  $("starting").dataset.on = String(starting);
  $("empty").dataset.on = String(!starting);
  $("refused").hidden = refused.length === 0;
  $("refused-list").replaceChildren(...refused.map((p) => make("li", { lang: "en" }, `${p.pair}: ${p.reason}`)));
}

// ---- language and key -----------------------------------------------------------------------------------------------

function redraw() {
  $("ui-language").value = uiLanguage();
  pairs.fill();
  if (info) {
    text.draw(info);
    files.draw(info);
    drawStatus();
    if (!live) load();
  }
  correct.draw();
  status.draw();
  monitor.draw();
}

function useKey(e) {
  e.preventDefault();
  try {
    keepKey($("key").value.trim());
  } catch {
    showProblem(new Problem(t("keyNoStore")));
    return;
  }
  $("key").value = "";
  $("key-form").hidden = $("other-key").hidden = true;
  hideProblem();
  files.resume();
  origin.load(info ?? {}).then(() => origin.show(pairs.chosen()));
  if (view === "status") show(view);
  else if (view === "text" && $("source-text").value.trim()) $("form").requestSubmit();
}

// ---- wiring ---------------------------------------------------------------------------------------------------------

chooseLanguage();
pairs.start(text.pairChanged);
text.start();
correct.start();
files.start(() => {
  if (view === "documents") return;
  history.replaceState(null, "", "#/documents");
  show("documents");
});
status.start();
monitor.start();
redraw();

$("ui-language").addEventListener("change", (e) => {
  chooseLanguage(e.target.value);
  redraw();
  show(view);
});
window.addEventListener("hashchange", () => { if (location.hash.startsWith("#/")) show(location.hash.slice(2)); });
$("key-form").addEventListener("submit", useKey);
$("other-key").addEventListener("click", () => {
  $("key-form").hidden = false;
  $("key").focus();
});
$("notice-close").addEventListener("click", () => { hideProblem(); $("main").focus(); });
$("empty-retry").addEventListener("click", load);
// A pair may have been withdrawn, or the server restarted, since the list was read.
document.addEventListener("tellmt:failed", (e) => {
  if (e.detail.status === 401 || e.detail.status === 403) showProblem(e.detail);
  else poll = setTimeout(load, 1000);
});
document.addEventListener("tellmt:unreachable", () => {
  setStatus("error", t("notReachable"));
  clearTimeout(poll);
  poll = setTimeout(load, POLL_MS);
});
document.addEventListener("tellmt:alarms", (e) => {
  alarms = e.detail;
  drawStatus();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) load(); });
// The page was opened as /status, an address that people know: from then on its views have the addresses that they have elsewhere.
if (/\/status$/.test(location.pathname) && !location.hash) history.replaceState(null, "", "./#/status");
show(location.hash.slice(2));
load();
