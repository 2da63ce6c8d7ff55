#!/usr/bin/env bash
# npm @x402/hono 2.27.0 with hono 4.13.19; buyer @x402/fetch 2.27.0, @x402/evm 2.27.0, viem 2.57.20; Node 20.
#
# Expected: a paid route that answers 204 (done, nothing to show, as a DELETE or PUT does) is settled and answered 204 with
#   PAYMENT-RESPONSE, as @x402/express does: any status below 400 is a success to both.
# Seen: the payment is settled; then the middleware makes the answer anew, with a body, which a 204 may not have. That
#   fails, and the failure is answered as 402 with an empty document, without PAYMENT-RESPONSE and without terms. The
#   handler has run and the money has moved, and the buyer is told that payment is required. Output:
#     200: answered 200, handler runs 1, settlements 1, PAYMENT-RESPONSE success true
#     204: answered 402 {}, handler runs 1, settlements 1, PAYMENT-RESPONSE none, PAYMENT-REQUIRED none
#     204, free: answered 204, handler runs 1, settlements 0
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact \
  @x402/core@2.27.0 @x402/evm@2.27.0 @x402/fetch@2.27.0 @x402/hono@2.27.0 hono@4.13.19 viem@2.57.20
cat > run.mjs <<'JS'
import http from "node:http";
import { Hono } from "hono";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/hono";
import { ExactEvmScheme as ServerScheme } from "@x402/evm/exact/server";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

setTimeout(() => process.exit(3), 60_000).unref();
console.error = () => {}; // the middleware prints what failed
const network = "eip155:84532", payer = privateKeyToAccount(generatePrivateKey());

// A facilitator that finds every payment good and counts the settlements.
let settlements = 0, runs = 0;
const answers = {
  "/supported": { kinds: [{ x402Version: 2, scheme: "exact", network }], extensions: [], signers: {} },
  "/verify": { isValid: true, payer: payer.address },
  "/settle": { success: true, transaction: "0x" + "11".repeat(32), network, payer: payer.address },
};
const service = http.createServer((req, res) => req.resume().on("end", () => {
  if (req.url === "/settle") settlements++;
  res.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answers[req.url]));
}));
await new Promise(done => service.listen(0, "127.0.0.1", done));
const facilitator = new HTTPFacilitatorClient({ url: `http://127.0.0.1:${service.address().port}` });

const server = new x402ResourceServer(facilitator).register(network, new ServerScheme());
const accepts = { scheme: "exact", price: "$0.01", network, payTo: "0x00000000000000000000000000000000000000aa" };
const app = new Hono();
app.use(paymentMiddleware({ "DELETE /200": { accepts }, "DELETE /204": { accepts } }, server));
app.delete("/200", c => { runs++; return c.json({ deleted: true }); });
app.delete("/204", c => { runs++; return c.body(null, 204); });
app.delete("/free", c => { runs++; return c.body(null, 204); });

const client = new x402Client().register("eip155:*", new ExactEvmScheme(payer));
const pay = wrapFetchWithPayment(async request => app.fetch(request), client);
const lines = [];
for (const [path, name] of [["200", "200"], ["204", "204"], ["free", "204, free"]]) {
  settlements = runs = 0;
  const answer = await pay(`http://shop.test/${path}`, { method: "DELETE" });
  const receipt = answer.headers.get("payment-response"), body = await answer.text();
  let line = `${name}: answered ${answer.status}${answer.status === 402 ? ` ${body}` : ""}, handler runs ${runs}, `
    + `settlements ${settlements}`;
  if (path !== "free") line += `, PAYMENT-RESPONSE ${receipt ? `success ${JSON.parse(atob(receipt)).success}` : "none"}`;
  if (answer.status === 402) line += `, PAYMENT-REQUIRED ${answer.headers.has("payment-required") ? "present" : "none"}`;
  lines.push(line);
}
console.log(lines.join("\n"));
const same = lines.join("\n") === `200: answered 200, handler runs 1, settlements 1, PAYMENT-RESPONSE success true
204: answered 402 {}, handler runs 1, settlements 1, PAYMENT-RESPONSE none, PAYMENT-REQUIRED none
204, free: answered 204, handler runs 1, settlements 0`;
if (!same) console.log("changed: this is not the behaviour described");
process.exit(same ? 0 : 1);
JS
node run.mjs
