// Translation as one types: when it begins, and whether it is on. The text view decides what is sent.
//
// The rule: a translation begins when nothing was typed for PAUSE_MS. There is never more than one request under way: as soon as the text changes, a
// translation that began in this way is stopped, a pause before the next one begins; one that was asked for by the button goes on, and the newer text
// waits for its end. A stopped request costs its caller the segments that were done, and no more (docs/security.md).
import { $ } from "./dom.js";
import { codePoints } from "./segments.js";
import { t } from "./words.js";

const REMEMBER = "tellmt.typing";
const PAUSE_MS = 600;
// From a translation that began by itself until a screen reader is told of it: while one types, it is told of none.
const QUIET_MS = 1500;
// Characters: each pause sends the whole text again, so longer ones wait for the button.
const MOST = 5000;
// After these answers the next attempt would most likely get the same: no key, a used-up quota, a service that has no room.
const LASTING = [401, 403, 429, 503];

const box = $("typing"), note = $("typing-note");
let timer = 0, quiet = 0;
let choice = remembered();   // on, off, or null until the user chooses
let most = MOST;
let paused = false;
let begin = () => {};

function remembered() {
  try {
    return localStorage.getItem(REMEMBER);
  } catch {
    return null;
  }
}

const say = (words) => { if (note.textContent !== words) note.textContent = words; };

// Until the user chooses, it is on where requests need no key: a key may have a quota of characters, which every pause takes from.
export function draw(info) {
  most = Math.min(MOST, info.max_characters);
  if (choice === null) box.checked = !info.keys;
}

// To be called at every change of the text and of what is asked for it.
export function changed(text) {
  clearTimeout(timer);
  if (!paused) say("");
  if (!box.checked || paused || !text.trim()) return;
  // What is more than a request takes is said beside the count.
  if (codePoints(text) > most) say(most === MOST ? t("typingLong", MOST) : "");
  else timer = setTimeout(begin, PAUSE_MS);
}

export const on = () => box.checked;
export const cancel = () => clearTimeout(timer);

// A translation that began by itself failed: a line says so, and no alert, since half a word may be no text of any language.
export function failed(problem) {
  paused = LASTING.includes(problem.status);
  say(paused ? t("typingPaused", problem.message) : problem.message);
}

export function worked() {
  paused = false;
  say("");
}

// Says that there is a translation: at once where it was asked for. `current()`: whether it is still the one on the page.
export function announce(words, typed, current) {
  clearTimeout(quiet);
  if (!typed) $("said").textContent = words;
  else quiet = setTimeout(() => { if (current()) $("said").textContent = words; }, QUIET_MS);
}

export function start(onPause) {
  begin = onPause;
  if (choice !== null) box.checked = choice === "on";
  box.addEventListener("change", () => {
    choice = box.checked ? "on" : "off";
    try {
      localStorage.setItem(REMEMBER, choice);
    } catch {
      // A private window may refuse: the choice then lasts as long as the page.
    }
    paused = false;
    changed($("source-text").value);
  });
}
