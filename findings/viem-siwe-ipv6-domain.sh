#!/usr/bin/env bash
# npm viem 2.57.20 (viem/siwe) against siwe 3.0.0 with ethers 6.17.0; Node 20.
#
# Expected: a sign-in message of ERC-4361 names the shop by an RFC 3986 authority, whose host may be an IPv6 address in
#   brackets: a shop at http://[::1]:8080 or at a public IPv6 address has no other name.
# Seen: siwe writes such a message and reads its own text again (PyPI siwe 4.4.0 does, too). viem's createSiweMessage refuses
#   the domain with "Domain must be an RFC 3986 authority", and from siwe's text its parseSiweMessage returns neither domain
#   nor account, without an error, so that validateSiweMessage answers false. An IPv4 address is taken. Output:
#     127.0.0.1:8080: siwe reads 127.0.0.1:8080; viem writes the same text, reads 127.0.0.1:8080 and the account, valid true
#     [::1]:8080: siwe reads [::1]:8080; viem refuses to write it, reads no domain and no account, valid false
#     [2001:db8::402]: siwe reads [2001:db8::402]; viem refuses to write it, reads no domain and no account, valid false
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact viem@2.57.20 siwe@3.0.0 ethers@6.17.0
cat > run.mjs <<'JS'
import { SiweMessage } from "siwe";
import { createSiweMessage, parseSiweMessage, validateSiweMessage } from "viem/siwe";

const address = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", nonce = "abcdefgh12345678";
const issuedAt = new Date("2026-11-30T12:00:00.000Z");
const lines = ["127.0.0.1:8080", "[::1]:8080", "[2001:db8::402]"].map(domain => {
  const message = { domain, address, nonce, uri: `http://${domain}/data`, version: "1", chainId: 84532 };
  const text = new SiweMessage({ ...message, issuedAt: issuedAt.toISOString() }).prepareMessage();
  let writes;
  try {
    writes = createSiweMessage({ ...message, issuedAt }) === text ? "writes the same text" : "writes another text";
  } catch (error) {
    writes = error.message.includes("RFC 3986 authority") ? "refuses to write it" : error.message;
  }
  const read = parseSiweMessage(text);
  const valid = validateSiweMessage({ message: read, domain, nonce, address });
  return `${domain}: siwe reads ${new SiweMessage(text).domain}; viem ${writes}, reads ${read.domain ?? "no domain"} and `
    + `${read.address === address ? "the" : "no"} account, valid ${valid}`;
});
console.log(lines.join("\n"));
const expected = `127.0.0.1:8080: siwe reads 127.0.0.1:8080; viem writes the same text, reads 127.0.0.1:8080 and the account, valid true
[::1]:8080: siwe reads [::1]:8080; viem refuses to write it, reads no domain and no account, valid false
[2001:db8::402]: siwe reads [2001:db8::402]; viem refuses to write it, reads no domain and no account, valid false`;
if (lines.join("\n") !== expected) {
  console.error("changed: this is not the behaviour described");
  process.exit(1);
}
JS
timeout 60 node run.mjs
