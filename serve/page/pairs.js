// The two lists of languages, source and target, and the chosen pair.
import { $, setLanguage } from "./dom.js";
import { json } from "./server.js";
import { f, t } from "./words.js";

const REMEMBER = "tellmt.pair";
export const AUTO = "auto";

const source = $("source-language"), target = $("target-language"), swap = $("swap");
let languages = [];   // [{code, name, targets}], from `languages`
let shown = "";
let preferred;        // {source, target}, or undefined
let changed = () => {};

export const nameOf = (code) => f.language(code, languages.find((l) => l.code === code)?.name ?? code);
export const sources = () => languages.filter((l) => targetsOf(l.code).length > 0).map((l) => l.code);

export function targetsOf(code) {
  if (code === AUTO) return [...new Set(languages.flatMap((l) => targetsOf(l.code)))];
  return (languages.find((l) => l.code === code)?.targets ?? []).filter((other) => other !== code);
}

export const chosen = () => ({ source: source.value, target: target.value });
export const count = () => languages.reduce((n, l) => n + targetsOf(l.code).length, 0);
export const both = (pair) => `${nameOf(pair.source)} → ${nameOf(pair.target)}`;

// The codes of a pair as the service writes it: is-en, or pt-BR:en where a code has a hyphen itself.
export function split(pair) {
  const [from, to] = pair.split(pair.includes(":") ? ":" : "-");
  return { source: from, target: to };
}

// `own`: the pair to begin with, where the user has chosen none yet. Throws Problem.
export async function load(own) {
  preferred = own;
  const response = await json("languages");
  languages = (Array.isArray(response) ? response : []).filter((l) => l && typeof l.code === "string" && Array.isArray(l.targets));
  // An open menu must not be rebuilt under the pointer when nothing has changed.
  const list = JSON.stringify(languages);
  if (list !== shown) fill();
  shown = list;
}

function options(select, codes, preferred) {
  const selected = codes.includes(preferred) ? preferred : codes.find((code) => code !== AUTO);
  select.replaceChildren(...codes.map((code) => new Option(code === AUTO ? t("detect") : nameOf(code), code, code === selected, code === selected)));
  select.disabled = codes.length === 0;
}

function remembered() {
  try {
    const pair = localStorage.getItem(REMEMBER);
    if (pair) return pair.split(">");
  } catch {
    // A private window may refuse.
  }
  return preferred ? [preferred.source, preferred.target] : [];
}

const byName = (a, b) => nameOf(a).localeCompare(nameOf(b));

// Draws both lists, and keeps the chosen languages as far as they are still there.
export function fill() {
  const [from, to] = source.value ? [source.value, target.value] : remembered();
  const codes = sources().sort(byName);
  options(source, codes.length > 1 ? [AUTO, ...codes] : codes, from);
  fillTargets(to);
}

function fillTargets(preferred) {
  options(target, targetsOf(source.value).sort(byName), preferred);
  pairChanged();
}

function pairChanged() {
  const pair = chosen();
  try {
    if (pair.target) localStorage.setItem(REMEMBER, `${pair.source}>${pair.target}`);
  } catch {
    // A private window may refuse: the choice is then not remembered.
  }
  const reversible = targetsOf(pair.target).includes(pair.source);
  swap.disabled = !reversible;
  swap.title = reversible || pair.source === AUTO ? t("swap") : t("oneWay");
  setLanguage($("source-text"), pair.source === AUTO ? "" : pair.source);
  changed(pair);
}

export function choose(from, to) {
  source.value = from;
  fillTargets(to);
}

export function start(onChange) {
  changed = onChange;
  source.addEventListener("change", () => fillTargets(target.value));
  target.addEventListener("change", pairChanged);
}
