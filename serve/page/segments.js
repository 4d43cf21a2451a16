// Segments: which part of the text became which part of the translation. They are shown in the translation, and in a mirror behind the text box that
// has the same letters in the same places. The segment under the pointer or the cursor is highlighted on all sides.

// Where each code point begins in UTF-16: scripts count in UTF-16, and the service in code points.
export function offsets(text) {
  const starts = [0];
  for (const point of text) starts.push(starts.at(-1) + point.length);
  return starts;
}

export const codePoints = (text) => {
  let n = 0;
  for (const _ of text) n++;
  return n;
};

function span(text, n, doubtful) {
  const element = document.createElement("span");
  element.className = doubtful ? "seg doubtful" : "seg";
  element.dataset.n = n;
  element.textContent = text;
  return element;
}

// A translation that grows part by part. A part may hold a segment, whose range counts from the start of the whole translation.
export class Sheet {
  constructor(element) {
    this.element = element;
    this.clear();
  }

  clear() {
    this.element.replaceChildren();
    this.text = "";
    this.points = 0;
    this.count = 0;
  }

  add(part) {
    const at = offsets(part.text);
    let done = 0;
    for (const segment of part.segments ?? []) {
      const [start, end] = segment.target.map((place) => at[place - this.points]);
      this.element.append(part.text.slice(done, start), span(part.text.slice(start, end), this.count, segment.flags.length > 0));
      done = end;
      this.count += 1;
    }
    this.element.append(part.text.slice(done));
    this.text += part.text;
    this.points += at.length - 1;
  }

  spans() {
    return this.element.getElementsByClassName("seg");
  }
}

// The copy of the text behind the text box, as far as it is translated.
export class Mirror {
  constructor(element, box) {
    this.element = element;
    this.box = box;
    this.clear();
    box.addEventListener("scroll", () => { element.scrollTop = box.scrollTop; }, { passive: true });
  }

  clear() {
    this.element.replaceChildren();
    this.done = 0;
    this.ends = [];
  }

  // `at`: where each code point of the text begins.
  add(text, at, segment) {
    const [start, end] = segment.source.map((place) => at[place]);
    this.element.append(text.slice(this.done, start), span(text.slice(start, end), this.ends.length, false));
    this.done = end;
    this.ends.push({ start, end });
  }

  // Adds the text after the last segment, so that the mirror is as high as the box.
  close(text) {
    this.element.append(`${text.slice(this.done)}\n`);
    this.done = text.length;
    this.element.scrollTop = this.box.scrollTop;
  }

  spans() {
    return this.element.getElementsByClassName("seg");
  }

  // The segment at a place of the text, -1 where there is none.
  at(place) {
    return this.ends.findIndex(({ start, end }) => start <= place && place <= end);
  }

  // The segment under the pointer. The box lies in front of the mirror, so the browser cannot find it.
  under(x, y) {
    for (const element of this.spans()) {
      for (const r of element.getClientRects()) {
        if (r.left <= x && x <= r.right && r.top <= y && y <= r.bottom) return Number(element.dataset.n);
      }
    }
    return -1;
  }
}

// The highlighted segment: the one under the pointer, or else the chosen one. `changed` receives the number of the segment, or -1.
export class Light {
  constructor(sheets, changed) {
    this.sheets = sheets;
    this.changed = changed;
    this.chosen = this.pointed = this.shown = -1;
  }

  reset() {
    this.chosen = this.pointed = -1;
    this.draw();
  }

  point(n) {
    if (n === this.pointed) return;
    this.pointed = n;
    this.draw();
  }

  choose(n, scroll = true) {
    this.chosen = n;
    this.draw();
    if (scroll) this.reveal(n);
  }

  draw() {
    const n = this.pointed >= 0 ? this.pointed : this.chosen;
    for (const sheet of this.sheets) {
      for (const lit of sheet.element.querySelectorAll(".lit")) lit.classList.remove("lit");
      sheet.spans()[n]?.classList.add("lit");
    }
    if (n !== this.shown) {
      this.shown = n;
      this.changed(n);
    }
  }

  // Scrolls the segment into view in every pane; the page itself stays where it is.
  reveal(n) {
    for (const sheet of this.sheets) {
      const element = sheet.spans()[n];
      const pane = sheet.box ?? sheet.element.parentElement;
      if (!element || pane.scrollHeight <= pane.clientHeight) continue;
      const [inside, outside] = [element.getBoundingClientRect(), pane.getBoundingClientRect()];
      if (inside.top < outside.top || inside.bottom > outside.bottom) pane.scrollTop += inside.top - outside.top - pane.clientHeight / 3;
    }
  }
}
