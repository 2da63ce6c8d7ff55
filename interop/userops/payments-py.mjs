// Nevermined's Python SDK, payments-py 1.18.0, behind our facilitator: its client classes and its server's middleware call
// /api/v1/x402/verify and /settle as they do at Nevermined. PAYMENTS_PY names its folder, PYTHON the interpreter that has it.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { fund } from "./chain.mjs";
import { attempt, finish } from "./checks.mjs";
import { BODY, NETWORK, need, start } from "./lib.mjs";
import {
  CREDITS, PLAN, PRICE, approval, burn, chain, contract, facilitator, from, key, order, payment, paymentRequired,
} from "./plan.mjs";

const folder = need("PAYMENTS_PY");
const env = { NVM_BACKEND_URL: facilitator.listening, PLAN_ID: String(PLAN), NETWORK, BODY: JSON.stringify(BODY) };
const python = (script) => start(need("PYTHON"), [join(folder, script)], { env, name: `payments-py ${script}` });
const client = await python("client.py");
assert.equal(client.ready, facilitator.listening);
const lines = createInterface({ input: client.child.stdout })[Symbol.asyncIterator]();

/** Calls a method of the SDK's facilitator class; what it raises comes back as `error`. */
async function call(what, paid, amount, id) {
  const token = Buffer.from(JSON.stringify(paid)).toString("base64");
  const asked = { do: what, payment_required: paymentRequired, x402_access_token: token, max_amount: String(amount) };
  client.child.stdin.write(`${JSON.stringify({ ...asked, ...(id ? { agent_request_id: id } : {}) })}\n`);
  const { value, done } = await lines.next();
  assert.ok(!done, client.errors());
  return JSON.parse(value);
}
const shown = (answer) => JSON.stringify(answer, null, 2);
const credits = () => chain.client.readContract({ ...contract, functionName: "balanceOf", args: [from, PLAN] });

await fund(chain.client, from, 10n * PRICE);
const keys = [await key("order", [approval, order]), await key("redeem", [burn])];
const first = {};

await attempt("client: verify_permissions of a good payment", async () => {
  first.paid = await payment(keys);
  const { answer } = await call("verify", first.paid, 2n);
  assert.equal(answer?.isValid, true, shown(answer));
  assert.equal(answer.payer.toLowerCase(), from.toLowerCase());
  assert.equal(answer.network, NETWORK);
  first.id = answer.agentRequestId;
  assert.ok(first.id);
  assert.equal(await credits(), 0n);
});
await attempt("client: settle_permissions orders and redeems", async () => {
  const { answer, error } = await call("settle", first.paid, 2n, first.id);
  assert.equal(answer?.success, true, shown(answer ?? error));
  assert.deepEqual([answer.creditsRedeemed, answer.remainingBalance, answer.network], ["2", "8", NETWORK]);
  for (const hash of [answer.transaction, answer.orderTx]) {
    assert.equal((await chain.client.getTransactionReceipt({ hash })).status, "success");
  }
  assert.equal(await credits(), CREDITS - 2n);
});
await attempt("client: the spent payment is its AccessTokenAlreadyUsedError, and nothing moves", async () => {
  const { error, answer } = await call("settle", first.paid, 2n);
  assert.deepEqual([error?.code, error?.class], ["BCK.X402.0059", "AccessTokenAlreadyUsedError"], shown(answer ?? error));
  assert.equal(await credits(), CREDITS - 2n);
});
await attempt("client: verify_permissions of a payment that another owner signed", async () => {
  const { answer, error } = await call("verify", await payment(keys, { owner: 4 }), 1n);
  assert.deepEqual([answer?.isValid, answer?.invalidReason], [false, "INVALID_SIGNATURE"], shown(answer ?? error));
});
await attempt("client: settle_permissions of a payment that another owner signed", async () => {
  const { answer, error } = await call("settle", await payment(keys, { owner: 4 }), 1n);
  assert.deepEqual([answer?.success, answer?.errorReason], [false, "INVALID_SIGNATURE"], shown(answer ?? error));
  assert.equal(await credits(), CREDITS - 2n);
});

const server = await python("server.py");
const url = `${server.listening}/tasks`;
const show = async (header, ms = 0) => {
  const response = await fetch(`${url}?ms=${ms}`, { method: "POST", headers: header ? { "payment-signature": header } : {} });
  return { status: response.status, headers: response.headers, text: await response.text() };
};
const decode = (text) => JSON.parse(Buffer.from(text, "base64").toString());

/** A payment for what the middleware asks, as a header. */
async function header() {
  const unpaid = await show();
  assert.equal(unpaid.status, 402, unpaid.text);
  const required = decode(unpaid.headers.get("payment-required"));
  assert.equal(required.resource.url, "/tasks");
  const paid = await payment(keys, { entry: required.accepts[0], url });
  return Buffer.from(JSON.stringify(paid)).toString("base64");
}
await attempt("middleware: serves a payment, with the receipt", async () => {
  const before = await credits();
  const { status, text, headers } = await show(await header());
  assert.deepEqual([status, text], [200, JSON.stringify(BODY)], server.errors());
  assert.equal(decode(headers.get("payment-response")).success, true);
  assert.equal(await credits(), before - 1n);
});
// Its client blocks the server's only thread: all five are verified before the first handler has ended.
const ways = {
  "five times at once": (paid) => Promise.all(Array.from({ length: 5 }, () => show(paid, 2500))),
  "four times in a row": async (paid) => {
    const answers = [];
    for (let turn = 0; turn < 4; turn += 1) answers.push(await show(paid));
    return answers;
  },
};
for (const [way, present] of Object.entries(ways)) {
  await attempt(`middleware: one payment shown ${way} is served once`, async () => {
    const before = await credits();
    const answers = await present(await header());
    const statuses = answers.map(({ status }) => status).sort();
    const served = answers.filter(({ text }) => text.includes(BODY.report)).length;
    assert.deepEqual([served, before - (await credits())], [1, 1n], `${statuses} ${server.errors()}`);
    assert.deepEqual(statuses, [200, ...Array(answers.length - 1).fill(402)]);
  });
}

await Promise.all([server, client, facilitator, chain].map((child) => child.stop()));
finish();
