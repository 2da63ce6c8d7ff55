#!/usr/bin/env bash
# npm @x402/extensions 2.27.0 (offer-receipt: verifyReceiptSignatureJWS); Node 20.
#
# Expected: a shop's did:web document names its key by a DID URL, whole or relative: DID Core (3.2.2) has `#key-1` stand for
#   the document's own DID with that fragment.
# Seen: the key of a receipt's `kid` is looked for by its whole name as a text. A document with `"id": "#key-1"` "has no
#   verification method", and the shop's good receipts cannot be verified. The same key under its whole name is found. Output:
#     id as a whole DID URL: verified
#     id relative, #key-1: No verification method found for did:web:…#key-1
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact @x402/core@2.27.0 @x402/extensions@2.27.0
cat > run.mjs <<'JS'
import { generateKeyPairSync, sign } from "node:crypto";
import http from "node:http";
import { createReceiptJWS, verifyReceiptSignatureJWS } from "@x402/extensions/offer-receipt";

setTimeout(() => process.exit(3), 60_000).unref();
const { publicKey, privateKey } = generateKeyPairSync("ed25519");
const publicKeyJwk = publicKey.export({ format: "jwk" });

// The package resolves did:web on this address over http.
let id;
const host = http.createServer((req, res) => {
  const method = { id, type: "JsonWebKey2020", controller: did, publicKeyJwk };
  const document = { "@context": "https://www.w3.org/ns/did/v1", id: did, verificationMethod: [method], assertionMethod: [id] };
  res.setHeader("content-type", "application/json").end(JSON.stringify(document));
});
await new Promise(done => host.listen(0, "127.0.0.1", done));
const did = `did:web:127.0.0.1%3A${host.address().port}`, kid = `${did}#key-1`;
const receipt = await createReceiptJWS(
  { network: "eip155:84532", resourceUrl: "http://shop.test/data", payer: "0x00000000000000000000000000000000000000aa" },
  { kid, format: "jws", algorithm: "EdDSA", sign: async bytes => sign(null, bytes, privateKey).toString("base64url") },
);
const lines = [];
for (const [name, named] of [["as a whole DID URL", kid], ["relative, #key-1", "#key-1"]]) {
  id = named;
  const said = await verifyReceiptSignatureJWS(receipt).then(() => "verified", error => error.message);
  lines.push(`id ${name}: ${said.replace(did, "did:web:…")}`);
}
console.log(lines.join("\n"));
const expected = `id as a whole DID URL: verified
id relative, #key-1: No verification method found for did:web:…#key-1`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
process.exit(0);
JS
timeout 60 node run.mjs
