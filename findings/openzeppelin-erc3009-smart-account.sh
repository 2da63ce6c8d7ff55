#!/usr/bin/env bash
# @openzeppelin/contracts 5.7.0 (ERC3009, ERC20TransferAuthorization) against the ABI and client of @x402/evm 2.27.0;
# solc 0.8.30, @ethereumjs/evm 10.1.3, viem 2.57.20; Node 20.
#
# Expected: a wallet that is a contract (ERC-1271) can authorize a transfer of OpenZeppelin's ERC3009 token through
#   transferWithAuthorization(..., bytes signature), the function that @x402/evm's eip3009ABI names for it and that
#   its sibling ERC20TransferAuthorization has.
# Seen: ERC3009 has only the v, r, s form, which recovers a key: the bytes form ends in an empty revert, the v, r, s form in
#   ERC3009InvalidSignature, and no way is left for such a wallet to pay by authorization. The sibling takes its bytes
#   signature, with a nonce whose last 8 bytes are zero. Output:
#     ERC3009: bytes: empty revert; v, r, s: ERC3009InvalidSignature; moved 0
#     ERC20TransferAuthorization: bytes: done; v, r, s: ERC3009InvalidSignature; moved 10000
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact @openzeppelin/contracts@5.7.0 \
  @x402/core@2.27.0 @x402/evm@2.27.0 viem@2.57.20 solc@0.8.30 \
  @ethereumjs/evm@10.1.3 @ethereumjs/common@10.1.3 @ethereumjs/util@10.1.3
cat > run.mjs <<'JS'
import { readFileSync } from "node:fs";
import solc from "solc";
import { Common, Hardfork, Mainnet } from "@ethereumjs/common";
import { createEVM } from "@ethereumjs/evm";
import { Address, hexToBytes } from "@ethereumjs/util";
import { bytesToHex, decodeErrorResult, decodeFunctionResult, encodeFunctionData, parseSignature, slice } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { eip3009ABI } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/client";

const text = (name, path) => `pragma solidity 0.8.30;
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {${name}} from "@openzeppelin/contracts/token/ERC20/extensions/${path}.sol";
contract Token is ${name} {
  constructor() ERC20("Token", "T") EIP712("Token", "1") {}
  function mint(address to, uint256 value) external { _mint(to, value); }
}`;
const wallet = `pragma solidity 0.8.30;
import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
contract Wallet is IERC1271 {
  address public owner;
  function take(address by) external { owner = by; }
  function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
    return SignatureChecker.isValidSignatureNow(owner, hash, signature) ? IERC1271.isValidSignature.selector : bytes4(0);
  }
}`;
function compile(content) {
  const settings = { evmVersion: "cancun", outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } };
  const input = { language: "Solidity", sources: { "T.sol": { content } }, settings };
  const output = JSON.parse(solc.compile(JSON.stringify(input), {
    import: path => ({ contents: readFileSync(`node_modules/${path}`, "utf8") }),
  }));
  const bad = (output.errors ?? []).find(e => e.severity === "error");
  if (bad) throw new Error(bad.formattedMessage);
  return Object.values(output.contracts["T.sol"])[0];
}

const evm = await createEVM({ common: new Common({ chain: Mainnet, hardfork: Hardfork.Cancun }) });
const payTo = "0x00000000000000000000000000000000000000aa";
const now = BigInt(Math.floor(Date.now() / 1000));
const zero = new Uint8Array(32), none = new Address(new Uint8Array(20));
const block = { header: {
  number: 1n, timestamp: now, coinbase: none, difficulty: 0n, prevRandao: zero, gasLimit: 30_000_000n, baseFeePerGas: 0n,
  getBlobGasPrice: () => 1n,
} };
const run = (to, data) => evm.runCall({ to, data: hexToBytes(data), gasLimit: 10_000_000n, block });

async function deploy(content) {
  const { abi, evm: { bytecode } } = compile(content);
  const { createdAddress } = await run(undefined, `0x${bytecode.object}`);
  const call = async (functionName, args, by = abi) => {
    const { execResult } = await run(createdAddress, encodeFunctionData({ abi: by, functionName, args }));
    const data = bytesToHex(execResult.returnValue);
    if (execResult.exceptionError) return data === "0x" ? "empty revert" : decodeErrorResult({ abi, data }).errorName;
    return decodeFunctionResult({ abi: by, functionName, data, args }) ?? "done";
  };
  return { address: createdAddress.toString(), call };
}

async function pay(name, path) {
  const token = await deploy(text(name, path)), account = await deploy(wallet);
  const owner = privateKeyToAccount(generatePrivateKey());
  await account.call("take", [owner.address]);
  await token.call("mint", [account.address, 10000n]);

  // x402's client asks the account to sign; its owner's key does, over a nonce that both tokens can take.
  let signed;
  const signer = { address: account.address, signTypedData: async typed => {
    typed.message.nonce = slice(typed.message.nonce, 0, 24) + "00".repeat(8);
    signed = typed.message;
    return owner.signTypedData(typed);
  } };
  const { payload } = await new ExactEvmScheme(signer).createPaymentPayload(2, {
    scheme: "exact", network: "eip155:1", amount: "10000", asset: token.address, payTo, maxTimeoutSeconds: 60,
    extra: { name: "Token", version: "1" },
  });
  const { r, s, v } = parseSignature(payload.signature);
  const args = [account.address, payTo, 10000n, BigInt(signed.validAfter), BigInt(signed.validBefore), signed.nonce];
  const key = await token.call("transferWithAuthorization", [...args, Number(v), r, s], eip3009ABI);
  const bytes = await token.call("transferWithAuthorization", [...args, payload.signature], eip3009ABI);
  return `${name}: bytes: ${bytes}; v, r, s: ${key}; moved ${await token.call("balanceOf", [payTo])}`;
}

const expected = `ERC3009: bytes: empty revert; v, r, s: ERC3009InvalidSignature; moved 0
ERC20TransferAuthorization: bytes: done; v, r, s: ERC3009InvalidSignature; moved 10000`;
const lines = [];
for (const [name, path] of [["ERC3009", "draft-ERC3009"], ["ERC20TransferAuthorization", "ERC20TransferAuthorization"]])
  lines.push(await pay(name, path));
console.log(lines.join("\n"));
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
JS
timeout 120 node run.mjs
