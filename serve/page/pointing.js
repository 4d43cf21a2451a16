// Which segment is pointed at or under the cursor, on either side.

const numberOf = (e) => Number(e.target.closest?.(".seg")?.dataset.n ?? -1);

// `elements` hold translations; `mirror` lies behind the text box `box`.
export function start(light, mirror, box, elements) {
  for (const element of elements) {
    element.addEventListener("pointerover", (e) => { if (e.pointerType === "mouse") light.point(numberOf(e)); });
    element.addEventListener("pointerleave", () => light.point(-1));
    element.addEventListener("click", (e) => light.choose(numberOf(e)));
  }
  let frame = 0;
  box.addEventListener("pointermove", (e) => {
    if (e.pointerType !== "mouse" || e.buttons || frame) return;
    frame = requestAnimationFrame(() => {
      frame = 0;
      light.point(mirror.under(e.clientX, e.clientY));
    });
  });
  box.addEventListener("pointerleave", () => { cancelAnimationFrame(frame); frame = 0; light.point(-1); });
  // The segment at the cursor.
  document.addEventListener("selectionchange", () => {
    if (document.activeElement === box && mirror.ends.length && box.selectionStart === box.selectionEnd) light.choose(mirror.at(box.selectionStart));
  });
}
