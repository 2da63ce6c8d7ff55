// Records what the published SDK 2.27 answers to echoes of extensions: `node record-echoes.mjs extensions.json > echoes.json`. Its
// server on express has all of its extensions, its facilitator accepts everything. The recorded cases of
// extensions.json, of which every other one is there, are played again and must answer the same; between them are twenty more.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import express from "express";
import { x402Client } from "@x402/core/client";
import { decodePaymentRequiredHeader, encodePaymentSignatureHeader } from "@x402/core/http";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme as ClientScheme } from "@x402/evm/exact/client";
import { ExactEvmScheme as ServerScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { declareEip2612GasSponsoringExtension } from "@x402/extensions";
import { bazaarResourceServerExtension, declareDiscoveryExtension } from "@x402/extensions/bazaar";
import { builderCodeResourceServerExtension, declareBuilderCodeExtension } from "@x402/extensions/builder-code";
import {
  createEIP712OfferReceiptIssuer, createOfferReceiptExtension, declareOfferReceiptExtension,
} from "@x402/extensions/offer-receipt";
import { declarePaymentIdentifierExtension, paymentIdentifierResourceServerExtension } from "@x402/extensions/payment-identifier";
import { createSIWxResourceServerExtension, declareSIWxExtension, InMemorySIWxStorage } from "@x402/extensions/sign-in-with-x";
import { NETWORK, account, listen } from "./lib.mjs";

const known = JSON.parse(readFileSync(process.argv[2], "utf8"));
const calls = [];
const accepting = createServer(async (request, response) => {
  for await (const chunk of request) void chunk;
  const name = request.url.slice(1);
  if (name !== "supported") calls.push(name);
  const answers = {
    verify: { isValid: true, payer: account(1).address },
    settle: { success: true, transaction: `0x${"ab".repeat(32)}`, network: NETWORK, payer: account(1).address },
    supported: {
      kinds: [{ x402Version: 2, scheme: "exact", network: NETWORK }], extensions: ["bazaar", "builder-code", "eip2612GasSponsoring"], signers: {},
    },
  };
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answers[name]));
});
const facilitatorUrl = await listen(accepting);

let inner;
const seller = createServer((request, response) => inner(request, response));
const origin = await listen(seller);
const resourceServer = new x402ResourceServer(new HTTPFacilitatorClient({ url: facilitatorUrl })).register(NETWORK, new ServerScheme());
const issuer = createEIP712OfferReceiptIssuer("account", (data) => account(2).signTypedData(data));
for (const extension of [
  bazaarResourceServerExtension, paymentIdentifierResourceServerExtension, builderCodeResourceServerExtension,
  createOfferReceiptExtension(issuer), createSIWxResourceServerExtension({ storage: new InMemorySIWxStorage(), origin }),
]) {
  resourceServer.registerExtension(extension);
}
const accepts = { scheme: "exact", price: "$0.001", network: NETWORK, payTo: account(3).address };
const pid = { "payment-identifier": declarePaymentIdentifierExtension(false) };
const routes = {
  "GET /all": {
    accepts,
    extensions: {
      ...declareDiscoveryExtension({
        input: { city: "Paris", days: 2 },
        inputSchema: { properties: { city: { type: "string" }, days: { type: "integer" } }, required: ["city"] },
        output: { example: { temp: 21 }, schema: { properties: { temp: { type: "number" } } } },
      }),
      ...pid,
      "builder-code": declareBuilderCodeExtension("bc_myapp", ["svc_one"]),
      ...declareOfferReceiptExtension(),
      ...declareSIWxExtension(),
      ...declareEip2612GasSponsoringExtension(),
    },
  },
  "GET /pid": { accepts, extensions: pid },
};
const app = express();
app.use(paymentMiddleware(routes, resourceServer));
for (const path of ["/all", "/pid"]) app.get(path, (_, response) => response.json({ ok: true }));
inner = app;

const client = new x402Client().register(NETWORK, new ClientScheme(account(1)));
const required = async (route) => decodePaymentRequiredHeader((await fetch(origin + route)).headers.get("PAYMENT-REQUIRED"));
const advertised = "<as advertised>";

/** Pays with what `change` makes of an honest payment, and returns the case. */
async function play(index, id, route, change) {
  const asked = await required(route);
  const payment = await client.createPaymentPayload(asked);
  payment.extensions = structuredClone(asked.extensions);
  change(payment, asked);
  calls.length = 0;
  const response = await fetch(origin + route, { headers: { "PAYMENT-SIGNATURE": encodePaymentSignatureHeader(payment) } });
  const header = response.headers.get("PAYMENT-REQUIRED");
  const error = response.status === 402 && header ? decodePaymentRequiredHeader(header).error : null;
  const extensions = structuredClone(payment.extensions);
  for (const [name, value] of Object.entries(extensions ?? {})) {
    if (value && JSON.stringify(value.schema) === JSON.stringify(asked.extensions[name]?.schema)) value.schema = advertised;
  }
  return { index, id, route, extensions, status: response.status, error, facilitatorCalls: [...calls] };
}

