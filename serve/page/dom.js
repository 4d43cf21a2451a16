// Small things that every part of the page needs.
import { t } from "./words.js";

export const $ = (id) => document.getElementById(id);

// An element with its attributes and children; what is not there is left out.
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((c) => c != null && c !== ""));
  return element;
}

// The way a language is written; none for a text whose language is not known.
export function setLanguage(element, code) {
  element.lang = code;
  element.dir = code ? writing(code) : "auto";
}

function writing(code) {
  try {
    const locale = new Intl.Locale(code);
    const info = locale.getTextInfo?.() ?? locale.textInfo;
    if (info?.direction) return info.direction;
    return ["Arab", "Hebr", "Thaa", "Syrc", "Nkoo", "Adlm", "Rohg"].includes(locale.maximize().script) ? "rtl" : "ltr";
  } catch {
    return "auto";
  }
}

export function showProblem(problem) {
  $("notice-text").textContent = problem.message;
  $("notice-detail").textContent = problem.detail ?? "";
  $("notice-detail").hidden = !problem.detail;
  $("notice").hidden = false;
  if (problem.status === 401) $("key-form").hidden = false;
}

export function hideProblem() {
  $("notice").hidden = true;
  $("notice-text").textContent = "";
}

export async function copy(text, button) {
  const key = button.dataset.t;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https or localhost there is no clipboard API; the old way still works.
    const box = make("textarea", { class: "hidden" });
    box.value = text;
    document.body.append(box);
    box.select();
    done = document.execCommand("copy");
    box.remove();
    button.focus();
  }
  button.textContent = t(done ? "copied" : "notAllowed");
  setTimeout(() => { button.textContent = t(key); }, 1600);
}
