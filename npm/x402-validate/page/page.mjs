// The page: what is pasted is told apart, linted, and shown. Everything is written as text, never as HTML.
import { load } from "./linter.mjs";

const linter = await load(fetch("./x402_validate.wasm"));
const element = (id) => document.getElementById(id);
const make = (name, text, className) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
};

/** An answer as curl -i prints it, or as `x402 lint --response` reads it; null for anything else. */
export function answer(text) {
  const http = /^HTTP\/[\d.]+ (\d{3})[^\n]*\n/.exec(text);
  if (http) {
    const [head, ...body] = text.slice(http[0].length).split(/\r?\n\r?\n/);
    const headers = head.split(/\r?\n/).filter((line) => line.includes(":"));
    const pair = (line) => [line.slice(0, line.indexOf(":")).trim(), line.slice(line.indexOf(":") + 1).trim()];
    return { status: Number(http[1]), headers: headers.map(pair), body: body.join("\n\n") };
  }
  const header = /^payment-required:\s*(\S+)\s*$/i.exec(text);
  if (header || /^[A-Za-z0-9+/_=%-]{8,}$/.test(text)) return { headers: { "PAYMENT-REQUIRED": header ? header[1] : text } };
  try {
    const value = JSON.parse(text);
    if (value && typeof value === "object" && "headers" in value && !("accepts" in value)) return value;
  } catch { /* the linter says where it stops being JSON */ }
  return null;
}

/** The text of the document in an answer, for reading. */
function decoded(found, text) {
  if (!found) return text;
  const entries = Array.isArray(found.headers) ? found.headers : Object.entries(found.headers ?? {});
  const value = entries.find(([name]) => name.toLowerCase() === "payment-required")?.[1];
  if (value === undefined) return typeof found.body === "string" ? found.body : JSON.stringify(found.body);
  try {
    const bytes = Uint8Array.from(atob(String(value).replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    return new TextDecoder().decode(bytes);
  } catch {
    return String(value);
  }
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

function show(report, text) {
  const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  const verdict = element("verdict");
  verdict.textContent = `${report.valid ? "valid" : "invalid"} (${report.version}), ${count(report.errors.length, "error")}, ${count(report.warnings.length, "warning")}`;
  verdict.className = report.valid ? "valid" : "error";
  element("offers").replaceChildren(...report.summary.map((offer) => make("li",
    `${offer.humanAmount ?? `${offer.amount ?? "?"} of ${offer.asset ?? "?"}`} on ${offer.networkName ?? offer.network ?? "?"} to ${offer.payTo ?? "?"} (${offer.scheme ?? "?"})`)));
  element("issues").replaceChildren(...[...report.errors, ...report.warnings].slice(0, 200).map((issue) => {
    const item = make("li");
    item.append(make("strong", issue.code, issue.severity), ` at `, make("code", issue.field), `: ${issue.message}.`);
    if (issue.fix) item.append(` Fix: ${issue.fix}.`);
    const details = make("details");
    details.append(make("summary", "explain"), make("pre", linter.explain(issue.code) ?? ""));
    item.append(details);
    return item;
  }));
  // Marks the names of the fields that have an issue.
  const names = new Set([...report.errors, ...report.warnings].map((issue) => issue.field.split(".").pop().replace(/\[\d+\]$/, "")));
  const parts = pretty(text).split(/("(?:[^"\\]|\\.)*"(?=\s*:))/);
  element("decoded").replaceChildren(...parts.map((part) => (part.startsWith('"') && names.has(part.slice(1, -1)) ? make("mark", part) : part)));
  element("normalized").textContent = report.normalized ? JSON.stringify(report.normalized, null, 2) : "nothing: its format is not known";
  element("result").hidden = false;
}

function run() {
  const text = element("input").value.trim();
  if (!text) return void (element("result").hidden = true);
  const options = { strict: element("strict").checked, allNetworks: element("all").checked };
  const found = answer(text);
  try {
    show(found ? linter.lintAnswer(found, options) : linter.lint(text, options), decoded(found, text));
  } catch (error) {
    element("result").hidden = false;
    element("verdict").textContent = error.message;
    element("verdict").className = "error";
    for (const id of ["offers", "issues", "decoded", "normalized"]) element(id).replaceChildren();
  }
}

for (const id of ["input", "strict", "all"]) element(id).addEventListener("input", run);
document.documentElement.dataset.ready = "yes";
run();
