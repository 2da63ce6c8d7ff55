// Records messages of version 1: `node record-v1.mjs DIRECTORY`, in a copy of this folder after
// `npm ci && npm install --no-save x402@1.2.0 x402-express@1.2.0`. They bring a browser wallet stack with them, so the lock file leaves them out.
import { createServer } from "node:http";
import express from "express";
import { createPaymentHeader } from "x402/client";
import { settle, verify } from "x402/facilitator";
import { SupportedPaymentKindsResponseSchema } from "x402/types";
import { paymentMiddleware } from "x402-express";
import { x402Client, x402HTTPClient } from "@x402/core/client";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/client";
import { startAnvil } from "./anvil.mjs";
import { account, chainClient, listen, start } from "./lib.mjs";
import { write } from "./vector.mjs";

const legacy = "x402 1.2.0";
const seller = "x402-express 1.2.0";
const anvil = await startAnvil([1]);
const wallet = chainClient(anvil.rpc, account(0));

// The facilitator is x402 1.2.0's own verify and settle behind HTTP.
const seen = {};
const api = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = JSON.parse(Buffer.concat(chunks));
  const action = request.url === "/settle" ? settle : verify;
  const answer = await action(wallet, body.paymentPayload, body.paymentRequirements);
  seen[request.url] = { request: body, response: JSON.parse(JSON.stringify(answer)) };
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
});
const facilitator = await listen(api);

const app = express();
const config = { description: "A paid report", mimeType: "application/json", maxTimeoutSeconds: 120 };
app.use(
  paymentMiddleware(
    account(3).address,
    { "GET /paid": { price: "$0.01", network: "base-sepolia", config }, "GET /plain": { price: "$0.01", network: "base-sepolia" } },
    { url: facilitator },
  ),
);
app.get("/paid", (_request, response) => response.json({ report: "paid content" }));
const origin = await listen(createServer(app));

const challenge = await (await fetch(`${origin}/paid`)).json();
write("v1-payment-required", "v1::PaymentRequired", seller, "402 body of an unpaid GET", { json: challenge });
write("v1-payment-required-plain", "v1::PaymentRequired", seller, "the same for a route without description or media type", {
  json: await (await fetch(`${origin}/plain`)).json(),
});
write("v1-payment-requirements", "v1::PaymentRequirements", seller, "accepts[0] of v1-payment-required", { json: challenge.accepts[0] });

const header = await createPaymentHeader(chainClient(anvil.rpc, account(1)), 1, challenge.accepts[0]);
write("v1-payment-payload", "v1::PaymentPayload", legacy, "X-PAYMENT for v1-payment-required", { header });
const modern = new x402HTTPClient(new x402Client().registerV1("base-sepolia", new ExactEvmSchemeV1(account(1))));
const signed = modern.encodePaymentSignatureHeader(await modern.createPaymentPayload(challenge));
write("v1-payment-payload-2.27", "v1::PaymentPayload", "@x402/core 2.27.0 with @x402/evm 2.27.0", "X-PAYMENT of the newer SDK for v1-payment-required", {
  header: signed["X-PAYMENT"],
});

const good = await fetch(`${origin}/paid`, { headers: { "X-PAYMENT": header } });
if (good.status !== 200) throw new Error(`paid request: ${good.status} ${await good.text()}`);
write("v1-verify-request", "VerifyRequest", seller, "body of POST /verify", { json: seen["/verify"].request });
write("v1-verify-response-valid", "v2::VerifyResponse", legacy, "answer to v1-verify-request", { json: seen["/verify"].response });
write("v1-settle-request", "SettleRequest", seller, "body of POST /settle", { json: seen["/settle"].request });
write("v1-settle-response-success", "v2::SettleResponse", legacy, "answer to v1-settle-request", { json: seen["/settle"].response });
write("v1-payment-response", "v2::SettleResponse", seller, "X-PAYMENT-RESPONSE of the paid GET", {
  header: good.headers.get("X-PAYMENT-RESPONSE"),
});

// The facilitator of x402 1.2.0 does not see that a nonce is spent; a wrong recipient it does.
const { paymentPayload, paymentRequirements } = seen["/verify"].request;
const elsewhere = { ...paymentRequirements, payTo: account(4).address };
write("v1-verify-response-invalid", "v2::VerifyResponse", legacy, "POST /verify of v1-payment-payload for another payTo", {
  json: await verify(wallet, paymentPayload, elsewhere),
});
write("v1-settle-response-failure", "v2::SettleResponse", legacy, "POST /settle of v1-payment-payload for another payTo", {
  json: JSON.parse(JSON.stringify(await settle(wallet, paymentPayload, elsewhere))),
});

const newer = await start(process.execPath, [new URL("facilitator.mjs", import.meta.url).pathname], { env: { RPC_URL: anvil.rpc } });
const { kinds } = await (await fetch(`${newer.listening}/supported`)).json();
write("v1-supported-response", "v2::SupportedResponse", `${legacy} (SupportedPaymentKindsResponseSchema)`, "the v1 kind of @x402/core 2.27.0's GET /supported, read by the schema of x402 1.2.0", {
  json: SupportedPaymentKindsResponseSchema.parse({ kinds: kinds.filter((kind) => kind.x402Version === 1) }),
});

await Promise.all([anvil.stop(), newer.stop()]);
process.exit(0);
