// How long the text is, beside the most that a request takes and what is left of the key's quota.
import { $ } from "./dom.js";
import { codePoints } from "./segments.js";
import { quota } from "./server.js";
import { t } from "./words.js";

export function draw(text, most) {
  const n = codePoints(text), over = n > most;
  const words = !Number.isFinite(most) ? t("characters", n) : t(over ? "charactersOver" : "charactersOf", n, most);
  $("count").textContent = quota ? `${words} · ${t("charactersLeft", quota.left, quota.limit)}` : words;
  $("count").classList.toggle("over", over || Boolean(quota) && n > quota.left);
}
