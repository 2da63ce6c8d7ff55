// The extensions of @x402/extensions 2.27 and ours, each alone and all together, on anvil, in every role: the SDK's client at our
// server, with our facilitator and with the SDK's; our client at the SDK's servers on express and hono, and the SDK's client
// there, with our facilitator; our server and client at the SDK's facilitator. Our facilitator lists what it settled, and
// ends its calls with the codes of builders.
import { createServer } from "node:http";
import { createAdaptorServer } from "@hono/node-server";
import express from "express";
import { Hono } from "hono";
import { x402Client, x402HTTPClient } from "@x402/core/client";
import { x402Facilitator } from "@x402/core/facilitator";
import { decodePaymentRequiredHeader, decodePaymentResponseHeader } from "@x402/core/http";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme as ClientScheme } from "@x402/evm/exact/client";
import { ExactEvmScheme as FacilitatorScheme } from "@x402/evm/exact/facilitator";
import { ExactEvmScheme as ServerScheme } from "@x402/evm/exact/server";
import { paymentMiddleware as onExpress, x402ResourceServer } from "@x402/express";
import { bazaarResourceServerExtension, declareDiscoveryExtension, extractDiscoveryInfo, withBazaar } from "@x402/extensions/bazaar";
import {
  BuilderCodeClientExtension, BuilderCodeFacilitatorExtension, builderCodeResourceServerExtension, declareBuilderCodeExtension,
  parseBuilderCodeSuffixFromCalldata,
} from "@x402/extensions/builder-code";
import {
  createEIP712OfferReceiptIssuer, createOfferReceiptExtension, declareOfferReceiptExtension, extractReceiptFromResponse,
  verifyReceiptSignatureEIP712,
} from "@x402/extensions/offer-receipt";
import {
  appendPaymentIdentifierToExtensions, declarePaymentIdentifierExtension, paymentIdentifierResourceServerExtension,
} from "@x402/extensions/payment-identifier";
import {
  createSIWxPayload, createSIWxResourceServerExtension, declareSIWxExtension, encodeSIWxHeader, InMemorySIWxStorage,
} from "@x402/extensions/sign-in-with-x";
import { paymentMiddleware as onHono } from "@x402/hono";
import { balance, startAnvil } from "./anvil.mjs";
import { AMOUNT, BODY, NETWORK, PRICE, account, chainClient, checks, listen, need, privateKey, run } from "./lib.mjs";
import { rust } from "./rust.mjs";

const NAMES = ["payment-identifier", "offer-receipt", "sign-in-with-x", "bazaar", "builder-code"];
const SETS = [...NAMES.map((name) => [name]), NAMES];
const [PAYER, SIGNER, THEIRS] = [1, 4, 5];
const payTo = account(3).address;
const { check, end } = checks("extensions");
const same = (one, two) => JSON.stringify(one) === JSON.stringify(two);

const anvil = await startAnvil([PAYER]);
const codes = '[builder_code]\nwallet = "our_wallet"\n';
const facilitator = await rust.facilitator(anvil.rpc, codes, {}, "discovery = true\n");
const catalog = withBazaar(new HTTPFacilitatorClient({ url: facilitator.listening }));
const paid = async () => (await balance(anvil.client, payTo)) / AMOUNT;
const calldata = async (hash) => (await anvil.client.getTransaction({ hash })).input;

/** Waits until the catalog lists this resource: it is written beside the answers. */
async function listed(url) {
  for (let turn = 0; turn < 200; turn += 1) {
    const { items } = await catalog.extensions.bazaar.listResources({ limit: 100 });
    const item = items.find(({ resource }) => resource === url);
    if (item) return item;
    await new Promise((done) => setTimeout(done, 20));
  }
}

async function ours(set, facilitatorUrl) {
  const env = { EXTENSIONS: set.join(","), SIGNER: privateKey(SIGNER) };
  return rust.extended(facilitatorUrl, payTo, env);
}

/** Pays with the SDK's client, which adds what it has to each extension. */
async function payAsTheirs(url, set) {
  const required = decodePaymentRequiredHeader((await fetch(url)).headers.get("PAYMENT-REQUIRED"));
  const client = new x402Client().register(NETWORK, new ClientScheme(account(PAYER)));
  if (set.includes("builder-code")) client.registerExtension(new BuilderCodeClientExtension("their_client"));
  if (set.includes("payment-identifier")) appendPaymentIdentifierToExtensions(required.extensions);
  const payload = await client.createPaymentPayload(required);
  const headers = new x402HTTPClient(client).encodePaymentSignatureHeader(payload);
  const response = await fetch(url, { headers });
  const receipt = response.headers.get("PAYMENT-RESPONSE");
  return { required, response, receipt: receipt && decodePaymentResponseHeader(receipt), body: await response.clone().json() };
}

/** What the name of a set is. */
const named = (set) => (set.length > 1 ? "all" : set[0]);

