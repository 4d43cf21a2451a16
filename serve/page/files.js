// Documents: dropped or chosen, sent to POST /api/v1/jobs, watched as they are translated, and downloaded.
import { $, make, setLanguage } from "./dom.js";
import * as pairs from "./pairs.js";
import { Problem, events, json, request } from "./server.js";
import { f, t } from "./words.js";

// The documents of this tab, so that they are still there when the page is loaded anew: {id, name, source, target}.
const REMEMBER = "tellmt.documents";
// Of the translation so far, the characters that are shown.
const PREVIEW = 20_000;

// Documents that are watched at once, in the order in which they came: browsers keep six connections to a server, and the page needs some for the rest.
const STREAMS = 3;

const list = $("files");
let watching = 0;
const waiting = [];

function turn() {
  if (watching === STREAMS) return new Promise((resolve) => waiting.push(resolve));
  watching += 1;
  return Promise.resolve();
}

function over() {
  if (waiting.length) waiting.shift()();
  else watching -= 1;
}

let offer = { formats: [".txt"], max_bytes: Infinity };
const items = new Set();

export function draw(found = offer) {
  offer = found;
  $("formats").textContent = t("formats", f.list(offer.formats), f.size(offer.max_bytes));
  $("file").accept = offer.formats.join(",");
  for (const item of items) item.draw();
}

function remember() {
  try {
    const kept = [...items].filter((i) => i.id).map(({ id, name, source, target }) => ({ id, name, source, target }));
    sessionStorage.setItem(REMEMBER, JSON.stringify(kept));
  } catch {
    // Then they are gone with the page.
  }
}

class Item {
  constructor({ id = "", name, source, target }) {
    Object.assign(this, { id, name, source, target, state: id ? "queued" : "uploading", job: null, doubtful: 0, problem: null, told: 0 });
    this.stopped = new AbortController();
    this.title = make("span", { class: "file-name" });
    this.pair = make("span", { class: "soft" });
    this.bar = make("progress", { max: 1 });
    this.line = make("p", { class: "file-state" });
    this.download = make("button", { class: "button primary", type: "button" });
    this.remove = make("button", { class: "quiet", type: "button" });
    this.preview = make("div", { class: "file-preview" });
    this.summary = make("summary");
    this.details = make("details", { hidden: true }, this.summary, this.preview);
    const head = make("div", { class: "file-head" }, this.title, this.pair);
    this.element = make("li", { class: "file" }, head, make("div", { class: "file-actions" }, this.download, this.remove), this.bar, this.line, this.details);
    this.download.addEventListener("click", () => this.fetch());
    this.remove.addEventListener("click", () => this.drop());
    setLanguage(this.preview, target);
    items.add(this);
    list.prepend(this.element);
    this.draw();
  }

  draw() {
    const { job, state, problem } = this;
    const ended = state === "done" || state === "failed";
    this.element.dataset.state = state;
    this.title.textContent = this.name;
    this.pair.textContent = this.source && this.target ? pairs.both(this) : "";
    this.download.hidden = state !== "done";
    this.download.textContent = t("download");
    this.download.setAttribute("aria-label", t("downloadFile", job?.name ?? this.name));
    this.remove.textContent = t(ended ? "remove" : "stop");
    this.remove.setAttribute("aria-label", t(ended ? "removeFile" : "stopFile", this.name));
    this.bar.hidden = ended;
    this.bar.setAttribute("aria-label", this.name);
    const part = job && job.progress.total ? job.progress.done / job.progress.total : 0;
    if (state === "translating" || part) this.bar.value = part;
    else this.bar.removeAttribute("value");
    const more = [];
    if (state === "translating") {
      more.push(f.percent(part));
      if (job.progress.seconds) more.push(t("left", f.duration(job.progress.seconds)));
    }
    if (state === "done" && job) {
      if (this.doubtful) more.push(t("partsWorth", this.doubtful));
      if (job.truncated) more.push(t("flags").truncated);
      if (job.expires) more.push(t("until", f.time(job.expires)));
    }
    const why = problem ? [problem.message, problem.detail].filter(Boolean).join(" ") : (job?.error ?? "");
    this.line.textContent = state === "failed" ? `${t("failed")}. ${why && why[0].toUpperCase() + why.slice(1)}` : [t(state), ...more].join(" · ");
    this.summary.textContent = t(state === "done" ? "whole" : "soFar");
  }

