// Which adapter translates a pair, and where it came from: it was shipped with tellmt, or it is from the registry of this service.
import { $ } from "./dom.js";
import { apiKey, json } from "./server.js";
import { f, t } from "./words.js";

let versions = new Map();   // id of an adapter -> what GET /api/v1/adapters says of its pair

export async function load(info) {
  // Without a key the service would refuse, and say so a second time.
  if (info.keys && !apiKey()) return;
  try {
    versions = new Map((await json("api/v1/adapters")).pairs.filter((p) => p.adapter).map((p) => [p.adapter, p]));
  } catch {
    // It is said beside a translation; the translation does not depend on it.
  }
}

// Asks again where the adapter of this id is a new one.
export async function learn(id, info) {
  if (!versions.has(id)) await load(info);
}

// A pair that the service's own registry has an adapter for: who brought one came for it.
export function own() {
  const version = [...versions.values()].find((v) => v.source && v.target && !isShipped(v));
  return version && { source: version.source.code, target: version.target.code };
}

const isShipped = (version) => version.shipped && version.adapter === version.wanted;

// Where the adapter of this id came from, in words; empty where it is not known.
export function of(id) {
  const version = versions.get(id);
  if (!version) return "";
  return isShipped(version) ? t("shipped") : t("yours", version.since ? f.time(version.since) : "");
}

// Says before the first translation which adapter will answer.
export function show(pair) {
  const version = [...versions.values()].find((v) => v.source?.code === pair.source && v.target?.code === pair.target);
  $("who").textContent = version ? t(isShipped(version) ? "whoShipped" : "whoYours", version.adapter.slice(0, 12), version.since ? f.time(version.since) : "") : "";
}
