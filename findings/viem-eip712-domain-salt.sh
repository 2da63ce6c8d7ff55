#!/usr/bin/env bash
# viem 2.57.20 (getEip712Domain, signTypedData) against @openzeppelin/contracts 5.7.0 (ERC3009); ethers 6.17.0, solc 0.8.30,
# @ethereumjs/evm 10.1.3; Node 20.
#
# Expected: the domain that getEip712Domain reads from a token is the one to sign with. ERC-5267 leaves the value of a field
#   unspecified where `fields` does not name it, and viem's own example has `fields: '0x0f'` and a domain without salt.
# Seen: the domain always carries a salt, 32 zero bytes for OpenZeppelin's tokens, and signTypedData makes it a part of
#   the domain. viem and ethers sign the same wrong digest, which the token refuses; without the salt it is paid. Output:
#     domain as read: fields 0x0f, salt 0x0000…; viem and ethers sign alike; ERC3009InvalidSignature, moved 0
#     without salt: viem and ethers sign alike; moved 10000
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact @openzeppelin/contracts@5.7.0 \
  viem@2.57.20 ethers@6.17.0 solc@0.8.30 @ethereumjs/evm@10.1.3 @ethereumjs/common@10.1.3 @ethereumjs/util@10.1.3
cat > run.mjs <<'JS'
import { readFileSync } from "node:fs";
import solc from "solc";
import { Common, Hardfork, Mainnet } from "@ethereumjs/common";
import { createEVM } from "@ethereumjs/evm";
import { Address, hexToBytes } from "@ethereumjs/util";
import { Wallet } from "ethers";
import {
  bytesToHex, createPublicClient, custom, decodeErrorResult, decodeFunctionResult, encodeFunctionData, parseSignature,
} from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { getEip712Domain } from "viem/actions";

const content = `pragma solidity 0.8.30;
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
contract Token is ERC3009 {
  constructor() ERC20("Token", "T") EIP712("Token", "1") {}
  function mint(address to, uint256 value) external { _mint(to, value); }
}`;
const settings = { evmVersion: "cancun", outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } };
const output = JSON.parse(solc.compile(
  JSON.stringify({ language: "Solidity", sources: { "T.sol": { content } }, settings }),
  { import: path => ({ contents: readFileSync(`node_modules/${path}`, "utf8") }) },
));
const bad = (output.errors ?? []).find(e => e.severity === "error");
if (bad) throw new Error(bad.formattedMessage);
const { abi, evm: { bytecode } } = output.contracts["T.sol"].Token;

const evm = await createEVM({ common: new Common({ chain: Mainnet, hardfork: Hardfork.Cancun }) });
const now = BigInt(Math.floor(Date.now() / 1000));
const zero = new Uint8Array(32), none = new Address(new Uint8Array(20));
const block = { header: {
  number: 1n, timestamp: now, coinbase: none, difficulty: 0n, prevRandao: zero, gasLimit: 30_000_000n, baseFeePerGas: 0n,
  getBlobGasPrice: () => 1n,
} };
const run = (to, data) => evm.runCall({ to, data: hexToBytes(data), gasLimit: 10_000_000n, block });
const { createdAddress: token } = await run(undefined, `0x${bytecode.object}`);
const call = async (functionName, args) => {
  const { execResult } = await run(token, encodeFunctionData({ abi, functionName, args }));
  const data = bytesToHex(execResult.returnValue);
  if (execResult.exceptionError) return decodeErrorResult({ abi, data }).errorName;
  return decodeFunctionResult({ abi, functionName, data, args });
};

// The node behind viem's client knows eth_call alone.
const request = async ({ params: [{ to, data }] }) =>
  bytesToHex((await run(new Address(hexToBytes(to)), data)).execResult.returnValue);
const read = await getEip712Domain(createPublicClient({ transport: custom({ request }) }), { address: token.toString() });

const names = { from: "address", to: "address", value: "uint256", validAfter: "uint256", validBefore: "uint256",
  nonce: "bytes32" };
const types = { TransferWithAuthorization: Object.entries(names).map(([name, type]) => ({ name, type })) };
const payTo = "0x00000000000000000000000000000000000000aa";

async function pay(domain) {
  const key = generatePrivateKey(), payer = privateKeyToAccount(key);
  await call("mint", [payer.address, 10000n]);
  const message = {
    from: payer.address, to: payTo, value: 10000n, validAfter: 0n, validBefore: now + 60n, nonce: generatePrivateKey(),
  };
  const signature = await payer.signTypedData({ domain, types, primaryType: "TransferWithAuthorization", message });
  const alike = signature === await new Wallet(key).signTypedData(domain, types, message);
  const { r, s, v } = parseSignature(signature);
  const refused = await call("transferWithAuthorization", [...Object.values(message), Number(v), r, s]);
  return `viem and ethers sign ${alike ? "alike" : "differently"}; ${refused ? `${refused}, ` : ""}`
    + `moved ${await call("balanceOf", [payTo])}`;
}

const { salt, ...domain } = read.domain;
const lines = [
  `domain as read: fields ${read.fields}, salt ${salt?.slice(0, 6)}…; ${await pay(read.domain)}`,
  `without salt: ${await pay(domain)}`,
];
console.log(lines.join("\n"));
const expected = `domain as read: fields 0x0f, salt 0x0000…; viem and ethers sign alike; ERC3009InvalidSignature, moved 0
without salt: viem and ethers sign alike; moved 10000`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
JS
timeout 120 node run.mjs
