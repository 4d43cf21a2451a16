// The text view: sends the text, shows the translation as it arrives, highlights the segments of both sides together and explains doubtful ones.
import * as alternatives from "./alternatives.js";
import * as bare from "./bare.js";
import * as correct from "./correct.js";
import * as count from "./count.js";
import { $, copy, grow, hideProblem, setLanguage, showProblem } from "./dom.js";
import * as flags from "./flags.js";
import * as hints from "./hints.js";
import * as mismatch from "./mismatch.js";
import * as origin from "./origin.js";
import * as pairs from "./pairs.js";
import * as pointing from "./pointing.js";
import * as program from "./program.js";
import * as quality from "./quality.js";
import { Light, Mirror, Sheet, codePoints, offsets } from "./segments.js";
import { Problem, translation } from "./server.js";
import * as terms from "./terms.js";
import * as typing from "./typing.js";
import { f, t } from "./words.js";

const form = $("form"), box = $("source-text"), target = $("target-text"), button = $("translate");
const sheet = new Sheet(target), mirror = new Mirror($("mirror"), box);
const light = new Light([mirror, sheet, bare.sheet], explain);

const ADAPTER = /^[0-9a-f]{32}$/;

let info = { compare_base: false, feedback: false, max_characters: Infinity };
let running = null;   // {source, target, original, controller, typed} of the one translation under way; `typed`: it began by itself, as the user typed
let next = null;      // what begins when that has ended: {typed}
let result = null;    // {original, source, target, pair, adapter, base, quality, segments, detected, complete, ms} of the translation on the page
let changed = false;  // what is asked for a text has changed: its quality, or the terms

// ---- the result --------------------------------------------------------------------------------------------------

export function draw(newInfo = info) {
  info = newInfo;
  typing.draw(info);
  bare.draw(info.compare_base);
  if (!result) target.textContent = t("resultEmpty");
  busy();
  if (result?.complete) showResult();
  terms.draw();
  alternatives.draw();
  origin.show(pairs.chosen());
  update();
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
  alternatives.close();
  flags.hide();
  mismatch.hide();
  state(target, "empty");
  target.lang = document.documentElement.lang;
  target.textContent = t("resultEmpty");
  $("thanks").textContent = "";
  for (const id of ["answer", "copy", "cut", "doubts", "suggest", "alternatives", "found", "hints"]) $(id).hidden = true;
  $("who").hidden = false;
}

// What is said of the highlighted segment under the translation.
function explain(n) {
  flags.show(n >= 0 ? sheet.spans()[n] : null, result?.segments[n]?.flags ?? []);
  if (!result) return;
  flags.sum(result.segments, n);
  hints.show(result.segments, n, { source: result.detected || result.source, target: result.target });
}

function showResult() {
  $("cut").hidden = !result.segments.some((s) => s.truncated);
  $("copy").hidden = !sheet.text;
  // Only translations by an adapter can be corrected.
  $("suggest").hidden = !info.feedback || result.segments.length === 0 || !ADAPTER.test(result.adapter);
  // A pivot has no segments, and other translations are of segments.
  $("alternatives").hidden = !result.complete || result.segments.length === 0;
  $("found").hidden = !result.detected;
  $("found").textContent = result.detected ? t("detected", pairs.nameOf(result.detected)) : "";
  $("answer-adapter").textContent = result.adapter.slice(0, 12);
  $("answer-adapter").title = t("versionTitle", result.adapter, result.pair);
  $("answer-origin").textContent = origin.of(result.adapter);
  $("answer-base").textContent = result.base;
  $("answer-quality").textContent = quality.said(result.quality);
  $("answer-time").textContent = f.duration(result.ms / 1000);
  $("answer").hidden = !result.adapter;
  $("who").hidden = Boolean(result.adapter);
  if (!sheet.text) target.textContent = t("resultNothing");
  light.shown = -2;
  light.draw();
}

function update() {
  count.draw(box.value, info.max_characters);
  $("clear").hidden = box.value === "";
  button.disabled = !running && (box.value.trim() === "" || !pairs.chosen().target);
  const stale = Boolean(result) && result.original !== box.value;
  for (const element of [target, bare.text]) element.classList.toggle("stale", stale);
  if (stale && mirror.ends.length) {
    mirror.clear();
    light.reset();
  }
  grow(box);
}

