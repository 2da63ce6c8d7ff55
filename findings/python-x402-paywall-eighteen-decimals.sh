#!/usr/bin/env bash
# PyPI x402 2.25.0 (FastAPI middleware and its paywall page) with FastAPI 0.165.0, httpx 0.28.1; Python 3.11.
#
# Expected: the page that a browser gets names the route's price, in whatever token of the package's own table of default
#   assets it is paid: its price parser takes each token's decimals from there.
# Seen: the terms are right, and the page's figure is the amount divided by a million for every token. On networks whose
#   default token has 18 decimals (MegaETH, Mezo) a page for half a dollar says 500 billion; its script puts that figure
#   behind a dollar sign. The TypeScript server 2.27.0 takes the decimals from the scheme. The price was "$0.50". Output:
#     eip155:84532 (USDC): terms 500000, page 0.5
#     eip155:4326 (MegaUSD): terms 500000000000000000, page 500000000000.0
#     eip155:31612 (Mezo USD): terms 500000000000000000, page 500000000000.0
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'x402[evm]==2.25.0' fastapi==0.165.0 httpx==0.28.1
cat > "$dir/run.py" <<'PY'
import asyncio, json, re, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from fastapi import FastAPI
from x402 import x402ResourceServer
from x402.http import FacilitatorConfig, HTTPFacilitatorClient
from x402.http.middleware.fastapi import payment_middleware
from x402.mechanisms.evm.exact import ExactEvmServerScheme

networks = ["eip155:84532", "eip155:4326", "eip155:31612"]
supported = {
    "kinds": [{"x402Version": 2, "scheme": "exact", "network": network} for network in networks],
    "extensions": [], "signers": {},
}


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(supported).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


async def main():
    service = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{service.server_port}"
    server = x402ResourceServer(HTTPFacilitatorClient(FacilitatorConfig(url=url)))
    routes = {}
    for i, network in enumerate(networks):
        server.register(network, ExactEvmServerScheme())
        pay_to = "0x00000000000000000000000000000000000000Aa"
        routes[f"GET /{i}"] = {"accepts": {"scheme": "exact", "payTo": pay_to, "price": "$0.50", "network": network}}
    app = FastAPI()
    app.middleware("http")(payment_middleware(routes, server))
    lines = []
    browser = {"accept": "text/html", "user-agent": "Mozilla/5.0"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop.test") as client:
        for i, network in enumerate(networks):
            page = (await client.get(f"/{i}", headers=browser)).text
            shown = json.loads(re.search(r"window\.x402 = (\{.*\});\n</script>", page).group(1))
            terms = shown["paymentRequired"]["accepts"][0]
            lines.append(f"{network} ({terms['extra']['name']}): terms {terms['amount']}, page {shown['amount']}")
    service.shutdown()
    return lines


lines = asyncio.run(main())
print("\n".join(lines))
expected = """eip155:84532 (USDC): terms 500000, page 0.5
eip155:4326 (MegaUSD): terms 500000000000000000, page 500000000000.0
eip155:31612 (Mezo USD): terms 500000000000000000, page 500000000000.0"""
if "\n".join(lines) != expected:
    sys.exit("changed: this is not the behaviour described")
PY
timeout 120 "$dir/venv/bin/python" "$dir/run.py"
