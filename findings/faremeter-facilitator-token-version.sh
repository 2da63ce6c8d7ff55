#!/usr/bin/env bash
# npm @faremeter/payment-evm 0.22.0, its facilitator and its client (exact), with viem 2.41.2; Node 20.
#
# Expected: a facilitator tells clients in `extra` the EIP-712 domain that it will check their signatures against. It reads
#   the token's name and version from the chain when it starts, for any token that is given by address and name.
# Seen: it reads the version, and tells "2" whatever it is. Its own client signs what it was told, and the facilitator,
#   which asks the chain again, calls that an invalid signature: a token of version "1" (MegaUSD, PYUSD) is offered and can
#   never be paid. Signed with the version that the token has, the same payment is valid. Output:
#     token of version 2: clients are told 2; client's payment valid
#     token of version 1: clients are told 2; client's payment Invalid signature; with version 1 valid
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact \
  @faremeter/payment-evm@0.22.0 @faremeter/info@0.22.0 @faremeter/types@0.22.0 viem@2.41.2
cat > run.mjs <<'JS'
import { createFacilitatorHandler, createPaymentHandler } from "@faremeter/payment-evm/exact";
import { custom, encodeAbiParameters, numberToHex, toFunctionSelector } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";

setTimeout(() => process.exit(3), 60_000).unref();
const asset = { address: "0x00000000000000000000000000000000000000bb", contractName: "Dollar" };
const account = privateKeyToAccount(generatePrivateKey());
const wallet = { chain: { id: baseSepolia.id, name: baseSepolia.name }, address: account.address, account };
const word = (type, value) => encodeAbiParameters([{ type }], [value]);

// A node on which the asset is a token with this version, and no authorization is used.
const node = version => custom({
  async request({ method, params }) {
    if (method === "eth_chainId") return numberToHex(baseSepolia.id);
    const answers = {
      [toFunctionSelector("name()")]: word("string", asset.contractName),
      [toFunctionSelector("version()")]: word("string", version),
      [toFunctionSelector("authorizationState(address,bytes32)")]: word("bool", false),
    };
    return answers[params[0].data.slice(0, 10)];
  },
});

async function pay(facilitator, requirements) {
  const [offer] = await createPaymentHandler(wallet, { asset })({}, [requirements]);
  const { payload } = await offer.exec();
  const verdict = await facilitator.handleVerify(requirements, { x402Version: 2, accepted: requirements, payload });
  return verdict.isValid ? "valid" : verdict.invalidReason;
}

const lines = [];
for (const version of ["2", "1"]) {
  const transport = node(version);
  const facilitator = await createFacilitatorHandler(baseSepolia, generatePrivateKey(), asset, { transport });
  const [requirements] = await facilitator.getRequirements({ accepts: [{
    scheme: "exact", network: `eip155:${baseSepolia.id}`, amount: "10000", asset: asset.address,
    payTo: "0x00000000000000000000000000000000000000aa", maxTimeoutSeconds: 60,
  }] });
  const told = requirements.extra.version;
  let line = `token of version ${version}: clients are told ${told}; `
    + `client's payment ${await pay(facilitator, requirements)}`;
  if (told !== version) {
    const right = { ...requirements, extra: { ...requirements.extra, version } };
    line += `; with version ${version} ${await pay(facilitator, right)}`;
  }
  lines.push(line);
}
console.log(lines.join("\n"));
const expected = `token of version 2: clients are told 2; client's payment valid
token of version 1: clients are told 2; client's payment Invalid signature; with version 1 valid`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
JS
timeout 60 node run.mjs
