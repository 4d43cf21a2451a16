// The hints that stood in the model's prompt: for which words of the highlighted segment, and which translations each offered.
import { $, make } from "./dom.js";
import { f, t } from "./words.js";

const panel = $("hints");

// The hints of a segment in words, for a screen reader; empty where it had none.
export function inWords(segment) {
  const hints = (segment.hints ?? []).map((h) => `${h.text} – ${h.candidates.join(", ")}${h.glossary ? ` (${t("hintTerm")})` : ""}`);
  return hints.length ? `${t("hintsOf")} ${f.list(hints)}` : "";
}

function shown(hint, { source, target }) {
  const pair = make("span", { class: hint.glossary ? "hint term" : "hint" }, make("b", { lang: source, dir: "auto" }, hint.text), " → ");
  pair.append(make("span", { lang: target, dir: "auto" }, hint.candidates.join(", ")));
  if (hint.glossary) pair.append(" ", make("small", {}, t("hintTerm")));
  return pair;
}

// Shows the hints of segment number `n`, or of the only one; or else how many there were. `languages` are those of the translation.
export function show(segments, n, languages) {
  const count = segments.reduce((sum, s) => sum + (s.hints?.length ?? 0), 0);
  panel.hidden = count === 0;
  if (!count) return;
  const hints = n >= 0 ? segments[n].hints : segments.length === 1 ? segments[0].hints : null;
  if (!hints) panel.textContent = t("hintsSome", count);
  else if (!hints.length) panel.textContent = t("hintsNone");
  else panel.replaceChildren(make("span", { class: "hints-of" }, t("hintsOf")), ...hints.map((hint) => shown(hint, languages)));
  panel.scrollTop = 0;
}

export function hide() {
  panel.hidden = true;
  panel.replaceChildren();
}
