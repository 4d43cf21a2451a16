// Segments: which part of the text gave which part of the translation. Shown in the translation, and behind the text box in a mirror of it that
// has the same letters in the same places; what is pointed at, chosen or written in on one side lights up on the others.

// Where each code point begins in UTF-16, which is how scripts count; the service counts code points.
export function offsets(text) {
  const out = [0];
  for (const point of text) out.push(out.at(-1) + point.length);
  return out;
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

// A translation that grows by parts. Each part may hold a segment, whose place is counted in the whole.
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

// The text behind the text box, as far as it is translated.
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

  // What follows the last segment, so that both are as high.
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

  // The segment under a pointer: the box is in front, so it is looked for behind it.
  under(x, y) {
    for (const element of this.spans()) {
      for (const r of element.getClientRects()) {
        if (r.left <= x && x <= r.right && r.top <= y && y <= r.bottom) return Number(element.dataset.n);
      }
    }
    return -1;
  }
}

// What is lit: what is pointed at, and else what was chosen. `changed` is told the number of the segment, or -1.
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

  // Into sight on every side, within its own pane: the page itself stays where it is.
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
