// The published SDK of version 1, x402 1.2.0: `roles.mjs server FACILITATOR PAY_TO`, `roles.mjs facilitator RPC SIGNER`,
// `roles.mjs client URL PAYER`, `roles.mjs read DOCUMENT JSON`, which reads a document as its schemas do.
import { createServer } from "node:http";
import { settle, verify } from "x402/facilitator";
import {
  ErrorReasons, SettleResponseSchema, SupportedPaymentKindsResponseSchema, VerifyResponseSchema, x402ResponseSchema,
} from "x402/types";
import express from "express";
import { decodeXPaymentResponse, wrapFetchWithPayment } from "x402-fetch";
import { paymentMiddleware } from "x402-express";
import { BODY, PRICE, account, chainClient, listen, ready } from "./lib.mjs";

const [role, ...rest] = process.argv.slice(2);
const network = "base-sepolia";

const roles = {
  async server(facilitator, payTo) {
    const app = express();
    const config = { description: "A paid report", mimeType: "application/json", maxTimeoutSeconds: 120 };
    app.use(paymentMiddleware(payTo, { "GET /paid": { price: PRICE, network, config } }, { url: facilitator }));
    app.get("/paid", (_request, response) => response.json(BODY));
    ready({ listening: await listen(createServer(app)) });
  },
  async facilitator(rpc, signer) {
    const wallet = chainClient(rpc, account(Number(signer)));
    const api = createServer(async (request, response) => {
      const answer = (status, value) =>
        response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
      if (request.url === "/supported") return answer(200, { kinds: [{ x402Version: 1, scheme: "exact", network }] });
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      try {
        const { paymentPayload, paymentRequirements } = JSON.parse(Buffer.concat(chunks));
        answer(200, await (request.url === "/settle" ? settle : verify)(wallet, paymentPayload, paymentRequirements));
      } catch (error) {
        answer(500, { error: error.message });
      }
    });
    ready({ listening: await listen(api) });
  },
  async client(url, payer) {
    const response = await wrapFetchWithPayment(fetch, account(Number(payer)))(url);
    const receipt = response.headers.get("X-PAYMENT-RESPONSE");
    const body = await response.json();
    console.log(JSON.stringify({ status: response.status, body, payment: receipt && decodeXPaymentResponse(receipt) }));
  },
  async read(document, json) {
    const schemas = {
      required: x402ResponseSchema, verify: VerifyResponseSchema, settle: SettleResponseSchema,
      supported: SupportedPaymentKindsResponseSchema,
    };
    if (document === "codes") return console.log(JSON.stringify(ErrorReasons));
    const { success, error } = schemas[document].safeParse(JSON.parse(json));
    console.log(JSON.stringify(success ? "read" : error.issues));
  },
};
await roles[role](...rest);
if (role === "client" || role === "read") process.exit(0);
