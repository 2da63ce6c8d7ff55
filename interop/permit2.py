"""The roles of PyPI's x402 2.25 for Permit2: `permit2.py facilitator|server`, `permit2.py client URL`. RPC_URL; KEY of the
facilitator or the payer; FACILITATOR_URL and PAY_TO for the server."""

import asyncio
import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NETWORK = "eip155:84532"
TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
BODY = {"report": "paid content"}


def facilitator():
    from x402.extensions.eip2612_gas_sponsoring import EIP2612_GAS_SPONSORING
    from x402.facilitator import x402FacilitatorSync
    from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme
    from x402.mechanisms.evm.signers import FacilitatorWeb3Signer
    from x402.mechanisms.evm.upto.facilitator import UptoEvmScheme
    from x402.schemas import PaymentPayload, PaymentRequirements

    signer = FacilitatorWeb3Signer(os.environ["KEY"], os.environ["RPC_URL"])
    served = x402FacilitatorSync()
    served.register([NETWORK], ExactEvmScheme(signer))
    served.register([NETWORK], UptoEvmScheme(signer))
    served.register_extension(EIP2612_GAS_SPONSORING)

    class Handler(BaseHTTPRequestHandler):
        def answer(self, value):
            body = value.model_dump_json(by_alias=True, exclude_none=True).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.answer(served.get_supported())

        def do_POST(self):
            sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
            payment = PaymentPayload.model_validate(sent["paymentPayload"])
            asked = PaymentRequirements.model_validate(sent["paymentRequirements"])
            self.answer((served.verify if self.path == "/verify" else served.settle)(payment, asked))

        def log_message(self, *_):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ready(listening.server_address[1])
    listening.serve_forever()


def server():
    import uvicorn
    from fastapi import FastAPI, Response
    from x402 import x402ResourceServer
    from x402.extensions.eip2612_gas_sponsoring import declare_eip2612_gas_sponsoring_extension
    from x402.http import FacilitatorConfig, HTTPFacilitatorClient
    from x402.http.middleware.fastapi import payment_middleware
    from x402.http.types import PaymentOption, RouteConfig
    from x402.mechanisms.evm.exact.server import ExactEvmScheme
    from x402.mechanisms.evm.upto.server import UptoEvmScheme
    from x402.schemas import AssetAmount

    client = HTTPFacilitatorClient(FacilitatorConfig(url=os.environ["FACILITATOR_URL"]))
    resources = x402ResourceServer(client)
    resources.register(NETWORK, ExactEvmScheme())
    resources.register(NETWORK, UptoEvmScheme())
    extra = {"assetTransferMethod": "permit2", "name": "USDC", "version": "2"}
    option = lambda scheme: PaymentOption(  # noqa: E731
        scheme=scheme,
        pay_to=os.environ["PAY_TO"],
        price=AssetAmount(amount="10000", asset=TOKEN, extra=extra),
        network=NETWORK,
        max_timeout_seconds=300,
    )
    plain = lambda extra: PaymentOption(  # noqa: E731
        scheme="exact", pay_to=os.environ["PAY_TO"], price="$0.01", network=NETWORK, max_timeout_seconds=300, extra=extra)
    extensions = declare_eip2612_gas_sponsoring_extension()
    routes = {
        "GET /exact": RouteConfig(accepts=option("exact"), extensions=extensions),
        "GET /upto": RouteConfig(accepts=option("upto"), extensions=extensions),
        "GET /eip3009": RouteConfig(accepts=plain(None)),
        "GET /upfront": RouteConfig(accepts=plain({"paymentFlow": "upfront"})),
    }
    app = FastAPI()
    app.middleware("http")(payment_middleware(routes, resources))

    @app.get("/exact")
    @app.get("/eip3009")
    @app.get("/upfront")
    async def exact():
        return BODY

    @app.get("/upto")
    async def upto(response: Response):
        response.headers["Settlement-Overrides"] = json.dumps({"amount": "10%"})
        return BODY

    listening = socket.create_server(("127.0.0.1", 0))
    ready(listening.getsockname()[1])
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])


async def client(url):
    from eth_account import Account
    from x402 import x402Client
    from x402.http.clients import x402HttpxClient
    from x402.http.utils import decode_payment_response_header
    from x402.mechanisms.evm.exact.client import ExactEvmScheme
    from x402.mechanisms.evm.signers import EthAccountSignerWithRPC
    from x402.mechanisms.evm.upto.client import UptoEvmScheme

    signer = EthAccountSignerWithRPC(Account.from_key(os.environ["KEY"]), os.environ["RPC_URL"])
    payer = x402Client()
    payer.register(NETWORK, ExactEvmScheme(signer))
    payer.register(NETWORK, UptoEvmScheme(signer))
    async with x402HttpxClient(payer, timeout=60) as http:
        response = await http.get(url)
    header = response.headers.get("payment-response")
    payment = header and decode_payment_response_header(header).model_dump(by_alias=True, mode="json")
    overrides = response.headers.get("settlement-overrides")
    print(json.dumps({"status": response.status_code, "body": response.text, "payment": payment, "overrides": overrides}))
    sys.exit(0 if response.is_success else 1)


def ready(port):
    """Prints the ready line, and makes this process end when its standard input closes."""
    import threading

    print(json.dumps({"listening": f"http://127.0.0.1:{port}"}), flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()


if sys.argv[1] == "client":
    asyncio.run(client(sys.argv[2]))
else:
    {"facilitator": facilitator, "server": server}[sys.argv[1]]()
