// The page at `/`: asks this server which pairs are live, sends a text, shows the translation and which adapter made it.
// Talks to `languages` and `api/v1/translate` by relative addresses, so it also works behind a path prefix.
"use strict";

const $ = (id) => document.getElementById(id);
const form = $("form"), sourceLanguage = $("source-language"), targetLanguage = $("target-language");
const sourceText = $("source-text"), targetText = $("target-text"), swap = $("swap"), translateButton = $("translate");

const REMEMBER = "tellmt.pair";
// The API key, where the server wants one: kept for this tab alone, and gone with it.
const KEY = "tellmt.key";
// While nothing is live, how often to look again; afterwards the list is looked at when the page is returned to.
const POLL_MS = 3000;
const PLACEHOLDER = targetText.textContent;

// What the service found odd about a translation, in words. A translation that was cut has a line of its own.
const DOUBTS = {
  empty: "nothing came out for a part of the text",
  loop: "a part repeats itself",
  language: "a part may be in another language",
  copied: "a part was left untranslated",
  placeholder: "a placeholder, tag or address is missing or altered",
  number: "a number is missing or altered",
  length: "a part is much longer or shorter than its source",
  sentences: "sentences may be missing or added",
};

let languages = [];   // [{code, name, targets}], as `languages` answers
let running = null;   // the AbortController of the request in flight
let result = null;    // {text, original, source, target} of the translation shown
let poll = 0;
let shownList = "";

// ---- words ----------------------------------------------------------------------------------------------------------

class Problem extends Error {}

const nameOf = (code) => languages.find((l) => l.code === code)?.name ?? code;
const targetsOf = (code) => (languages.find((l) => l.code === code)?.targets ?? []).filter((t) => t !== code);

function characters(text) {
  let n = 0;
  for (const _ of text) n++;
  return `${n.toLocaleString("en")} ${n === 1 ? "character" : "characters"}`;
}

function direction(code) {
  try {
    const locale = new Intl.Locale(code);
    const info = locale.getTextInfo?.() ?? locale.textInfo;
    if (info?.direction) return info.direction;
    return ["Arab", "Hebr", "Thaa", "Syrc", "Nkoo", "Adlm", "Rohg"].includes(locale.maximize().script) ? "rtl" : "ltr";
  } catch {
    return "auto";
  }
}

function seconds(ms) {
  return ms < 950 ? `${Math.max(1, Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`;
}

// ---- the server -----------------------------------------------------------------------------------------------------

function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

async function ask(path, options = {}) {
  let response;
  const headers = { Accept: "application/json", ...options.headers };
  if (apiKey()) headers["X-API-Key"] = apiKey();
  try {
    response = await fetch(path, { ...options, headers });
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new Problem("The server cannot be reached. Is it still running, and is this computer still connected?");
  }
  let body = null;
  try {
    body = await response.json();
  } catch (e) {
    if (e.name === "AbortError") throw e;
  }
  if (response.ok && body !== null) return body;
  if (response.status === 401) {
    $("key-form").hidden = false;
    throw new Problem(apiKey() ? "The server does not accept this API key." : "This server wants an API key. Enter one below.");
  }
  const said = typeof body?.error === "string" ? body.error : "";
  const message = said ? said[0].toUpperCase() + said.slice(1) : `The server answered with status ${response.status} and no explanation.`;
  if (response.status === 503 || response.status === 429) {
    const wait = Number(response.headers.get("Retry-After"));
    throw new Problem(`${message.replace(/[.;]?$/, ".")} ${wait > 0 ? `Try again in ${wait} s.` : "Try again in a moment."}`);
  }
  throw new Problem(message);
}

async function loadLanguages() {
  clearTimeout(poll);
  try {
    languages = (await ask("languages")).filter((l) => l && typeof l.code === "string" && Array.isArray(l.targets));
  } catch (e) {
    setStatus("error", "Not reachable");
    showProblem(e.message);
    poll = setTimeout(loadLanguages, POLL_MS);
    return;
  }
  const pairs = languages.reduce((n, l) => n + targetsOf(l.code).length, 0);
  form.hidden = pairs === 0;
  $("program").hidden = pairs === 0;
  if (pairs === 0) {
    hideProblem();
    await explainNothing();
    poll = setTimeout(loadLanguages, POLL_MS);
    return;
  }
  $("empty").hidden = $("starting").hidden = true;
  if ($("status").dataset.state === "error") hideProblem();
  setStatus("live", pairs === 1 ? "1 pair live" : `${pairs} pairs live`);
  // An open menu must not be rebuilt under the pointer for nothing.
  const list = JSON.stringify(languages);
  if (list !== shownList) fillSources();
  shownList = list;
}

