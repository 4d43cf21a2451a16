// The text view: sends the text, shows the translation as it arrives, highlights the segments of both sides together and explains doubtful ones.
// On request it also shows how the base translates the same text without an adapter.
import * as correct from "./correct.js";
import { $, copy, hideProblem, setLanguage, showProblem } from "./dom.js";
import * as hints from "./hints.js";
import * as pairs from "./pairs.js";
import { Light, Mirror, Sheet, codePoints, offsets } from "./segments.js";
import { Problem, translation } from "./server.js";
import { f, t } from "./words.js";

const form = $("form"), box = $("source-text"), target = $("target-text"), button = $("translate"), bareText = $("bare-text");
const sheet = new Sheet(target), bare = new Sheet(bareText), mirror = new Mirror($("mirror"), box);
const light = new Light([mirror, sheet, bare], explain);

const ADAPTER = /^[0-9a-f]{32}$/;

let info = { compare_base: false, feedback: false, max_characters: Infinity };
let running = null;   // the AbortController of the request in flight
let result = null;    // {original, source, target, pair, adapter, base, segments, detected, complete, ms} of the translation on the page

// ---- the result --------------------------------------------------------------------------------------------------

export function draw(newInfo = info) {
  info = newInfo;
  $("options").hidden = !info.compare_base || $("options").dataset.off === "true";
  if (!info.compare_base) $("compare").checked = false;
  showComparison();
  if (!result) target.textContent = t("resultEmpty");
  busy(running !== null);
  if (result?.complete) showResult();
  update();
}

function showComparison() {
  const on = $("compare").checked;
  for (const element of [$("bare"), ...document.querySelectorAll(".whose")]) element.hidden = !on;
  $("panes").classList.toggle("three", on);
}

function state(element, name, code = "") {
  element.dataset.state = name;
  setLanguage(element, code);
}

function clear() {
  result = null;
  sheet.clear();
  bare.clear();
  mirror.clear();
  light.reset();
  correct.close();
  state(target, "empty");
  state(bareText, "empty");
  target.lang = document.documentElement.lang;
  target.textContent = t("resultEmpty");
  bareText.textContent = $("bare-base").textContent = $("thanks").textContent = "";
  for (const id of ["answer", "copy", "cut", "doubts", "suggest", "found"]) $(id).hidden = true;
  hints.hide();
}

// The flags of a segment, as a text.
const doubts = (segment) => f.list((segment?.flags ?? []).map((flag) => t("flags")[flag]).filter(Boolean));

// What is said of the highlighted segment under the translation.
function explain(n) {
  showDoubts(n);
  if (result) hints.show(result.segments, n, { source: result.detected || result.source, target: result.target });
}

// The line under the translation: the doubts about the highlighted segment, or else the number of doubtful segments.
function showDoubts(n) {
  if (!result) return;
  const doubtful = result.segments.filter((s) => s.flags.length > 0);
  const ofSegment = n >= 0 ? doubts(result.segments[n]) : result.segments.length === 1 ? doubts(result.segments[0]) : "";
  const words = ofSegment ? t("worth", ofSegment) : doubtful.length ? t("worthSome", doubtful.length, result.segments.length) : "";
  $("doubts-text").textContent = words;
  $("doubts").hidden = !words;
  $("doubts-next").hidden = result.segments.length < 2;
}

function showResult() {
  $("cut").hidden = !result.segments.some((s) => s.truncated);
  $("copy").hidden = !sheet.text;
  // Only translations by an adapter can be corrected.
  $("suggest").hidden = !info.feedback || result.segments.length === 0 || !ADAPTER.test(result.adapter);
  $("found").hidden = !result.detected;
  $("found").textContent = result.detected ? t("detected", pairs.nameOf(result.detected)) : "";
  $("answer-adapter").textContent = result.adapter.slice(0, 12);
  $("answer-adapter").title = t("versionTitle", result.adapter, result.pair);
  $("answer-base").textContent = result.base;
  $("answer-time").textContent = f.duration(result.ms / 1000);
  $("answer").hidden = !result.adapter;
  if (!sheet.text) target.textContent = t("resultNothing");
  light.shown = -2;
  light.draw();
}