/** Signs in as the SDK's client, and returns the headers. */
async function signIn(url) {
  const { extensions } = decodePaymentRequiredHeader((await fetch(url)).headers.get("PAYMENT-REQUIRED"));
  const { info, supportedChains } = extensions["sign-in-with-x"];
  const signed = await createSIWxPayload({ ...info, ...supportedChains[0] }, account(PAYER), url);
  return { "SIGN-IN-WITH-X": encodeSIWxHeader(signed) };
}

// The SDK's client at our server.
for (const set of SETS) {
  const name = named(set);
  const seller = await ours(set, facilitator.listening);
  const url = `${seller.listening}/paid`;
  const before = await paid();
  const { required, response, receipt, body } = await payAsTheirs(url, set);
  check(same(Object.keys(required.extensions ?? {}).sort(), [...set].sort()), `${name}: our server declares it`);
  check(response.status === 200 && same(body, BODY) && receipt?.success === true, `${name}: the SDK's client pays our server`);
  check((await paid()) - before === 1n, `${name}: it moved once`);
  check(!response.headers.has("EXTENSION-RESPONSES"), `${name}: reports are not passed on`);
  if (set.includes("offer-receipt")) {
    const signed = extractReceiptFromResponse(response);
    const { signer } = await verifyReceiptSignatureEIP712(signed);
    check(signer.toLowerCase() === account(SIGNER).address.toLowerCase(), `${name}: the SDK verifies our receipt`);
  }
  if (set.includes("builder-code")) {
    const read = parseBuilderCodeSuffixFromCalldata(await calldata(receipt.transaction));
    const expected = { a: "our_app", w: "our_wallet", s: ["their_client", "our_service"] };
    check(same(read, expected), `${name}: the SDK reads our facilitator's codes: ${JSON.stringify(read)}`);
  }
  if (set.includes("bazaar")) {
    const item = await listed(url);
    check(item?.extensions.bazaar.info.input.method === "GET", `${name}: our facilitator lists it`);
    const { resources } = await catalog.extensions.bazaar.search({ query: new URL(url).port });
    check(resources.some(({ resource }) => resource === url), `${name}: the SDK's client finds it`);
  }
  if (set.includes("sign-in-with-x")) {
    const headers = await signIn(url);
    const again = await fetch(url, { headers });
    check(again.status === 200 && same(await again.json(), BODY), `${name}: the SDK's client signs in`);
    check((await fetch(url, { headers })).status === 402, `${name}: once`);
    check((await paid()) - before === 1n, `${name}: without a payment`);
  }
  await seller.stop();
}

// Our client at the SDK's servers.
const serverExtensions = (origin) => ({
  "payment-identifier": [paymentIdentifierResourceServerExtension, { "payment-identifier": declarePaymentIdentifierExtension(true) }],
  "offer-receipt": [
    createOfferReceiptExtension(createEIP712OfferReceiptIssuer("account", (data) => account(SIGNER).signTypedData(data))),
    declareOfferReceiptExtension(),
  ],
  "sign-in-with-x": [createSIWxResourceServerExtension({ storage: new InMemorySIWxStorage(), origin }), declareSIWxExtension()],
  bazaar: [bazaarResourceServerExtension, declareDiscoveryExtension({ output: { example: BODY } })],
  "builder-code": [builderCodeResourceServerExtension, { "builder-code": declareBuilderCodeExtension("their_app", ["their_service"]) }],
});
const servers = {
  express(routes, resourceServer) {
    const app = express();
    app.use(onExpress(routes, resourceServer));
    app.get("/paid", (_, response) => response.json(BODY));
    return createServer(app);
  },
  hono(routes, resourceServer) {
    const app = new Hono();
    app.use(onHono(routes, resourceServer));
    app.get("/paid", (context) => context.json(BODY));
    return createAdaptorServer({ fetch: app.fetch });
  },
};
for (const [framework, make] of Object.entries(servers)) {
  for (const set of SETS) {
    const name = `${framework}, ${named(set)}`;
    // The port must be known before the routes are, for the origin of a sign-in.
    let inner;
    const server = createServer((request, response) => inner.emit("request", request, response));
    const origin = await listen(server);
    const all = serverExtensions(origin);
    const resourceServer = new x402ResourceServer(new HTTPFacilitatorClient({ url: facilitator.listening }));
    resourceServer.register(NETWORK, new ServerScheme());
    set.forEach((each) => resourceServer.registerExtension(all[each][0]));
    const extensions = Object.assign({}, ...set.map((each) => all[each][1]));
    const accepts = { scheme: "exact", price: PRICE, network: NETWORK, payTo };
    inner = make({ "GET /paid": { accepts, description: "A paid report", extensions } }, resourceServer);
    const before = await paid();
    const signsIn = set.includes("sign-in-with-x");
    let [answer, again] = [{}];
    try {
      [answer, again] = await rust.buy(`${origin}/paid`, PAYER, signsIn ? 2 : 1);
    } catch (error) {
      answer = { error: error.message };
    }
    const { body, payment, error } = answer;
    check(same(body, BODY) && payment?.success === true, `${name}: our client pays the SDK's server${error ? `: ${error}` : ""}`);
    check((await paid()) - before === 1n, `${name}: it moved once`);
    if (set.includes("builder-code") && payment) {
      const read = parseBuilderCodeSuffixFromCalldata(await calldata(payment.transaction));
      const expected = { a: "their_app", w: "our_wallet", s: ["our_client", "their_service"] };
      check(same(read, expected), `${name}: codes ${JSON.stringify(read)}`);
    }
    if (set.includes("bazaar")) check(await listed(`${origin}/paid`), `${name}: our facilitator lists it`);
    if (set.includes("offer-receipt")) {
      check(answer.receipts === 1 && !answer.refusedReceipts, `${name}: our client keeps its receipt, which proves the payment`);
    }
    if (signsIn) {
      check(again?.admittedBy === "sign-in-with-x" && same(again.body, BODY), `${name}: our client signs in`);
      check((await paid()) - before === 1n, `${name}: without a payment`);
    }
    // The SDK on both sides of our facilitator.
    const theirs = await payAsTheirs(`${origin}/paid`, set);
    check(theirs.response.status === 200 && same(theirs.body, BODY), `${name}: the SDK's client pays there`);
    check((await paid()) - before === 2n, `${name}: it moved once more`);
    server.close();
  }
}
const find = await run(need("X402_BIN"), ["find", "report", "--facilitator", facilitator.listening, "--limit", "100", "--json"]);
check(find.code === 0 && JSON.parse(find.stdout).resources.length >= 4, "x402 find finds them");

