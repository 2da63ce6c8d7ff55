// Records what the facilitators of both SDKs answer to payments by EIP-3009 with one fault each, each from the same state of a
// chain: `node cases.mjs FILE`, in a copy of this folder. X402_PYTHON, X402_PY and
// X402_CONTRACTS as in `run`.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseAbi } from "viem";
import { balance, startAnvil } from "./anvil.mjs";
import { AMOUNT, NETWORK, TOKEN, account, need, privateKey, start } from "./lib.mjs";
import { typescript } from "./matrix.mjs";

const [PAYER, PAYEE, OTHER, THEIRS] = [1, 4, 6, 5];
const payer = account(PAYER);
const payTo = account(PAYEE).address;
const NONCE = `0x${"07".repeat(32)}`;
const domain = { name: "USDC", version: "2", chainId: 84532, verifyingContract: TOKEN };
const field = (name, type) => ({ name, type });
const types = {
  TransferWithAuthorization: [
    field("from", "address"), field("to", "address"), field("value", "uint256"),
    field("validAfter", "uint256"), field("validBefore", "uint256"), field("nonce", "bytes32"),
  ],
};
const abi = parseAbi([
  "function transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
  "function cancelAuthorization(address,bytes32,bytes)",
  "function transfer(address,uint256) returns (bool)",
]);
const message = {
  from: payer.address, to: payTo, value: AMOUNT, validAfter: 0n, validBefore: 1_900_000_000n, nonce: NONCE,
};
const asked = {
  scheme: "exact", network: NETWORK, amount: String(AMOUNT), asset: TOKEN, payTo, maxTimeoutSeconds: 300,
  extra: { name: "USDC", version: "2" },
};
const sign = (change = {}, over = domain, by = payer) =>
  by.signTypedData({ domain: over, types, primaryType: "TransferWithAuthorization", message: { ...message, ...change } });
const text = ({ value, validAfter, validBefore, ...rest }) =>
  ({ ...rest, value: String(value), validAfter: String(validAfter), validBefore: String(validBefore) });

const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const parts = (signature) => [signature.slice(2, 66), BigInt(`0x${signature.slice(66, 130)}`), Number.parseInt(signature.slice(130), 16)];
const word = (number) => number.toString(16).padStart(64, "0");
const highS = (signature) => {
  const [r, s, v] = parts(signature);
  return `0x${r}${word(ORDER - s)}${(55 - v).toString(16)}`;
};
const compact = (signature) => {
  const [r, s, v] = parts(signature);
  return `0x${r}${word(s | (BigInt(v - 27) << 255n))}`;
};
const byParity = (signature) => signature.slice(0, 130) + (Number.parseInt(signature.slice(130), 16) - 27).toString(16).padStart(2, "0");

/** A payment: what is signed, what is said to be signed, and what is asked. */
async function made({ signed = {}, said = {}, terms = {}, accepted, over, by, spell = (it) => it } = {}) {
  const requirements = { ...asked, ...terms };
  const signature = spell(await sign(signed, over, by));
  const authorization = { ...text({ ...message, ...signed }), ...said };
  return { payload: { signature, authorization }, requirements, accepted: { ...requirements, ...accepted } };
}

const without = (name) => Object.fromEntries(Object.entries(asked.extra).filter(([key]) => key !== name));
const cases = {
  ok: [{}],
  ok_lowercase_addresses: [{ said: { from: payer.address.toLowerCase(), to: payTo.toLowerCase() } }],
  ok_valid_before_max: [{ signed: { validBefore: 2n ** 256n - 1n } }],
  ok_valid_after_one: [{ signed: { validAfter: 1n } }],
  value_plus_one: [{ signed: { value: AMOUNT + 1n } }],
  value_minus_one: [{ signed: { value: AMOUNT - 1n } }],
  value_json_number: [{ said: { value: Number(AMOUNT) } }],
  value_hex: [{ said: { value: "0x2710" } }],
  amount_zero: [{ signed: { value: 0n }, terms: { amount: "0" } }],
  to_other: [{ signed: { to: account(OTHER).address } }],
  to_zero: [{ signed: { to: `0x${"00".repeat(20)}` }, terms: { payTo: `0x${"00".repeat(20)}` } }],
  valid_before_past: [{ signed: { validBefore: 1_700_000_000n } }],
  valid_after_future: [{ signed: { validAfter: 1_890_000_000n } }],
  signed_by_other: [{ by: account(OTHER) }],
  signed_other_nonce: [{ said: { nonce: `0x${"08".repeat(32)}` } }],
  signed_domain_version_1: [{ over: { ...domain, version: "1" } }],
  signed_domain_other_chain: [{ over: { ...domain, chainId: 1 } }],
  signature_empty: [{ spell: () => "0x" }],
  signature_absent: [{ spell: () => undefined }],
  signature_high_s: [{ spell: highS }],
  signature_eip2098_compact: [{ spell: compact }],
  signature_v_parity: [{ spell: byParity }],
  nonce_31_bytes: [{ said: { nonce: `0x${"07".repeat(31)}` } }],
  payload_without_authorization: [{ said: undefined }],
  extra_name_missing: [{ terms: { extra: without("name") } }],
  extra_version_missing: [{ terms: { extra: without("version") } }],
  extra_name_other: [{ terms: { extra: { ...asked.extra, name: "Other" } } }],
  accepted_network_other: [{ accepted: { network: "eip155:8453" } }],
  accepted_scheme_other: [{ accepted: { scheme: "upto" } }],
  asset_is_eoa: [{ terms: { asset: account(OTHER).address }, over: { ...domain, verifyingContract: account(OTHER).address } }],
  balance_short: [{}, "balance(payer)=9999"],
  authorization_used: [{}, "the authorization was used by another account"],
  authorization_cancelled: [{}, "the payer cancelled the authorization"],
};

