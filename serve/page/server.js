// Everything that is asked of the server, by relative addresses, so that the page works behind a path prefix; and its refusals as words.
import { t, uiLanguage } from "./words.js";

// The API key, where the server wants one: kept for this tab alone, and gone with it.
const KEY = "tellmt.key";
// Server-sent events: milliseconds until a connection that broke is made anew, doubling up to so many, and tries in a row.
const AGAIN_MS = 250, LONGEST_MS = 10_000, TRIES = 10;

// `message` is in the page's language; `detail` in the server's own, where that is another one.
export class Problem extends Error {
  constructor(message, status = 0, detail = "") {
    super(message);
    this.status = status;
    this.detail = detail;
  }
}

export function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

export function keepKey(key) {
  sessionStorage.setItem(KEY, key);
}

async function send(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (apiKey()) headers["X-API-Key"] = apiKey();
  try {
    return await fetch(path, { ...options, headers });
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new Problem(t("unreachable"));
  }
}

const sentence = (said) => said && said[0].toUpperCase() + said.slice(1);

// What an error is in words: the server's, or where the page speaks another language, the page's with the server's beside it.
export function problem(status, said, wait = 0) {
  if (status === 401) return new Problem(apiKey() ? t("keyWrong") : t("keyMissing"), 401);
  const own = t("refusals")[status] ?? (status >= 500 ? t("refusals")[500] : undefined);
  let message = own ?? (said ? sentence(said) : t("noWords", status));
  if (status === 503 || status === 429) message = `${message.replace(/[.;]?$/, ".")} ${wait > 0 ? t("tryIn", wait) : t("trySoon")}`;
  return new Problem(message, status, own && said && uiLanguage() !== "en" ? sentence(said) : "");
}

async function refused(response) {
  let said = "";
  try {
    const body = await response.json();
    if (typeof body?.error === "string") said = body.error;
  } catch {
    // Not our server, or cut short: the status has to do.
  }
  return problem(response.status, said, Number(response.headers.get("Retry-After")));
}

// The response of a request that went well.
export async function request(path, options) {
  const response = await send(path, options);
  if (!response.ok) throw await refused(response);
  return response;
}

export async function json(path, options) {
  const response = await request(path, options);
  try {
    return await response.json();
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new Problem(t("strange"));
  }
}

export const post = (path, body, signal) =>
  request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });

// Pieces of a response that end with `border`, as they come.
async function* pieces(response, border) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      held += value;
      const whole = held.split(border);
      held = whole.pop();
      yield* whole;
    }
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new Problem(t("unreachable"));
  } finally {
    reader.cancel().catch(() => {});
  }
}

// The parts of a translation as they come, and who made them at the end.
export async function* translation(body, signal) {
  const response = await post("api/v1/translate/stream", body, signal);
  let whole = false;
  for await (const line of pieces(response, "\n")) {
    let event;
    try {
      event = JSON.parse(line);
    } catch {
      throw new Problem(t("strange"));
    }
    if (event.error !== undefined) throw problem(event.status, String(event.error));
    whole ||= event.done === true;
    yield event;
  }
  if (!whole) throw new Problem(t("unreachable"));
}

// What happens to a document, each event once, over as many connections as it takes: {kind, data}.
export async function* events(id, signal) {
  let last = "", tries = 0;
  for (;;) {
    try {
      const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
      const response = await request(`api/v1/jobs/${id}/events`, { headers, signal });
      for await (const block of pieces(response, "\n\n")) {
        const fields = Object.fromEntries(block.split("\n").filter((line) => line[0] !== ":").map((line) => line.split(/: (.*)/s)));
        if (!fields.event) continue;
        tries = 0;
        last = fields.id ?? last;
        yield { kind: fields.event, data: JSON.parse(fields.data) };
        if (last === "end") return;
      }
      if (signal.aborted) return;
    } catch (e) {
      // What the server refuses stays refused; a connection may come back.
      if (!(e instanceof Problem) || (e.status && e.status !== 503 && e.status !== 429) || tries >= TRIES) throw e;
    }
    const pause = Math.min(LONGEST_MS, AGAIN_MS * 2 ** tries);
    tries += 1;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
