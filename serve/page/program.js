// The command that translates the same from a program.
import { $, copy } from "./dom.js";

export function draw(pair) {
  $("origin").textContent = new URL(".", document.baseURI).href.replace(/\/$/, "");
  const body = JSON.stringify({ source: pair.source, target: pair.target, text: "…" });
  $("curl").textContent = `curl ${new URL("api/v1/translate", document.baseURI)} \\\n  -H 'Content-Type: application/json' \\\n  -d '${body}'`;
}

export function start() {
  $("copy-curl").addEventListener("click", (e) => copy($("curl").textContent, e.currentTarget));
}