  fail(problem) {
    this.state = "failed";
    this.problem = problem instanceof Problem ? problem : new Problem(t("broken"));
    if (!(problem instanceof Problem)) console.error(problem);
    if (this.problem.status === 401) document.dispatchEvent(new CustomEvent("tellmt:failed", { detail: this.problem }));
    this.draw();
    $("files-said").textContent = t("fileFailed", this.name);
  }

  async send(file) {
    const form = new FormData();
    form.append("source", this.source);
    form.append("target", this.target);
    form.append("file", file);
    try {
      const job = await json("api/v1/jobs", { method: "POST", body: form, signal: this.stopped.signal });
      this.id = job.id;
      remember();
      this.shown(job);
      await this.watch();
    } catch (e) {
      if (e.name !== "AbortError") this.fail(e);
    }
  }

  shown(job) {
    this.job = job;
    this.state = job.state;
    Object.assign(this, pairs.split(job.pair));
    this.draw();
  }

  async watch() {
    await turn();
    try {
      for await (const { kind, data } of events(this.id, this.stopped.signal)) {
        if (kind === "gone") throw new Problem(t("gone"));
        if (kind !== "part") this.shown(data);
        else {
          this.job.progress = data.progress;
          this.doubtful += data.flags.length > 0;
          this.details.hidden = false;
          // Parts of plain text bring their line breaks; those of other formats are segments, a line each.
          if (this.told < PREVIEW) this.preview.append(data.text, data.text.endsWith("\n") ? "" : "\n");
          this.told += data.text.length;
          this.draw();
        }
      }
      $("files-said").textContent = t(this.state === "done" ? "fileDone" : "fileFailed", this.name);
    } catch (e) {
      if (e.name === "AbortError") return;
      // After a restart of the service, or an hour, there is nothing to say of it any more.
      if (e.status === 404 && !this.job) return this.leave();
      this.fail(e);
    } finally {
      over();
    }
  }

  async fetch() {
    try {
      const response = await request(`api/v1/jobs/${this.id}/result`);
      // By way of the page, since a link could not bring the key.
      const url = URL.createObjectURL(await response.blob());
      const link = make("a", { href: url, download: this.job.name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (e) {
      this.fail(e);
    }
  }

  leave() {
    this.stopped.abort();
    items.delete(this);
    const had = this.element.contains(document.activeElement);
    this.element.remove();
    if (had) $("file").focus();
    remember();
  }

  async drop() {
    this.leave();
    // What is gone already is no problem.
    if (this.id) await request(`api/v1/jobs/${this.id}`, { method: "DELETE" }).catch(() => {});
  }
}

const ending = (name) => (name.match(/\.[^.]+$/)?.[0] ?? "").toLowerCase();

function refusal(file) {
  if (!offer.formats.includes(ending(file.name))) return t("wrongFormat", f.list(offer.formats));
  if (!file.size) return t("emptyFile");
  return file.size >= offer.max_bytes ? t("tooLarge", f.size(file.size), f.size(offer.max_bytes)) : "";
}

export function take(files) {
  const pair = pairs.chosen();
  for (const file of files) {
    const item = new Item({ name: file.name, ...pair });
    const why = refusal(file);
    if (why) item.fail(new Problem(why));
    else item.send(file);
  }
}

// Those of before the page was loaded anew; once, when it is known that the server answers.
export function resume() {
  if (items.size) return;
  let kept = [];
  try {
    kept = JSON.parse(sessionStorage.getItem(REMEMBER) ?? "[]");
  } catch {
    return;
  }
  for (const about of kept.reverse()) {
    const item = new Item(about);
    item.watch();
  }
}

export function start(show) {
  const drop = $("drop");
  let inside = 0;
  const light = (by) => {
    inside = Math.max(0, inside + by);
    drop.classList.toggle("over", inside > 0);
  };
  const holds = (e) => [...(e.dataTransfer?.types ?? [])].includes("Files");
  $("file").addEventListener("change", (e) => {
    take(e.target.files);
    // The same file may be chosen again.
    e.target.value = "";
  });
  // Anywhere on the page: missing the field by a little must not make the browser open the file.
  document.addEventListener("dragenter", (e) => {
    if (!holds(e)) return;
    e.preventDefault();
    light(1);
    show();
  });
  document.addEventListener("dragover", (e) => { if (holds(e)) e.preventDefault(); });
  document.addEventListener("dragleave", (e) => { if (holds(e)) light(-1); });
  document.addEventListener("drop", (e) => {
    if (!holds(e)) return;
    e.preventDefault();
    light(-inside);
    show();
    take(e.dataTransfer.files);
  });
}
