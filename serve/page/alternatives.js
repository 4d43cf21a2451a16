// Other translations of one segment at a time, to look at and to pick. They are asked for when the panel is opened, and again for each other segment.
import { $, make, setLanguage } from "./dom.js";
import { inWords } from "./flags.js";
import { segmentPanel } from "./panel.js";
import { Problem, pairHeader, post } from "./server.js";
import { t } from "./words.js";

const MOST = 4;

const frame = segmentPanel("others"), panel = frame.panel, list = $("others-list");
let translation = null;   // what `open` was called with, while the panel is open
let at = -1;
let asked = new Map();    // number of a segment -> its translations, the one of the first answer first: {text, flags}
let askedOf = null;       // the segments that these are of
let asking = null;        // the AbortController of the request

export function open(n, opened) {
  if (askedOf !== opened.segments) asked = new Map();
  askedOf = opened.segments;
  translation = opened;
  frame.open(() => {
    show(n);
    $("others-close").focus({ preventScroll: true });
  });
}

export function close() {
  if (!translation) return;
  asking?.abort();
  translation = null;
  frame.close();
}

export function draw() {
  if (translation) place();
}

function place() {
  frame.place(at, translation.segments.length);
  drawList();
}

function drawList() {
  const current = translation.segments[at].translation;
  list.replaceChildren(...(asked.get(at) ?? []).map((other) => {
    const text = make("span", {}, other.text);
    setLanguage(text, translation.target);
    const button = make("button", { type: "button", "aria-pressed": String(other.text === current) }, text);
    button.addEventListener("click", () => pick(other));
    return make("li", {}, button, other.flags.length ? make("p", {}, t("worth", inWords(other.flags))) : null);
  }));
}

async function show(n) {
  at = n;
  asking?.abort();
  const { segments, source, target } = translation, mine = translation;
  $("others-source").textContent = segments[n].text;
  setLanguage($("others-source"), source);
  translation.choose(n);
  $("others-state").textContent = asked.has(n) ? "" : t("othersAsking");
  place();
  if (asked.has(n)) return;
  asking = new AbortController();
  panel.setAttribute("aria-busy", "true");
  let words = "";
  try {
    const body = { ...mine.fields(), source, target, text: segments[n].text, alternatives: MOST };
    const answer = await (await post("api/v1/translate", body, asking.signal, pairHeader(body))).json();
    const [{ text, flags, alternatives }] = answer.translations;
    const first = { text: segments[n].translation, flags: segments[n].flags };
    const others = [{ text, flags }, ...(alternatives ?? [])].filter((other) => other.text !== first.text);
    asked.set(n, [first, ...others]);
    words = others.length ? t("othersFound", others.length) : t("othersNone");
  } catch (e) {
    if (e.name === "AbortError") return;
    words = e instanceof Problem ? e.message : t("broken");
  }
  if (translation !== mine || at !== n) return;
  panel.removeAttribute("aria-busy");
  $("others-state").textContent = words;
  drawList();
}

function pick(other) {
  translation.onPicked(at, other);
  for (const button of list.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.textContent === other.text));
  $("others-state").textContent = t("othersPicked");
}

export function start() {
  panel.addEventListener("keydown", (e) => { if (e.key === "Escape") close(); });
  $("others-previous").addEventListener("click", () => show(at - 1));
  $("others-next").addEventListener("click", () => show(at + 1));
  $("others-close").addEventListener("click", close);
}
