// The panel for corrections: it shows one segment at a time beside its source, and sends the correction to POST /api/v1/feedback.
import { $, hideProblem, setLanguage, showProblem } from "./dom.js";
import { segmentPanel } from "./panel.js";
import { Problem, post } from "./server.js";
import { t } from "./words.js";

const frame = segmentPanel("correct"), panel = frame.panel, box = $("correct-text");
let translation = null;   // the translation that `open` was called with, while the panel is open
let at = -1;

export function open(n, opened) {
  translation = opened;
  $("thanks").textContent = "";
  frame.open(() => {
    show(n);
    box.focus();
  });
}

export function close() {
  if (!translation) return;
  translation = null;
  frame.close();
}

export function draw() {
  if (translation) place();
}

function place() {
  frame.place(at, translation.segments.length);
}

function show(n) {
  at = n;
  const segment = translation.segments[n];
  $("correct-source").textContent = segment.text;
  setLanguage($("correct-source"), translation.source);
  setLanguage(box, translation.target);
  box.value = segment.translation;
  box.setCustomValidity("");
  place();
  translation.choose(n);
}

async function send() {
  const segment = translation.segments[at], text = box.value.trim(), corrected = translation, n = at;
  box.setCustomValidity(text === segment.translation.trim() ? t("correctSame") : "");
  if (!panel.reportValidity()) return;
  panel.setAttribute("aria-busy", "true");
  try {
    await post("api/v1/feedback", {
      source: corrected.source, target: corrected.target, text: segment.text, translation: segment.adapterTranslation, correction: text,
      adapter: corrected.adapter,
    });
    hideProblem();
    corrected.onCorrected(n, text);
    if (translation === corrected) close();
    $("thanks").textContent = t("thanks");
  } catch (e) {
    // The correction stays in the box.
    showProblem(e instanceof Problem ? e : new Problem(t("broken")));
  } finally {
    panel.removeAttribute("aria-busy");
  }
}

export function start() {
  // The browser's own message bubble shows the reason, until the user types.
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
