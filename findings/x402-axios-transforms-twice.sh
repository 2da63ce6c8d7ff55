#!/usr/bin/env bash
# npm @x402/axios 2.11.0 with axios 1.21.1, @x402/core 2.11.0, @x402/evm 2.11.0, @x402/fetch 2.11.0, viem 2.57.20; Node 20.
#
# Expected: the paid request is the one that was asked a payment for, with the payment added. axios has `transformRequest` to
#   change a body on its way out, once for each request.
# Seen: the unpaid request's body is transformed, and the repeat begins with what came out of that: it is transformed once
#   more. An instance that counts pages from 0 and the shop from 1 asks for the price of page 5 and pays for page 6; the
#   answer's status is 200. @x402/fetch, whose caller does the same before the request, sends the same body. Output:
#     axios, as given: unpaid {"page":4}, paid {"page":4}, 200
#     axios, transformRequest: unpaid {"page":5}, paid {"page":6}, 200
#     fetch: unpaid {"page":5}, paid {"page":5}, 200
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact \
  @x402/axios@2.11.0 @x402/core@2.11.0 @x402/evm@2.11.0 @x402/fetch@2.11.0 axios@1.21.1 viem@2.57.20
cat > run.mjs <<'JS'
import http from "node:http";
import axios from "axios";
import { wrapAxiosWithPayment, x402Client } from "@x402/axios";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { wrapFetchWithPayment } from "@x402/fetch";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

setTimeout(() => process.exit(3), 60_000).unref();
const network = "eip155:84532", encode = value => Buffer.from(JSON.stringify(value)).toString("base64");
const accepts = [{
  scheme: "exact", network, amount: "10000", payTo: "0x00000000000000000000000000000000000000aa",
  asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e", maxTimeoutSeconds: 60, extra: { name: "USDC", version: "2" },
}];
// A shop that takes any signed payment as settled, and keeps the bodies.
let seen = [];
const shop = http.createServer(async (req, res) => {
  const parts = [];
  for await (const part of req) parts.push(part);
  const paid = req.headers["payment-signature"] !== undefined;
  seen.push(`${paid ? "paid" : "unpaid"} ${Buffer.concat(parts)}`);
  if (paid) {
    const settled = { success: true, transaction: "0x" + "11".repeat(32), network };
    res.writeHead(200, { "PAYMENT-RESPONSE": encode(settled) }).end("{}");
  } else {
    const required = { x402Version: 2, error: "Payment required", resource: { url: "http://shop.test/" }, accepts };
    res.writeHead(402, { "PAYMENT-REQUIRED": encode(required) }).end("{}");
  }
});
const url = await new Promise(done =>
  shop.listen(0, "127.0.0.1", () => done(`http://127.0.0.1:${shop.address().port}`)));

const client = new x402Client().register(network, new ExactEvmScheme(privateKeyToAccount(generatePrivateKey())));
const fromOne = text => text.replace(/"page":(\d)/, (_, page) => `"page":${Number(page) + 1}`);
const by = config => wrapAxiosWithPayment(axios.create(config), client).post(url, { page: 4 });
const lines = [];
for (const [name, ask] of [
  ["axios, as given", () => by({})],
  ["axios, transformRequest", () => by({ transformRequest: [axios.defaults.transformRequest, fromOne].flat() })],
  ["fetch", () => wrapFetchWithPayment(fetch, client)(url, { method: "POST", body: fromOne(JSON.stringify({ page: 4 })) })],
]) {
  seen = [];
  const { status } = await ask();
  lines.push(`${name}: ${seen.join(", ")}, ${status}`);
}
console.log(lines.join("\n"));
const expected = `axios, as given: unpaid {"page":4}, paid {"page":4}, 200
axios, transformRequest: unpaid {"page":5}, paid {"page":6}, 200
fetch: unpaid {"page":5}, paid {"page":5}, 200`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
process.exit(0);
JS
timeout 120 node run.mjs
