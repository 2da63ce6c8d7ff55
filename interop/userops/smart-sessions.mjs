// Signatures of Smart Sessions between Rhinestone's module SDK and the Rust crates: whoever writes one, the other reads
// the same out of it. The contract is on no registry, so nothing is executed.
import {
  SmartSessionMode,
  decodeSmartSessionSignature,
  encodeSmartSessionSignature,
  getPermissionId,
} from "@rhinestone/module-sdk";
import assert from "node:assert/strict";
import { concat, keccak256, pad, toHex } from "viem";
import { CHAIN_ID, TOKEN, account } from "./lib.mjs";
import { ours } from "./ours.mjs";

const policy = (byte, size) => ({
  policy: pad(toHex(byte), { size: 20, dir: "right" }),
  initData: size ? toHex(byte, { size }) : "0x",
});
const session = {
  sessionValidator: account(6).address,
  sessionValidatorInitData: concat([pad(toHex(1), { size: 32 }), account(2).address.toLowerCase()]),
  salt: keccak256("0x01"),
  userOpPolicies: [policy(0x11, 12), policy(0x12, 0)],
  erc7739Policies: {
    allowedERC7739Content: [{ appDomainSeparator: keccak256("0x02"), contentName: ["Permit(address owner)", ""] }],
    erc1271Policies: [policy(0x13, 16)],
  },
  actions: [
    { actionTargetSelector: "0xa9059cbb", actionTarget: TOKEN, actionPolicies: [policy(0x14, 608), policy(0x15, 32)] },
    { actionTargetSelector: "0x00000001", actionTarget: account(7).address, actionPolicies: [policy(0x16, 0)] },
  ],
  permitERC4337Paymaster: true,
  // Of the SDK only: the contract takes none.
  chainId: BigInt(CHAIN_ID),
};
const permissionId = getPermissionId({ session });
const signature = keccak256("0x03") + keccak256("0x04").slice(2) + "1b";
const data = (accountType) => ({
  enableSession: {
    chainDigestIndex: 1,
    hashesAndChainIds: [
      { chainId: 2n ** 64n - 1n, sessionDigest: keccak256("0x05") },
      { chainId: BigInt(CHAIN_ID), sessionDigest: keccak256("0x06") },
    ],
    sessionToEnable: session,
    permissionEnableSig: keccak256("0x07") + keccak256("0x08").slice(2) + "1c",
  },
  validator: account(8).address,
  accountType,
});

/** JSON with numbers as Biconomy writes them. */
const details = (value) =>
  JSON.stringify(value, (_, v) => (typeof v === "bigint" ? { __type: "bigint", value: String(v) } : v));
/** One spelling of what a signature holds: the owner's as the contract takes it, no case of addresses. */
function held({ mode, permissionId, signature, enableSessionData }) {
  if (!enableSessionData) return same({ mode, permissionId, signature });
  const { enableSession, validator } = enableSessionData;
  const { chainId: _, ...sessionToEnable } = enableSession.sessionToEnable;
  const permissionEnableSig = concat([validator, enableSession.permissionEnableSig]);
  return same({ mode, permissionId, signature, enableSession: { ...enableSession, sessionToEnable, permissionEnableSig } });
}
const same = (value) =>
  JSON.parse(JSON.stringify(value, (_, v) => (typeof v === "bigint" ? String(v) : /^0x/.test(v) ? v.toLowerCase() : v)));

export async function smartSessions(attempt) {
  const rust = (args, input) => ours("X402_SMART_SESSION_BIN", args, {}, input);
  for (const type of ["nexus", "safe"]) {
    for (const [name, mode] of Object.entries(SmartSessionMode)) {
      const enableSessionData = data(type);
      const whole = { mode, permissionId, signature, enableSessionData };
      const expected = held(mode === SmartSessionMode.USE ? { mode, permissionId, signature } : whole);
      await attempt(`a Smart Sessions signature, ${type}, ${name}: by typescript, read by rust`, async () => {
        const written = encodeSmartSessionSignature(whole);
        assert.deepEqual(same(JSON.parse(await rust(["decode"], written))), expected);
        await assert.rejects(rust(["decode"], `0x03${written.slice(4)}`), /Mode\(3\)/);
      });
      await attempt(`a Smart Sessions signature, ${type}, ${name}: by rust, read by typescript`, async () => {
        const written = await rust(["encode", signature], details([{ ...whole, signature: "0x" }]));
        const read = decodeSmartSessionSignature({ signature: written, account: { type } });
        const { accountType: _, ...rest } = read.enableSessionData ?? {};
        assert.deepEqual(held({ ...read, enableSessionData: read.enableSessionData && rest }), expected);
      });
    }
  }
}
