#!/usr/bin/env bash
# @openzeppelin/contracts 5.7.0 (ERC20TransferAuthorization) against @x402/evm 2.27.0 (client of scheme exact);
# solc 0.8.30, @ethereumjs/evm 10.1.3, viem 2.57.20; Node 20.
#
# Expected: a token that has EIP-3009's functions and type hashes takes what x402's client signs: EIP-3009 is made for
#   random nonces of 32 bytes, the client draws such a one, and authorizationState() says that it is unused.
# Seen: the token reads the nonce as a 192-bit key and a 64-bit counter. A random one stands for place number "random" of
#   an unused key, so every payment of the client is refused, though authorizationState() answers false (unused). The
#   same authorization with the last 8 bytes of its nonce zero is paid; ERC3009 of the same release takes both. Comments in
#   the contract's source tell of the counter; EIP-3009's own functions are the same in the two tokens. Output:
#     ERC20TransferAuthorization: random nonce: unused, InvalidAccountNonce, moved 0
#     ERC20TransferAuthorization: last 8 bytes zero: unused, moved 10000
#     ERC3009: random nonce: unused, moved 10000
#     ERC3009: last 8 bytes zero: unused, moved 10000
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
import { ExactEvmScheme } from "@x402/evm/exact/client";

const text = (name, path) => `pragma solidity 0.8.30;
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {${name}} from "@openzeppelin/contracts/token/ERC20/extensions/${path}.sol";
contract Token is ${name} {
  constructor() ERC20("Token", "T") EIP712("Token", "1") {}
  function mint(address to, uint256 value) external { _mint(to, value); }
}`;
function compile(content) {
  const settings = { evmVersion: "cancun", outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } };
  const input = { language: "Solidity", sources: { "T.sol": { content } }, settings };
  const output = JSON.parse(solc.compile(JSON.stringify(input), {
    import: path => ({ contents: readFileSync(`node_modules/${path}`, "utf8") }),
  }));
  const bad = (output.errors ?? []).find(e => e.severity === "error");
  if (bad) throw new Error(bad.formattedMessage);
  return output.contracts["T.sol"].Token;
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

async function pay(name, path, cut) {
  const { abi, evm: { bytecode } } = compile(text(name, path));
  const made = await run(undefined, `0x${bytecode.object}`);
  const token = made.createdAddress, asset = token.toString();
  const call = async (functionName, args) => {
    const { execResult } = await run(token, encodeFunctionData({ abi, functionName, args }));
    const data = bytesToHex(execResult.returnValue);
    if (execResult.exceptionError) return { refused: decodeErrorResult({ abi, data }).errorName };
    return { value: decodeFunctionResult({ abi, functionName, data, args }) };
  };
  const payer = privateKeyToAccount(generatePrivateKey());
  await call("mint", [payer.address, 10000n]);

  // x402's client draws the nonce and signs; where the nonce is cut, the same account signs the same message anew.
  let signed;
  const signer = { address: payer.address, signTypedData: async typed => {
    if (cut) typed.message.nonce = slice(typed.message.nonce, 0, 24) + "00".repeat(8);
    signed = typed.message;
    return payer.signTypedData(typed);
  } };
  const { payload } = await new ExactEvmScheme(signer).createPaymentPayload(2, {
    scheme: "exact", network: "eip155:1", amount: "10000", asset, payTo, maxTimeoutSeconds: 60,
    extra: { name: "Token", version: "1" },
  });
  const { r, s, v } = parseSignature(payload.signature);
  const state = await call("authorizationState", [payer.address, signed.nonce]);
  const result = await call("transferWithAuthorization", [
    payer.address, payTo, 10000n, BigInt(signed.validAfter), BigInt(signed.validBefore), signed.nonce, Number(v), r, s,
  ]);
  const moved = (await call("balanceOf", [payTo])).value;
  return `${name}: ${cut ? "last 8 bytes zero" : "random nonce"}: ${state.value ? "used" : "unused"}, `
    + `${result.refused ? `${result.refused}, ` : ""}moved ${moved}`;
}

const expected = `ERC20TransferAuthorization: random nonce: unused, InvalidAccountNonce, moved 0
ERC20TransferAuthorization: last 8 bytes zero: unused, moved 10000
ERC3009: random nonce: unused, moved 10000
ERC3009: last 8 bytes zero: unused, moved 10000`;
const lines = [];
for (const [name, path] of [["ERC20TransferAuthorization", "ERC20TransferAuthorization"], ["ERC3009", "draft-ERC3009"]])
  for (const cut of [false, true]) lines.push(await pay(name, path, cut));
console.log(lines.join("\n"));
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
JS
timeout 120 node run.mjs
