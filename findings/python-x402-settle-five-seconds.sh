#!/usr/bin/env bash
# PyPI x402 1.0.0 with FastAPI 0.165.0 and httpx 0.28.1; Python 3.11.
#
# Expected: the server's terms give a payment 60 seconds (`maxTimeoutSeconds`), so the middleware waits for a settlement
#   that takes 7, as blocks do take; or it says that it does not know the outcome.
# Seen: the facilitator is asked with httpx's default of 5 seconds, and a timeout is answered like a refusal: 402 with
#   "Settle failed" and no PAYMENT-RESPONSE, while the facilitator completes the settlement. The handler has run, its
#   answer is thrown away, and the buyer is asked to pay anew. A facilitator that answers at once is served. Output:
#     settled in 0 s: 200 {"sold":true}, settlements completed 1
#     settled in 7 s: 402 Settle failed after 5 s, maxTimeoutSeconds 60, settlements completed 1
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check x402==1.0.0 fastapi==0.165.0 httpx==0.28.1
cat > "$dir/run.py" <<'PY'
import asyncio, base64, json, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from eth_account import Account
from fastapi import FastAPI
from x402.clients.base import x402Client
from x402.fastapi.middleware import require_payment
from x402.types import x402PaymentRequiredResponse

delay = 0
completed = []


class Facilitator(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/verify":
            answer = {"isValid": True, "payer": payer.address}
        else:
            time.sleep(delay)
            completed.append(delay)
            answer = {"success": True, "transaction": "0x" + "11" * 32, "network": "base-sepolia", "payer": payer.address}
        body = json.dumps(answer).encode()
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # the asker has hung up

    def log_message(self, *_):
        pass


payer = Account.create()
server = ThreadingHTTPServer(("127.0.0.1", 0), Facilitator)
threading.Thread(target=server.serve_forever, daemon=True).start()

app = FastAPI()
app.middleware("http")(require_payment(
    price="$0.01", pay_to_address="0x" + "aa" * 20, network="base-sepolia",
    facilitator_config={"url": f"http://127.0.0.1:{server.server_port}"},
))


@app.get("/data")
async def data():
    return {"sold": True}


async def main():
    global delay
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test", timeout=60) as buyer:
        ok = True
        for delay in (0, 7):
            completed.clear()
            terms = x402PaymentRequiredResponse(**(await buyer.get("/data")).json())
            client = x402Client(payer)
            chosen = client.select_payment_requirements(terms.accepts)
            header = client.create_payment_header(chosen, terms.x402_version)
            start = time.monotonic()
            answer = await buyer.get("/data", headers={"X-PAYMENT": header})
            took = time.monotonic() - start
            await asyncio.sleep(max(0, delay + 1.5 - took) if delay else 0)
            if delay == 0:
                print(f"settled in 0 s: {answer.status_code} {answer.text}, settlements completed {len(completed)}")
                ok &= answer.status_code == 200 and len(completed) == 1
            else:
                body = answer.json()
                print(f"settled in 7 s: {answer.status_code} {body.get('error')} after {took:.0f} s, "
                      f"maxTimeoutSeconds {chosen.max_timeout_seconds}, settlements completed {len(completed)}")
                ok &= (answer.status_code == 402 and body.get("error") == "Settle failed" and took < 7
                       and "x-payment-response" not in answer.headers and len(completed) == 1)
    return ok


if not asyncio.run(main()):
    sys.exit("changed: this is not the behaviour described")
PY
timeout 120 "$dir/venv/bin/python" "$dir/run.py"
