#!/usr/bin/env bash
# npm @x402/extensions 2.27.0 (offer-receipt) with @x402/express 2.27.0, express 5.3.0; buyer @x402/fetch 2.27.0,
# @x402/evm 2.27.0, viem 2.57.20; Node 20.
#
# Expected: declareOfferReceiptExtension({ includeTxHash: true }) puts the transaction into the signed receipt: its type
#   declaration says "Include transaction hash in receipt (default: false for privacy). Set to true for verifiability."
# Seen: the receipt is the same with true and false, its transaction is empty, and nothing warns. The extension itself
#   keeps its word when the declaration is handed to it; the server hands it what it made of it for the 402, in which the
#   options no longer stand. A buyer's receipt cannot be tied to the payment that it is for. Output:
#     includeTxHash false: settled 0x11…, receipt's transaction ""
#     includeTxHash true: settled 0x11…, receipt's transaction ""
#     the extension alone, true: receipt's transaction "0x11…"
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact @x402/core@2.27.0 @x402/evm@2.27.0 \
  @x402/express@2.27.0 @x402/extensions@2.27.0 @x402/fetch@2.27.0 express@5.3.0 viem@2.57.20
cat > run.mjs <<'JS'
import http from "node:http";
import express from "express";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import {
  createEIP712OfferReceiptIssuer, createOfferReceiptExtension, declareOfferReceiptExtension, extractReceiptPayload,
} from "@x402/extensions/offer-receipt";
import { ExactEvmScheme as ServerScheme } from "@x402/evm/exact/server";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

setTimeout(() => process.exit(3), 60_000).unref();
const network = "eip155:84532", payer = privateKeyToAccount(generatePrivateKey());
const listen = server => new Promise(done =>
  server.listen(0, "127.0.0.1", () => done(`http://127.0.0.1:${server.address().port}`)));

// A facilitator that finds every payment good.
const settled = { success: true, transaction: "0x" + "11".repeat(32), network, payer: payer.address };
const answers = {
  "/supported": { kinds: [{ x402Version: 2, scheme: "exact", network }], extensions: [], signers: {} },
  "/verify": { isValid: true, payer: payer.address },
  "/settle": settled,
};
const service = http.createServer((req, res) => req.resume().on("end", () =>
  res.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answers[req.url]))));

const seller = privateKeyToAccount(generatePrivateKey());
const issuer = createEIP712OfferReceiptIssuer(`did:pkh:eip155:1:${seller.address}#key-1`, typed =>
  seller.signTypedData(typed));
const extension = createOfferReceiptExtension(issuer);
const server = new x402ResourceServer(new HTTPFacilitatorClient({ url: await listen(service) }))
  .register(network, new ServerScheme());
server.registerExtension(extension);
const accepts = { scheme: "exact", price: "$0.01", network, payTo: "0x00000000000000000000000000000000000000aa" };
const app = express();
app.use(paymentMiddleware({
  "GET /false": { accepts, extensions: declareOfferReceiptExtension({ includeTxHash: false }) },
  "GET /true": { accepts, extensions: declareOfferReceiptExtension({ includeTxHash: true }) },
}, server));
app.get(["/false", "/true"], (_, res) => res.json({}));
const url = await listen(http.createServer(app));

const short = hash => JSON.stringify(hash && hash.slice(0, 4) + "…");
const stated = found => short(extractReceiptPayload(found.info.receipt).transaction);
const pay = wrapFetchWithPayment(fetch, new x402Client().register("eip155:*", new ExactEvmScheme(payer)));
const lines = [];
for (const option of [false, true]) {
  const answer = await pay(`${url}/${option}`);
  const { transaction, extensions } = JSON.parse(atob(answer.headers.get("payment-response")));
  lines.push(`includeTxHash ${option}: settled ${transaction.slice(0, 4)}…, `
    + `receipt's transaction ${stated(extensions["offer-receipt"])}`);
}
const alone = await extension.enrichSettlementResponse(
  declareOfferReceiptExtension({ includeTxHash: true })["offer-receipt"],
  { result: settled, transportContext: { request: { adapter: { getUrl: () => url } } } });
lines.push(`the extension alone, true: receipt's transaction ${stated(alone)}`);
console.log(lines.join("\n"));
const same = lines.join("\n") === `includeTxHash false: settled 0x11…, receipt's transaction ""
includeTxHash true: settled 0x11…, receipt's transaction ""
the extension alone, true: receipt's transaction "0x11…"`;
if (!same) console.error("changed: this is not the behaviour described");
process.exit(same ? 0 : 1);
JS
node run.mjs
