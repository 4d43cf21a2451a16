// The hints that stood in the model's prompt: for which words of the highlighted segment, and which translations each offered.
import { $, make } from "./dom.js";
import { followed } from "./terms.js";
import { f, t } from "./words.js";

const panel = $("hints");

// Whether a hint is a term of the user's, and whether the translation has it.
const termWords = (hint, segment) => (hint.glossary ? t(followed(hint, segment) ? "hintTerm" : "hintTermMissed") : "");

// The hints of a segment in words, for a screen reader; empty where it had none.
export function inWords(segment) {
  const hints = (segment.hints ?? []).map((h) => `${h.text} – ${h.candidates.join(", ")}${h.glossary ? ` (${termWords(h, segment)})` : ""}`);
  return hints.length ? `${t("hintsOf")} ${f.list(hints)}` : "";
}

function shown(hint, segment, { source, target }) {
  const kind = !hint.glossary ? "hint" : followed(hint, segment) ? "hint term" : "hint term missed";
  const pair = make("span", { class: kind }, make("b", { lang: source, dir: "auto" }, hint.text), " → ");
  pair.append(make("span", { lang: target, dir: "auto" }, hint.candidates.join(", ")));
  if (hint.glossary) pair.append(" ", make("small", {}, termWords(hint, segment)));
  return pair;
}

// Shows the hints of segment number `n`, or of the only one; or else how many there were. `languages` are those of the translation.
export function show(segments, n, languages) {
  const count = segments.reduce((sum, s) => sum + (s.hints?.length ?? 0), 0);
  panel.hidden = count === 0;
  if (!count) return;
  const segment = segments[n >= 0 ? n : segments.length === 1 ? 0 : -1], hints = segment?.hints;
  if (!hints) panel.textContent = t("hintsSome", count);
  else if (!hints.length) panel.textContent = t("hintsNone");
  else panel.replaceChildren(make("span", { class: "hints-of" }, t("hintsOf")), ...hints.map((hint) => shown(hint, segment, languages)));
  panel.scrollTop = 0;
}
