#!/usr/bin/env bash
# npm @coinbase/agentkit 0.10.4 (action make_http_request_with_x402), viem 2.38.3; Node 20. The installation takes 1.3 GB.
#
# Expected: the server's PAYMENT-RESPONSE tells the outcome of the payment; a paid route that answers 201 (something was
#   created) with `success: true` there is reported to the model as done, with the proof of payment.
# Seen: the action reads the header, then reports every status but 200 as an unsettled payment and drops the proof: the
#   model is told something false about money, and may well buy again. With status 200 all is well. Output:
#     200: success true, "Request completed successfully (payment handled automatically if required)", proof 0x11…
#     201: success false, "Request failed with status 201. Payment was not settled.", proof none
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact @coinbase/agentkit@0.10.4 viem@2.38.3
cat > run.cjs <<'JS'
const http = require("node:http");
const { createWalletClient, http: rpc } = require("viem");
const { generatePrivateKey, privateKeyToAccount } = require("viem/accounts");
const { baseSepolia } = require("viem/chains");

setTimeout(() => process.exit(3), 120_000).unref();
// Nothing leaves this machine: the package reports its start to its maker.
const real = globalThis.fetch;
globalThis.fetch = async (input, init) => {
  const url = String(input.url ?? input);
  return url.startsWith("http://127.0.0.1:") ? real(input, init) : new Response("{}");
};
const { ViemWalletProvider, x402ActionProvider } = require("@coinbase/agentkit");

const encode = value => Buffer.from(JSON.stringify(value)).toString("base64");
const accepts = [{
  scheme: "exact", network: "eip155:84532", amount: "10000", payTo: "0x00000000000000000000000000000000000000aa",
  asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e", maxTimeoutSeconds: 60, extra: { name: "USDC", version: "2" },
}];
let paid = 0;
// A shop that takes any signed payment as settled and answers with the status that its path names.
const shop = http.createServer((req, res) => {
  const json = { "content-type": "application/json" };
  if (!req.headers["payment-signature"]) {
    const resource = { url: `http://${req.headers.host}${req.url}`, description: "", mimeType: "application/json" };
    const terms = { x402Version: 2, error: "Payment required", resource, accepts };
    return res.writeHead(402, { ...json, "payment-required": encode(terms) }).end("{}");
  }
  paid++;
  const outcome = { success: true, transaction: "0x" + "11".repeat(32), network: "eip155:84532", payer: accepts[0].payTo };
  res.writeHead(Number(req.url.slice(1)), { ...json, "payment-response": encode(outcome) }).end('{"id":1}');
});
shop.listen(0, "127.0.0.1", async () => {
  const url = `http://127.0.0.1:${shop.address().port}`;
  const account = privateKeyToAccount(generatePrivateKey());
  const wallet = new ViemWalletProvider(createWalletClient({ account, chain: baseSepolia, transport: rpc(url) }));
  const provider = x402ActionProvider({ registeredServices: [url] });
  const action = provider.getActions(wallet).find(a => a.name.endsWith("make_http_request_with_x402"));
  const lines = [];
  for (const status of [200, 201]) {
    const told = JSON.parse(await action.invoke({ url: `${url}/${status}`, method: "GET" }));
    const proof = told.paymentProof ? told.paymentProof.transaction.slice(0, 4) + "…" : "none";
    lines.push(`${status}: success ${told.success}, ${JSON.stringify(told.message)}, proof ${proof}`);
  }
  console.log(lines.join("\n"));
  const same = paid === 2
    && lines[0].startsWith("200: success true, ") && lines[0].endsWith("proof 0x11…")
    && lines[1] === '201: success false, "Request failed with status 201. Payment was not settled.", proof none';
  if (!same) console.error("changed: this is not the behaviour described");
  process.exit(same ? 0 : 1);
});
JS
node run.cjs
