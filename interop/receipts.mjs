// offer-receipt of @x402/extensions 2.27 and ours, on anvil: our client pays the SDK's express server with its signed offers
// and its declaration for catalogs, by EIP-712 and by JWS, keeps the receipt, and proves it to a third party.
import { createPrivateKey, sign } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import express from "express";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { bazaarResourceServerExtension, declareDiscoveryExtension } from "@x402/extensions/bazaar";
import {
  createEIP712OfferReceiptIssuer, createJWSOfferReceiptIssuer, createOfferReceiptExtension, declareOfferReceiptExtension,
} from "@x402/extensions/offer-receipt";
import { balance, startAnvil } from "./anvil.mjs";
import { AMOUNT, BODY, NETWORK, PRICE, account, listen, need, privateKey, run } from "./lib.mjs";
import { rust } from "./rust.mjs";

const [PAYER, SIGNER] = [1, 4];
const payTo = account(3).address;
const failures = [];
function check(condition, text) {
  console.log(`${condition ? "ok   " : "FAIL "} ${text}`);
  if (!condition) failures.push(text);
}

// The seed 01 02 … 20 and the identifier that contains its key, as in crates/x402-testkit/vectors/extensions.json.
const seed = Buffer.from(Array.from({ length: 32 }, (_, at) => at + 1));
const ed25519 = createPrivateKey({ key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]), format: "der", type: "pkcs8" });
const did = "did:key:z6MkneMkZqwqRiU5mJzSG3kDwzt9P8C59N4NGTfBLfSGE7c7";
const kid = `${did}#${did.slice("did:key:".length)}`;
const signJws = async (bytes) => sign(null, bytes, ed25519).toString("base64url");
const issuers = [
  ["eip712", account(SIGNER).address, createEIP712OfferReceiptIssuer("account", (data) => account(SIGNER).signTypedData(data))],
  ["jws", kid, createJWSOfferReceiptIssuer(kid, { kid, format: "jws", algorithm: "EdDSA", sign: signJws })],
];

const anvil = await startAnvil([PAYER]);
const facilitator = await rust.facilitator(anvil.rpc);
const paid = async () => (await balance(anvil.client, payTo)) / AMOUNT;
const before = await paid();
const folder = mkdtempSync(join(tmpdir(), "x402-receipts-"));
const x402 = (...args) => run(need("X402_BIN"), args, { X402_PRIVATE_KEY: privateKey(PAYER) });

for (const [format, signer, issuer] of issuers) {
  const resourceServer = new x402ResourceServer(new HTTPFacilitatorClient({ url: facilitator.listening }))
    .register(NETWORK, new ExactEvmScheme())
    .registerExtension(createOfferReceiptExtension(issuer))
    .registerExtension(bazaarResourceServerExtension);
  const accepts = { scheme: "exact", price: PRICE, network: NETWORK, payTo };
  const extensions = { ...declareOfferReceiptExtension(), ...declareDiscoveryExtension({ output: { example: BODY } }) };
  const app = express();
  app.use(paymentMiddleware({ "GET /paid": { accepts, extensions } }, resourceServer));
  app.get("/paid", (_, response) => response.json(BODY));
  const server = createServer(app);
  const url = `${await listen(server)}/paid`;
  const journal = join(folder, `${format}.sqlite`);
  const { stdout, stderr, code } = await x402("pay", url, "--json", "--journal", journal);
  check(code === 0 && isDeepStrictEqual(JSON.parse(stdout).body, BODY), `${format}: our client pays the SDK's server`);
  check(!stderr.includes("not kept"), `${format}: its receipt is kept: ${stderr.trim()}`);
  const [kept] = (await x402("receipts", "--journal", journal)).stdout.trim().split("\n").map((line) => JSON.parse(line));
  check(kept.receipt.signer === signer && kept.receipt.payer === account(PAYER).address, `${format}: signer and payer`);
  check(kept.receipt.resourceUrl === url && kept.receipt.offer.payTo === payTo, `${format}: the resource, and the offer that was paid`);
  const file = join(folder, `${format}.json`);
  const document = (await x402("receipts", "--journal", journal, "--export", "1")).stdout;
  writeFileSync(file, document);
  check((await x402("receipt", "verify", file, "--signer", signer)).code === 0, `${format}: a third party verifies it`);
  check((await x402("receipt", "verify", file, "--signer", account(5).address)).code === 1, `${format}: by no other signer`);
  server.close();
}
check((await paid()) - before === 2n, "each payment moved once");

rmSync(folder, { recursive: true });
await Promise.all([facilitator, anvil].map((child) => child.stop()));
console.log(failures.length === 0 ? "receipts passed" : `${failures.length} failed`);
process.exit(failures.length === 0 ? 0 : 1);
