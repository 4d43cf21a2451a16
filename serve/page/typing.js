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
// Characters: each pause sends the whole text again, so longer ones wait for the button.
const MOST = 5000;
// After these answers the next attempt would most likely get the same: no key, a used-up quota, a service that has no room.
const LASTING = [401, 403, 429, 503];

const box = $("typing"), note = $("typing-note");
let timer = 0;
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
  const choice = remembered();
  if (choice === null) box.checked = !info.keys;
}

// To be called at every change of the text and of what is asked for it.
export function changed(text) {
  clearTimeout(timer);
  if (!paused) say("");
  if (!box.checked || paused || !text.trim()) return;
  if (codePoints(text) > MOST) say(t("typingLong", MOST));
  else timer = setTimeout(begin, PAUSE_MS);
}

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

export function start(onPause) {
  begin = onPause;
  box.checked = remembered() !== "off";
  box.addEventListener("change", () => {
    try {
      localStorage.setItem(REMEMBER, box.checked ? "on" : "off");
    } catch {
      // A private window may refuse: the choice then lasts as long as the page.
    }
    paused = false;
    changed($("source-text").value);
  });
}
