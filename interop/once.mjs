// Foreign servers behind our facilitator: one payment, shown five times at once and four times in a row, is served once
// and moves once. THIRDWEB_SERVER names the other server's script.
import { fileURLToPath } from "node:url";
import { decodePaymentRequiredHeader } from "@x402/core/http";
import { balance, startAnvil } from "./anvil.mjs";
import { AMOUNT, BODY, CHAIN_ID, account, need, start } from "./lib.mjs";
import { rust } from "./rust.mjs";

const PAYER = 1;
const payTo = account(3).address;
const servers = {
  "@x402/express 2.27.0": fileURLToPath(new URL("server.mjs", import.meta.url)),
  "thirdweb 5.121.6": need("THIRDWEB_SERVER"),
};

/** The header of one payment, as every client of version 2 makes it, and with the two members that thirdweb looks for. */
async function payment(url) {
  const answer = await fetch(url);
  if (answer.status !== 402) throw new Error(`unpaid: status ${answer.status}`);
  const required = decodePaymentRequiredHeader(answer.headers.get("PAYMENT-REQUIRED"));
  const [accepted] = required.accepts;
  const nonce = `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex")}`;
  const from = account(PAYER).address;
  const validBefore = BigInt(Math.floor(Date.now() / 1000) + 240);
  const message = { from, to: accepted.payTo, value: BigInt(accepted.amount), validAfter: 0n, validBefore, nonce };
  const field = (name, type) => ({ name, type });
  const signature = await account(PAYER).signTypedData({
    domain: { name: accepted.extra.name, version: accepted.extra.version, chainId: CHAIN_ID, verifyingContract: accepted.asset },
    types: {
      TransferWithAuthorization: [
        field("from", "address"), field("to", "address"), field("value", "uint256"),
        field("validAfter", "uint256"), field("validBefore", "uint256"), field("nonce", "bytes32"),
      ],
    },
    primaryType: "TransferWithAuthorization",
    message,
  });
  const authorization = { ...message, value: accepted.amount, validAfter: "0", validBefore: String(validBefore) };
  const { scheme, network } = accepted;
  const payload = { x402Version: 2, scheme, network, resource: required.resource, accepted, payload: { signature, authorization } };
  return Buffer.from(JSON.stringify(payload)).toString("base64");
}

async function show(url, header) {
  const answer = await fetch(url, { headers: { "PAYMENT-SIGNATURE": header } });
  return { status: answer.status, text: await answer.text() };
}

const ways = {
  "five times at once": (url, header) =>
    Promise.all([0, 400, 800, 1200, 1600].map((ms) => show(`${url}?ms=${ms}`, header))),
  "four times in a row": async (url, header) => {
    const answers = [];
    for (let turn = 0; turn < 4; turn += 1) answers.push(await show(url, header));
    return answers;
  },
};

const anvil = await startAnvil([PAYER]);
const facilitator = await rust.facilitator(anvil.rpc);
const started = [anvil, facilitator];
let failed = 0;
for (const [name, script] of Object.entries(servers)) {
  const server = await start(process.execPath, [script], { env: { FACILITATOR_URL: facilitator.listening, PAY_TO: payTo }, name });
  started.push(server);
  for (const [way, shown] of Object.entries(ways)) {
    const before = await balance(anvil.client, payTo);
    const url = `${server.listening}/paid`;
    const answers = await shown(url, await payment(url));
    const moved = (await balance(anvil.client, payTo)) - before;
    const served = answers.filter(({ status, text }) => status === 200 && text === JSON.stringify(BODY)).length;
    const leaked = answers.filter(({ status, text }) => status !== 200 && text.includes(BODY.report)).length;
    const good = served === 1 && leaked === 0 && moved === AMOUNT;
    failed += good ? 0 : 1;
    const seen = `served ${served}, moved ${moved}, statuses ${answers.map(({ status }) => status)}`;
    console.log(`${good ? "ok   " : "FAIL "} ${name}, shown ${way}: ${seen}`);
    if (!good) console.log(server.errors(), answers);
  }
}
await Promise.all(started.reverse().map((child) => child.stop()));
console.log(failed ? `${failed} failed` : "served once each");
process.exit(failed ? 1 : 0);
