// The published SDK's roles for Permit2: `permit2-ts.mjs facilitator|server`, `permit2-ts.mjs client URL`. RPC_URL;
// FACILITATOR_URL and PAY_TO for the server; PAYER for the client.
import { createServer } from "node:http";
import express from "express";
import { x402Facilitator } from "@x402/core/facilitator";
import { decodePaymentRequiredHeader, decodePaymentResponseHeader } from "@x402/core/http";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { toClientEvmSigner, toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme as ExactClient } from "@x402/evm/exact/client";
import { ExactEvmScheme as ExactFacilitator } from "@x402/evm/exact/facilitator";
import { ExactEvmScheme as ExactServer } from "@x402/evm/exact/server";
import { UptoEvmScheme as UptoClient } from "@x402/evm/upto/client";
import { UptoEvmScheme as UptoFacilitator } from "@x402/evm/upto/facilitator";
import { UptoEvmScheme as UptoServer } from "@x402/evm/upto/server";
import { paymentMiddleware, setSettlementOverrides, x402ResourceServer } from "@x402/express";
import {
  EIP2612_GAS_SPONSORING,
  createErc20ApprovalGasSponsoringExtension,
  declareEip2612GasSponsoringExtension,
  declareErc20ApprovalGasSponsoringExtension,
} from "@x402/extensions";
import { wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { AMOUNT, BODY, NETWORK, PRICE, TOKEN, account, chainClient, listen, need, ready } from "./lib.mjs";

async function facilitator() {
  const client = chainClient(need("RPC_URL"), account(0));
  const signer = toFacilitatorEvmSigner({ ...client, address: client.account.address });
  const sendTransactions = async (transactions) => {
    const hashes = [];
    for (const transaction of transactions) {
      const hash =
        typeof transaction === "string"
          ? await client.sendRawTransaction({ serializedTransaction: transaction })
          : await client.sendTransaction(transaction);
      await client.waitForTransactionReceipt({ hash });
      hashes.push(hash);
    }
    return hashes;
  };
  const served = new x402Facilitator()
    .register(NETWORK, new ExactFacilitator(signer))
    .register(NETWORK, new UptoFacilitator(signer))
    .registerExtension(EIP2612_GAS_SPONSORING)
    .registerExtension(createErc20ApprovalGasSponsoringExtension({ ...signer, sendTransactions }));
  const routes = {
    "POST /verify": ({ paymentPayload, paymentRequirements }) => served.verify(paymentPayload, paymentRequirements),
    "POST /settle": ({ paymentPayload, paymentRequirements }) => served.settle(paymentPayload, paymentRequirements),
    "GET /supported": () => served.getSupported(),
  };
  const app = express().use(express.json());
  app.use(async (request, response) => {
    const route = routes[`${request.method} ${request.path}`];
    if (!route) return response.status(404).end();
    try {
      response.json(await route(request.body ?? {}));
    } catch (error) {
      response.status(500).json({ error: error.message });
    }
  });
  ready({ listening: await listen(createServer(app)) });
}

async function server() {
  const resources = new x402ResourceServer(new HTTPFacilitatorClient({ url: need("FACILITATOR_URL") }))
    .register(NETWORK, new ExactServer())
    .register(NETWORK, new UptoServer());
  const payTo = need("PAY_TO");
  const domain = { name: "USDC", version: "2" };
  // A price in atomic units, so that the entry is Permit2's although the token has EIP-3009.
  const price = { amount: String(AMOUNT), asset: TOKEN, extra: { assetTransferMethod: "permit2", ...domain } };
  const exact = { scheme: "exact", network: NETWORK, payTo, price };
  const eip3009 = { scheme: "exact", network: NETWORK, payTo, price: PRICE };
  const upfront = { ...eip3009, extra: { paymentFlow: "upfront" } };
  const upto = { scheme: "upto", network: NETWORK, payTo, price: PRICE };
  const both = { ...declareEip2612GasSponsoringExtension(), ...declareErc20ApprovalGasSponsoringExtension() };
  const app = express();
  app.use(
    paymentMiddleware(
      {
        "GET /exact": { accepts: exact, extensions: both },
        "GET /approved": { accepts: exact, extensions: declareErc20ApprovalGasSponsoringExtension() },
        "GET /upto": { accepts: upto, extensions: both },
        "GET /eip3009": { accepts: eip3009 },
        "GET /upfront": { accepts: upfront },
      },
      resources,
    ),
  );
  app.get(["/exact", "/approved", "/eip3009", "/upfront"], (_, response) => response.json(BODY));
  app.get("/upto", (_, response) => {
    setSettlementOverrides(response, { amount: "10%" });
    response.json(BODY);
  });
  ready({ listening: await listen(createServer(app)) });
}

async function client(url) {
  const rpcUrl = need("RPC_URL");
  const payer = account(Number(process.env.PAYER ?? 1));
  const signer = toClientEvmSigner(payer, chainClient(rpcUrl));
  const schemes = [new ExactClient(signer, { rpcUrl }), new UptoClient(signer, { rpcUrl })];
  const pay = wrapFetchWithPaymentFromConfig(fetch, {
    schemes: schemes.map((scheme) => ({ network: NETWORK, client: scheme })),
  });
  const response = await pay(url);
  const header = response.headers.get("PAYMENT-RESPONSE");
  const overrides = response.headers.get("Settlement-Overrides");
  const body = await response.text();
  const payment = header && decodePaymentResponseHeader(header);
  const required = response.headers.get("PAYMENT-REQUIRED");
  const error = required && decodePaymentRequiredHeader(required).error;
  console.log(JSON.stringify({ status: response.status, body, payment, overrides, error }));
  process.exitCode = response.ok ? 0 : 1;
}

const roles = { facilitator, server, client };
await roles[process.argv[2]](process.argv[3]);
