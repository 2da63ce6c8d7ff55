// A buyer on the published @x402/fetch: `client.mjs URL`. PAYER: index of the anvil account, 1 unless told.
// Prints one line: status, body, and the decoded PAYMENT-RESPONSE.
import { decodePaymentResponseHeader } from "@x402/core/http";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { NETWORK, account } from "./lib.mjs";

const url = process.argv[2];
if (!url) throw new Error("usage: client.mjs URL");
const pay = wrapFetchWithPaymentFromConfig(fetch, {
  schemes: [{ network: NETWORK, client: new ExactEvmScheme(account(Number(process.env.PAYER ?? 1))) }],
});
const response = await pay(url);
const header = response.headers.get("PAYMENT-RESPONSE");
const text = await response.text();
const body = response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : text;
console.log(JSON.stringify({ status: response.status, body, payment: header && decodePaymentResponseHeader(header) }));
process.exitCode = response.ok ? 0 : 1;
