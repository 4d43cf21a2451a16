// All requests to the server, by relative addresses, so that the page works behind a path prefix; and its errors as messages.
import { t, uiLanguage } from "./words.js";

// The API key, where the server needs one: it is kept for this tab alone, and forgotten when the tab closes.
const KEY = "tellmt.key";
// Server-sent events: milliseconds until a broken connection is opened again, doubled with each attempt up to a maximum; and attempts in a row.
const RETRY_MS = 250, MAX_RETRY_MS = 10_000, MAX_RETRIES = 10;

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
  quota = null;
}

// The key's quota of characters a day, as the last response told it: {limit, left}; null where the key has none.
export let quota = null;

function noteQuota(headers) {
  const characters = (name, letter) => Number(new RegExp(`"characters";${letter}=(\\d+)`).exec(headers.get(name) ?? "")?.[1] ?? NaN);
  const [limit, left] = [characters("RateLimit-Policy", "q"), characters("RateLimit", "r")];
  if (limit >= 0 && left >= 0) quota = { limit, left };
}

// Whoever asked, and whether it shows a message or not, the head of the page tells that the service is away.
function unreachable() {
  document.dispatchEvent(new CustomEvent("tellmt:unreachable"));
  return new Problem(t("unreachable"));
}

async function send(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (apiKey()) headers["X-API-Key"] = apiKey();
  try {
    const response = await fetch(path, { ...options, headers });
    noteQuota(response.headers);
    return response;
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw unreachable();
  }
}

const sentence = (message) => message && message[0].toUpperCase() + message.slice(1);

// An error as a message: the server's own; where the page has another language, the page's message, with the server's as a detail.
export function problem(status, serverMessage, wait = 0) {
  if (status === 401) return new Problem(apiKey() ? t("keyWrong") : t("keyMissing"), 401);
  const pageMessage = t("refusals")[status] ?? (status >= 500 ? t("refusals")[500] : undefined);
  let message = pageMessage ?? (serverMessage ? sentence(serverMessage) : t("noWords", status));
  if (status === 503 || status === 429) message = `${message.replace(/[.;]?$/, ".")} ${wait > 0 ? t("tryIn", wait) : t("trySoon")}`;
  return new Problem(message, status, pageMessage && serverMessage && uiLanguage() !== "en" ? sentence(serverMessage) : "");
}

async function refused(response) {
  let message = "";
  try {
    const body = await response.json();
    // The routes of DeepL's API call it `message`.
    const words = body?.error ?? body?.message;
    if (typeof words === "string") message = words;
  } catch {
    // A proxy's error, or a response that was cut short: only the status is known.
  }
  return problem(response.status, message, Number(response.headers.get("Retry-After")));
}

// The response of a request; throws a Problem where the server refuses it.
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

export const post = (path, body, signal, headers = {}) =>
  request(path, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body), signal });

// By this header a balancer finds the replica that has the pair loaded.
export const pairHeader = ({ source, target }) => ({ "Tellmt-Pair": `${source}${`${source}${target}`.includes("-") ? ":" : "-"}${target}` });

// The pieces of a response that end with `delimiter`, as they arrive.
async function* pieces(response, delimiter) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      buffer += value;
      const complete = buffer.split(delimiter);
      buffer = complete.pop();
      yield* complete;
    }
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw unreachable();
  } finally {
    reader.cancel().catch(() => {});
  }
}

// The parts of a translation as they arrive, and at the end the version that translated.
export async function* translation(body, signal) {
  const response = await post("api/v1/translate/stream", body, signal, pairHeader(body));
  // A proxy's page may be one line without an end, which no piece is made of.
  if (!(response.headers.get("Content-Type") ?? "").includes("ndjson")) throw new Problem(t("strange"));
  let ended = false;
  for await (const line of pieces(response, "\n")) {
    let event;
    try {
      event = JSON.parse(line);
    } catch {
      throw new Problem(t("strange"));
    }
    // A proxy may answer with JSON of its own.
    if (event?.error === undefined && event?.done !== true && typeof event?.text !== "string") throw new Problem(t("strange"));
    if (event.error !== undefined) throw problem(event.status, String(event.error));
    ended ||= event.done === true;
    yield event;
  }
  if (!ended) throw unreachable();
}

// The events of a document, each once, over as many connections as needed: {kind, data}.
export async function* events(id, signal) {
  let lastId = "", retries = 0;
  for (;;) {
    try {
      const headers = { Accept: "text/event-stream", ...(lastId && { "Last-Event-ID": lastId }) };
      const response = await request(`api/v1/jobs/${id}/events`, { headers, signal });
      for await (const block of pieces(response, "\n\n")) {
        const fields = Object.fromEntries(block.split("\n").filter((line) => line[0] !== ":").map((line) => line.split(/: (.*)/s)));
        if (!fields.event) continue;
        retries = 0;
        lastId = fields.id ?? lastId;
        yield { kind: fields.event, data: JSON.parse(fields.data) };
        if (lastId === "end") return;
      }
      if (signal.aborted) return;
    } catch (e) {
      // A refusal is final; a broken connection may work again.
      if (!(e instanceof Problem) || (e.status && e.status !== 503 && e.status !== 429) || retries >= MAX_RETRIES) throw e;
    }
    const pause = Math.min(MAX_RETRY_MS, RETRY_MS * 2 ** retries);
    retries += 1;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
