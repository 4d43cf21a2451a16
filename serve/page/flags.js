// What looks wrong with a translation: its flags in words, and what each means, at the place where it happened.
import { $, make } from "./dom.js";
import { f, t } from "./words.js";

const pane = $("output"), note = $("why");
const GAP = 6, EDGE = 12;

const capital = (words) => words[0].toLocaleUpperCase() + words.slice(1);

// The flags of a segment, as a text. A flag of a newer service stands under its own name.
export const inWords = (flags) => f.list(flags.map((flag) => t("flags")[flag] ?? flag));

// A flag with what it means.
const explained = (flag) => make("p", { "data-flag": flag }, make("b", {}, `${capital(t("flags")[flag] ?? flag)}. `), t("flagHelp")[flag] ?? "");

// The line under the translation: what is wrong with segment `n` or the only one, or else how many are doubtful.
export function sum(segments, n) {
  const doubtful = segments.filter((s) => s.flags.length > 0);
  const ofSegment = inWords(segments[n >= 0 ? n : segments.length === 1 ? 0 : -1]?.flags ?? []);
  const words = ofSegment ? t("worth", ofSegment) : doubtful.length ? t("worthSome", doubtful.length, segments.length) : "";
  $("doubts-text").textContent = words;
  $("doubts").hidden = !words;
  $("doubts-next").hidden = segments.length < 2;
}

export function hide() {
  note.hidden = true;
}

// Shows what is wrong with a segment below it, or above it where there is more room.
export function show(segment, flags) {
  if (!segment || !flags.length) return hide();
  note.replaceChildren(...flags.map(explained));
  note.hidden = false;
  const lines = [...segment.getClientRects()], outside = pane.getBoundingClientRect();
  if (!lines.length) return hide();
  const left = Math.min(lines.at(-1).left - outside.left, pane.clientWidth - note.offsetWidth - EDGE);
  const below = lines.at(-1).bottom - outside.top + GAP, above = lines[0].top - outside.top - note.offsetHeight - GAP;
  const fits = below + note.offsetHeight <= pane.clientHeight || above < 0;
  note.style.left = `${Math.max(EDGE, left)}px`;
  note.style.top = `${(fits ? below : above) + pane.scrollTop}px`;
}
