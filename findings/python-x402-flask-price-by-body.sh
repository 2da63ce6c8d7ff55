#!/usr/bin/env bash
# PyPI x402 2.25.0 (Flask middleware) with Flask 3.1.3, Werkzeug 3.1.9, eth-account 0.13.7; Python 3.11.
#
# Expected: a route's price may be a function of the request, whose adapter offers get_body(); the handler then does its work
#   on the same request.
# Seen: get_body() reads the body from the WSGI input and leaves nothing there for the handler, which gets a request of its
#   own over the same input. The 402 has the right price; paid, the handler finds no body and Flask answers 400, so that
#   nothing can be bought of a route whose price depends on the body. With a fixed price the handler has the body. Output:
#     fixed price: asks 20000; paid 200, handler read {"pages": [1, 2]}, settlements 1
#     price by body: asks 20000; paid 400, handler read nothing, settlements 0
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
  'x402[evm]==2.25.0' flask==3.1.3 werkzeug==3.1.9 eth-account==0.13.7 httpx==0.28.1
cat > "$dir/run.py" <<'PY'
import json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from eth_account import Account
from flask import Flask, request
from x402 import x402ClientSync, x402ResourceServerSync
from x402.http import FacilitatorConfig, HTTPFacilitatorClientSync
from x402.http.middleware.flask import payment_middleware
from x402.http.utils import decode_payment_required_header, encode_payment_signature_header
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import ExactEvmClientScheme, ExactEvmServerScheme

network = "eip155:84532"
payer = Account.create()
answers = {
    "/supported": {"kinds": [{"x402Version": 2, "scheme": "exact", "network": network}], "extensions": [], "signers": {}},
    "/verify": {"isValid": True, "payer": payer.address},
    "/settle": {"success": True, "transaction": "0x" + "11" * 32, "network": network, "payer": payer.address},
}
settlements, read = 0, []


# A facilitator that finds every payment good.
class Service(BaseHTTPRequestHandler):
    def do_POST(self):
        global settlements
        settlements += self.path == "/settle"
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_):
        pass


service = ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=service.serve_forever, daemon=True).start()
facilitator = HTTPFacilitatorClientSync(FacilitatorConfig(url=f"http://127.0.0.1:{service.server_port}"))
server = x402ResourceServerSync(facilitator)
server.register(network, ExactEvmServerScheme())
app = Flask(__name__)


@app.post("/<path>")
def handler(path):
    read.append(request.get_data(as_text=True))
    return "done"


def per_page(context):
    return f"${len(context.adapter.get_body()['pages']) / 100:.2f}"


def offer(price):
    pay_to = "0x00000000000000000000000000000000000000Aa"
    return {"accepts": {"scheme": "exact", "payTo": pay_to, "network": network, "price": price}}


payment_middleware(app, {"POST /fixed": offer("$0.02"), "POST /body": offer(per_page)}, server)
client = x402ClientSync()
client.register(network, ExactEvmClientScheme(EthAccountSigner(payer)))
shop, lines = app.test_client(), []
for name, path in [("fixed price", "/fixed"), ("price by body", "/body")]:
    settlements, read[:] = 0, []
    required = decode_payment_required_header(shop.post(path, json={"pages": [1, 2]}).headers["PAYMENT-REQUIRED"])
    header = encode_payment_signature_header(client.create_payment_payload(required))
    paid = shop.post(path, json={"pages": [1, 2]}, headers={"PAYMENT-SIGNATURE": header})
    lines.append(f"{name}: asks {required.accepts[0].amount}; paid {paid.status_code}, "
                 f"handler read {''.join(read) or 'nothing'}, settlements {settlements}")
service.shutdown()
print("\n".join(lines))
expected = """fixed price: asks 20000; paid 200, handler read {"pages": [1, 2]}, settlements 1
price by body: asks 20000; paid 400, handler read nothing, settlements 0"""
if "\n".join(lines) != expected:
    sys.exit("changed: this is not the behaviour described")
PY
timeout 120 "$dir/venv/bin/python" "$dir/run.py"