function update() {
  const n = codePoints(box.value), over = n > info.max_characters;
  $("count").textContent = over ? t("charactersOf", n, info.max_characters) : t("characters", n);
  $("count").classList.toggle("over", over);
  $("clear").hidden = box.value === "";
  button.disabled = !running && (box.value.trim() === "" || !pairs.chosen().target);
  const stale = Boolean(result) && result.original !== box.value;
  for (const element of [target, bareText]) element.classList.toggle("stale", stale);
  if (stale && mirror.ends.length) {
    mirror.clear();
    light.reset();
  }
  // For browsers without `field-sizing`, the text box grows by hand; the style sheet bounds it.
  if (!CSS.supports("field-sizing", "content")) {
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight + 2}px`;
  }
}

function busy(on) {
  form.setAttribute("aria-busy", String(on));
  target.setAttribute("aria-busy", String(on));
  button.classList.toggle("busy", on);
  $("translate-label").textContent = t(on ? "stop" : "translate");
  button.setAttribute("aria-label", t(on ? "stopLabel" : "translate"));
}

export function pairChanged(pair) {
  if (result && (result.source !== pair.source || result.target !== pair.target)) {
    running?.abort();
    clear();
  }
  $("origin").textContent = new URL(".", document.baseURI).href.replace(/\/$/, "");
  const body = JSON.stringify({ source: pair.source, target: pair.target, text: "…" });
  $("curl").textContent = `curl ${new URL("api/v1/translate", document.baseURI)} \\\n  -H 'Content-Type: application/json' \\\n  -d '${body}'`;
  update();
}

// The terms in the box as the field `glossary` of a request; none where there are no terms. Throws a Problem with the line that cannot be read.
function glossary() {
  const terms = {};
  for (const [n, line] of $("terms-text").value.split("\n").entries()) {
    if (!line.trim()) continue;
    const [, term, translated] = /^([^=\t]+)[=\t](.+)$/.exec(line) ?? [];
    if (!term?.trim() || !translated.trim()) throw new Problem(t("termsUnreadable", n + 1));
    terms[term.trim()] = translated.trim();
  }
  return Object.keys(terms).length ? { glossary: terms } : {};
}

// ---- translating ----------------------------------------------------------------------------------------------------

function addPart(event, at) {
  if (target.dataset.state !== "done") {
    target.replaceChildren();
    state(target, "done", result.target);
    form.dataset.flowing = "true";
  }
  sheet.add(event);
  for (const segment of event.segments) {
    const [start, end] = segment.source.map((place) => at[place]);
    const [from, to] = segment.target;
    const translation = [...event.text].slice(from - result.points, to - result.points).join("");
    // `translation` is on the page and may be corrected; `adapterTranslation` stays as the adapter wrote it.
    result.segments.push({ ...segment, text: result.original.slice(start, end), translation, adapterTranslation: translation });
    mirror.add(result.original, at, segment);
  }
  result.points += codePoints(event.text);
  result.detected ||= event.detected?.language ?? "";
  result.pair ||= event.pair ?? "";
}

async function translate() {
  const original = box.value, pair = pairs.chosen();
  if (running || original.trim() === "" || !pair.target) return;
  hideProblem();
  clear();
  result = { ...pair, original, pair: "", adapter: "", base: "", detected: "", segments: [], points: 0, complete: false, ms: 0 };
  const current = result, at = offsets(original), started = performance.now();
  running = new AbortController();
  busy(true);
  update();
  const beside = $("compare").checked ? translateBare(current, running.signal) : null;
  let problem = null;
  try {
    for await (const event of translation({ ...pair, text: original, segments: true, hints: true, ...glossary() }, running.signal)) {
      if (result !== current) break;
      if (event.done) {
        const { pair, adapter, base } = event;
        $("terms-note").textContent = event.glossary?.applied === false ? t("termsUnapplied") : "";
        Object.assign(current, { pair: current.pair || pair, adapter: adapter ?? "", base, complete: true, ms: performance.now() - started });
      } else addPart(event, at);
    }
  } catch (e) {
    problem = e;
  }
  if (!problem) await beside;
  if (result === current) {
    if (!current.complete && !sheet.text) clear();
    else finish(current);
  }
  running?.abort();
  running = null;
  delete form.dataset.flowing;
  busy(false);
  update();
  if (problem && problem.name !== "AbortError") {
    if (!(problem instanceof Problem)) console.error(problem);
    const shownProblem = problem instanceof Problem ? problem : new Problem(t("broken"));
    if (current.segments.length) shownProblem.message = `${t("incomplete")} ${shownProblem.message}`;
    showProblem(shownProblem);
    document.dispatchEvent(new CustomEvent("tellmt:failed", { detail: shownProblem }));
  }
}

function finish(finished) {
  mirror.close(finished.original);
  if (finished.detected) setLanguage(box, finished.detected);
  if (!finished.segments.length && !sheet.text) state(target, "nothing");
  showResult();
  $("said").textContent = finished.complete ? t("announced", finished.segments.length, finished.segments.filter((s) => s.flags.length).length) : "";
}

async function translateBare(compared, signal) {
  state(bareText, "busy");
  bareText.textContent = "…";
  $("bare-base").textContent = "";
  try {
    for await (const event of translation({ source: compared.source, target: compared.target, text: compared.original, segments: true, base: true }, signal)) {
      if (result !== compared) return;
      if (event.done) $("bare-base").textContent = event.base;
      else {
        if (bareText.dataset.state !== "done") {
          bareText.replaceChildren();
          state(bareText, "done", compared.target);
        }
        bare.add(event);
      }
    }
  } catch (e) {
    if (result !== compared) return;
    if (e.name === "AbortError") {
      if (bareText.dataset.state === "busy") {
        state(bareText, "empty");
        bareText.textContent = "";
      }
      return;
    }
    state(bareText, "failed");
    bareText.textContent = e instanceof Problem ? e.message : t("broken");
  }
}

// ---- wiring ---------------------------------------------------------------------------------------------------------

function step(direction) {
  const n = result?.segments.length ?? 0;
  if (!n) return;
  const next = light.chosen < 0 ? (direction > 0 ? 0 : n - 1) : Math.min(n - 1, Math.max(0, light.chosen + direction));
  light.choose(next);
  const segment = result.segments[next], hinted = hints.inWords(segment);
  $("said").textContent = `${t("correctPlace", next + 1, n)}: ${segment.text} – ${segment.translation}${hinted && `. ${hinted}`}`;
}

function showCorrection(n, text) {
  result.segments[n].translation = text;
  result.segments[n].flags = [];
  const span = sheet.spans()[n];
  span.textContent = text;
  span.classList.remove("doubtful");
  span.classList.add("corrected");
  sheet.text = target.textContent;
  showDoubts(light.shown);
}

function suggest() {
  const firstDoubtful = result.segments.findIndex((s) => s.flags.length > 0);
  const n = light.chosen >= 0 ? light.chosen : Math.max(0, firstDoubtful);
  const { source, target: into } = pairs.split(result.pair);
  correct.open(n, { segments: result.segments, source, target: into, adapter: result.adapter, choose: (i) => light.choose(i), onCorrected: showCorrection });
}

const numberOf = (e) => Number(e.target.closest?.(".seg")?.dataset.n ?? -1);

export function start() {
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    if (running) running.abort();
    else translate();
  });
  box.addEventListener("input", update);
  box.addEventListener("keydown", (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey) && !e.isComposing) {
      e.preventDefault();
      translate();
    }
  });
  for (const element of [target, bareText]) {
    element.addEventListener("pointerover", (e) => { if (e.pointerType === "mouse") light.point(numberOf(e)); });
    element.addEventListener("pointerleave", () => light.point(-1));
    element.addEventListener("click", (e) => light.choose(numberOf(e)));
  }
  let frame = 0;
  box.addEventListener("pointermove", (e) => {
    if (e.pointerType !== "mouse" || e.buttons || frame) return;
    frame = requestAnimationFrame(() => {
      frame = 0;
      light.point(mirror.under(e.clientX, e.clientY));
    });
  });
  box.addEventListener("pointerleave", () => { cancelAnimationFrame(frame); frame = 0; light.point(-1); });
  // The segment at the cursor.
  document.addEventListener("selectionchange", () => {
    if (document.activeElement === box && mirror.ends.length && box.selectionStart === box.selectionEnd) light.choose(mirror.at(box.selectionStart));
  });
  $("output").addEventListener("keydown", (e) => {
    if (e.key === "ArrowRight" || e.key === "ArrowLeft") {
      e.preventDefault();
      step(e.key === "ArrowRight" ? 1 : -1);
    } else if (e.key === "Enter" && !$("suggest").hidden) {
      e.preventDefault();
      suggest();
    } else if (e.key === "Escape") light.reset();
  });
  $("doubts-next").addEventListener("click", () => {
    const doubtful = result.segments.flatMap((s, n) => (s.flags.length ? [n] : []));
    light.choose(doubtful.find((n) => n > light.chosen) ?? doubtful[0] ?? -1);
  });
  $("suggest").addEventListener("click", suggest);
  $("compare").addEventListener("change", () => {
    showComparison();
    // Also for the translation on the page, or under way.
    if ($("compare").checked && result?.original === box.value && bareText.dataset.state === "empty") translateBare(result, running?.signal);
  });
  $("swap").addEventListener("click", () => {
    const { source, target: into } = pairs.chosen();
    if (result?.complete && sheet.text && result.original === box.value) box.value = sheet.text;
    clear();
    pairs.choose(into, source);
    box.focus();
  });
  $("clear").addEventListener("click", () => {
    running?.abort();
    box.value = "";
    clear();
    hideProblem();
    update();
    box.focus();
  });
  $("copy").addEventListener("click", (e) => { if (result) copy(sheet.text, e.currentTarget); });
  $("copy-curl").addEventListener("click", (e) => copy($("curl").textContent, e.currentTarget));
  if (/Mac|iPhone|iPad/.test(navigator.platform)) $("modifier").textContent = "⌘";
  clear();
}
