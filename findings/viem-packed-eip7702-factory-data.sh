#!/usr/bin/env bash
# npm viem 2.57.20 (toPackedUserOperation, getUserOperationHash) against the EntryPoint of @account-abstraction/contracts 0.8.0;
# @ethereumjs/evm 10.1.3; Node 20.
#
# Expected: what viem packs for the EntryPoint's handleOps has there the hash that viem has the account sign. An account of
#   EIP-7702 is set up by factory "0x7702" with factoryData; the EntryPoint wants that marker in 20 bytes, the data behind.
# Seen: viem puts the data straight behind the marker's two bytes. For the EntryPoint that is no EIP-7702 account but a
#   factory's address, and the hash is another than the signed one, so that the operation is refused where one's own
#   program sends it. Without data it is right, and the same operation with a padded marker is, too. Output:
#     no data: viem packs 0x7702, EntryPoint's hash is the signed one
#     data 0xabcd: viem packs 0x7702abcd, EntryPoint's hash is another
#     data 0xabcd, marker in 20 bytes: EntryPoint's hash is the signed one
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact @account-abstraction/contracts@0.8.0 viem@2.57.20 \
  @ethereumjs/evm@10.1.3 @ethereumjs/common@10.1.3 @ethereumjs/util@10.1.3
cat > run.mjs <<'JS'
import { readFileSync } from "node:fs";
import { Common, Hardfork, Mainnet } from "@ethereumjs/common";
import { createEVM } from "@ethereumjs/evm";
import { Address, hexToBytes } from "@ethereumjs/util";
import { bytesToHex, concat, decodeFunctionResult, encodeFunctionData, padHex } from "viem";
import { getUserOperationHash, toPackedUserOperation } from "viem/account-abstraction";

const file = new URL("node_modules/@account-abstraction/contracts/artifacts/EntryPoint.json", import.meta.url);
const { abi, bytecode } = JSON.parse(readFileSync(file));
const evm = await createEVM({ common: new Common({ chain: Mainnet, hardfork: Hardfork.Prague }) });
const created = await evm.runCall({ data: hexToBytes(bytecode), gasLimit: 30_000_000n });
if (created.execResult.exceptionError) throw new Error(created.execResult.exceptionError.error);
const entryPoint = created.createdAddress;

// The account has delegated to a contract.
const sender = "0x1111111111111111111111111111111111111111", delegate = "0x2222222222222222222222222222222222222222";
await evm.stateManager.putCode(new Address(hexToBytes(sender)), hexToBytes(`0xef0100${delegate.slice(2)}`));

async function ofEntryPoint({ authorization, ...packed }) {
  const data = hexToBytes(encodeFunctionData({ abi, functionName: "getUserOpHash", args: [packed] }));
  const { execResult } = await evm.runCall({ to: entryPoint, data, gasLimit: 3_000_000n });
  if (execResult.exceptionError) throw new Error(execResult.exceptionError.error);
  return decodeFunctionResult({ abi, functionName: "getUserOpHash", data: bytesToHex(execResult.returnValue) });
}

const lines = [];
for (const factoryData of [undefined, "0xabcd"]) {
  const operation = {
    sender, nonce: 0n, callData: "0x", callGasLimit: 100_000n, verificationGasLimit: 100_000n, preVerificationGas: 50_000n,
    maxFeePerGas: 2n, maxPriorityFeePerGas: 1n, signature: "0x", factory: "0x7702", factoryData,
    authorization: { address: delegate, contractAddress: delegate, chainId: 1, nonce: 0 },
  };
  const context = { chainId: 1, entryPointAddress: entryPoint.toString(), entryPointVersion: "0.8" };
  const signed = getUserOperationHash({ ...context, userOperation: operation });
  const packed = toPackedUserOperation(operation);
  const verdict = async operation =>
    `EntryPoint's hash is ${await ofEntryPoint(operation) === signed ? "the signed one" : "another"}`;
  const name = factoryData ? `data ${factoryData}` : "no data";
  lines.push(`${name}: viem packs ${packed.initCode}, ${await verdict(packed)}`);
  if (factoryData) {
    const initCode = concat([padHex("0x7702", { dir: "right", size: 20 }), factoryData]);
    lines.push(`${name}, marker in 20 bytes: ${await verdict({ ...packed, initCode })}`);
  }
}
console.log(lines.join("\n"));
const expected = `no data: viem packs 0x7702, EntryPoint's hash is the signed one
data 0xabcd: viem packs 0x7702abcd, EntryPoint's hash is another
data 0xabcd, marker in 20 bytes: EntryPoint's hash is the signed one`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
JS
timeout 120 node run.mjs
