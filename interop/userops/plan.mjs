// A plan of credits on anvil, keys and statements by ZeroDev's SDK, and our facilitator that serves the plan.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { keccak256, stringToHex, toFunctionSelector, toHex } from "viem";
import { PLANS, plansAbi, startChain } from "./chain.mjs";
import { CHAIN_ID, NETWORK, TOKEN, account, privateKey } from "./lib.mjs";
import { rust } from "./rust.mjs";
import { approve, atMost, equal, kernel } from "./zerodev.mjs";

export const [OWNER, SELLER, STRANGER, SESSION_SIGNER] = [1, 3, 4, 6];
export const PLAN = 42n;
export const PRICE = 1_000_000n;
export const CREDITS = 10n;
export const MOST = 5n;
export const RESOURCE = "https://agent.example/tasks";

export const chain = await startChain();
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
export const contract = { address: PLANS, abi: plansAbi };
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
export const facilitator = await rust.facilitator(chain.rpc, section, { INTEROP_SESSION_SIGNER: privateKey(SESSION_SIGNER) });

const { kinds } = await (await fetch(`${facilitator.listening}/supported`)).json();
export const { sessionSigner } = kinds.find(({ scheme }) => scheme === "nvm:erc4337").extra;
export const accepted = {
  scheme: "nvm:erc4337",
  network: NETWORK,
  planId: String(PLAN),
  extra: { version: "1", httpVerb: "POST", sessionSigner },
};
export const paymentRequired = {
  x402Version: 2,
  error: "Payment required",
  resource: { url: RESOURCE },
  accepts: [accepted],
  extensions: {},
};

// The account, and the calls that its keys permit: the plan's, with its id and bounds on every amount.
export const { address: from } = await kernel(client, account(OWNER));
const call = (target, signature, rules) => ({
  target,
  selector: toFunctionSelector(signature),
  valueLimit: 0n,
  rules,
});
export const approval = call(TOKEN, "approve(address,uint256)", [equal(0, PLANS), atMost(32, PRICE)]);
export const order = call(PLANS, "order(bytes32,uint256,address,uint256,bytes[])", [
  equal(32, toHex(PLAN)),
  equal(64, from),
  atMost(96, 1n),
]);
export const burn = call(PLANS, "burn(address,uint256,uint256,uint256,bytes)", [
  equal(0, from),
  equal(32, toHex(PLAN)),
  atMost(64, MOST),
]);
export const validUntil = Math.floor(Date.now() / 1000) + 3600;
export const key = async (id, calls, { signer = sessionSigner, ...options } = {}) => {
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
export async function payment(keys, { owner = OWNER, nonce = toHex(randomBytes(32)), entry = accepted, url = RESOURCE } = {}) {
  const signer = await kernel(client, account(owner), { address: from });
  const authorization = { from, sessionKeysProvider: "zerodev", sessionKeys: keys, nonce, resourceUrl: url };
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
      resourceUrl: url,
      httpVerb: "POST",
      nonce,
    },
  });
  const payload = { signature, authorization };
  return { x402Version: 2, resource: { url }, accepted: entry, payload, extensions: {} };
}
