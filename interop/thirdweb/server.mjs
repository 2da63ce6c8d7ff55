// A seller on thirdweb's settlePayment, which settles without verifying. FACILITATOR_URL, PAY_TO.
import { createServer } from "node:http";
import { facilitator, settlePayment } from "thirdweb/x402";
import { AMOUNT, BODY, NETWORK, TOKEN, listen, need, ready } from "./lib.mjs";

const payTo = need("PAY_TO");
const client = facilitator({ client: { secretKey: "none" }, serverWalletAddress: payTo, baseUrl: need("FACILITATOR_URL") });
// Its own service completes the terms; here they stand as they are.
const accepts = [
  { scheme: "exact", network: NETWORK, amount: String(AMOUNT), asset: TOKEN, payTo, maxTimeoutSeconds: 300, extra: { name: "USDC", version: "2" } },
];
client.accepts = async () => ({ status: 402, responseBody: { accepts } });

const server = createServer(async (request, response) => {
  const url = new URL(request.url, `http://${request.headers.host}`);
  const result = await settlePayment({
    resourceUrl: url.origin + url.pathname,
    method: request.method,
    paymentData: request.headers["payment-signature"],
    payTo,
    network: NETWORK,
    price: "$0.01",
    facilitator: client,
  });
  if (result.status === 200) await new Promise((done) => setTimeout(done, Number(url.searchParams.get("ms") ?? 0)));
  response.writeHead(result.status, { ...result.responseHeaders, "content-type": "application/json" });
  response.end(JSON.stringify(result.status === 200 ? BODY : result.responseBody));
});
ready({ listening: await listen(server) });
