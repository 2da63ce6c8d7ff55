// payment-identifier between @x402/extensions 2.27 and ours, in both directions, on anvil: the SDK's client pays our
// server and shows its payment again; our client pays the SDK's server, which reads the id.
import { createServer } from "node:http";
import { isDeepStrictEqual } from "node:util";
import express from "express";
import { x402Client } from "@x402/core/client";
import {
  decodePaymentRequiredHeader, decodePaymentResponseHeader, decodePaymentSignatureHeader, encodePaymentSignatureHeader,
} from "@x402/core/http";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme as ClientScheme } from "@x402/evm/exact/client";
import { ExactEvmScheme as ServerScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import {
  appendPaymentIdentifierToExtensions, declarePaymentIdentifierExtension, extractAndValidatePaymentIdentifier,
  isValidPaymentId, paymentIdentifierResourceServerExtension,
} from "@x402/extensions/payment-identifier";
import { balance, startAnvil } from "./anvil.mjs";
import { AMOUNT, BODY, NETWORK, PRICE, account, listen } from "./lib.mjs";
import { rust } from "./rust.mjs";

const PAYER = 1;
const payTo = account(3).address;
const failures = [];
function check(condition, text) {
  console.log(`${condition ? "ok   " : "FAIL "} ${text}`);
  if (!condition) failures.push(text);
}

/** A payment of the SDK's client with this id, as a header. */
async function payment(url, id) {
  const client = new x402Client().register(NETWORK, new ClientScheme(account(PAYER)));
  const required = decodePaymentRequiredHeader((await fetch(url)).headers.get("PAYMENT-REQUIRED"));
  appendPaymentIdentifierToExtensions(required.extensions, id);
  const payload = await client.createPaymentPayload(required);
  if (payload.extensions["payment-identifier"].info.id !== id) throw new Error("the SDK sent another id");
  return { "PAYMENT-SIGNATURE": encodePaymentSignatureHeader(payload) };
}

async function show(url, headers) {
  const response = await fetch(url, { headers });
  const receipt = response.headers.get("PAYMENT-RESPONSE");
  return { status: response.status, body: await response.json(), receipt: receipt && decodePaymentResponseHeader(receipt) };
}

const anvil = await startAnvil([PAYER]);
const facilitator = await rust.facilitator(anvil.rpc);
const seller = await rust.server(facilitator.listening, payTo);
const paid = async () => (await balance(anvil.client, payTo)) / AMOUNT;
const before = await paid();

const url = `${seller.listening}/paid`;
const id = "pay_interop_0123456789";
const header = await payment(url, id);
const first = await show(url, header);
check(first.status === 200 && isDeepStrictEqual(first.body, BODY) && first.receipt?.success === true, "ts client with an id pays our server");
const again = await show(url, header);
check(isDeepStrictEqual(again, first), "the same id and payload get the same answer");
const other = await show(url, await payment(url, id));
check(other.status === 409, `the same id with another payload is 409, got ${other.status}`);
check((await paid()) - before === 1n, "one payment moved");

// The SDK's server: it declares and compares, and its application reads the id.
const seen = [];
const resourceServer = new x402ResourceServer(new HTTPFacilitatorClient({ url: facilitator.listening }))
  .register(NETWORK, new ServerScheme())
  .registerExtension(paymentIdentifierResourceServerExtension);
const accepts = { scheme: "exact", price: PRICE, network: NETWORK, payTo };
const extensions = { "payment-identifier": declarePaymentIdentifierExtension(true) };
const app = express();
app.use(paymentMiddleware({ "GET /paid": { accepts, extensions } }, resourceServer));
app.get("/paid", (request, response) => {
  const read = decodePaymentSignatureHeader(request.get("PAYMENT-SIGNATURE"));
  seen.push(extractAndValidatePaymentIdentifier(read));
  response.json(BODY);
});
const server = createServer(app);
const theirs = `${await listen(server)}/paid`;
for (let turn = 0; turn < 2; turn += 1) {
  const { body, payment: receipt } = await rust.pay(theirs, PAYER);
  check(isDeepStrictEqual(body, BODY) && receipt?.success === true, "our client pays the ts server that requires an id");
}
check(seen.length === 2 && seen.every(({ id, validation }) => validation.valid && isValidPaymentId(id)), `ids ${JSON.stringify(seen)}`);
check(seen[0]?.id !== seen[1]?.id, "each payment has an id of its own");
check((await paid()) - before === 3n, "each payment moved once");

server.close();
await Promise.all([seller, facilitator, anvil].map((child) => child.stop()));
console.log(failures.length === 0 ? "identifiers passed" : `${failures.length} failed`);
process.exit(failures.length === 0 ? 0 : 1);