const anvil = await startAnvil([PAYER]);
// Both SDKs ask Multicall3 why a simulation failed.
const multicall = `0x${readFileSync(join(need("X402_CONTRACTS"), "third-party/Multicall3.bin")).toString("hex")}`;
await anvil.client.request({ method: "anvil_setCode", params: ["0xcA11bde05977b3631167028862bE2a173976CA11", multicall] });
await anvil.client.request({ method: "anvil_setBalance", params: [account(THEIRS).address, "0x56bc75e2d63100000"] });

/** Sends a call from an account without its key. */
async function send(from, functionName, args) {
  await anvil.client.request({ method: "anvil_setBalance", params: [from, "0x56bc75e2d63100000"] });
  await anvil.client.request({ method: "anvil_impersonateAccount", params: [from] });
  const hash = await anvil.client.writeContract({ account: from, address: TOKEN, abi, functionName, args });
  await anvil.client.waitForTransactionReceipt({ hash });
  await anvil.client.request({ method: "anvil_stopImpersonatingAccount", params: [from] });
}

const states = {
  "balance(payer)=9999": async () =>
    send(payer.address, "transfer", [account(OTHER).address, (await balance(anvil.client, payer.address)) - 9_999n]),
  "the authorization was used by another account": async () =>
    send(account(OTHER).address, "transferWithAuthorization", [...Object.values(message), await sign()]),
  "the payer cancelled the authorization": async () => {
    const signature = await payer.signTypedData({
      domain, types: { CancelAuthorization: [field("authorizer", "address"), field("nonce", "bytes32")] },
      primaryType: "CancelAuthorization", message: { authorizer: payer.address, nonce: NONCE },
    });
    await send(account(OTHER).address, "cancelAuthorization", [payer.address, NONCE, signature]);
  },
};

// Each case has a facilitator of its own: they count their transactions, which the chain takes back.
const facilitators = {
  typescript: () => typescript.facilitator(anvil.rpc),
  python: () => start(need("X402_PYTHON"), [join(need("X402_PY"), "roles.py"), "facilitator", anvil.rpc, privateKey(THEIRS)], { name: "py" }),
};
const recorded = [];
for (const [id, [what, state]] of Object.entries(cases)) {
  const { payload, requirements, accepted } = await made(what);
  if (id === "payload_without_authorization") delete payload.authorization;
  const paymentPayload = { x402Version: 2, accepted, payload };
  const entry = { id, chainState: state ? [state] : [], paymentPayload, verifyRequirements: requirements };
  for (const [name, begin] of Object.entries(facilitators)) {
    const facilitator = await begin();
    const snapshot = await anvil.client.request({ method: "evm_snapshot", params: [] });
    if (state) await states[state]();
    const before = await balance(anvil.client, requirements.payTo);
    const ask = async (path) => {
      const response = await fetch(`${facilitator.listening}/${path}`, {
        method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify({ x402Version: 2, paymentPayload, paymentRequirements: requirements }),
      });
      try {
        const { isValid, invalidReason, success, errorReason } = await response.json();
        return path === "verify" ? { isValid, invalidReason } : { success, errorReason };
      } catch {
        return {};
      }
    };
    const [verify, settle] = [await ask("verify"), await ask("settle")];
    const payToReceived = String((await balance(anvil.client, requirements.payTo)) - before);
    entry[name] = { verify, settle, payToReceived };
    await anvil.client.request({ method: "evm_revert", params: [snapshot] });
    await facilitator.stop();
  }
  recorded.push(entry);
  console.log(id, JSON.stringify(entry.typescript), JSON.stringify(entry.python));
}
writeFileSync(process.argv[2], `${JSON.stringify({ facilitatorCases: recorded }, null, 1)}\n`);
await anvil.stop();
