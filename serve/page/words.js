// The language of the page, its texts, and how it writes numbers, times, sizes and names of languages.
// The language is the one that the user chose, or else the first of the browser's languages that the page has texts for.
import * as en from "./words-en.js";
import * as is from "./words-is.js";

const TABLES = { en, is };
const REMEMBER = "tellmt.ui";
// Languages that write numbers in the same way, for browsers that do not know a language: Chromium has no Icelandic.
const ALIKE = { is: "da" };

let code = "en";
let locale = "en";
let names = null;

export const f = { number, duration, size, time, mark, language, percent, share, list };

export function uiLanguage() {
  return code;
}

export function chooseLanguage(choice = "") {
  let stored = "";
  try {
    stored = localStorage.getItem(REMEMBER) ?? "";
    if (choice) localStorage.setItem(REMEMBER, choice);
  } catch {
    // A private window may refuse: the choice then lasts as long as the page.
  }
  const candidates = [choice, stored, ...(navigator.languages ?? [navigator.language])].map((tag) => String(tag).split("-")[0].toLowerCase());
  code = candidates.find((tag) => tag in TABLES) ?? "en";
  locale = Intl.NumberFormat.supportedLocalesOf([code]).length ? (navigator.languages ?? []).find((tag) => tag.startsWith(code)) ?? code : ALIKE[code] ?? "en";
  const known = Intl.DisplayNames?.supportedLocalesOf([code]).length;
  names = known ? new Intl.DisplayNames([code], { type: "language", fallback: "none" }) : null;
  document.documentElement.lang = code;
  document.documentElement.dir = TABLES[code].direction;
  apply(document);
}

// The text of a key. A text that is a function receives its values, and the formatters of the language.
export function t(key, ...values) {
  const text = TABLES[code].words[key] ?? TABLES.en.words[key];
  return typeof text === "function" ? text(...values, f) : text;
}

// Sets the texts of the page itself.
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

// A share that may be small: "0.25%", "12%".
function share(part) {
  const digits = part < 0.1 ? 2 : part < 0.995 ? 1 : 0;
  return `${number(100 * part, digits, 0)}${locale.startsWith("en") || code === "is" ? "" : "\u00a0"}%`;
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

// A time of today without its day, another time with it.
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

// A time on the axis of a chart: a day, or a time of day.
function mark(when, isDay) {
  const date = new Date(when);
  const { months } = TABLES[code];
  if (isDay && months && locale === ALIKE[code]) return `${date.getDate()}. ${months[date.getMonth()]}`;
  return new Intl.DateTimeFormat(locale, isDay ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(date);
}

// The name of a language, or else the server's name for it.
function language(tag, otherwise = tag) {
  let known = TABLES[code].languages[tag];
  if (!known && names) {
    try {
      known = names.of(tag);
    } catch {
      // The browser does not know this code.
    }
  }
  const name = known ?? otherwise;
  return name && name[0].toLocaleUpperCase(code) + name.slice(1);
}

function list(items) {
  return items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} ${TABLES[code].units.and} ${items.at(-1)}`;
}
