// Suggesting a correction: one segment at a time, its source beside it, to POST /api/v1/feedback.
import { $, hideProblem, setLanguage, showProblem } from "./dom.js";
import { Problem, post } from "./server.js";
import { t } from "./words.js";

const panel = $("correct"), box = $("correct-text");
let shown = null;   // what `open` was given
let at = -1;
let back = null;    // what had the focus before

export function open(n, about) {
  back = document.activeElement;
  shown = about;
  panel.hidden = false;
  $("thanks").textContent = "";
  show(n);
  box.focus();
  panel.scrollIntoView({ block: "nearest" });
}

export function close() {
  if (!shown) return;
  const had = panel.contains(document.activeElement);
  shown = null;
  panel.hidden = true;
  if (had) back?.focus();
}

export function draw() {
  if (shown) place();
}

function place() {
  $("correct-place").textContent = shown.segments.length > 1 ? t("correctPlace", at + 1, shown.segments.length) : "";
}

function show(n) {
  at = n;
  const segment = shown.segments[n];
  $("correct-source").textContent = segment.text;
  setLanguage($("correct-source"), shown.source);
  setLanguage(box, shown.target);
  box.value = segment.made;
  box.setCustomValidity("");
  place();
  $("correct-previous").disabled = n === 0;
  $("correct-next").disabled = n === shown.segments.length - 1;
  for (const id of ["correct-previous", "correct-next"]) $(id).hidden = shown.segments.length === 1;
  shown.choose(n);
}

async function send() {
  const segment = shown.segments[at], text = box.value.trim(), own = shown, n = at;
  box.setCustomValidity(text === segment.made.trim() ? t("correctSame") : "");
  if (!panel.reportValidity()) return;
  panel.setAttribute("aria-busy", "true");
  try {
    await post("api/v1/feedback", {
      source: own.source, target: own.target, text: segment.text, translation: segment.first, correction: text, adapter: own.adapter,
    });
    hideProblem();
    own.corrected(n, text);
    if (shown === own) close();
    $("thanks").textContent = t("thanks");
  } catch (e) {
    // What was written stays.
    showProblem(e instanceof Problem ? e : new Problem(t("broken")));
  } finally {
    panel.removeAttribute("aria-busy");
  }
}

export function start() {
  // The browser's own bubble is told why at once, and forgets it when something is typed.
  panel.noValidate = true;
  panel.addEventListener("submit", (e) => {
    e.preventDefault();
    send();
  });
  box.addEventListener("input", () => box.setCustomValidity(""));
  panel.addEventListener("keydown", (e) => {
    if (e.key === "Escape") close();
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey) && e.target === box) {
      e.preventDefault();
      send();
    }
  });
  $("correct-previous").addEventListener("click", () => show(at - 1));
  $("correct-next").addEventListener("click", () => show(at + 1));
  $("correct-cancel").addEventListener("click", close);
}
