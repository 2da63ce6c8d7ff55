#!/usr/bin/env bash
# npm @x402/extensions 2.27.0 (bazaar); Node 20.
#
# Expected: the facilitator's helper extractDiscoveryInfo keeps apart what the Bazaar's document keeps apart: a tool is named
#   by the pair (`resource.url`, `input.toolName`). `mcp://tool/NAME` is the resource that x402's own MCP server gives a
#   tool by default (PyPI x402 2.25.0, `x402.mcp`), and the Python helper of the same name returns it unchanged.
# Seen: the address comes back as "null/NAME": scheme and host are lost, the text is no URL, and the catalogue has an entry
#   that leads nowhere. The declaration is found valid, and nothing warns. Two addresses that differ in their host become
#   one. An https address stays as it is. Output:
#     https://shop.example/mcp: valid true, catalogued as https://shop.example/mcp, tool weather
#     mcp://tool/weather: valid true, catalogued as null/weather, tool weather
#     mcp://shop.example/weather: valid true, catalogued as null/weather, tool weather
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact @x402/core@2.27.0 @x402/extensions@2.27.0
cat > run.mjs <<'JS'
import { declareDiscoveryExtension, extractDiscoveryInfo, validateDiscoveryExtension } from "@x402/extensions/bazaar";

const extensions = declareDiscoveryExtension({
  toolName: "weather", description: "Weather of a city", transport: "streamable-http", example: { city: "Oslo" },
  inputSchema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
});
const accepted = {
  scheme: "exact", network: "eip155:84532", amount: "10000", payTo: "0x00000000000000000000000000000000000000aa",
  asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e", maxTimeoutSeconds: 60, extra: { name: "USDC", version: "2" },
};
const lines = ["https://shop.example/mcp", "mcp://tool/weather", "mcp://shop.example/weather"].map(url => {
  const payment = { x402Version: 2, resource: { url }, accepted, payload: {}, extensions };
  const { resourceUrl, toolName } = extractDiscoveryInfo(payment, accepted);
  const { valid } = validateDiscoveryExtension(extensions.bazaar);
  return `${url}: valid ${valid}, catalogued as ${resourceUrl}, tool ${toolName}`;
});
console.log(lines.join("\n"));
const expected = `https://shop.example/mcp: valid true, catalogued as https://shop.example/mcp, tool weather
mcp://tool/weather: valid true, catalogued as null/weather, tool weather
mcp://shop.example/weather: valid true, catalogued as null/weather, tool weather`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
JS
node run.mjs
