#!/usr/bin/env bash
# PyPI x402 2.25.0, its client and its facilitator (ExactEvmFacilitatorScheme, FacilitatorWeb3Signer), with web3 7.16.0,
# eth-account 0.13.7; Python 3.11.
#
# Expected: an address is the same in lower case, as EIP-55's checksum is optional and the facilitator's own comparisons
#   fold the case; what the chain would accept is valid.
# Seen: web3 refuses the lower-case address before the chain is asked, and the facilitator takes its refusal for the
#   chain's. A shop that writes its payTo in lower case gets "simulation failed" for every EIP-3009 payment of the SDK's
#   own client; a payer in lower case is told by Permit2 to approve what it has long approved. The token's address may
#   be in lower case. What the facilitator says over a node that accepts everything. Output:
#     eip3009, checksummed: valid, transfers simulated 1
#     eip3009, payTo in lower case: invalid_exact_evm_transaction_simulation_failed, transfers simulated 0
#     eip3009, asset in lower case: valid, transfers simulated 1
#     permit2, checksummed: valid, allowances read 1
#     permit2, payer in lower case: permit2_allowance_required, allowances read 0
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
  'x402[evm,extensions]==2.25.0' web3==7.16.0 eth-account==0.13.7
cat > "$dir/run.py" <<'PY'
import json, logging, secrets, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from eth_account import Account
from x402 import x402ClientSync, x402FacilitatorSync
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import ExactEvmClientScheme, ExactEvmFacilitatorScheme
from x402.mechanisms.evm.signers import FacilitatorWeb3Signer
from x402.schemas import PaymentRequired, PaymentRequirements

logging.disable(logging.CRITICAL)
network = "eip155:84532"
token = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
shop = "0xaAaAaAaaAaAaAaaAaAAAAAAAAaaaAaAaAaaAaaAa"
transfer, allowance = "0xe3ee160e", "0xdd62ed3e"  # transferWithAuthorization with v, r, s; allowance
calls = []


# A node on which the token is a contract and every call succeeds, with a large number for an answer.
class Node(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        result = {"eth_chainId": "0x14a34", "eth_call": "0x" + "00" * 2 + "ff" * 30}.get(asked["method"])
        if asked["method"] == "eth_call":
            calls.append(asked["params"][0]["data"][:10])
        if asked["method"] == "eth_getCode":
            result = "0x6000" if asked["params"][0].lower() == token.lower() else "0x"
        body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class LowerCase(EthAccountSigner):
    @property
    def address(self):
        return super().address.lower()


node = ThreadingHTTPServer(("127.0.0.1", 0), Node)
threading.Thread(target=node.serve_forever, daemon=True).start()
signer = FacilitatorWeb3Signer("0x" + secrets.token_hex(32), f"http://127.0.0.1:{node.server_port}")
facilitator = x402FacilitatorSync()
facilitator.register([network], ExactEvmFacilitatorScheme(signer))
account = Account.create()


def verify(method, what, pay_to=shop, asset=token, payer=EthAccountSigner):
    terms = PaymentRequirements(
        scheme="exact", network=network, amount="10000", pay_to=pay_to, asset=asset, max_timeout_seconds=60,
        extra={"name": "USDC", "version": "2", "assetTransferMethod": method},
    )
    client = x402ClientSync()
    client.register("eip155:*", ExactEvmClientScheme(payer(account)))
    payment = client.create_payment_payload(PaymentRequired(x402_version=2, accepts=[terms]))
    calls.clear()
    answer = facilitator.verify(payment, terms)
    of_chain = f"transfers simulated {calls.count(transfer)}" if method == "eip3009" else \
        f"allowances read {calls.count(allowance)}"
    return f"{method}, {what}: {'valid' if answer.is_valid else answer.invalid_reason}, {of_chain}"


lines = "\n".join([
    verify("eip3009", "checksummed"),
    verify("eip3009", "payTo in lower case", pay_to=shop.lower()),
    verify("eip3009", "asset in lower case", asset=token.lower()),
    verify("permit2", "checksummed"),
    verify("permit2", "payer in lower case", payer=LowerCase),
])
print(lines)
expected = """eip3009, checksummed: valid, transfers simulated 1
eip3009, payTo in lower case: invalid_exact_evm_transaction_simulation_failed, transfers simulated 0
eip3009, asset in lower case: valid, transfers simulated 1
permit2, checksummed: valid, allowances read 1
permit2, payer in lower case: permit2_allowance_required, allowances read 0"""
if lines != expected:
    sys.exit("changed: this is not the behaviour described")
PY
timeout 120 "$dir/venv/bin/python" "$dir/run.py"
