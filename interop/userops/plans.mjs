// Plans of credits (`nvm:erc4337`) on anvil: keys and statements by ZeroDev's SDK, and our facilitator over HTTP.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { keccak256, parseEventLogs, stringToHex, toFunctionSelector, toHex, zeroAddress } from "viem";
import { entryPoint07Abi } from "viem/account-abstraction";
import { attempt, finish } from "./checks.mjs";
import { PLANS, balance, fund, plansAbi, startChain } from "./chain.mjs";
import { CHAIN_ID, NETWORK, TOKEN, account, privateKey } from "./lib.mjs";
import { rust } from "./rust.mjs";
import { approve, atMost, equal, kernel } from "./zerodev.mjs";

const [OWNER, SELLER, STRANGER, SESSION_SIGNER] = [1, 3, 4, 6];
const PLAN = 42n;
const PRICE = 1_000_000n;
const CREDITS = 10n;
const MOST = 5n;
const RESOURCE = "https://agent.example/tasks";

const chain = await startChain();
const { client } = chain;
const plan = {
  token: TOKEN,
  seller: account(SELLER).address,
  price: PRICE,
  credits: CREDITS,
  minimum: 1n,
  maximum: CREDITS,
  duration: 0n,
  payAsYouGo: false,
  known: true,
};
const contract = { address: PLANS, abi: plansAbi };
const registered = await client.writeContract({ ...contract, functionName: "register", args: [PLAN, plan] });
assert.equal((await client.waitForTransactionReceipt({ hash: registered })).status, "success");
const section = `
[network.nvm]
session_signer = { env = "INTEROP_SESSION_SIGNER" }
undeployed = true
[[network.nvm.plan]]
id = "${PLAN}"
template = "${PLANS}"
credits = "${PLANS}"
token = "${TOKEN}"
spender = "${PLANS}"
price = "${PRICE}"
credits_per_order = "${CREDITS}"
maximum = "${CREDITS}"
`;
const facilitator = await rust.facilitator(chain.rpc, section, { INTEROP_SESSION_SIGNER: privateKey(SESSION_SIGNER) });

const { kinds } = await (await fetch(`${facilitator.listening}/supported`)).json();
const { sessionSigner } = kinds.find(({ scheme }) => scheme === "nvm:erc4337").extra;
const accepted = {
  scheme: "nvm:erc4337",
  network: NETWORK,
  planId: String(PLAN),
  extra: { version: "1", httpVerb: "POST", sessionSigner },
};
const paymentRequired = {
  x402Version: 2,
  error: "Payment required",
  resource: { url: RESOURCE },
  accepts: [accepted],
  extensions: {},
};

// The account, and the calls that its keys permit: the plan's, with its id and bounds on every amount.
const { address: from } = await kernel(client, account(OWNER));
const call = (target, signature, rules) => ({
  target,
  selector: toFunctionSelector(signature),
  valueLimit: 0n,
  rules,
});
const approval = call(TOKEN, "approve(address,uint256)", [equal(0, PLANS), atMost(32, PRICE)]);
const order = call(PLANS, "order(bytes32,uint256,address,uint256,bytes[])", [
  equal(32, toHex(PLAN)),
  equal(64, from),
  atMost(96, 1n),
]);
const burn = call(PLANS, "burn(address,uint256,uint256,uint256,bytes)", [
  equal(0, from),
  equal(32, toHex(PLAN)),
  atMost(64, MOST),
]);
const validUntil = Math.floor(Date.now() / 1000) + 3600;
const key = async (id, calls, { signer = sessionSigner, ...options } = {}) => {
  const { address, text } = await approve(client, account(OWNER), signer, calls, { validUntil, ...options });
  assert.equal(address, from);
  return { id, data: text };
};

const types = {
  PaymentPayload: [
    { name: "from", type: "address" },
    { name: "sessionKeysProvider", type: "string" },
    { name: "sessionKeys", type: "SessionKey[]" },
    { name: "planId", type: "uint256" },
    { name: "agentId", type: "string" },
    { name: "resourceUrl", type: "string" },
    { name: "httpVerb", type: "string" },
    { name: "nonce", type: "bytes32" },
  ],
  SessionKey: [
    { name: "id", type: "string" },
    { name: "hash", type: "bytes32" },
  ],
};
/** A payment with these keys, signed by the SDK's account of an owner. */
async function payment(keys, { owner = OWNER, nonce = toHex(randomBytes(32)) } = {}) {
  const signer = await kernel(client, account(owner), { address: from });
  const authorization = { from, sessionKeysProvider: "zerodev", sessionKeys: keys, nonce, resourceUrl: RESOURCE };
  const signature = await signer.signTypedData({
    domain: { name: "nvm:erc4337", version: "1", chainId: CHAIN_ID },
    types,
    primaryType: "PaymentPayload",
    message: {
      from,
      sessionKeysProvider: "zerodev",
      sessionKeys: keys.map(({ id, data }) => ({ id, hash: keccak256(stringToHex(data)) })),
      planId: PLAN,
      agentId: "",
      resourceUrl: RESOURCE,
      httpVerb: "POST",
      nonce,
    },
  });
  const payload = { signature, authorization };
  return { x402Version: 2, resource: { url: RESOURCE }, accepted, payload, extensions: {} };
}

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
  assert.deepEqual([again.status, again.success, again.errorReason], [200, false, "INVALID_PAYLOAD"], shown(again));
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
