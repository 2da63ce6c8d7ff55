// Records messages of the published SDK 2.27 by running it: `node record.mjs DIRECTORY`. Nonces, signatures and times are of that run.
import { createServer } from "node:http";
import express from "express";
import { x402Client, x402HTTPClient } from "@x402/core/client";
import { decodePaymentRequiredHeader } from "@x402/core/http";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme as ClientScheme } from "@x402/evm/exact/client";
import { ExactEvmScheme as ServerScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { bazaarResourceServerExtension, declareDiscoveryExtension, withBazaar } from "@x402/extensions/bazaar";
import { startAnvil } from "./anvil.mjs";
import { NETWORK, PRICE, account, listen, start } from "./lib.mjs";
import { write } from "./vector.mjs";

/** Passes every exchange on and keeps it. `before` may act first, to make a settlement fail. */
async function recorder(target) {
  const exchanges = [];
  const self = { exchanges, before: async () => {} };
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString("utf8");
    const forward = () =>
      fetch(target + request.url, {
        method: request.method,
        headers: { "content-type": "application/json" },
        ...(body && { body }),
      });
    await self.before(request.url, forward);
    const answer = await forward();
    const text = await answer.text();
    exchanges.push({ path: request.url, request: body && JSON.parse(body), response: JSON.parse(text), status: answer.status });
    response.writeHead(answer.status, { "content-type": "application/json" }).end(text);
  });
  self.url = await listen(server);
  self.last = (path) => exchanges.findLast((exchange) => exchange.path === path);
  self.close = () => server.close();
  return self;
}

const core = "@x402/core 2.27.0";
const evm = "@x402/core 2.27.0 with @x402/evm 2.27.0";
const expressSdk = "@x402/express 2.27.0";
const fetchSdk = "@x402/core 2.27.0 (x402HTTPClient, which @x402/fetch wraps) with @x402/evm 2.27.0";

const anvil = await startAnvil([1]);
const script = new URL("facilitator.mjs", import.meta.url).pathname;
const facilitator = await start(process.execPath, [script], { env: { RPC_URL: anvil.rpc, CONFIRMATION_TIMEOUT_MS: "1000" } });
const proxy = await recorder(facilitator.listening);

const resourceServer = new x402ResourceServer(new HTTPFacilitatorClient({ url: proxy.url }))
  .register(NETWORK, new ServerScheme())
  .registerExtension(bazaarResourceServerExtension);
const accepts = { scheme: "exact", price: PRICE, network: NETWORK, payTo: account(3).address };
const routes = {
  "GET /paid": {
    accepts,
    description: "A paid report",
    mimeType: "application/json",
    serviceName: "Reports",
    tags: ["report", "test"],
    iconUrl: "https://example.com/icon.png",
  },
  "GET /plain": { accepts },
  "GET /listed": {
    accepts: [accepts, { ...accepts, price: "$0.02", maxTimeoutSeconds: 60 }],
    description: "A report that may be listed",
    mimeType: "application/json",
    extensions: declareDiscoveryExtension({ input: { city: "Berlin" }, output: { example: { temperature: 21 } } }),
  },
};
const app = express();
app.use(paymentMiddleware(routes, resourceServer));
for (const path of ["/paid", "/plain", "/listed"]) app.get(path, (_request, response) => response.json({ report: path }));
const seller = createServer(app);
const origin = await listen(seller);

const client = new x402HTTPClient(new x402Client().register(NETWORK, new ClientScheme(account(1))));
async function unpaid(path) {
  const response = await fetch(origin + path);
  const header = response.headers.get("PAYMENT-REQUIRED");
  return { header, required: decodePaymentRequiredHeader(header), body: await response.text(), status: response.status };
}
const sign = async (required) => client.encodePaymentSignatureHeader(await client.createPaymentPayload(required));
const paid = (path, headers) => fetch(origin + path, { headers });

// PaymentRequired and what is in it
const challenge = await unpaid("/paid");
write("v2-payment-required", "v2::PaymentRequired", expressSdk, "PAYMENT-REQUIRED of an unpaid GET", { header: challenge.header });
write("v2-payment-required-plain", "v2::PaymentRequired", expressSdk, "the same for a route without description or media type", {
  header: (await unpaid("/plain")).header,
});
const listed = await unpaid("/listed");
write("v2-payment-required-extensions", "v2::PaymentRequired", `${expressSdk} with @x402/extensions 2.27.0`, "the same for a route with two prices and a bazaar declaration", {
  header: listed.header,
});
write("v2-resource-info", "v2::ResourceInfo", expressSdk, "resource of v2-payment-required", { json: challenge.required.resource });
write("v2-payment-requirements", "v2::PaymentRequirements", evm, "accepts[0] of v2-payment-required", {
  json: challenge.required.accepts[0],
});

