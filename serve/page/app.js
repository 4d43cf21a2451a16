// The page at `/`: which view is shown, in which language, with which key; and what there is to translate with.
import * as correct from "./correct.js";
import { $, hideProblem, make, showProblem } from "./dom.js";
import * as files from "./files.js";
import * as pairs from "./pairs.js";
import { Problem, apiKey, json, keepKey } from "./server.js";
import * as status from "./overview.js";
import * as text from "./text.js";
import { chooseLanguage, t, uiLanguage } from "./words.js";

// While nothing is live, how often to look again; afterwards the list is looked at when the page is returned to.
const POLL_MS = 3000;
const VIEWS = ["text", "documents", "status"];

let view = "text";
let live = false;    // whether there is a pair
let offer = null;    // what the service takes, as `api/v1/service` tells
let poll = 0;

// ---- views ----------------------------------------------------------------------------------------------------------

function show(wanted) {
  view = VIEWS.includes(wanted) ? wanted : "text";
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  $("heading").dataset.t = { text: "headingText", documents: "headingDocuments", status: "headingStatus" }[view];
  $("heading").textContent = t($("heading").dataset.t);
  $("work").hidden = !live || view === "status";
  for (const panel of document.querySelectorAll("[data-panel]")) panel.hidden = panel.dataset.panel !== view || !live && view !== "status";
  // Those that are there only now and then.
  $("correct").hidden = true;
  correct.close();
  $("thanks").textContent = "";
  $("options").dataset.off = String(view !== "text" || !live);
  $("options").hidden = $("options").dataset.off === "true" || !offer?.compare_base;
  $("starting").hidden = $("starting").dataset.on !== "true" || live || view === "status";
  $("empty").hidden = $("empty").dataset.on !== "true" || live || view === "status";
  status.shown(view === "status");
}

// ---- what there is --------------------------------------------------------------------------------------------------

function setStatus(state, words) {
  $("status").dataset.state = state;
  // From now on no more one of the words that stand in the page.
  delete $("status-text").dataset.t;
  if ($("status-text").textContent !== words) $("status-text").textContent = words;
}

function drawStatus() {
  const n = pairs.count();
  if (live) setStatus("live", t("pairsLive", n));
}

async function load() {
  clearTimeout(poll);
  try {
    offer = await json("api/v1/service");
    await pairs.load();
  } catch (e) {
    setStatus("error", t("notReachable"));
    showProblem(e);
    poll = setTimeout(load, POLL_MS);
    return;
  }
  const back = $("status").dataset.state === "error", before = live;
  live = pairs.count() > 0;
  if (back) hideProblem();
  $("key-form").hidden = !offer.keys || Boolean(apiKey());
  text.draw(offer);
  files.draw(offer);
  drawStatus();
  if (!live) {
    await explainNothing();
    poll = setTimeout(load, POLL_MS);
  }
  if (live !== before || !live) show(view);
  if (live && !before) {
    if (!offer.keys || apiKey()) files.resume();
    if (view === "text") $("source-text").focus({ preventScroll: true });
  }
}

// Nothing to translate with: because the server still starts, because nothing was published, or because what was is not usable.
async function explainNothing() {
  let starting = false, refused = [];
  try {
    starting = (await (await fetch("ready")).json()).status === "starting";
    refused = (await json("api/v1/adapters")).pairs.filter((p) => p.state === "refused" && p.wanted && p.reason);
  } catch {
    // Then the plain explanation stands; the next look may know more.
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
  if (offer) {
    text.draw(offer);
    files.draw(offer);
    drawStatus();
    if (!live) load();
  }
  correct.draw();
  status.draw();
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
  $("key-form").hidden = true;
  hideProblem();
  files.resume();
  if (view === "status") status.shown(true);
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
redraw();

$("ui-language").addEventListener("change", (e) => {
  chooseLanguage(e.target.value);
  redraw();
  show(view);
});
window.addEventListener("hashchange", () => { if (location.hash.startsWith("#/")) show(location.hash.slice(2)); });
$("key-form").addEventListener("submit", useKey);
$("notice-close").addEventListener("click", () => { hideProblem(); $("main").focus(); });
$("empty-retry").addEventListener("click", load);
// A pair may have been withdrawn, or the server restarted, since the list was read.
document.addEventListener("tellmt:failed", (e) => {
  if (e.detail.status === 401) showProblem(e.detail);
  else poll = setTimeout(load, 1000);
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) load(); });
show(location.hash.slice(2));
load();
