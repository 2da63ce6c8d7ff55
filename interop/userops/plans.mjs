// Plans of credits (`nvm:erc4337`) on anvil: keys and statements by ZeroDev's SDK, and our facilitator over HTTP.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { parseEventLogs, toHex, zeroAddress } from "viem";
import { entryPoint07Abi } from "viem/account-abstraction";
import { attempt, finish } from "./checks.mjs";
import { PLANS, balance, fund, plansAbi } from "./chain.mjs";
import { account } from "./lib.mjs";
import {
  CREDITS, MOST, PLAN, PRICE, SELLER, SESSION_SIGNER, STRANGER, approval, burn, chain, contract, facilitator, from, key, order,
  payment, paymentRequired, sessionSigner, validUntil,
} from "./plan.mjs";

const { client } = chain;

/** Asks the facilitator as a server does. */
async function ask(path, paid, amount, { id, key } = {}) {
  const token = Buffer.from(JSON.stringify(paid)).toString("base64");
  const body = { paymentRequired, paymentPayload: token, maxAmount: String(amount), agentRequestId: id };
  const headers = { "content-type": "application/json", ...(key ? { "idempotency-key": key } : {}) };
  const response = await fetch(facilitator.listening + path, { method: "POST", headers, body: JSON.stringify(body) });
  return { status: response.status, ...(await response.json()) };
}
const verify = (paid, amount, options) => ask("/verify", paid, amount, options);
const settle = (paid, amount, options) => ask("/settle", paid, amount, options);

const shown = (answer) => JSON.stringify(answer, null, 2);
const credits = () => client.readContract({ ...contract, functionName: "balanceOf", args: [from, PLAN] });
const earned = () => balance(client, account(SELLER).address);
/** `TransferSingle` of the plans' contract in a transaction that succeeded. */
async function moved(hash) {
  const receipt = await client.getTransactionReceipt({ hash });
  assert.equal(receipt.status, "success");
  const logs = receipt.logs.filter(({ address }) => address.toLowerCase() === PLANS);
  return parseEventLogs({ abi: plansAbi, eventName: "TransferSingle", logs }).map(({ args }) => args);
}
/** How Kernel took the operation in a transaction: the first byte of its nonce, 1 enables the key, 0 is default mode. */
async function mode(hash) {
  const { logs } = await client.getTransactionReceipt({ hash });
  const [{ args }, ...others] = parseEventLogs({ abi: entryPoint07Abi, eventName: "UserOperationEvent", logs });
  assert.deepEqual([args.success, others], [true, []]);
  return args.nonce >> 248n;
}
/** Refused for this reason by both routes, and nothing moves. */
async function refused(paid, amount, reason) {
  const before = [await credits(), await earned()];
  const verdict = await verify(paid, amount);
  assert.equal(verdict.isValid, false, shown(verdict));
  assert.deepEqual([verdict.invalidReason, verdict.error.code], [reason, reason], shown(verdict));
  const receipt = await settle(paid, amount);
  assert.deepEqual([receipt.success, receipt.errorReason, receipt.transaction], [false, reason, ""], shown(receipt));
  assert.deepEqual([await credits(), await earned()], before);
  return verdict;
}

await fund(client, from, 10n * PRICE);
const orderKey = await key("order", [approval, order]);
const redeemKey = await key("redeem", [burn]);
const keys = [orderKey, redeemKey];
const first = {};

