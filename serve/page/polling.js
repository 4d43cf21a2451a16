// What both halves of the status view do: ask the service again and again while the view is shown.
import { $ } from "./dom.js";

// `ask` is run when the view is shown, and `pause` milliseconds after it has ended.
export function polling(ask, pause) {
  let timer = 0;

  async function look() {
    clearTimeout(timer);
    await ask();
    // A hidden view sends no requests, since a key may have a quota.
    if (!$("overview").hidden && !document.hidden) timer = setTimeout(look, pause);
  }

  function shown(on) {
    clearTimeout(timer);
    if (on) look();
  }

  return {
    shown,
    start: () => document.addEventListener("visibilitychange", () => shown(!document.hidden && !$("overview").hidden)),
  };
}
