// The terms that translations are to follow: typed, or those of a glossary that is kept for the key; and what became of them.
import { $, make } from "./dom.js";
import { AUTO } from "./pairs.js";
import { Problem, json, request } from "./server.js";
import { t } from "./words.js";

// Lines of a kept glossary that are shown.
const SHOWN = 50;

const select = $("glossary"), box = $("terms-text"), note = $("terms-note"), kept = $("kept-terms");
let glossaries = [];   // [{glossary_id, name, source_lang, target_lang, entry_count}]
let pair = { source: "", target: "" };

const base = (code) => code.split("-")[0].toLowerCase();
const fits = (g) => base(g.source_lang) === base(pair.source) && base(g.target_lang) === base(pair.target);

// The field `glossary` of a request; none where there are no terms. Throws a Problem with the line that cannot be read.
export function field() {
  if (select.value) return { glossary: select.value };
  // Without a prototype: `__proto__` is a term as any other.
  const terms = Object.create(null);
  for (const [n, line] of box.value.split("\n").entries()) {
    if (!line.trim()) continue;
    const [, term, translated] = /^([^=\t]+)[=\t](.+)$/s.exec(line) ?? [];
    if (!term?.trim() || !translated.trim()) throw new Problem(t("termsUnreadable", n + 1));
    terms[term.trim()] = translated.trim();
  }
  return Object.keys(terms).length ? { glossary: terms } : {};
}

// The glossaries for the pair on the page. With a source that is to be detected the service takes typed terms alone.
export function draw(newPair = pair) {
  pair = newPair;
  const fitting = pair.source === AUTO ? [] : glossaries.filter(fits);
  const chosen = fitting.some((g) => g.glossary_id === select.value) ? select.value : "";
  const named = fitting.map((g) => new Option(t("glossaryOf", g.name, g.entry_count), g.glossary_id));
  select.replaceChildren(new Option(t("glossaryTyped"), ""), ...named);
  select.value = chosen;
  $("glossary-choice").hidden = !glossaries.length;
  select.disabled = !fitting.length;
  $("glossary-none").textContent = fitting.length ? "" : t(pair.source === AUTO ? "glossaryAuto" : "glossaryNone");
  if (!chosen) showKept("");
}

async function load() {
  try {
    const answer = await json("v2/glossaries");
    glossaries = Array.isArray(answer.glossaries) ? answer.glossaries : [];
  } catch {
    // A service without them, or a key that is still missing: terms can be typed all the same.
    glossaries = [];
  }
  draw();
}

async function showKept(id) {
  $("typed-terms").hidden = Boolean(id);
  kept.hidden = !id;
  kept.replaceChildren();
  if (!id) return;
  try {
    const lines = (await (await request(`v2/glossaries/${encodeURIComponent(id)}/entries`)).text()).split("\n").filter(Boolean);
    if (select.value !== id) return;
    const rows = lines.slice(0, SHOWN).map((line) => line.split("\t")).map(([source, target]) =>
      make("li", {}, make("b", { lang: pair.source, dir: "auto" }, source), " → ", make("span", { lang: pair.target, dir: "auto" }, target)));
    if (lines.length > SHOWN) rows.push(make("li", { class: "soft" }, t("glossaryMore", lines.length - SHOWN)));
    kept.replaceChildren(...rows);
  } catch (e) {
    kept.replaceChildren(make("li", {}, e.message));
  }
}

// The words of a term's translation with any endings, in order: as the service looks for them.
function stands(translation, term) {
  const stems = term.split(/[^\p{L}\p{N}]+/u).filter(Boolean).map((word) => word.slice(0, Math.max(3, Math.ceil(word.length * 2 / 3))));
  return new RegExp(`(?<!\\p{L})${stems.join(".*(?<!\\p{L})")}`, "isu").test(translation);
}

// Whether a term that the model was given stands in the translation. The service says it of the segment; where that has several, the letters decide.
export function followed(hint, segment) {
  if (!segment.flags.includes("glossary")) return true;
  return segment.hints.filter((h) => h.glossary).length > 1 && stands(segment.translation, hint.candidates.join(", "));
}

// Says what became of the terms of a translation. `applied`: whether the model was given them; undefined where there were none.
export function tell(applied, segments) {
  const missed = segments.filter((s) => s.flags.includes("glossary")).length;
  const kept = segments.filter((s) => !s.flags.includes("glossary") && s.hints?.some((h) => h.glossary)).length;
  if (applied === undefined) note.textContent = "";
  else if (!applied) note.textContent = [t("termsUnapplied"), missed ? t("termsMissed", missed) : ""].filter(Boolean).join(" ");
  else note.textContent = kept || missed ? t("termsTold", kept, missed) : t("termsAbsent");
}

export function start(changed) {
  // Asked for when they are to be seen: a request may count against a quota.
  $("terms").addEventListener("toggle", () => { if ($("terms").open) load(); });
  select.addEventListener("change", () => {
    showKept(select.value);
    changed();
  });
  // When the box is left: half a line is no term.
  box.addEventListener("change", changed);
}