await attempt("/supported names the session signer", async () => {
  assert.equal(sessionSigner.toLowerCase(), account(SESSION_SIGNER).address.toLowerCase());
});
await attempt("short of credits, without an order key, account not deployed: INSUFFICIENT_BALANCE", async () => {
  const verdict = await refused(await payment([redeemKey]), 3n, "INSUFFICIENT_BALANCE");
  const { clientAddress, requiredBalance, currentBalance } = verdict.error.details;
  assert.deepEqual([clientAddress.toLowerCase(), requiredBalance, currentBalance], [from.toLowerCase(), "3", "0"]);
});
await attempt("the first request: verification moves nothing, and the statement is ERC-6492's", async () => {
  assert.equal(await client.getCode({ address: from }), undefined);
  first.paid = await payment(keys);
  assert.ok(first.paid.payload.signature.endsWith("6492".repeat(16)));
  const verdict = await verify(first.paid, 3n);
  assert.equal(verdict.isValid, true, shown(verdict));
  first.id = verdict.agentRequestId;
  assert.deepEqual([await credits(), await earned()], [0n, 0n]);
});
await attempt("the first request: deploys, orders and redeems", async () => {
  const receipt = await settle(first.paid, 3n, { id: first.id, key: "first" });
  assert.equal(receipt.success, true, shown(receipt));
  assert.deepEqual([receipt.creditsRedeemed, receipt.remainingBalance], ["3", "7"], shown(receipt));
  assert.notEqual(receipt.orderTx, receipt.transaction);
  assert.equal(receipt.transaction, receipt.transactionHash);
  first.receipt = receipt;
  const single = (sender, to, value) => [{ operator: from, from: sender, to, id: PLAN, value }];
  assert.deepEqual(await moved(receipt.orderTx), single(zeroAddress, from, CREDITS));
  assert.deepEqual(await moved(receipt.transaction), single(from, zeroAddress, 3n));
  assert.deepEqual([await mode(receipt.orderTx), await mode(receipt.transaction)], [1n, 1n]);
  assert.deepEqual([await credits(), await earned()], [7n, PRICE]);
});
await attempt("the same request again, by its name: the same receipt, replayed", async () => {
  const { replayed, ...again } = await settle(first.paid, 3n, { id: first.id, key: "first" });
  assert.deepEqual([replayed, again], [true, first.receipt]);
  assert.equal(await credits(), 7n);
});
await attempt("the same id without a name: paid, and told before", async () => {
  const again = await settle(first.paid, 3n, { id: first.id });
  assert.deepEqual([again.status, again.success, again.errorReason], [409, false, "INVALID_PAYLOAD"], shown(again));
  assert.equal(again.error.details.nvmCode, "BCK.X402.0059");
  assert.deepEqual([again.transaction, again.orderTx], [first.receipt.transaction, first.receipt.orderTx]);
  assert.equal(await credits(), 7n);
});
await attempt("the same nonce under another id: refused", async () => {
  const verdict = await verify(first.paid, 3n);
  assert.deepEqual([verdict.isValid, verdict.invalidReason], [false, "INVALID_PAYLOAD"], shown(verdict));
  assert.equal(verdict.error.details.nvmCode, "BCK.X402.0059");
  const receipt = await settle(first.paid, 3n, { key: "another" });
  assert.deepEqual([receipt.status, receipt.errorReason], [409, "duplicate_settlement"], shown(receipt));
  assert.equal(await credits(), 7n);
});
await attempt("the second request: redeems alone, the account deployed, the key in default mode", async () => {
  const paid = await payment(keys);
  assert.ok(!paid.payload.signature.endsWith("6492".repeat(16)));
  const verdict = await verify(paid, 3n);
  assert.equal(verdict.isValid, true, shown(verdict));
  const receipt = await settle(paid, 3n, { id: verdict.agentRequestId });
  assert.deepEqual([receipt.success, receipt.orderTx], [true, undefined], shown(receipt));
  assert.notEqual(receipt.transaction, first.receipt.transaction);
  assert.deepEqual(await moved(receipt.transaction), [{ operator: from, from, to: zeroAddress, id: PLAN, value: 3n }]);
  assert.equal(await mode(receipt.transaction), 0n);
  assert.deepEqual([await credits(), await earned()], [4n, PRICE]);
});
await attempt("a redeem key alone beyond the balance: INSUFFICIENT_BALANCE with details", async () => {
  const verdict = await refused(await payment([redeemKey]), 5n, "INSUFFICIENT_BALANCE");
  const { clientAddress, requiredBalance, currentBalance } = verdict.error.details;
  assert.deepEqual([clientAddress.toLowerCase(), requiredBalance, currentBalance], [from.toLowerCase(), "5", "4"]);
});
await attempt("more than the redeem key's rule: INVALID_USER_OPERATION", async () => {
  await refused(await payment(keys), MOST + 1n, "INVALID_USER_OPERATION");
});
await attempt("a key of another session signer: INVALID_USER_OPERATION", async () => {
  const foreign = await key("redeem", [burn], { signer: account(STRANGER).address });
  await refused(await payment([foreign]), 1n, "INVALID_USER_OPERATION");
});
await attempt("a key that may sign in the account's name: INVALID_USER_OPERATION", async () => {
  const open = await key("redeem", [burn], { closed: false });
  await refused(await payment([open]), 1n, "INVALID_USER_OPERATION");
});
await attempt("a key that is past its end: EXPIRED_SESSION_KEY", async () => {
  const past = await key("redeem", [burn], { validUntil: validUntil - 7200 });
  await refused(await payment([past]), 1n, "EXPIRED_SESSION_KEY");
});
await attempt("a statement that another owner signed: INVALID_SIGNATURE", async () => {
  await refused(await payment(keys, { owner: STRANGER }), 1n, "INVALID_SIGNATURE");
});
await attempt("a signature over another nonce: INVALID_SIGNATURE", async () => {
  const paid = await payment(keys);
  paid.payload.authorization.nonce = toHex(randomBytes(32));
  await refused(paid, 1n, "INVALID_SIGNATURE");
});

await Promise.all([facilitator, chain].map((child) => child.stop()));
finish();
