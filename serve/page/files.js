// The documents view: sends dropped or chosen files to POST /api/v1/jobs, shows their progress, and downloads the results.
import { $, make, setLanguage } from "./dom.js";
import { inWords } from "./flags.js";
import * as pairs from "./pairs.js";
import { Problem, events, json, request } from "./server.js";
import { f, t } from "./words.js";

// The documents of this tab, so that they are still there after a reload of the page: {id, name, source, target}.
const REMEMBER = "tellmt.documents";
// The most characters of a translation that the preview shows.
const PREVIEW = 20_000;

// The most documents whose events are read at once, in the order in which they were added: browsers open six connections to a server, and the page
// needs some for other requests.
const STREAMS = 3;

const list = $("files");
let streams = 0;
const waiting = [];

function acquireStream() {
  if (streams === STREAMS) return new Promise((resolve) => waiting.push(resolve));
  streams += 1;
  return Promise.resolve();
}

function releaseStream() {
  if (waiting.length) waiting.shift()();
  else streams -= 1;
}

let info = { formats: [".txt"], max_bytes: Infinity };
const items = new Set();

export function draw(newInfo = info) {
  info = newInfo;
  $("formats").textContent = t("formats", f.list(info.formats), f.size(info.max_bytes));
  $("file").accept = info.formats.join(",");
  for (const item of items) item.draw();
}

function remember() {
  try {
    const documents = [...items].filter((i) => i.id).map(({ id, name, source, target }) => ({ id, name, source, target }));
    sessionStorage.setItem(REMEMBER, JSON.stringify(documents));
  } catch {
    // A private window may refuse: the documents are then forgotten with the page.
  }
}

class DocumentItem {
  constructor({ id = "", name, source, target }) {
    Object.assign(this, { id, name, source, target, state: id ? "queued" : "uploading", job: null, doubtful: 0, problem: null, previewed: 0 });
    this.stopped = new AbortController();
    this.title = make("span", { class: "file-name" });
    this.pair = make("span", { class: "soft" });
    this.bar = make("progress", { max: 1 });
    this.line = make("p", { class: "file-state" });
    this.notes = make("ul", { class: "small soft", lang: "en", hidden: true });
    this.download = make("button", { class: "button primary", type: "button" });
    this.remove = make("button", { class: "quiet", type: "button" });
    this.preview = make("div", { class: "file-preview" });
    this.summary = make("summary");
    this.details = make("details", { hidden: true }, this.summary, this.preview);
    const head = make("div", { class: "file-head" }, this.title, this.pair);
    this.element = make("li", { class: "file" }, head, make("div", { class: "file-actions" }, this.download, this.remove), this.bar, this.line, this.notes, this.details);
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
    const fraction = job && job.progress.total ? job.progress.done / job.progress.total : 0;
    if (state === "translating" || fraction) this.bar.value = fraction;
    else this.bar.removeAttribute("value");
    const notes = [];
    if (state === "translating") {
      notes.push(f.percent(fraction));
      if (job.progress.seconds) notes.push(t("left", f.duration(job.progress.seconds)));
    }
    if (state === "done" && job) {
      if (this.doubtful) notes.push(t("partsWorth", this.doubtful));
      if (job.truncated) notes.push(t("flags").truncated);
      if (job.expires) notes.push(t("until", f.time(job.expires)));
    }
    const reason = problem ? [problem.message, problem.detail].filter(Boolean).join(" ") : (job?.error ?? "");
    this.line.textContent = state === "failed" ? `${t("failed")}. ${reason && reason[0].toUpperCase() + reason.slice(1)}` : [t(state), ...notes].join(" · ");
    // What stays untranslated, in the server's words.
    this.notes.hidden = !job?.notes?.length;
    this.notes.replaceChildren(...(job?.notes ?? []).map((note) => make("li", {}, note)));
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
      this.update(job);
      await this.watch();
    } catch (e) {
      if (e.name !== "AbortError") this.fail(e);
    }
  }

  update(job) {
    this.job = job;
    this.state = job.state;
    Object.assign(this, pairs.split(job.pair));
    this.draw();
  }

  async watch() {
    await acquireStream();
    try {
      for await (const { kind, data } of events(this.id, this.stopped.signal)) {
        if (kind === "gone") throw new Problem(t("gone"));
        if (kind !== "part") this.update(data);
        else {
          this.job.progress = data.progress;
          this.doubtful += data.flags.length > 0;
          this.details.hidden = false;
          // Parts of plain text have their line breaks; those of other formats are segments, one a line.
          if (this.previewed < PREVIEW) this.preview.append(...previewOf(data));
          this.previewed += data.text.length;
          this.draw();
        }
      }
      $("files-said").textContent = t(this.state === "done" ? "fileDone" : "fileFailed", this.name);
    } catch (e) {
      if (e.name === "AbortError") return;
      // The service has forgotten the document: it was restarted, or an hour has passed.
      if (e.status === 404 && !this.job) return this.leave();
      this.fail(e);
    } finally {
      releaseStream();
    }
  }

  async fetch() {
    try {
      const response = await request(`api/v1/jobs/${this.id}/result`);
      // Through the page, since a link cannot send the key.
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
    const hadFocus = this.element.contains(document.activeElement);
    this.element.remove();
    if (hadFocus) $("file").focus();
    remember();
  }

  async drop() {
    this.leave();
    // The service may have forgotten the document already.
    if (this.id) await request(`api/v1/jobs/${this.id}`, { method: "DELETE" }).catch(() => {});
  }
}

