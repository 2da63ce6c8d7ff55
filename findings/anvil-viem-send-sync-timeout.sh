#!/usr/bin/env bash
# npm @foundry-rs/anvil 1.7.1 with viem 2.57.20 (sendRawTransactionSync, sendTransactionSync); Node 20, Linux or macOS.
#
# Expected: eth_sendRawTransactionSync takes EIP-7966's second parameter, how many milliseconds to wait for the receipt. viem
#   sends it as the whole number that go-ethereum and others are documented to take.
# Seen: anvil has the method and takes the transaction alone. Given a time, it reads the number as bytes, refuses the call
#   with invalid parameters, and sends nothing; without one it mines and answers with the receipt. A program that limits
#   its waiting works on a chain and not on the node that it is tried on. Output:
#     sendRawTransactionSync: asks with no ms; success; mined 1
#     sendRawTransactionSync, 2000 ms: asks with 2000 ms; refused, invalid type: integer `2000`; mined 1
#     sendTransactionSync: asks with no ms; success; mined 2
#     sendTransactionSync, 2000 ms: asks with 2000 ms; refused, invalid type: integer `2000`; mined 2
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact @foundry-rs/anvil@1.7.1 viem@2.57.20
cat > run.mjs <<'JS'
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { createTestClient, http, publicActions, walletActions } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { foundry } from "viem/chains";

setTimeout(() => process.exit(3), 60_000).unref();
const cpu = { x64: "amd64", arm64: "arm64" }[process.arch];
const binary = createRequire(import.meta.url).resolve(`@foundry-rs/anvil-${process.platform}-${cpu}/bin/anvil`);
const node = spawn(binary, ["--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
process.on("exit", () => node.kill());
let url;
for await (const line of createInterface({ input: node.stdout })) {
  const found = line.match(/^Listening on (\S+)/);
  if (found) {
    url = `http://${found[1]}`;
    break;
  }
}

let sent;
const onFetchRequest = async (_, init) => {
  const { method, params } = JSON.parse(init.body);
  if (method === "eth_sendRawTransactionSync") sent = params;
};
const account = privateKeyToAccount(generatePrivateKey());
const client = createTestClient({ account, chain: foundry, mode: "anvil", transport: http(url, { onFetchRequest }) })
  .extend(publicActions).extend(walletActions);
await client.setBalance({ address: account.address, value: 10n ** 18n });
const to = "0x00000000000000000000000000000000000000aa", value = 1n;
const raw = async timeout => {
  const request = await client.prepareTransactionRequest({ to, value });
  return client.sendRawTransactionSync({ serializedTransaction: await client.signTransaction(request), timeout });
};
const lines = [];
for (const [name, send] of [
  ["sendRawTransactionSync", () => raw()],
  ["sendRawTransactionSync, 2000 ms", () => raw(2_000)],
  ["sendTransactionSync", () => client.sendTransactionSync({ to, value })],
  ["sendTransactionSync, 2000 ms", () => client.sendTransactionSync({ to, value, timeout: 2_000 })],
]) {
  sent = undefined;
  const said = await send().then(({ status }) => status, error => `refused, ${error.details.split(",")[0]}`);
  const mined = await client.getTransactionCount({ address: account.address });
  lines.push(`${name}: asks with ${sent?.[1] ?? "no"} ms; ${said}; mined ${mined}`);
}
console.log(lines.join("\n"));
const expected = `sendRawTransactionSync: asks with no ms; success; mined 1
sendRawTransactionSync, 2000 ms: asks with 2000 ms; refused, invalid type: integer \`2000\`; mined 1
sendTransactionSync: asks with no ms; success; mined 2
sendTransactionSync, 2000 ms: asks with 2000 ms; refused, invalid type: integer \`2000\`; mined 2`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
process.exit(0);
JS
timeout 90 node run.mjs
