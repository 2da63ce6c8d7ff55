// A seller on the published @x402/express: GET /paid for $0.01. FACILITATOR_URL, PAY_TO.
import { createServer } from "node:http";
import express from "express";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { BODY, NETWORK, PRICE, listen, need, ready } from "./lib.mjs";

const resourceServer = new x402ResourceServer(new HTTPFacilitatorClient({ url: need("FACILITATOR_URL") })).register(
  NETWORK,
  new ExactEvmScheme(),
);
const accepts = { scheme: "exact", price: PRICE, network: NETWORK, payTo: need("PAY_TO") };
const app = express();
app.use(
  paymentMiddleware(
    { "GET /paid": { accepts, description: "A paid report", mimeType: "application/json" } },
    resourceServer,
  ),
);
// `?ms=`: how long the handler takes.
app.get("/paid", async (request, response) => {
  await new Promise((done) => setTimeout(done, Number(request.query.ms ?? 0)));
  response.json(BODY);
});
ready({ listening: await listen(createServer(app)) });
