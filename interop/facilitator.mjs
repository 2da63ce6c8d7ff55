// A facilitator on the published @x402/core and @x402/evm: POST /verify, POST /settle, GET /supported.
// RPC_URL; SIGNER: index of the anvil account, 0 unless told; CONFIRMATION_TIMEOUT_MS.
import { createServer } from "node:http";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/facilitator";
import { NETWORK, account, chainClient, listen, need, ready } from "./lib.mjs";

const client = chainClient(need("RPC_URL"), account(Number(process.env.SIGNER ?? 0)));
const signer = toFacilitatorEvmSigner(
  { ...client, address: client.account.address },
  { confirmationTimeoutMs: Number(process.env.CONFIRMATION_TIMEOUT_MS ?? 30_000) },
);
const facilitator = new x402Facilitator()
  .register(NETWORK, new ExactEvmScheme(signer))
  .registerV1("base-sepolia", new ExactEvmSchemeV1(signer));

const routes = {
  "POST /verify": ({ paymentPayload, paymentRequirements }) => facilitator.verify(paymentPayload, paymentRequirements),
  "POST /settle": ({ paymentPayload, paymentRequirements }) => facilitator.settle(paymentPayload, paymentRequirements),
  "GET /supported": () => facilitator.getSupported(),
};
const server = createServer(async (request, response) => {
  const answer = (status, value) => {
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
  };
  const route = routes[`${request.method} ${request.url}`];
  if (!route) return answer(404, { error: "not found" });
  try {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    answer(200, await route(chunks.length ? JSON.parse(Buffer.concat(chunks)) : {}));
  } catch (error) {
    answer(500, { error: error.message });
  }
});
ready({ listening: await listen(server) });
