// How carefully texts are translated: `fast`, or `best`, which the page remembers.
import { $ } from "./dom.js";
import { t } from "./words.js";

const REMEMBER = "tellmt.quality";
const select = $("quality");

// The field of a request.
export const field = () => (select.value === "best" ? { quality: "best" } : {});

// What is said of a translation of this quality where the best was asked for: a busy service translates fast.
export const said = (quality) => (select.value !== "best" || !quality ? "" : t(quality === "best" ? "wasBest" : "wasFast"));

export function start(changed) {
  try {
    if (localStorage.getItem(REMEMBER) === "best") select.value = "best";
  } catch {
    // A private window may refuse: the choice then lasts as long as the page.
  }
  select.addEventListener("change", () => {
    try {
      localStorage.setItem(REMEMBER, select.value);
    } catch {
      // As above.
    }
    changed();
  });
}
