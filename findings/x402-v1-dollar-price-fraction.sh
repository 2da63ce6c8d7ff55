#!/usr/bin/env bash
# npm x402 1.2.0 with x402-express 1.2.0, express 5.3.0, x402-fetch 1.2.0, viem 2.57.20; Node 20.
#
# Expected: a price in whole cents is a whole number of USDC's units: "$2.01" are 2010000 of them. "$3.10" is the form that
#   the package's own error message gives for prices, and its schema has maxAmountRequired a whole number.
# Seen: the price is multiplied as a floating-point number, and what that makes is put into the terms as it is. The shop
#   starts, its 402 asks for a fraction of a unit, and the same project's client refuses the document: nobody can buy.
#   Of the prices from $0.01 to $200.00, 593 are so, and none below $2.01. Output:
#     $2.00: 402 asks for 2000000; x402-fetch signs 2000000
#     $2.01: 402 asks for 2009999.9999999998; x402-fetch: ZodError at maxAmountRequired
#     $1.005: 402 asks for 1004999.9999999999; x402-fetch: ZodError at maxAmountRequired
#     prices in whole cents up to $200.00: 593 of 20000 ask for a fraction, the first is $2.01
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact --legacy-peer-deps \
  x402@1.2.0 x402-express@1.2.0 x402-fetch@1.2.0 express@5.3.0 viem@2.57.20
cat > run.mjs <<'JS'
import express from "express";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { processPriceToAtomicAmount } from "x402/shared";
import { paymentMiddleware } from "x402-express";
import { wrapFetchWithPayment } from "x402-fetch";

setTimeout(() => process.exit(3), 60_000).unref();
const network = "base-sepolia", prices = ["$2.00", "$2.01", "$1.005"];
const app = express();
const routes = Object.fromEntries(prices.map((price, i) => [`GET /${i}`, { price, network }]));
// No payment gets as far as the facilitator: the shop's answer to it is cut off below.
app.use(paymentMiddleware("0x00000000000000000000000000000000000000aa", routes, { url: "http://127.0.0.1:9" }));
const server = await new Promise(done => { const s = app.listen(0, "127.0.0.1", () => done(s)); });
const origin = `http://127.0.0.1:${server.address().port}`;

async function sell(price, i) {
  const url = `${origin}/${i}`;
  const asked = (await (await fetch(url)).json()).accepts[0].maxAmountRequired;
  let signed;
  const wire = async (input, init) => {
    const headers = input instanceof Request ? input.headers : new Headers(init?.headers);
    const header = headers.get("x-payment");
    if (!header) return fetch(input, init);
    signed = JSON.parse(Buffer.from(header, "base64")).payload.authorization.value;
    return new Response("paid");
  };
  const buyer = privateKeyToAccount(generatePrivateKey());
  const said = await wrapFetchWithPayment(wire, buyer, 10_000_000n)(url).then(
    () => ` signs ${signed}`, error => `: ${error.constructor.name} at ${error.issues?.[0]?.path.join(".")}`);
  return `${price}: 402 asks for ${asked}; x402-fetch${said}`;
}

const lines = [];
for (const [i, price] of prices.entries()) lines.push(await sell(price, i));
const cents = Array.from({ length: 20_000 }, (_, i) => i + 1);
const wrong = cents.map(cent => `$${(cent / 100).toFixed(2)}`)
  .filter((price, i) => processPriceToAtomicAmount(price, network).maxAmountRequired !== String(cents[i] * 10_000));
lines.push(`prices in whole cents up to $200.00: ${wrong.length} of ${cents.length} ask for a fraction, `
  + `the first is ${wrong[0]}`);
console.log(lines.join("\n"));
const expected = `$2.00: 402 asks for 2000000; x402-fetch signs 2000000
$2.01: 402 asks for 2009999.9999999998; x402-fetch: ZodError at maxAmountRequired
$1.005: 402 asks for 1004999.9999999999; x402-fetch: ZodError at maxAmountRequired
prices in whole cents up to $200.00: 593 of 20000 ask for a fraction, the first is $2.01`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
process.exit(0);
JS
timeout 120 node run.mjs
