#!/usr/bin/env bash
# PyPI x402 2.25.0 (wrapRequestsWithPayment) with requests 2.34.2, httpx 0.28.1, eth-account 0.14.0; Python 3.11.
#
# Expected: the paid repeat of a request carries the request's body, or the client says that it cannot repeat it.
#   requests documents generators as bodies ("Chunk-Encoded Requests"); the same package's httpx client reads such a body
#   before it sends.
# Seen: the unpaid request uses the generator up, and the repeat is sent with the payment and without the body. The shop
#   sells what an empty upload is worth, and the buyer sees status 200. Output:
#     requests, bytes: unpaid "hello world", paid "hello world", 200
#     requests, generator: unpaid "hello world", paid "", 200
#     httpx, generator: unpaid "hello world", paid "hello world", 200
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
  'x402[evm]==2.25.0' requests==2.34.2 httpx==0.28.1 eth-account==0.14.0
cat > "$dir/run.py" <<'PY'
import asyncio, base64, json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from eth_account import Account
from x402 import x402Client, x402ClientSync
from x402.http.clients import wrapHttpxWithPayment, wrapRequestsWithPayment
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import ExactEvmClientScheme

terms = {
    "x402Version": 2, "error": "Payment required", "resource": {"url": "http://shop.test/upload"},
    "accepts": [{
        "scheme": "exact", "network": "eip155:84532", "amount": "10000", "payTo": "0x" + "aa" * 20,
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "maxTimeoutSeconds": 60,
        "extra": {"name": "USDC", "version": "2"},
    }],
}
seen = []


# A shop that asks for a payment and notes the body of every request.
class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def do_POST(self):
        paid = "payment-signature" in self.headers
        seen.append(f'{"paid" if paid else "unpaid"} "{self.body().decode()}"')
        self.send_response(200 if paid else 402)
        if not paid:
            self.send_header("payment-required", base64.b64encode(json.dumps(terms).encode()).decode())
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def pieces():
    yield b"hello "
    yield b"world"


async def async_pieces():
    for piece in pieces():
        yield piece


server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/upload"


def with_scheme(client):
    client.register("eip155:*", ExactEvmClientScheme(EthAccountSigner(Account.create())))
    return client


def by_requests(body):
    with wrapRequestsWithPayment(requests.Session(), with_scheme(x402ClientSync())) as session:
        return session.post(url, data=body, timeout=30).status_code


async def by_httpx(body):
    async with wrapHttpxWithPayment(with_scheme(x402Client()), timeout=30) as client:
        return (await client.post(url, content=body)).status_code


lines = []
for name, send in (
    ("requests, bytes", lambda: by_requests(b"".join(pieces()))),
    ("requests, generator", lambda: by_requests(pieces())),
    ("httpx, generator", lambda: asyncio.run(by_httpx(async_pieces()))),
):
    seen.clear()
    status = send()
    lines.append(f"{name}: {', '.join(seen)}, {status}")
print("\n".join(lines))
expected = [
    'requests, bytes: unpaid "hello world", paid "hello world", 200',
    'requests, generator: unpaid "hello world", paid "", 200',
    'httpx, generator: unpaid "hello world", paid "hello world", 200',
]
if lines != expected:
    sys.exit("changed: this is not the behaviour described")
PY
timeout 120 "$dir/venv/bin/python" "$dir/run.py"
