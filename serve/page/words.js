// Which language the page speaks, its words, and how it writes numbers, times, sizes and names of languages.
// The language is that of the switch, once it was used, and else the first of the browser's that there are words for.
import * as en from "./words-en.js";
import * as is from "./words-is.js";

const TABLES = { en, is };
const REMEMBER = "tellmt.ui";
// Whose numbers are written alike, for browsers that do not know the language: Chromium has no Icelandic.
const ALIKE = { is: "da" };

let code = "en";
let locale = "en";
let names = null;

export const f = { number, duration, size, time, language, percent, list };

export function uiLanguage() {
  return code;
}

export function chooseLanguage(wanted = "") {
  let kept = "";
  try {
    kept = localStorage.getItem(REMEMBER) ?? "";
    if (wanted) localStorage.setItem(REMEMBER, wanted);
  } catch {
    // Private windows may refuse; then the choice lasts as long as the page.
  }
  const asked = [wanted, kept, ...(navigator.languages ?? [navigator.language])].map((tag) => String(tag).split("-")[0].toLowerCase());
  code = asked.find((tag) => tag in TABLES) ?? "en";
  locale = Intl.NumberFormat.supportedLocalesOf([code]).length ? (navigator.languages ?? []).find((tag) => tag.startsWith(code)) ?? code : ALIKE[code] ?? "en";
  const known = Intl.DisplayNames?.supportedLocalesOf([code]).length;
  names = known ? new Intl.DisplayNames([code], { type: "language", fallback: "none" }) : null;
  document.documentElement.lang = code;
  document.documentElement.dir = TABLES[code].direction;
  apply(document);
}

// The words of a key; those that speak of something are given it, and how to write it.
export function t(key, ...about) {
  const found = TABLES[code].words[key] ?? TABLES.en.words[key];
  return typeof found === "function" ? found(...about, f) : found;
}

// The words that stand in the page itself.
export function apply(root) {
  document.title = t("title");
  for (const e of root.querySelectorAll("[data-t]")) e.textContent = t(e.dataset.t);
  for (const [data, attribute] of [["tLabel", "aria-label"], ["tTitle", "title"], ["tPlaceholder", "placeholder"]]) {
    const name = `data-${data.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
    for (const e of root.querySelectorAll(`[${name}]`)) e.setAttribute(attribute, t(e.dataset[data]));
  }
}

function number(n, digits = 0, least = digits) {
  return new Intl.NumberFormat(locale, { minimumFractionDigits: least, maximumFractionDigits: digits }).format(n);
}

function percent(part) {
  return `${number(Math.floor(100 * part))}${locale.startsWith("en") || code === "is" ? "" : "\u00a0"}%`;
}

// Two units at most: "2 h 5 min", "340 ms".
function duration(seconds) {
  const units = TABLES[code].units;
  if (seconds < 0.95) return `${number(Math.max(1, Math.round(1000 * seconds)))} ${units.ms}`;
  if (seconds < 10 && !Number.isInteger(seconds)) return `${number(seconds, 1)} ${units.s}`;
  let left = Math.round(seconds);
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const n = Math.floor(left / size);
    left -= n * size;
    if (n || (unit === "s" && !parts.length)) parts.push(`${number(n)} ${units[unit]}`);
    else if (parts.length) break;
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

function size(bytes) {
  if (bytes < 1000) return `${number(bytes)} B`;
  return bytes < 1_000_000 ? `${number(bytes / 1000)} kB` : `${number(Math.floor(bytes / 100_000) / 10, 1, 0)} MB`;
}

// A time of today by its clock, another with its day.
function time(when, clock = false) {
  const date = new Date(when);
  const two = (n) => String(n).padStart(2, "0");
  const today = clock || date.toDateString() === new Date().toDateString();
  const { months } = TABLES[code];
  if (months && locale === ALIKE[code]) {
    const at = `${two(date.getHours())}:${two(date.getMinutes())}${clock ? `:${two(date.getSeconds())}` : ""}`;
    return today ? at : `${date.getDate()}. ${months[date.getMonth()]} ${date.getFullYear()} ${at}`;
  }
  const options = today ? { timeStyle: clock ? "medium" : "short" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(locale, options).format(date);
}

// The name of a language, or what the server calls it.
function language(tag, otherwise = tag) {
  let found = TABLES[code].languages[tag];
  if (!found && names) {
    try {
      found = names.of(tag);
    } catch {
      // No code that a browser knows.
    }
  }
  const name = found ?? otherwise;
  return name && name[0].toLocaleUpperCase(code) + name.slice(1);
}

function list(items) {
  return items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} ${TABLES[code].units.and} ${items.at(-1)}`;
}
