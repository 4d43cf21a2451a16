// A hint below the text when it is in another language than the one chosen, with the language that it is in one click away.
import { $ } from "./dom.js";
import * as pairs from "./pairs.js";
import { post } from "./server.js";
import { t } from "./words.js";

// As the service decides with `source: auto`: fewer letters than this, or less certainty (percent), tell no language.
const LETTERS = 12, SURE = 90;
const ENOUGH = 1000;

const line = $("other"), button = $("other-switch");
let looking = null;   // the AbortController of the request
let better = null;    // the pair to switch to
let chosen = () => {};

const same = (a, b) => a.split("-")[0] === b.split("-")[0];

export function hide() {
  looking?.abort();
  looking = null;
  line.hidden = true;
}

// The pair for a text in this language: into the same target or, where the text is in that already, back.
function pairFor(language, pair) {
  const into = same(language, pair.target) ? pair.source : pair.target;
  const source = pairs.sources().find((code) => same(code, language));
  const target = source && pairs.targetsOf(source).find((code) => same(code, into));
  return target ? { source, target } : null;
}

// Asks which language a text is in; costs a request, and no characters.
export async function look(text, pair) {
  hide();
  const letters = text.match(/\p{L}/gu)?.length ?? 0;
  if (pair.source === pairs.AUTO || letters <= LETTERS) return;
  looking = new AbortController();
  try {
    const [likeliest] = await (await post("detect", { q: text.slice(0, ENOUGH) }, looking.signal)).json();
    if (!likeliest || likeliest.confidence < SURE || same(likeliest.language, pair.source)) return;
    better = pairFor(likeliest.language, pair);
    // A language that is not translated here may be a mistake of the detector, and nothing could be done about it.
    if (!better) return;
    $("other-text").textContent = t("otherLanguage", pairs.nameOf(better.source), pairs.nameOf(pair.source));
    button.textContent = t("otherSwitch", pairs.nameOf(better.source));
    line.hidden = false;
  } catch {
    // A hint that cannot be had is no problem of the user's.
  }
}

export function start(onChosen) {
  chosen = onChosen;
  button.addEventListener("click", () => {
    hide();
    chosen(better);
  });
}