// What the recorded cases changed beside the extensions; their values of one request are replaced by those of this one.
const beside = {
  accepted_extra_field_added: (payment) => (payment.accepted.extra.more = 1),
  resource_omitted: (payment) => delete payment.resource,
  amount_and_echo_both_wrong: (payment) => (payment.accepted.amount = "999"),
};
const again = (recorded) => (payment, asked) => {
  const extensions = structuredClone(recorded.extensions);
  for (const [name, value] of Object.entries(extensions)) {
    const declared = asked.extensions[name];
    if (value?.schema === advertised) value.schema = declared.schema;
    if (name === "offer-receipt" && value.info.offers) value.info.offers = declared.info.offers;
    if (name === "sign-in-with-x") {
      const { nonce, issuedAt, uri, resources, domain } = declared.info;
      Object.assign(value.info, { nonce, issuedAt, uri, resources, ...(value.info.domain !== "evil" && { domain }) });
    }
  }
  payment.extensions = extensions;
  beside[recorded.id]?.(payment);
};
let differing = 0;
for (const recorded of known["echoRules.cases"]) {
  const played = await play(recorded.index, recorded.id, recorded.route, again(recorded));
  for (const member of ["status", "error", "facilitatorCalls"]) {
    if (JSON.stringify(played[member]) !== JSON.stringify(recorded[member])) {
      differing += 1;
      console.error(`${recorded.id}: ${member} ${JSON.stringify(played[member])}, recorded ${JSON.stringify(recorded[member])}`);
    }
  }
}

const info = (name, change) => (payment) => change(payment.extensions[name].info);
const CASES = [
  ["extensions_absent", (payment) => delete payment.extensions],
  ["extensions_null", (payment) => (payment.extensions = null)],
  ["pid_required_changed", info("payment-identifier", (info) => (info.required = true))],
  ["pid_info_without_wrapper", (payment) => (payment.extensions["payment-identifier"] = { required: false, id: "pay_0123456789abcdef" })],
  ["pid_alone", (payment) => (payment.extensions = { "payment-identifier": payment.extensions["payment-identifier"] })],
  ["pid_text", (payment) => (payment.extensions["payment-identifier"] = "pay_0123456789abcdef")],
  ["pid_id_too_short", info("payment-identifier", (info) => (info.id = "short"))],
  ["bazaar_parameter_added", info("bazaar", (info) => (info.input.queryParams.more = true))],
  ["bazaar_number_as_text", info("bazaar", (info) => (info.input.queryParams.days = "2"))],
  ["bc_client_code_added", info("builder-code", (info) => info.s.unshift("cli_one"))],
  ["bc_ten_codes", info("builder-code", (info) => info.s.push("c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"))],
  ["bc_wallet_added", info("builder-code", (info) => (info.w = "a_wallet"))],
  ["bc_malformed_code_added", info("builder-code", (info) => info.s.push("Not A Code"))],
  ["bc_services_removed", info("builder-code", (info) => delete info.s)],
  ["siwx_nonce_changed", info("sign-in-with-x", (info) => (info.nonce = "0".repeat(32)))],
  ["offers_forged", info("offer-receipt", (info) => (info.offers[0].payload.amount = "1"))],
  [
    "eip2612_completed",
    info("eip2612GasSponsoring", (info) =>
      Object.assign(info, {
        from: account(1).address, asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e", spender: "0x000000000022D473030F116dDEE9F6B43aC78BA3",
        amount: "1000", nonce: "0", deadline: "4102444800", signature: `0x${"11".repeat(65)}`,
      })),
  ],
  ["info_list", (payment) => (payment.extensions["payment-identifier"].info = [])],
  ["schema_absent", (payment) => Object.values(payment.extensions).forEach((value) => delete value.schema)],
  ["extensions_list", (payment) => (payment.extensions = [])],
];
const cases = [];
for (const [at, [id, change]] of CASES.entries()) cases.push(await play(2 * at + 1, id, "/all", change));
const { extensions: advertisedExtensions } = await required("/all");
console.log(JSON.stringify({ advertisedExtensions, cases }, null, 1));
if (differing) console.error(`${differing} answers differ from the recorded ones`);
process.exit(differing ? 1 : 0);
