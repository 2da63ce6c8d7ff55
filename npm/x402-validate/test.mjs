// The package against the reports that the Rust crate wrote on the same inputs (`test` makes them), and the behaviour that
// only JavaScript has.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { codes, explain, lint, lintAnswer } from "./index.mjs";
import { load } from "./linter.mjs";

const reports = readFileSync(process.env.REPORTS, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));
const bytes = (base64) => new Uint8Array(Buffer.from(base64, "base64"));

test("every document of the corpus has the report of the Rust crate", () => {
  const documents = reports.filter((row) => row.kind === "document");
  assert.ok(documents.length > 500, `${documents.length} documents`);
  for (const { name, document, options, report } of documents) {
    assert.deepEqual(lint(bytes(document), options), report, name);
  }
});

test("every recorded answer has the report of the Rust crate", () => {
  const answers = reports.filter((row) => row.kind === "answer");
  assert.ok(answers.length >= 9, `${answers.length} answers`);
  for (const { name, answer, options, report } of answers) {
    const headers = answer.headers.map(([header, value]) => [header, bytes(value)]);
    assert.deepEqual(lintAnswer({ ...answer, headers, body: bytes(answer.body) }, options), report, name);
  }
});

test("every code has its page", () => {
  const rows = reports.filter((row) => row.kind === "code");
  assert.deepEqual(codes().map((row) => row.code), rows.map((row) => row.code));
  for (const { code, page } of rows) assert.equal(explain(code), page);
  assert.equal(explain("NOPE"), null);
  assert.equal(explain("invalid-json"), explain("INVALID_JSON"));
});

test("text, bytes and values are one document", () => {
  const value = { x402Version: 2, resource: { url: "https://api.example.com/ü" }, accepts: [] };
  const json = JSON.stringify(value);
  const report = lint(value);
  assert.deepEqual(lint(json), report);
  assert.deepEqual(lint(new TextEncoder().encode(json)), report);
  assert.equal(report.errors[0].code, "EMPTY_ACCEPTS");
  for (const wrong of [undefined, () => 1, Symbol("a")]) assert.throws(() => lint(wrong), TypeError);
});

test("headers are read as fetch, Node and people have them", () => {
  const document = { x402Version: 2, resource: { url: "https://api.example.com/a" }, accepts: [] };
  const value = Buffer.from(JSON.stringify(document)).toString("base64");
  const from = (headers) => lintAnswer({ status: 402, headers });
  const report = from({ "PAYMENT-REQUIRED": value });
  assert.equal(report.source, "header");
  assert.deepEqual(from(new Headers({ "payment-required": value })), report);
  assert.deepEqual(from([["Payment-Required", value]]), report);
  const twice = from({ "payment-required": [value, value] });
  assert.ok(twice.warnings.some((issue) => issue.code === "REPEATED_HEADER"));
  assert.ok(lintAnswer({ status: 402, body: "<html>" }).errors.some((issue) => issue.code === "NO_TERMS"));
  // Fetch gives the bytes of a header as Latin-1.
  const raw = from({ "payment-required": Buffer.from(JSON.stringify({ ...document, error: "ü" })).toString("latin1") });
  assert.ok(!raw.errors.some((issue) => issue.code === "INVALID_JSON"), JSON.stringify(raw.errors));
});

test("a hostile document ends as an issue or as an error, and the linter lives on", () => {
  for (const text of ["", "[".repeat(100_000), `{"a":${"9".repeat(100_000)}}`, " ".repeat(1_100_000)]) {
    assert.equal(lint(text).errors[0].code, "INVALID_JSON");
  }
  assert.throws(() => lint(" ".repeat(5_000_000)), RangeError);
  assert.throws(() => lint({}, { strict: "yes" }), TypeError);
  assert.equal(lint({}).errors[0].code, "UNKNOWN_FORMAT");
});

test("another instance is loaded from bytes", async () => {
  const other = await load(readFileSync(new URL("./x402_validate.wasm", import.meta.url)));
  assert.deepEqual(other.lint([]), lint([]));
});
