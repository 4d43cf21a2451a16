// What the panels over one segment at a time share: where they stand among the segments, and the focus, which goes back to where it was.
import { $ } from "./dom.js";
import { t } from "./words.js";

// `name` is the id of the panel; its other elements are `name`-place, -previous and -next.
export function segmentPanel(name) {
  const panel = $(name);
  let focusBefore = null;   // the element that had the focus before
  return {
    panel,
    // `draw` fills the panel, and gives the focus to what is in it.
    open(draw) {
      focusBefore = document.activeElement;
      panel.hidden = false;
      draw();
      panel.scrollIntoView({ block: "nearest" });
    },
    close() {
      const hadFocus = panel.contains(document.activeElement);
      panel.hidden = true;
      if (hadFocus) focusBefore?.focus();
    },
    place(at, segments) {
      $(`${name}-place`).textContent = segments > 1 ? t("correctPlace", at + 1, segments) : "";
      $(`${name}-previous`).disabled = at === 0;
      $(`${name}-next`).disabled = at === segments - 1;
      for (const button of [`${name}-previous`, `${name}-next`]) $(button).hidden = segments === 1;
    },
  };
}
