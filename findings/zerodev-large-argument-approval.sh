#!/usr/bin/env bash
# npm @zerodev/permissions 5.6.3 with @zerodev/sdk 5.5.10, @zerodev/ecdsa-validator 5.4.9, viem 2.57.20; Node 20.
#
# Expected: deserializePermissionAccount reads what serializePermissionAccount wrote: ZeroDev's guide to transaction automation
#   has the owner send that text to the agent. A call policy takes the arguments of the contract's function, uint256 too.
# Seen: an argument of 33 decimal digits or more (a balance's upper bound, an id made of a hash) is signed and serialized,
#   and the agent cannot read it: the text holds the number in decimal, and reading takes its digits for bytes, 32 at most.
#   The same limit given as a `rules` entry in hex can be read. Output:
#     99999999999999999999999999999999: read, permission 0x…
#     100000000000000000000000000000000: Hex size (33) exceeds padding size (32).
#     maxUint256: Hex size (78) exceeds padding size (32).
#     maxUint256 as a rule in hex: read, permission 0x…
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact @zerodev/permissions@5.6.3 @zerodev/sdk@5.5.10 \
  @zerodev/ecdsa-validator@5.4.9 tslib@2.9.1 viem@2.57.20
cat > run.mjs <<'JS'
import { createPublicClient, custom, erc20Abi, maxUint256, numberToHex, toFunctionSelector } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";
import { createKernelAccount } from "@zerodev/sdk";
import { getEntryPoint, KERNEL_V3_1 } from "@zerodev/sdk/constants";
import { signerToEcdsaValidator } from "@zerodev/ecdsa-validator";
import { deserializePermissionAccount, serializePermissionAccount, toPermissionValidator } from "@zerodev/permissions";
import { CallPolicyVersion, ParamCondition, toCallPolicy } from "@zerodev/permissions/policies";
import { toECDSASigner } from "@zerodev/permissions/signers";

setTimeout(() => process.exit(3), 60_000).unref();
// A chain without contracts.
const request = async ({ method }) => method === "eth_chainId" ? numberToHex(baseSepolia.id) : "0x";
const client = createPublicClient({ chain: baseSepolia, transport: custom({ request }) });
const common = { entryPoint: getEntryPoint("0.7"), kernelVersion: KERNEL_V3_1 };
const target = "0x036CbD53842c5426634e7929541eC2318f3dCF7e", condition = ParamCondition.LESS_THAN_OR_EQUAL;
const asArgument = value => ({ abi: erc20Abi, functionName: "approve", args: [null, { condition, value }] });
const asRule = value => ({
  selector: toFunctionSelector("approve(address,uint256)"),
  rules: [{ condition, offset: 32, params: [numberToHex(value, { size: 32 })] }],
});

async function send(permission) {
  const key = generatePrivateKey();
  const sudo = await signerToEcdsaValidator(client, { ...common, signer: privateKeyToAccount(generatePrivateKey()) });
  const regular = await toPermissionValidator(client, {
    ...common, signer: await toECDSASigner({ signer: privateKeyToAccount(key) }),
    policies: [toCallPolicy({
      policyVersion: CallPolicyVersion.V0_0_4, permissions: [{ target, valueLimit: 0n, ...permission }],
    })],
  });
  const account = await createKernelAccount(client, {
    ...common, plugins: { sudo, regular }, address: "0x00000000000000000000000000000000000000aa",
  });
  const text = await serializePermissionAccount(account, key);
  try {
    const read = await deserializePermissionAccount(client, common.entryPoint, common.kernelVersion, text);
    const same = read.kernelPluginManager.regularValidator.getIdentifier() === regular.getIdentifier();
    return same ? "read, permission 0x…" : "read, another permission";
  } catch (error) {
    return error.message.split("\n")[0];
  }
}

const lines = [];
for (const value of [10n ** 32n - 1n, 10n ** 32n]) lines.push(`${value}: ${await send(asArgument(value))}`);
lines.push(`maxUint256: ${await send(asArgument(maxUint256))}`);
lines.push(`maxUint256 as a rule in hex: ${await send(asRule(maxUint256))}`);
console.log(lines.join("\n"));
const same = lines.join("\n") === `99999999999999999999999999999999: read, permission 0x…
100000000000000000000000000000000: Hex size (33) exceeds padding size (32).
maxUint256: Hex size (78) exceeds padding size (32).
maxUint256 as a rule in hex: read, permission 0x…`;
if (!same) console.error("changed: this is not the behaviour described");
process.exit(same ? 0 : 1);
JS
node run.mjs
