#!/usr/bin/env bash
# npm caip 1.1.1 (CAIP-2, CAIP-10, CAIP-19); Node 20.
#
# Expected: the asset types that CAIP-19 and CAIP-20 give as examples are read: `eip155:1/slip44:60` is ether on Ethereum.
# Seen: the package first looks for 11 characters in a row without a `/`, so that one of the two halves must be that long. A
#   token's address is, and so is "eip155:8453": ether is an asset on Base and none on Ethereum, OP Mainnet and Polygon,
#   whose numbers are shorter. What AssetType.format writes, AssetType.parse then refuses. Output:
#     ether on eip155:1: written eip155:1/slip44:60; read: Invalid assetType provided: eip155:1/slip44:60
#     ether on eip155:10: written eip155:10/slip44:60; read: Invalid assetType provided: eip155:10/slip44:60
#     ether on eip155:8453: written eip155:8453/slip44:60; read: {"chainId":"eip155:8453","assetName":"slip44:60"}
#     a token on eip155:1: read
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact caip@1.1.1
cat > run.mjs <<'JS'
import { AssetType } from "caip";

const read = text => {
  try {
    const { chainId, assetName } = AssetType.parse(text);
    const join = ({ namespace, reference }) => `${namespace}:${reference}`;
    return JSON.stringify({ chainId: join(chainId), assetName: join(assetName) });
  } catch (error) {
    return error.message;
  }
};
const lines = ["1", "10", "8453"].map(reference => {
  const chainId = { namespace: "eip155", reference }, assetName = { namespace: "slip44", reference: "60" };
  let written;
  try {
    written = AssetType.format({ chainId, assetName });
  } catch (error) {
    written = `refused: ${error.message}`;
  }
  return `ether on eip155:${reference}: written ${written}; read: ${read(`eip155:${reference}/slip44:60`)}`;
});
const token = read("eip155:1/erc20:0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48");
lines.push(`a token on eip155:1: ${token.startsWith("{") ? "read" : token}`);
console.log(lines.join("\n"));
const expected = `ether on eip155:1: written eip155:1/slip44:60; read: Invalid assetType provided: eip155:1/slip44:60
ether on eip155:10: written eip155:10/slip44:60; read: Invalid assetType provided: eip155:10/slip44:60
ether on eip155:8453: written eip155:8453/slip44:60; read: {"chainId":"eip155:8453","assetName":"slip44:60"}
a token on eip155:1: read`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
JS
timeout 60 node run.mjs