// Nothing to translate with: because the server still starts, because nothing was published, or because what was is not usable.
async function explainNothing() {
  let starting = false, refused = [];
  try {
    starting = (await (await fetch("ready")).json()).status === "starting";
    refused = (await ask("api/v1/adapters")).pairs.filter((p) => p.state === "refused" && p.wanted && p.reason);
  } catch {
    // Then the plain explanation stands; the next look may know more.
  }
  setStatus("empty", starting ? "Starting" : "No pair live");
  $("starting").hidden = !starting;
  $("empty").hidden = starting;
  $("refused").hidden = refused.length === 0;
  $("refused-list").replaceChildren(...refused.map((p) => {
    const item = document.createElement("li");
    item.textContent = `${p.pair}: ${p.reason}`;
    return item;
  }));
}

// ---- languages ------------------------------------------------------------------------------------------------------

function fill(select, codes, wanted) {
  const chosen = codes.includes(wanted) ? wanted : codes[0];
  select.replaceChildren(...codes.map((code) => new Option(nameOf(code), code, code === chosen, code === chosen)));
  select.disabled = codes.length === 0;
}

function remembered() {
  try {
    return (localStorage.getItem(REMEMBER) ?? "").split(">");
  } catch {
    return [];
  }
}

function fillSources() {
  const [source, target] = sourceLanguage.value ? [sourceLanguage.value, targetLanguage.value] : remembered();
  const codes = languages.filter((l) => targetsOf(l.code).length > 0).map((l) => l.code);
  codes.sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
  fill(sourceLanguage, codes, source);
  fillTargets(target);
}

function fillTargets(wanted) {
  const codes = targetsOf(sourceLanguage.value).sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
  fill(targetLanguage, codes, wanted);
  pairChanged();
}

function pairChanged() {
  const source = sourceLanguage.value, target = targetLanguage.value;
  try {
    localStorage.setItem(REMEMBER, `${source}>${target}`);
  } catch {
    // Private windows may refuse; the choice is then not remembered.
  }
  setLanguage(sourceText, source);
  if (!result) setLanguage(targetText, "en");
  sourceText.placeholder = `Type or paste text in ${nameOf(source)}`;
  const back = targetsOf(target).includes(source);
  swap.disabled = !back;
  swap.title = back ? "Swap languages" : `Only ${nameOf(source)} to ${nameOf(target)} is live, not the way back`;
  if (result && (result.source !== source || result.target !== target)) clearResult();
  $("origin").textContent = location.origin;
  const body = JSON.stringify({ source, target, text: "…" });
  $("curl").textContent = `curl ${new URL("api/v1/translate", document.baseURI)} \\\n  -H 'Content-Type: application/json' \\\n  -d '${body}'`;
  textChanged();
}

function setLanguage(element, code) {
  element.lang = code;
  element.dir = code ? direction(code) : "auto";
}

// ---- what is shown --------------------------------------------------------------------------------------------------

function setStatus(state, text) {
  $("status").dataset.state = state;
  if ($("status-text").textContent !== text) $("status-text").textContent = text;
}

function showProblem(message) {
  $("notice-text").textContent = message;
  $("notice").hidden = false;
}

function hideProblem() {
  $("notice").hidden = true;
  $("notice-text").textContent = "";
}

function clearResult() {
  result = null;
  targetText.dataset.state = "empty";
  setLanguage(targetText, "en");
  targetText.textContent = PLACEHOLDER;
  for (const id of ["answer", "copy", "cut", "doubts"]) $(id).hidden = true;
}

function showResult(answer, pair, ms) {
  const [first] = answer.translations;
  result = { ...pair, text: first.text };
  setLanguage(targetText, first.text ? pair.target : "en");
  targetText.dataset.state = first.text ? "done" : "nothing";
  targetText.textContent = first.text || "The adapter returned nothing for this text.";
  $("cut").hidden = !first.truncated;
  const doubts = (first.flags ?? []).map((flag) => DOUBTS[flag]).filter(Boolean);
  $("doubts").textContent = doubts.length ? `Worth a look: ${doubts.join("; ")}.` : "";
  $("doubts").hidden = doubts.length === 0;
  $("copy").hidden = !first.text;
  $("answer-adapter").textContent = String(answer.adapter).slice(0, 12);
  $("answer-adapter").title = `Adapter ${answer.adapter} for ${answer.pair}`;
  $("answer-base").textContent = answer.base;
  $("answer-time").textContent = seconds(ms);
  $("answer").hidden = false;
}