// While the user types the button stays what it is: the translation under way is not one that was asked for.
function busy() {
  const asked = Boolean(running) && !running.typed;
  form.setAttribute("aria-busy", String(Boolean(running)));
  target.setAttribute("aria-busy", String(Boolean(running)));
  button.classList.toggle("busy", Boolean(running));
  $("translate-label").textContent = t(asked ? "stop" : "translate");
  button.setAttribute("aria-label", t(asked ? "stopLabel" : "translate"));
}

export function pairChanged(pair) {
  if ([running, result].some((of) => of && (of.source !== pair.source || of.target !== pair.target))) {
    stop();
    clear();
  }
  terms.draw(pair);
  origin.show(pair);
  program.draw(pair);
  update();
  typing.changed(box.value);
}

// ---- translating ----------------------------------------------------------------------------------------------------

function stop() {
  typing.cancel();
  next = null;
  running?.controller.abort();
}

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

// What a request asks for beside its text and its languages. Throws a Problem where a term cannot be read.
const fields = () => ({ ...quality.field(), ...terms.field() });

// Translates the text on the page. There is one translation under way at most: another waits until that has ended or was stopped.
async function translate(typed = false) {
  typing.cancel();
  const original = box.value, pair = pairs.chosen();
  if (original.trim() === "" || !pair.target) return;
  if (running) {
    const same = running.original === original && !running.controller.signal.aborted;
    if (!same) next = { typed };
    else if (!typed) {
      // What began by itself is now asked for.
      running.typed = false;
      target.setAttribute("aria-live", "polite");
    }
    return busy();
  }
  if (typed && result?.complete && result.original === original && !changed) return;
  changed = false;
  if (!typed) hideProblem();
  const current = { ...pair, original, pair: "", adapter: "", base: "", quality: "", detected: "", segments: [], points: 0, complete: false, ms: 0 };
  const mine = () => result === current;
  const begin = () => { clear(); result = current; };
  // As one types, the translation before stays until there is something in its place.
  if (!typed) begin();
  else if (sheet.text) form.dataset.flowing = "true";
  const me = running = { ...pair, original, controller: new AbortController(), typed };
  const { signal } = me.controller;
  target.setAttribute("aria-live", typed ? "off" : "polite");
  busy();
  update();
  let beside = bare.on() && !typed ? bare.translate(current, mine, signal) : null;
  const problem = await read(current, typed ? begin : null, signal);
  if (mine()) {
    if (!current.complete && !sheet.text) clear();
    else finish(current, me.typed);
  }
  if (!problem && mine() && bare.on()) beside ??= bare.translate(current, mine, signal);
  if (!problem) await beside;
  else me.controller.abort();
  running = null;
  delete form.dataset.flowing;
  busy();
  update();
  if (problem && problem.name !== "AbortError") tell(problem, current, me.typed);
  else if (!problem) typing.worked();
  if (next) {
    const { typed: waited } = next;
    next = null;
    if (waited) typing.changed(box.value);
    else translate();
  } else if (!problem && mine()) lookAround(current);
}

// Reads the translation as it arrives; `begin`, if any, makes room for it when its first part is there. Returns what went wrong, or null.
async function read(current, begin, signal) {
  const at = offsets(current.original), started = performance.now();
  try {
    const body = { source: current.source, target: current.target, text: current.original, segments: true, hints: true, ...fields() };
    for await (const event of translation(body, signal)) {
      if (signal.aborted) break;
      begin?.();
      begin = null;
      if (result !== current) break;
      if (event.done) {
        const { pair, adapter, base } = event;
        Object.assign(current, { pair: current.pair || pair, adapter: adapter ?? "", base, quality: event.quality, complete: true, ms: performance.now() - started });
        terms.tell(event.glossary?.applied, current.segments);
      } else addPart(event, at);
    }
  } catch (e) {
    return e;
  }
  return null;
}

function tell(problem, current, typed) {
  if (!(problem instanceof Problem)) console.error(problem);
  const shown = problem instanceof Problem ? problem : new Problem(t("broken"));
  if (typed) typing.failed(shown);
  if (typed && shown.status !== 401) return;
  if (current.segments.length) shown.message = `${t("incomplete")} ${shown.message}`;
  showProblem(shown);
  document.dispatchEvent(new CustomEvent("tellmt:failed", { detail: shown }));
}

function finish(finished, typed) {
  mirror.close(finished.original);
  if (finished.detected) setLanguage(box, finished.detected);
  if (!finished.segments.length && !sheet.text) state(target, "nothing");
  showResult();
  const words = finished.complete ? t("announced", finished.segments.length, finished.segments.filter((s) => s.flags.length).length) : "";
  typing.announce(words, typed, () => result === finished && finished.original === box.value);
}

