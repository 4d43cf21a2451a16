// Line charts in SVG for the status view: `draw(holder, chart)` draws a chart in a holder, and again whenever its width changes.
// chart: {series: [{name, colour, points: [{x, y, tooltip, bad, ring}]}], usual, format, zero, area}; x in seconds since 1970, colour 0 to 5.
import { f } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const PAD = { left: 40, right: 8, top: 10, bottom: 20 };

export function shape(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// About `count` round values between two bounds.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((s) => s >= rough);
  const values = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) values.push(Number(at.toPrecision(12)));
  return values;
}

const HOUR = 3600, DAY = 24 * HOUR;
const STEPS = [60, 300, 900, 1800, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 3 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 91 * DAY, 365 * DAY];

// About `count` round times between two bounds, in the user's time zone, with their texts.
function times(low, high, count) {
  const step = STEPS.find((s) => (high - low) / s <= count) ?? STEPS[STEPS.length - 1];
  const shift = new Date(low * 1000).getTimezoneOffset() * 60;
  const marks = [];
  for (let at = Math.ceil((low - shift) / step) * step + shift; at <= high; at += step) marks.push(at);
  return marks.map((at) => [at, f.mark(at * 1000, step >= DAY)]);
}

function render(holder, chart, width) {
  const height = holder.classList.contains("st-large") ? (width < 560 ? 176 : 224) : 136;
  const points = chart.series.flatMap((s) => s.points);
  const xs = points.map((p) => p.x), ys = points.map((p) => p.y);
  if (chart.usual !== undefined && chart.usual !== null) ys.push(chart.usual);
  let [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  if (x1 - x0 < 60) [x0, x1] = [x0 - 1800, x1 + 1800];
  let [y0, y1] = [chart.zero ? 0 : Math.min(...ys), Math.max(...ys)];
  const least = chart.least ?? 0;
  if (y1 - y0 < least) [y0, y1] = chart.zero ? [0, least] : [(y0 + y1 - least) / 2, (y0 + y1 + least) / 2];
  if (!chart.zero) [y0, y1] = [y0 - (y1 - y0) * 0.12, y1 + (y1 - y0) * 0.12];
  else y1 *= 1.08;
  if (!chart.zero && y0 < 0 && Math.min(...ys) >= 0) y0 = 0;
  if (chart.most !== undefined) y1 = Math.min(y1, chart.most);
  if (y1 === y0) y1 = y0 + 1;
  const x = (v) => PAD.left + ((v - x0) / (x1 - x0)) * (width - PAD.left - PAD.right);
  const y = (v) => height - PAD.bottom - ((v - y0) / (y1 - y0)) * (height - PAD.top - PAD.bottom);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": chart.label });
  for (const v of ticks(y0, y1, height > 160 ? 5 : 3)) {
    svg.append(shape("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: Math.round(y(v)), y2: Math.round(y(v)) }));
    svg.append(shape("text", { x: PAD.left - 8, y: y(v) + 4, "text-anchor": "end" }, chart.format(v, true)));
  }
  for (const [at, words] of times(x0, x1, Math.max(2, Math.floor((width - PAD.left) / 84)))) {
    if (x(at) > PAD.left + 12 && x(at) < width - PAD.right - 12) svg.append(shape("text", { x: x(at), y: height - 4, "text-anchor": "middle" }, words));
  }
  if (chart.usual !== undefined && chart.usual !== null) {
    svg.append(shape("line", { class: "usual", x1: PAD.left, x2: width - PAD.right, y1: y(chart.usual), y2: y(chart.usual) }));
  }
  for (const s of chart.series) {
    const line = s.points.map((p, i) => `${i ? "L" : "M"}${x(p.x).toFixed(1)} ${y(p.y).toFixed(1)}`).join("");
    if (chart.area && s.points.length > 1) {
      const [first, last] = [s.points[0], s.points[s.points.length - 1]];
      svg.append(shape("path", { class: `area c${s.colour}`, d: `${line}L${x(last.x).toFixed(1)} ${y(y0)}L${x(first.x).toFixed(1)} ${y(y0)}Z` }));
    }
    svg.append(shape("path", { class: `path c${s.colour}`, d: line }));
  }
  // Where there are few points, all of them; else only alarms and baselines.
  for (const s of chart.series) {
    for (const p of s.points) {
      if (!(p.bad || p.ring || s.points.length === 1 || (chart.dots && points.length <= width / 14))) continue;
      svg.append(shape("circle", { class: `point ${p.bad ? "bad" : `c${s.colour}`}`, cx: x(p.x), cy: y(p.y), r: p.bad || p.ring ? 5 : 3.5 }));
    }
  }
  const cursor = shape("line", { class: "cursor", y1: PAD.top, y2: height - PAD.bottom, visibility: "hidden" });
  svg.append(cursor);
  return { svg, cursor, points, x, width };
}

export function draw(holder, chart) {
  const tip = document.createElement("div");
  tip.className = "st-tip";
  tip.hidden = true;
  let current = null;
  const show = () => {
    const width = Math.round(holder.clientWidth);
    if (width < 40 || (current && current.width === width)) return;
    current = render(holder, chart, width);
    holder.replaceChildren(current.svg, tip);
  };
  holder.addEventListener("pointermove", (e) => {
    if (!current) return;
    const at = e.clientX - holder.getBoundingClientRect().left;
    const nearest = current.points.reduce((a, b) => (Math.abs(current.x(b.x) - at) < Math.abs(current.x(a.x) - at) ? b : a));
    tip.textContent = nearest.tooltip;
    tip.hidden = false;
    const left = current.x(nearest.x);
    tip.style.left = `${Math.max(0, Math.min(left + 10, current.width - tip.offsetWidth))}px`;
    if (left + 10 > current.width - tip.offsetWidth) tip.style.left = `${Math.max(0, left - tip.offsetWidth - 10)}px`;
    for (const side of ["x1", "x2"]) current.cursor.setAttribute(side, left);
    current.cursor.setAttribute("visibility", "visible");
  });
  holder.addEventListener("pointerleave", () => {
    tip.hidden = true;
    current?.cursor.setAttribute("visibility", "hidden");
  });
  new ResizeObserver(show).observe(holder);
  show();
}