// Our server and our client at the SDK's facilitator.
const wallet = chainClient(anvil.rpc, account(THEIRS));
const theirs = new x402Facilitator()
  .register(NETWORK, new FacilitatorScheme(toFacilitatorEvmSigner({ ...wallet, address: wallet.account.address })))
  .registerExtension(new BuilderCodeFacilitatorExtension({ builderCode: "their_wallet" }));
const discovered = [];
theirs.onAfterSettle(async ({ paymentPayload, requirements }) => {
  discovered.push(extractDiscoveryInfo(paymentPayload, requirements));
});
const report = Buffer.from(JSON.stringify({ bazaar: { status: "success" } })).toString("base64");
const far = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { paymentPayload, paymentRequirements } = chunks.length ? JSON.parse(Buffer.concat(chunks)) : {};
  const routes = {
    "/verify": () => theirs.verify(paymentPayload, paymentRequirements),
    "/settle": () => theirs.settle(paymentPayload, paymentRequirements),
    "/supported": () => theirs.getSupported(),
  };
  try {
    const value = await routes[request.url]();
    response.writeHead(200, { "content-type": "application/json", "EXTENSION-RESPONSES": report }).end(JSON.stringify(value));
  } catch (error) {
    response.writeHead(500, { "content-type": "application/json" }).end(JSON.stringify({ error: error.message }));
  }
});
const farUrl = await listen(far);
await anvil.client.request({ method: "anvil_setBalance", params: [account(THEIRS).address, "0x56bc75e2d63100000"] });
for (const set of SETS) {
  const name = `the SDK's facilitator, ${named(set)}`;
  const seller = await ours(set, farUrl);
  const url = `${seller.listening}/paid`;
  const before = await paid();
  discovered.length = 0;
  const { body, payment } = await rust.pay(url, PAYER);
  check(same(body, BODY) && payment?.success === true && (await paid()) - before === 1n, `${name}: our client pays our server`);
  if (set.includes("builder-code")) {
    const read = parseBuilderCodeSuffixFromCalldata(await calldata(payment.transaction));
    check(same(read, { a: "our_app", w: "their_wallet", s: ["our_service"] }), `${name}: codes ${JSON.stringify(read)}`);
  }
  if (set.includes("bazaar")) {
    const [info] = discovered;
    check(info?.resourceUrl === url && info?.method === "GET", `${name}: it reads our description: ${JSON.stringify(info)?.slice(0, 200)}`);
    check(seller.errors().includes('"status":"success"'), `${name}: our seller is told`);
  }
  const theirClient = await payAsTheirs(url, set);
  check(theirClient.response.status === 200 && same(theirClient.body, BODY), `${name}: the SDK's client pays our server`);
  check((await paid()) - before === 2n && !theirClient.response.headers.has("EXTENSION-RESPONSES"), `${name}: once, and learns no report`);
  if (set.includes("sign-in-with-x")) {
    const again = await fetch(url, { headers: await signIn(url) });
    check(again.status === 200 && (await paid()) - before === 2n, `${name}: it signs in`);
  }
  await seller.stop();
}

far.close();
await Promise.all([facilitator, anvil].map((child) => child.stop()));
end();
