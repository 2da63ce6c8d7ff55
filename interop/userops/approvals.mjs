// Approvals of ZeroDev's SDK for each Kernel from 0.3.1 and each call policy that it knows, and ours beside them: without
// a chain, so what is compared is the account, the permission and the owner's signature.
import { getKernelAddressFromECDSA } from "@zerodev/ecdsa-validator";
import { CallPolicyVersion, ParamCondition } from "@zerodev/permissions/policies";
import { KERNEL_V3_1, KERNEL_V3_2, KERNEL_V3_3 } from "@zerodev/sdk/constants";
import assert from "node:assert/strict";
import { createPublicClient, custom, keccak256, pad, toHex } from "viem";
import { CHAIN_ID, TOKEN, account, privateKey } from "./lib.mjs";
import { ours } from "./ours.mjs";
import { approve, entryPoint, issue } from "./zerodev.mjs";

const [owner, session, recipient] = [account(1), account(2).address, account(5).address];
const MOST = 5n;

/** A chain on which nothing stands: the SDK then takes the account's nonce for 1. */
const answers = { eth_chainId: toHex(CHAIN_ID), eth_getCode: "0x", eth_call: "0x" };
const client = createPublicClient({
  transport: custom({
    request: async ({ method }) => {
      if (!(method in answers)) throw new Error(`the SDK asks for ${method}`);
      return answers[method];
    },
  }),
});
const addressOf = (kernelVersion, index) =>
  getKernelAddressFromECDSA({ publicClient: client, entryPoint, kernelVersion, eoaAddress: owner.address, index });

const word = (value) => pad(toHex(value), { size: 32 });
const [equal, most, oneOf, slice] = ["equal", "less_or_equal", "one_of", "slice_equal"];
const codes = {
  [equal]: ParamCondition.EQUAL,
  [most]: ParamCondition.LESS_THAN_OR_EQUAL,
  [oneOf]: ParamCondition.ONE_OF,
  [slice]: ParamCondition.SLICE_EQUAL,
};
const plain = [
  { offset: 0, condition: equal, params: [word(42)] },
  { offset: 32, condition: most, params: [word(MOST)] },
];
const choice = { offset: 64, condition: oneOf, params: [word(1), word(2)] };
const part = { offset: 96, condition: slice, params: [word(1), word(4), keccak256("0x01020304")] };
/** The conditions grew with the versions. */
const rulesOf = {
  [CallPolicyVersion.V0_0_1]: plain,
  [CallPolicyVersion.V0_0_2]: [...plain, choice],
  [CallPolicyVersion.V0_0_3]: [...plain, choice],
  [CallPolicyVersion.V0_0_4]: [...plain, choice],
  [CallPolicyVersion.V0_0_5]: [...plain, choice, part],
};
/** A rule as the SDK takes it: 0.0.1 has one parameter where the later ones have a list. */
const given = (version) => (rule) => ({
  offset: rule.offset,
  condition: codes[rule.condition],
  params: version === CallPolicyVersion.V0_0_1 ? rule.params[0] : rule.params,
});
const parsed = (text) => JSON.parse(Buffer.from(text, "base64").toString());

export async function approvals(attempt) {
  const inspect = (text, chain) =>
    ours("X402_BIN", ["session", "inspect", "--json", "--signer", session, "--chain-id", String(chain)], {}, text);
  for (const kernelVersion of [KERNEL_V3_1, KERNEL_V3_2, KERNEL_V3_3]) {
    for (const [index, policyVersion] of Object.values(CallPolicyVersion).entries()) {
      const name = `an approval by typescript, Kernel ${kernelVersion}, call policy ${policyVersion}: is read by rust`;
      await attempt(name, async () => {
        const rules = rulesOf[policyVersion];
        const call = { target: TOKEN, selector: "0xa9059cbb", valueLimit: 7n };
        const address = await addressOf(kernelVersion, BigInt(index));
        const options = { index: BigInt(index), kernelVersion, policyVersion, address };
        const permissions = [{ ...call, rules: rules.map(given(policyVersion)) }];
        const { text, permissionId } = await approve(client, owner, session, permissions, options);
        const seen = JSON.parse(await inspect(text, CHAIN_ID));
        assert.equal(seen.account.toLowerCase(), address.toLowerCase());
        assert.equal(seen.owner.toLowerCase(), owner.address.toLowerCase());
        assert.equal(seen.kernelVersion, kernelVersion);
        assert.equal(seen.permissionId, permissionId);
        assert.equal(seen.enableSignature, "valid");
        assert.equal(seen.calls.length, 1);
        const [{ target, selector, valueLimit }] = seen.calls;
        assert.deepEqual([target.toLowerCase(), selector, valueLimit], [TOKEN.toLowerCase(), call.selector, "7"]);
        assert.deepEqual(seen.calls[0].rules, rules);
        // On another chain it is not the owner's.
        await assert.rejects(inspect(text, 1), /not the owner's/);
      });
    }
    await attempt(`an approval by rust, Kernel ${kernelVersion}: is the one that typescript makes`, async () => {
      const call = `${TOKEN}:0xa9059cbb:0=${BigInt(recipient)}:32<=${MOST}`;
      const args = ["--signer", session, "--chain-id", CHAIN_ID, "--call", call, "--valid-until", 1_900_000_000];
      const env = { X402_PRIVATE_KEY: privateKey(1) };
      const all = ["session", "issue", ...args, "--kernel", kernelVersion, "--index", 9];
      const rust = parsed(await ours("X402_BIN", all.map(String), env));
      const address = await addressOf(kernelVersion, 9n);
      const options = { kernelVersion, address };
      const typescript = parsed((await issue(client, owner, session, recipient, MOST, 9n, options)).text);
      const told = ({ accountParams, permissionParams, enableSignature }) =>
        [accountParams.accountAddress, accountParams.initCode, permissionParams.permissionId, enableSignature]
          .map((value) => value.toLowerCase());
      assert.deepEqual(told(rust), told(typescript));
    });
  }
}
