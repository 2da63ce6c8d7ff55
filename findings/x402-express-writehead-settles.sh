#!/usr/bin/env bash
# npm @x402/express 2.27.0 with express 5.3.0; buyer @x402/fetch 2.27.0, @x402/evm 2.27.0, viem 2.57.20; Node 20.
#
# Expected: a handler that answers with an error is not paid for: the package's README has the payment settled "after
#   successful response", and the scheme's default flow settles once the handler has done its work.
# Seen: that holds for `res.status(503)`. A handler that sets the same status by `res.writeHead(503)`, Node's own way and
#   that of proxies and adapters, is settled: the middleware holds writeHead back while it reads `res.statusCode`, which
#   is still 200. The buyer pays for the error, and is told so in the same answer. Output:
#     res.status(503): 503 {"error":"try later"}, settle calls 0, PAYMENT-RESPONSE none
#     res.writeHead(503): 503 {"error":"try later"}, settle calls 1, PAYMENT-RESPONSE success true
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact \
  @x402/core@2.27.0 @x402/evm@2.27.0 @x402/express@2.27.0 @x402/fetch@2.27.0 express@5.3.0 viem@2.57.20
cat > run.mjs <<'JS'
import http from "node:http";
import express from "express";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { ExactEvmScheme as ServerScheme } from "@x402/evm/exact/server";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

setTimeout(() => process.exit(3), 60_000).unref();
const network = "eip155:84532", payer = privateKeyToAccount(generatePrivateKey());
const listen = server => new Promise(done =>
  server.listen(0, "127.0.0.1", () => done(`http://127.0.0.1:${server.address().port}`)));

// A facilitator that finds every payment good and counts the settlements.
let settles = 0;
const answers = {
  "/supported": { kinds: [{ x402Version: 2, scheme: "exact", network }], extensions: [], signers: {} },
  "/verify": { isValid: true, payer: payer.address },
  "/settle": { success: true, transaction: "0x" + "11".repeat(32), network, payer: payer.address },
};
const service = http.createServer((req, res) => req.resume().on("end", () => {
  if (req.url === "/settle") settles++;
  res.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answers[req.url]));
}));

const server = new x402ResourceServer(new HTTPFacilitatorClient({ url: await listen(service) }))
  .register(network, new ServerScheme());
const accepts = { scheme: "exact", price: "$0.01", network, payTo: "0x00000000000000000000000000000000000000aa" };
const app = express();
app.use(paymentMiddleware({ "GET /status": { accepts }, "GET /writeHead": { accepts } }, server));
const error = '{"error":"try later"}';
app.get("/status", (_, res) => res.status(503).type("json").send(error));
app.get("/writeHead", (_, res) => res.writeHead(503, { "content-type": "application/json" }).end(error));
const url = await listen(http.createServer(app));

const pay = wrapFetchWithPayment(fetch, new x402Client().register("eip155:*", new ExactEvmScheme(payer)));
const lines = [];
for (const way of ["status", "writeHead"]) {
  settles = 0;
  const answer = await pay(`${url}/${way}`);
  const receipt = answer.headers.get("payment-response");
  const told = receipt ? `success ${JSON.parse(atob(receipt)).success}` : "none";
  lines.push(`res.${way}(503): ${answer.status} ${await answer.text()}, settle calls ${settles}, PAYMENT-RESPONSE ${told}`);
}
console.log(lines.join("\n"));
const same = lines.join("\n") === `res.status(503): 503 ${error}, settle calls 0, PAYMENT-RESPONSE none
res.writeHead(503): 503 ${error}, settle calls 1, PAYMENT-RESPONSE success true`;
if (!same) console.error("changed: this is not the behaviour described");
process.exit(same ? 0 : 1);
JS
node run.mjs
