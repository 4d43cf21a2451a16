// The base model's own translation beside the adapter's, where the service offers it and the user asks for it.
import { $, setLanguage } from "./dom.js";
import { Sheet } from "./segments.js";
import { Problem, translation } from "./server.js";
import { t } from "./words.js";

export const text = $("bare-text");
export const sheet = new Sheet(text);

export const on = () => $("compare").checked;

function state(name, words, code = "") {
  text.dataset.state = name;
  setLanguage(text, code);
  text.textContent = words;
}

export function clear() {
  sheet.clear();
  state("empty", "");
  $("bare-base").textContent = "";
}

export function draw(offered) {
  $("compare-option").hidden = !offered;
  if (!offered) $("compare").checked = false;
  showPane();
}

function showPane() {
  for (const element of [$("bare"), ...document.querySelectorAll(".whose")]) element.hidden = !on();
  $("panes").classList.toggle("three", on());
}

// Translates what `compared` is a translation of. `current()`: whether that is still the translation on the page.
export async function translate(compared, current, signal) {
  state("busy", "…");
  try {
    for await (const event of translation({ source: compared.source, target: compared.target, text: compared.original, segments: true, base: true }, signal)) {
      if (!current()) return;
      if (event.done) $("bare-base").textContent = event.base;
      else {
        if (text.dataset.state !== "done") state("done", "", compared.target);
        sheet.add(event);
      }
    }
  } catch (e) {
    if (!current()) return;
    if (e.name !== "AbortError") state("failed", e instanceof Problem ? e.message : t("broken"));
    else if (text.dataset.state === "busy") state("empty", "");
  }
}

// `wanted` is called when the user asks for it beside a translation that is there already.
export function start(wanted) {
  $("compare").addEventListener("change", () => {
    showPane();
    if (on() && text.dataset.state === "empty") wanted();
  });
}
