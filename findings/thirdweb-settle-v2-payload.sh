#!/usr/bin/env bash
# thirdweb 5.121.6 (settlePayment) against @x402/fetch 2.27.0, @x402/evm 2.27.0, viem 2.57.20; Node 20.
#
# Expected: a server that uses thirdweb's settlePayment offers x402 version 2 terms in PAYMENT-REQUIRED; the client of
#   the protocol's own packages pays them, and the server hands the payment to its facilitator. A version 2 payload
#   names scheme and network inside `accepted`.
# Seen: settlePayment looks for `scheme` and `network` at the top of the payload, finds none, and never asks the
#   facilitator. The same signed payment with the two members copied to the top is settled. Output:
#     standard payload: 402 "Unable to find matching payment requirements", settle calls 0
#     with scheme and network copied to the top: 200, settle calls 1
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact \
  thirdweb@5.121.6 @x402/fetch@2.27.0 @x402/evm@2.27.0 viem@2.57.20
cat > run.mjs <<'JS'
import http from "node:http";
import { createThirdwebClient } from "thirdweb";
import { facilitator, settlePayment } from "thirdweb/x402";
import { baseSepolia } from "thirdweb/chains";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

setTimeout(() => process.exit(3), 60_000).unref();
const payTo = "0x00000000000000000000000000000000000000aa";
const terms = {
  scheme: "exact", network: "eip155:84532", amount: "10000", maxAmountRequired: "10000", payTo,
  asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e", maxTimeoutSeconds: 60,
  resource: "http://localhost/data", description: "", mimeType: "application/json",
  extra: { name: "USDC", version: "2", primaryType: "TransferWithAuthorization" },
};
const listen = server => new Promise(done =>
  server.listen(0, "127.0.0.1", () => done(`http://127.0.0.1:${server.address().port}`)));

// The facilitator: the terms at /accepts, and a success at /settle that it counts.
let settles = 0;
const service = http.createServer((req, res) => {
  req.resume().on("end", () => {
    const answer = req.url === "/accepts"
      ? [402, { x402Version: 2, accepts: [terms] }]
      : [200, { success: true, transaction: "0x" + "11".repeat(32), network: terms.network, payer: payTo }];
    if (req.url === "/settle") settles++;
    res.writeHead(answer[0], { "content-type": "application/json" }).end(JSON.stringify(answer[1]));
  });
});
const pay = facilitator({
  client: createThirdwebClient({ secretKey: "stub" }), serverWalletAddress: payTo, baseUrl: await listen(service),
});

let sent;
const ask = paymentData => settlePayment({
  resourceUrl: terms.resource, method: "GET", network: baseSepolia, price: "$0.01", payTo,
  facilitator: pay, paymentData,
});
const shop = http.createServer(async (req, res) => {
  sent = req.headers["payment-signature"] ?? sent;
  const result = await ask(req.headers["payment-signature"]);
  res.writeHead(result.status, result.responseHeaders).end(JSON.stringify(result.responseBody ?? {}));
});
const url = await listen(shop);

const client = new x402Client().register("eip155:*", new ExactEvmScheme(privateKeyToAccount(generatePrivateKey())));
const answer = await wrapFetchWithPayment(fetch, client)(url);
const reason = JSON.parse(atob(answer.headers.get("payment-required") ?? "e30=")).error;
const first = `${answer.status} ${JSON.stringify(reason)}, settle calls ${settles}`;
console.log("standard payload:", first);

const payload = JSON.parse(atob(sent));
settles = 0;
const copied = await ask(btoa(JSON.stringify({ ...payload, scheme: terms.scheme, network: terms.network })));
const second = `${copied.status}, settle calls ${settles}`;
console.log("with scheme and network copied to the top:", second);

const same = payload.x402Version === 2 && payload.accepted.scheme === "exact"
  && first === '402 "Unable to find matching payment requirements", settle calls 0' && second === "200, settle calls 1";
if (!same) console.error("changed: this is not the behaviour described");
process.exit(same ? 0 : 1);
JS
node run.mjs
