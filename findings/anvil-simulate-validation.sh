#!/usr/bin/env bash
# npm @foundry-rs/anvil 1.7.1, the newest there on 30 November 2026; Node 20, Linux or macOS.
#
# Expected: eth_simulateV1 with `validation: true` checks what a block checks: a call whose nonce is not its account's next
#   is refused, with -38010 or -38011. Simulated blocks follow the named one: the number is one more, the parent is that
#   block's hash, and without validation the base fee is zero (notes on ethSimulateV1 in Ethereum's execution-apis).
# Seen: `validation` changes nothing: every nonce is simulated as a success, one that is used up, too, which the same node
#   refuses to take as a transaction. The simulated block has the number of the block before it, a parent of zeros and a
#   base fee in either mode: a rehearsal shows what no later block can be. Foundry has mended it since this release. Output:
#     latest block 3, next nonce 2
#     validation true: nonce 0 success, nonce 2 success, nonce 100 success; block 3, parent zero, base fee yes
#     validation false: nonce 0 success, nonce 2 success, nonce 100 success; block 3, parent zero, base fee yes
#     as a transaction: nonce 0 nonce too low
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact @foundry-rs/anvil@1.7.1
cat > run.mjs <<'JS'
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

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

async function rpc(method, params) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  return (await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body })).json();
}

const [from, to] = (await rpc("eth_accounts", [])).result, call = { from, to, value: "0x1" };
await rpc("eth_sendTransaction", [call]);
await rpc("eth_sendTransaction", [call]);
await rpc("anvil_mine", ["0x1"]);
const { result: latest } = await rpc("eth_getBlockByNumber", ["latest", false]);
const { result: next } = await rpc("eth_getTransactionCount", [from, "latest"]);
const lines = [`latest block ${Number(latest.number)}, next nonce ${Number(next)}`];
for (const validation of [true, false]) {
  const said = [];
  let block;
  for (const nonce of [0, 2, 100]) {
    const calls = [{ ...call, nonce: `0x${nonce.toString(16)}`, maxFeePerGas: "0x77359400" }];
    const { result, error } = await rpc("eth_simulateV1", [{ blockStateCalls: [{ calls }], validation }, "latest"]);
    said.push(`nonce ${nonce} ${error ? error.code : result[0].calls[0].status === "0x1" ? "success" : "failure"}`);
    block = result?.[0] ?? block;
  }
  const parent = { [latest.hash]: "latest", [`0x${"0".repeat(64)}`]: "zero" }[block.parentHash] ?? "another";
  const fee = BigInt(block.baseFeePerGas) > 0n ? "yes" : "no";
  lines.push(`validation ${validation}: ${said.join(", ")}; `
    + `block ${Number(block.number)}, parent ${parent}, base fee ${fee}`);
}
const { error } = await rpc("eth_sendTransaction", [{ ...call, nonce: "0x0" }]);
lines.push(`as a transaction: nonce 0 ${error?.message}`);
console.log(lines.join("\n"));
const expected = `latest block 3, next nonce 2
validation true: nonce 0 success, nonce 2 success, nonce 100 success; block 3, parent zero, base fee yes
validation false: nonce 0 success, nonce 2 success, nonce 100 success; block 3, parent zero, base fee yes
as a transaction: nonce 0 nonce too low`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
process.exit(0);
JS
timeout 60 node run.mjs
