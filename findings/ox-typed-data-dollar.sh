#!/usr/bin/env bash
# npm ox 1.8.3 (TypedData) against viem 2.57.20 and ethers 6.17.0; Node 20.
#
# Expected: one EIP-712 document has one digest. EIP-712 names structs by identifiers, and an identifier of Solidity may have
#   a `$`; ox's own check (TypedData.assert) finds such a document valid.
# Seen: where a member's type has a `$` in its name, ox's encodeType leaves that type out of the text that is hashed. Its
#   getSignPayload gives another digest than viem and ethers give, and nothing is raised: what is signed is refused by the
#   contract. PyPI eth-account 0.13.7 agrees with viem and ethers. Output:
#     Item: valid; ox hashes Order(Item item)Item(uint256 price); same digest as viem and ethers
#     $Item: valid; ox hashes Order($Item item); another digest than viem and ethers
#     Item$V2: valid; ox hashes Order(Item$V2 item); another digest than viem and ethers
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact ox@1.8.3 viem@2.57.20 ethers@6.17.0
cat > run.mjs <<'JS'
import { TypedDataEncoder } from "ethers";
import { TypedData } from "ox";
import { hashTypedData } from "viem";

const verifyingContract = "0x00000000000000000000000000000000000000aa";
const domain = { name: "Shop", version: "1", chainId: 84532, verifyingContract };
const lines = ["Item", "$Item", "Item$V2"].map(name => {
  const types = { Order: [{ name: "item", type: name }], [name]: [{ name: "price", type: "uint256" }] };
  const message = { item: { price: 10000n } }, whole = { domain, types, primaryType: "Order", message };
  const digest = TypedDataEncoder.hash(domain, types, message);
  if (hashTypedData(whole) !== digest) throw new Error("viem and ethers differ");
  const valid = TypedData.validate(whole) ? "valid" : "invalid";
  const alike = TypedData.getSignPayload(whole) === digest ? "same digest as" : "another digest than";
  return `${name}: ${valid}; ox hashes ${TypedData.encodeType({ types, primaryType: "Order" })}; ${alike} viem and ethers`;
});
console.log(lines.join("\n"));
const expected = `Item: valid; ox hashes Order(Item item)Item(uint256 price); same digest as viem and ethers
$Item: valid; ox hashes Order($Item item); another digest than viem and ethers
Item$V2: valid; ox hashes Order(Item$V2 item); another digest than viem and ethers`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
JS
timeout 60 node run.mjs