// A payment that settles
const first = await sign(challenge.required);
write("v2-payment-payload", "v2::PaymentPayload", fetchSdk, "PAYMENT-SIGNATURE for v2-payment-required", { header: first["PAYMENT-SIGNATURE"] });
const good = await paid("/paid", first);
if (good.status !== 200) throw new Error(`paid request: ${good.status} ${await good.text()}`);
write("v2-payment-response", "v2::SettleResponse", expressSdk, "PAYMENT-RESPONSE of the paid GET", {
  header: good.headers.get("PAYMENT-RESPONSE"),
});
write("v2-verify-request", "VerifyRequest", `${expressSdk} (HTTPFacilitatorClient of @x402/core)`, "body of POST /verify", {
  json: proxy.last("/verify").request,
});
write("v2-verify-response-valid", "v2::VerifyResponse", evm, "answer to v2-verify-request", { json: proxy.last("/verify").response });
write("v2-settle-request", "SettleRequest", `${expressSdk} (HTTPFacilitatorClient of @x402/core)`, "body of POST /settle", {
  json: proxy.last("/settle").request,
});
write("v2-settle-response-success", "v2::SettleResponse", evm, "answer to v2-settle-request", { json: proxy.last("/settle").response });
const withExtensions = await sign(listed.required);
write("v2-payment-payload-extensions", "v2::PaymentPayload", fetchSdk, "PAYMENT-SIGNATURE for v2-payment-required-extensions", {
  header: withExtensions["PAYMENT-SIGNATURE"],
});
await paid("/listed", withExtensions);

// The same payment again
const replay = await paid("/paid", first);
write("v2-verify-response-invalid", "v2::VerifyResponse", evm, "POST /verify of a payment that was settled", {
  json: proxy.last("/verify").response,
});
write("v2-payment-required-refused", "v2::PaymentRequired", expressSdk, "PAYMENT-REQUIRED in answer to a payment that was settled", {
  header: replay.headers.get("PAYMENT-REQUIRED"),
});

// Spent between verify and settle
proxy.before = async (path, forward) => {
  if (path === "/settle") await forward();
};
const spent = await paid("/paid", await sign(challenge.required));
write("v2-settle-response-failure", "v2::SettleResponse", evm, "POST /settle of a payment that was settled", {
  json: proxy.last("/settle").response,
});
write("v2-payment-response-failure", "v2::SettleResponse", expressSdk, `PAYMENT-RESPONSE of status ${spent.status}, settlement failed`, {
  header: spent.headers.get("PAYMENT-RESPONSE"),
});
proxy.before = async () => {};

// No block while the facilitator waits
await anvil.client.request({ method: "evm_setAutomine", params: [false] });
const pending = await paid("/paid", await sign(challenge.required));
write("v2-settle-response-pending", "v2::SettleResponse", evm, "POST /settle while no block is mined", {
  json: proxy.last("/settle").response,
});
const pendingHeader = pending.headers.get("PAYMENT-RESPONSE");
write("v2-payment-response-pending", "v2::SettleResponse", expressSdk, `PAYMENT-RESPONSE of status ${pending.status} after it`, { header: pendingHeader });

write("v2-supported-response", "v2::SupportedResponse", evm, "GET /supported, one v2 and one v1 kind", {
  json: proxy.exchanges.find((exchange) => exchange.path === "/supported").response,
});

// The SDKs have no server for discovery: the document is ours after the types of @x402/extensions, the values in it are recorded.
const document = {
  x402Version: 2,
  items: [
    {
      resource: listed.required.resource.url,
      type: "http",
      x402Version: 2,
      accepts: listed.required.accepts,
      lastUpdated: 1795180000,
      extensions: listed.required.extensions,
      metadata: { region: "eu" },
    },
  ],
  pagination: { limit: 20, offset: 0, total: 1 },
};
const listing = createServer((_request, response) => {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(document));
});
const bazaar = withBazaar(new HTTPFacilitatorClient({ url: await listen(listing) }));
write("v2-discovery-list", "v2::DiscoveryList", `${core} and @x402/extensions 2.27.0 (types and client only)`, "written after the types with recorded accepts and extensions and, as spec §8 has it, a number for lastUpdated (the types say string), then read by listResources", {
  json: await bazaar.extensions.bazaar.listResources({ type: "http" }),
});

await Promise.all([anvil.stop(), facilitator.stop()]);
process.exit(0);