// What is asked for after a translation: which language the text is in, and where an adapter that is new here came from.
async function lookAround(finished) {
  if (finished.original === box.value) await mismatch.look(finished.original, finished);
  if (ADAPTER.test(finished.adapter)) await origin.learn(finished.adapter, info);
  if (result === finished) $("answer-origin").textContent = origin.of(finished.adapter);
}

// ---- wiring ---------------------------------------------------------------------------------------------------------

function step(direction) {
  const n = result?.segments.length ?? 0;
  if (!n) return;
  const next = light.chosen < 0 ? (direction > 0 ? 0 : n - 1) : Math.min(n - 1, Math.max(0, light.chosen + direction));
  light.choose(next);
  const segment = result.segments[next], hinted = hints.inWords(segment), doubts = flags.inWords(segment.flags);
  const words = [`${t("correctPlace", next + 1, n)}: ${segment.text} – ${segment.translation}`, doubts && t("worth", doubts), hinted];
  $("said").textContent = words.filter(Boolean).join(". ");
}

function replace(n, text, newFlags, corrected) {
  Object.assign(result.segments[n], { translation: text, flags: newFlags });
  const span = sheet.spans()[n];
  span.textContent = text;
  span.classList.toggle("doubtful", newFlags.length > 0);
  span.classList.toggle("corrected", corrected);
  sheet.text = target.textContent;
  explain(light.shown);
}

// The segment that a panel opens with: the chosen one, or the first doubtful one.
const firstToShow = () => (light.chosen >= 0 ? light.chosen : Math.max(0, result.segments.findIndex((s) => s.flags.length > 0)));

// What the panels need of the translation on the page.
function shownTranslation() {
  const { source, target: into } = pairs.split(result.pair);
  return { segments: result.segments, source, target: into, adapter: result.adapter, choose: (i) => light.choose(i) };
}

function suggest() {
  alternatives.close();
  correct.open(firstToShow(), { ...shownTranslation(), onCorrected: (n, text) => replace(n, text, [], true) });
}

function showAlternatives() {
  correct.close();
  alternatives.open(firstToShow(), {
    ...shownTranslation(), fields,
    onPicked: (n, { text, flags: itsFlags }) => {
      // A correction is of the translation that was corrected.
      result.segments[n].adapterTranslation = text;
      replace(n, text, itsFlags, false);
    },
  });
}

// The text has changed: a translation that began by itself is stopped, and the next begins after a pause.
function edited() {
  if (running?.typed) running.controller.abort();
  mismatch.hide();
  flags.hide();
  alternatives.close();
  if (typing.on() && !running && !box.value.trim()) clear();
  update();
  typing.changed(box.value);
}

// The quality or the terms have changed.
function asksAnew() {
  changed = true;
  typing.changed(box.value);
}

function switchTo(pair) {
  pairs.choose(pair.source, pair.target);
  translate();
}

export function start() {
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    if (running && !running.typed) stop();
    else translate();
  });
  // Half a letter of an input method is no text yet.
  box.addEventListener("input", (e) => (e.isComposing ? update() : edited()));
  box.addEventListener("compositionend", edited);
  box.addEventListener("keydown", (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey) && !e.isComposing) {
      e.preventDefault();
      translate();
    }
  });
  pointing.start(light, mirror, box, [target, bare.text]);
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
  for (const [id, open] of [["suggest", suggest], ["alternatives", showAlternatives]]) $(id).addEventListener("click", open);
  // Also for the translation on the page, or under way.
  bare.start(() => {
    const current = result;
    if (current?.original === box.value) bare.translate(current, () => result === current, running?.controller.signal);
  });
  $("swap").addEventListener("click", () => {
    const { source, target: into } = pairs.chosen();
    if (result?.complete && sheet.text && result.original === box.value) box.value = sheet.text;
    stop();
    clear();
    pairs.choose(into, source);
    box.focus();
  });
  $("clear").addEventListener("click", () => {
    stop();
    box.value = "";
    clear();
    hideProblem();
    update();
    box.focus();
  });
  $("copy").addEventListener("click", (e) => { if (result) copy(sheet.text, e.currentTarget); });
  quality.start(asksAnew);
  terms.start(asksAnew);
  program.start();
  typing.start(() => translate(true));
  mismatch.start(switchTo);
  alternatives.start();
  if (/Mac|iPhone|iPad/.test(navigator.platform)) $("modifier").textContent = "⌘";
  clear();
}
