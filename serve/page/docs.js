// The page of the API: writes out what openapi.json says of every route and model.
const $ = (id) => document.getElementById(id);
const COMPONENTS = "#/components/schemas/";
const FORM = "multipart/form-data";

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) if (value != null) element.setAttribute(key, value);
  element.append(...children.filter((child) => child != null));
  return element;
}

// Words with code between backticks.
function prose(text) {
  return text.split("`").map((part, i) => (i % 2 ? make("code", {}, part) : part));
}

function paragraphs(text) {
  return (text ?? "").split("\n\n").filter((part) => part.trim()).map((part) => make("p", {}, ...prose(part)));
}

function joined(parts, between) {
  return parts.flatMap((part, i) => (i ? [between, ...part] : part));
}

// The type of a value, as text and links to models.
function type(schema) {
  if (!schema) return ["anything"];
  if (schema.$ref) {
    const name = schema.$ref.slice(COMPONENTS.length);
    return [make("a", { href: `#model-${name}` }, name)];
  }
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return joined(choices.map(type), " or ");
  if (schema.allOf) return joined(schema.allOf.map(type), " and ");
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" or ")];
  if (schema.type === "array") return ["list of ", ...(schema.prefixItems ? joined(schema.prefixItems.map(type), ", ") : type(schema.items))];
  if (schema.type === "object" && schema.additionalProperties?.type) return ["names to ", ...type(schema.additionalProperties)];
  return [schema.format === "binary" ? "file" : (schema.type ?? "anything")];
}

function bounds(schema) {
  const said = [];
  if (schema.default !== undefined && schema.default !== null) said.push(`default ${JSON.stringify(schema.default)}`);
  for (const [key, words] of [["minimum", "at least"], ["exclusiveMinimum", "above"], ["maximum", "at most"]]) {
    if (schema[key] !== undefined) said.push(`${words} ${schema[key]}`);
  }
  return said.length ? ` · ${said.join(", ")}` : "";
}

function field(name, schema, required, description) {
  const term = make("dt", {}, make("code", {}, name), required ? make("span", { class: "api-required" }, "required") : null,
    make("span", { class: "api-type" }, ...type(schema), bounds(schema ?? {})));
  return make("div", {}, term, make("dd", {}, ...prose(description ?? schema?.description ?? "")));
}

function fields(schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, of]) => field(name, of, schema.required?.includes(name)));
  return rows.length ? make("dl", { class: "api-fields" }, ...rows) : make("p", {}, ...type(schema));
}

function resolve(schema, models) {
  return schema.$ref ? models[schema.$ref.slice(COMPONENTS.length)] : schema;
}

