#!/usr/bin/env bash
# PyPI x402 2.25.0 (FastAPI middleware) with FastAPI 0.165.0, httpx 0.28.1, eth-account 0.14.0; Python 3.11.
#
# Expected: a route that is paid for answers as it does when it is free, with PAYMENT-RESPONSE added. A refused payment's
#   answer keeps its headers, as does everything that the package's TypeScript middlewares let through.
# Seen: once a payment is settled, the middleware copies the answer's headers into a dictionary, and of each that stands
#   more than once the first alone is left. A shop that sets a session and a second cookie sends the buyer one of them; of
#   two Link headers one is left. The same handler, free, then paid, then failing after the payment. Output:
#     free: 200, cookies session and cart, links 2
#     paid: 200, cookies session, links 1, PAYMENT-RESPONSE success True
#     paid, handler answers 409: 409, cookies session and cart, links 2
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
  'x402[evm]==2.25.0' fastapi==0.165.0 httpx==0.28.1 eth-account==0.14.0
cat > "$dir/run.py" <<'PY'
import asyncio, base64, json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from eth_account import Account
from fastapi import FastAPI, Response
from x402 import x402Client, x402ResourceServer
from x402.http import FacilitatorConfig, HTTPFacilitatorClient
from x402.http.clients.httpx import x402AsyncTransport
from x402.http.middleware.fastapi import payment_middleware
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import ExactEvmClientScheme, ExactEvmServerScheme

network = "eip155:84532"
payer = Account.create()
answers = {
    "/supported": {"kinds": [{"x402Version": 2, "scheme": "exact", "network": network}], "extensions": [], "signers": {}},
    "/verify": {"isValid": True, "payer": payer.address},
    "/settle": {"success": True, "transaction": "0x" + "11" * 32, "network": network, "payer": payer.address},
}


# A facilitator that finds every payment good.
class Facilitator(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_):
        pass


service = ThreadingHTTPServer(("127.0.0.1", 0), Facilitator)
threading.Thread(target=service.serve_forever, daemon=True).start()
config = FacilitatorConfig(url=f"http://127.0.0.1:{service.server_port}")
server = x402ResourceServer(HTTPFacilitatorClient(config))
server.register(network, ExactEvmServerScheme())
accepts = {"scheme": "exact", "payTo": "0x" + "aa" * 20, "price": "$0.01", "network": network}
app = FastAPI()
app.middleware("http")(payment_middleware({"GET /paid": {"accepts": accepts}, "GET /taken": {"accepts": accepts}}, server))


@app.get("/free")
@app.get("/paid")
def sell(response: Response):
    response.set_cookie("session", "1")
    response.set_cookie("cart", "2")
    response.headers.append("link", "</2>; rel=next")
    response.headers.append("link", "</9>; rel=last")
    return {"page": 1}


@app.get("/taken")
def taken(response: Response):
    response.status_code = 409
    return sell(response)


async def main():
    client = x402Client()
    client.register("eip155:*", ExactEvmClientScheme(EthAccountSigner(payer)))
    transport = x402AsyncTransport(client, httpx.ASGITransport(app=app))
    lines = []
    for name, path in (("free", "/free"), ("paid", "/paid"), ("paid, handler answers 409", "/taken")):
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as buyer:
            answer = await buyer.get(path)
        cookies = " and ".join(cookie.split("=")[0] for cookie in answer.headers.get_list("set-cookie"))
        line = f"{name}: {answer.status_code}, cookies {cookies}, links {len(answer.headers.get_list('link'))}"
        if receipt := answer.headers.get("payment-response"):
            line += f", PAYMENT-RESPONSE success {json.loads(base64.b64decode(receipt))['success']}"
        lines.append(line)
    print("\n".join(lines))
    return lines == [
        "free: 200, cookies session and cart, links 2",
        "paid: 200, cookies session, links 1, PAYMENT-RESPONSE success True",
        "paid, handler answers 409: 409, cookies session and cart, links 2",
    ]


if not asyncio.run(main()):
    sys.exit("changed: this is not the behaviour described")
PY
timeout 120 "$dir/venv/bin/python" "$dir/run.py"