// A part with a flag says in the preview what is wrong with it; the file does not.
function previewOf({ text, flags }) {
  const body = text.trimEnd(), after = text.slice(body.length);
  const parts = flags.length ? [make("span", { class: "doubtful" }, body), make("small", { class: "doubt" }, t("worth", inWords(flags)))] : [body];
  return [...parts, after.endsWith("\n") ? after : `${after}\n`];
}

const ending = (name) => (name.match(/\.[^.]+$/)?.[0] ?? "").toLowerCase();

function refusal(file) {
  if (!info.formats.includes(ending(file.name))) return t("wrongFormat", f.list(info.formats));
  if (!file.size) return t("emptyFile");
  return file.size >= info.max_bytes ? t("tooLarge", f.size(file.size), f.size(info.max_bytes)) : "";
}

export function add(files) {
  const pair = pairs.chosen();
  for (const file of files) {
    const item = new DocumentItem({ name: file.name, ...pair });
    const reason = refusal(file);
    if (reason) item.fail(new Problem(reason));
    else item.send(file);
  }
}

// Shows the documents from before a reload of the page again; once, when the server is known to respond.
export function resume() {
  if (items.size) return;
  let documents = [];
  try {
    documents = JSON.parse(sessionStorage.getItem(REMEMBER) ?? "[]");
  } catch {
    return;
  }
  for (const saved of documents.reverse()) {
    const item = new DocumentItem(saved);
    item.watch();
  }
}

export function start(show) {
  const drop = $("drop");
  let inside = 0;
  const hover = (change) => {
    inside = Math.max(0, inside + change);
    drop.classList.toggle("over", inside > 0);
  };
  const hasFiles = (e) => [...(e.dataTransfer?.types ?? [])].includes("Files");
  $("file").addEventListener("change", (e) => {
    add(e.target.files);
    // The same file may be chosen again.
    e.target.value = "";
  });
  // Anywhere on the page: otherwise the browser opens a file that is dropped beside the field.
  document.addEventListener("dragenter", (e) => {
    if (!hasFiles(e)) return;
    e.preventDefault();
    hover(1);
    show();
  });
  document.addEventListener("dragover", (e) => { if (hasFiles(e)) e.preventDefault(); });
  document.addEventListener("dragleave", (e) => { if (hasFiles(e)) hover(-1); });
  document.addEventListener("drop", (e) => {
    if (!hasFiles(e)) return;
    e.preventDefault();
    hover(-inside);
    show();
    add(e.dataTransfer.files);
  });
}