function example(content) {
  const value = content.example ?? Object.values(content.examples ?? {})[0]?.value;
  if (value === undefined) return null;
  return make("pre", { tabindex: "0", role: "group", "aria-label": "Example" }, make("code", {}, typeof value === "string" ? value : JSON.stringify(value, null, 2)));
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// The request as a command line, with the first example that there is.
function command(method, path, operation) {
  const url = new URL(`.${path}`, document.baseURI).href.replaceAll("%7B", "{").replaceAll("%7D", "}");
  const words = ["curl", "-s"];
  if (!["get", "post"].includes(method)) words.push("-X", method.toUpperCase());
  words.push(quoted(url));
  if (operation.security?.length) words.push("-H", '"X-API-Key: $TELLMT_API_KEY"');
  const contents = operation.requestBody?.content ?? {};
  const value = (contents["application/json"] ?? contents[FORM])?.example;
  if (contents["application/json"] && value) words.push("-H", quoted("Content-Type: application/json"), "-d", quoted(JSON.stringify(value)));
  else if (value) words.push(...Object.entries(value).flatMap(([name, of]) => ["-F", name === "file" ? "file=@letter.txt" : quoted(`${name}=${of}`)]));
  return make("pre", { tabindex: "0", role: "group", "aria-label": "Command" }, make("code", {}, words.join(" ")));
}

function request(operation, models) {
  const parts = [];
  if (operation.parameters?.length) {
    parts.push(make("h3", {}, "Parameters"), make("dl", { class: "api-fields" },
      ...operation.parameters.map((p) => field(`${p.name} (${p.in})`, p.schema, p.required, p.description))));
  }
  const contents = Object.entries(operation.requestBody?.content ?? {});
  if (contents.length) {
    parts.push(make("h3", {}, `Body: ${contents.map(([kind]) => kind).join(", ")}`), fields(resolve(contents[0][1].schema, models)), example(contents[0][1]));
  }
  return parts;
}

function answers(operation) {
  const good = Object.entries(operation.responses).filter(([status]) => status < "3");
  const bad = Object.entries(operation.responses).filter(([status]) => status >= "3");
  const parts = good.flatMap(([status, answer]) => {
    const contents = Object.entries(answer.content ?? {});
    return [make("h3", {}, `Answer ${status}${contents.length ? `: ${contents.map(([kind]) => kind).join(", ")}` : ""}`), ...paragraphs(answer.description).filter((p) => p.textContent !== "Successful Response"),
      ...contents.flatMap(([, content]) => [make("p", { class: "api-type" }, ...type(content.schema)), example(content)])];
  });
  return [...parts, make("h3", {}, "Errors"), make("dl", { class: "api-fields" },
    ...bad.map(([status, answer]) => make("div", {}, make("dt", {}, make("code", {}, status)), make("dd", {}, ...prose(answer.description)))))];
}

function entry(id, summary, kind, body) {
  const details = make("details", { class: `api ${kind}`, id }, summary);
  // Written when it is first opened: there are hundreds of fields.
  details.addEventListener("toggle", () => { if (details.open && details.children.length === 1) details.append(make("div", { class: "api-body" }, ...body().filter(Boolean))); });
  return details;
}

function operationEntry(method, path, operation, models) {
  const summary = make("summary", {}, make("span", { class: "api-method", "data-method": method }, method.toUpperCase()),
    make("span", { class: "api-path" }, path), make("span", { class: "api-summary" }, operation.summary ?? ""));
  const details = entry(`${method}${path.replaceAll(/[^A-Za-z0-9]+/g, "-")}`, summary, "api-operation", () => [
    ...paragraphs(operation.description), ...request(operation, models), make("h3", {}, "Command"), command(method, path, operation), ...answers(operation),
  ]);
  details.dataset.words = `${method} ${path} ${operation.summary ?? ""} ${operation.description ?? ""}`.toLowerCase();
  return details;
}

function show(api) {
  const models = api.components.schemas;
  const byTag = new Map(api.tags.map((tag) => [tag.name, []]));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) byTag.get(operation.tags[0])?.push(operationEntry(method, path, operation, models));
  }
  for (const tag of api.tags) {
    const title = make("h2", {}, tag.name[0].toUpperCase() + tag.name.slice(1));
    $("operations").append(make("section", {}, title, make("p", { class: "soft" }, tag.description), make("div", { class: "card" }, ...byTag.get(tag.name))));
  }
  $("models-list").append(...Object.entries(models).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, schema]) => {
    const details = entry(`model-${name}`, make("summary", {}, make("span", { class: "api-path" }, name)), "api-model", () => [...paragraphs(schema.description), fields(schema)]);
    details.dataset.words = name.toLowerCase();
    return details;
  }));
  $("models").hidden = false;
  $("status").dataset.state = "live";
  $("status-text").textContent = `Version ${api.info.version}`;
}

// Leaves what has all the words in its path or its description.
function find() {
  const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const details of document.querySelectorAll(".api")) {
    details.hidden = !words.every((word) => details.dataset.words.includes(word));
    found += !details.hidden && details.matches(".api-operation");
  }
  for (const section of document.querySelectorAll("main section")) section.hidden = !section.querySelector(".api:not([hidden])");
  $("found").textContent = words.length ? `${found} ${found === 1 ? "request" : "requests"}` : "";
}

// Opens what the address names, such as #model-Segment.
function openNamed() {
  let named = null;
  try {
    named = $(decodeURIComponent(location.hash.slice(1)));
  } catch {
    // An address that was cut off names nothing.
  }
  if (named?.matches(".api")) {
    named.open = true;
    named.scrollIntoView();
  }
}

async function start() {
  try {
    const response = await fetch("openapi.json");
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
  } catch (problem) {
    $("notice").textContent = `The description cannot be read: ${problem.message}`;
    $("notice").hidden = false;
    $("status").dataset.state = "error";
    $("status-text").textContent = "No description";
    return;
  }
  $("find").addEventListener("input", find);
  addEventListener("hashchange", openNamed);
  openNamed();
}

start();
