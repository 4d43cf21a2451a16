// Helpers for all parts of the page.
import { apiKey } from "./server.js";
import { t } from "./words.js";

export const $ = (id) => document.getElementById(id);

// An element with its attributes and children; missing values are left out.
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((c) => c != null && c !== ""));
  return element;
}

// Sets the language and the direction of writing; the browser decides for a text in an unknown language.
export function setLanguage(element, code) {
  element.lang = code;
  element.dir = code ? direction(code) : "auto";
}

function direction(code) {
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
  // A key of another scope is of no use here either.
  if (problem.status === 401 || (problem.status === 403 && apiKey())) $("key-form").hidden = false;
}

export function hideProblem() {
  $("notice").hidden = true;
  $("notice-text").textContent = "";
}

export async function copy(text, button) {
  const label = button.dataset.t;
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https or localhost there is no clipboard API; the old command still works.
    const box = make("textarea", { class: "hidden" });
    box.value = text;
    document.body.append(box);
    box.select();
    copied = document.execCommand("copy");
    box.remove();
    button.focus();
  }
  button.textContent = t(copied ? "copied" : "notAllowed");
  setTimeout(() => { button.textContent = t(label); }, 1600);
}

// For browsers without `field-sizing`, a text box grows by hand; the style sheet bounds it.
export function grow(box) {
  if (CSS.supports("field-sizing", "content")) return;
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}