function textChanged() {
  $("count").textContent = characters(sourceText.value);
  $("clear").hidden = sourceText.value === "";
  translateButton.disabled = !running && (sourceText.value.trim() === "" || !targetLanguage.value);
  if (result && result.original !== sourceText.value) targetText.classList.add("stale");
  else targetText.classList.remove("stale");
  grow();
}

// For browsers without `field-sizing`, the text box grows by hand; the style sheet bounds it.
function grow() {
  if (CSS.supports("field-sizing", "content")) return;
  sourceText.style.height = "auto";
  sourceText.style.height = `${sourceText.scrollHeight + 2}px`;
}

function setBusy(on) {
  form.setAttribute("aria-busy", String(on));
  translateButton.classList.toggle("busy", on);
  $("translate-label").textContent = on ? "Stop" : "Translate";
  translateButton.setAttribute("aria-label", on ? "Stop translating" : "Translate");
}

// ---- translating ----------------------------------------------------------------------------------------------------

async function translate() {
  const original = sourceText.value;
  const pair = { source: sourceLanguage.value, target: targetLanguage.value, original };
  if (running || original.trim() === "" || !pair.target) return;
  hideProblem();
  running = new AbortController();
  setBusy(true);
  const began = performance.now();
  try {
    const answer = await ask("api/v1/translate", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify({ source: pair.source, target: pair.target, text: original }),
      signal: running.signal,
    });
    if (!Array.isArray(answer.translations) || typeof answer.translations[0]?.text !== "string") throw new Problem("The server's answer holds no translation.");
    if (pair.source === sourceLanguage.value && pair.target === targetLanguage.value) showResult(answer, pair, performance.now() - began);
  } catch (e) {
    if (e.name !== "AbortError") {
      clearResult();
      showProblem(e instanceof Problem ? e.message : "Something went wrong on this page. Reload it and try again.");
      if (!(e instanceof Problem)) console.error(e);
      // A pair may have been withdrawn, or the server restarted, since the list was read.
      poll = setTimeout(refresh, 1000);
    }
  } finally {
    running = null;
    setBusy(false);
    textChanged();
  }
}

// The list again; what is typed, chosen and shown stays.
function refresh() {
  if (!running) loadLanguages();
}

async function copy(text, button) {
  const label = button.textContent;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https or localhost there is no clipboard API; the old way still works.
    const box = document.createElement("textarea");
    box.value = text;
    box.className = "hidden";
    document.body.append(box);
    box.select();
    done = document.execCommand("copy");
    box.remove();
    button.focus();
  }
  button.textContent = done ? "Copied" : "Not allowed";
  setTimeout(() => { button.textContent = label; }, 1600);
}

// ---- wiring ---------------------------------------------------------------------------------------------------------

form.addEventListener("submit", (e) => {
  e.preventDefault();
  if (running) running.abort();
  else translate();
});
sourceText.addEventListener("input", textChanged);
sourceText.addEventListener("keydown", (e) => {
  if (e.key === "Enter" && (e.ctrlKey || e.metaKey) && !e.isComposing) {
    e.preventDefault();
    translate();
  }
});
sourceLanguage.addEventListener("change", () => fillTargets(targetLanguage.value));
targetLanguage.addEventListener("change", pairChanged);
swap.addEventListener("click", () => {
  const [source, target] = [sourceLanguage.value, targetLanguage.value];
  if (result && result.text && result.original === sourceText.value) sourceText.value = result.text;
  sourceLanguage.value = target;
  fillTargets(source);
  sourceText.focus();
});
$("clear").addEventListener("click", () => {
  sourceText.value = "";
  clearResult();
  hideProblem();
  textChanged();
  sourceText.focus();
});
$("copy").addEventListener("click", (e) => { if (result) copy(result.text, e.currentTarget); });
$("copy-curl").addEventListener("click", (e) => copy($("curl").textContent, e.currentTarget));
$("key-form").addEventListener("submit", (e) => {
  e.preventDefault();
  try {
    sessionStorage.setItem(KEY, $("key").value.trim());
  } catch {
    showProblem("This browser keeps nothing for this page, so the key cannot be used here.");
    return;
  }
  $("key").value = "";
  $("key-form").hidden = true;
  hideProblem();
  translate();
});
$("notice-close").addEventListener("click", () => { hideProblem(); sourceText.focus(); });
$("empty-retry").addEventListener("click", loadLanguages);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
if (/Mac|iPhone|iPad/.test(navigator.platform)) $("modifier").textContent = "⌘";

loadLanguages();
