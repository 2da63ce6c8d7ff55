#!/usr/bin/env bash
# npm @x402/extensions 2.27.0 (offer-receipt: canonicalize, hashCanonical) against canonicalize 4.0.0, json-canonicalize 3.0.1;
# Node 20.
#
# Expected: "Canonicalize a JSON object using JCS (RFC 8785)", as its type declaration says, gives the one text that RFC 8785
#   has for a document, so that its hash is the same with every library.
# Seen: RFC 8785 writes line feed, tab, carriage return, backspace and form feed with their short escapes (section 3.2.2.2).
#   This function writes \u000a, \u0009 and so on: a document with a description of two lines has another text and another
#   hash than elsewhere. Other control characters and all else agree. PyPI rfc8785 0.1.4 has the RFC's text, too. Output:
#     one line: {"text":"one"}; same text and hash as canonicalize and json-canonicalize
#     two lines: {"text":"one\u000atwo"}, RFC 8785 has {"text":"one\ntwo"}; another hash
#     a tab: {"text":"one\u0009two"}, RFC 8785 has {"text":"one\ttwo"}; another hash
#     U+0001: {"text":"one\u0001two"}; same text and hash as canonicalize and json-canonicalize
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact @x402/core@2.27.0 @x402/extensions@2.27.0 \
  canonicalize@4.0.0 json-canonicalize@3.0.1
cat > run.mjs <<'JS'
import { createHash } from "node:crypto";
import { canonicalize, hashCanonical } from "@x402/extensions/offer-receipt";
import first from "canonicalize";
import { canonicalize as second } from "json-canonicalize";

const texts = { "one line": "one", "two lines": "one\ntwo", "a tab": "one\ttwo", "U+0001": "one\u0001two" };
const lines = [];
for (const [name, text] of Object.entries(texts)) {
  const rfc = first({ text }), own = canonicalize({ text });
  if (second({ text }) !== rfc) throw new Error("the two libraries differ");
  const hash = createHash("sha256").update(rfc).digest("hex");
  const alike = Buffer.from(await hashCanonical({ text })).toString("hex") === hash;
  lines.push(`${name}: ${own}${own === rfc ? "; same text" : `, RFC 8785 has ${rfc};`} `
    + `${alike ? "and hash as canonicalize and json-canonicalize" : "another hash"}`);
}
console.log(lines.join("\n"));
const expected = String.raw`one line: {"text":"one"}; same text and hash as canonicalize and json-canonicalize
two lines: {"text":"one\u000atwo"}, RFC 8785 has {"text":"one\ntwo"}; another hash
a tab: {"text":"one\u0009two"}, RFC 8785 has {"text":"one\ttwo"}; another hash
U+0001: {"text":"one\u0001two"}; same text and hash as canonicalize and json-canonicalize`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
JS
timeout 60 node run.mjs
