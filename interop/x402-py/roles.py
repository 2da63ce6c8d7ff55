"""The Python SDK, x402 2.25.0, with its extensions.

`roles.py server FACILITATOR PAY_TO NAMES` sells GET /paid on FastAPI; it prints one line once it listens, and ends with its
standard input. `roles.py facilitator RPC KEY` verifies and settles, with builder codes of its own, and prints on standard error
what it reads of each settled payment's description. `roles.py client URL KEY NAMES` asks once, or twice if it can sign in, and prints
status, body and receipt of each. `roles.py search FACILITATOR WORDS` searches a catalog. NAMES are extensions with commas
between them.
"""

import asyncio
import base64
import json
import os
import socket
import sys
import threading

NETWORK = "eip155:84532"


def declared(names, origin):
    from x402.extensions.bazaar import bazaar_resource_server_extension, declare_discovery_extension
    from x402.extensions.bazaar.resource_service import OutputConfig
    from x402.extensions.builder_code import builder_code_resource_server_extension, declare_builder_code_extension
    from x402.extensions.payment_identifier import (
        declare_payment_identifier_extension, payment_identifier_resource_server_extension)
    from x402.extensions.sign_in_with_x import (
        CreateSIWxResourceServerExtensionOptions, InMemorySIWxStorage, create_siwx_resource_server_extension,
        declare_siwx_extension)

    all_of_them = {
        "payment-identifier": (payment_identifier_resource_server_extension,
                               {"payment-identifier": declare_payment_identifier_extension(True)}),
        "bazaar": (bazaar_resource_server_extension,
                   declare_discovery_extension(output=OutputConfig(example={"report": "paid content"}))),
        "builder-code": (builder_code_resource_server_extension,
                         {"builder-code": declare_builder_code_extension("py_app", ["py_service"])}),
        "sign-in-with-x": (create_siwx_resource_server_extension(
                               CreateSIWxResourceServerExtensionOptions(storage=InMemorySIWxStorage(), origin=origin)),
                           declare_siwx_extension()),
    }
    return [all_of_them[name] for name in names]


def server(facilitator, pay_to, names):
    from fastapi import FastAPI
    from x402 import x402ResourceServer
    from x402.http import FacilitatorConfig, HTTPFacilitatorClient
    from x402.http.middleware.fastapi import payment_middleware
    from x402.mechanisms.evm.exact import register_exact_evm_server

    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    resource_server = x402ResourceServer(HTTPFacilitatorClient(FacilitatorConfig(url=facilitator)))
    register_exact_evm_server(resource_server, networks=[NETWORK])
    extensions = {}
    for extension, declaration in declared(names, origin):
        resource_server.register_extension(extension)
        extensions.update(declaration)
    accepts = {"scheme": "exact", "payTo": pay_to, "price": "$0.01", "network": NETWORK}
    app = FastAPI()
    app.middleware("http")(payment_middleware(
        {"GET /paid": {"accepts": accepts, "description": "A paid report in Python", "extensions": extensions}},
        resource_server))

    @app.get("/paid")
    async def paid():
        return {"report": "paid content"}

    serve(app, listener)


def serve(app, listener=None):
    import uvicorn

    listener = listener or socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"listening": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def facilitator(rpc, key):
    from fastapi import FastAPI, Request
    from x402 import x402FacilitatorSync
    from x402.extensions.bazaar import extract_discovery_info
    from x402.extensions.builder_code import BuilderCodeFacilitatorExtension
    from x402.mechanisms.evm import FacilitatorWeb3Signer
    from x402.mechanisms.evm.exact import register_exact_evm_facilitator
    from x402.schemas import parse_payment_payload, parse_payment_requirements

    ours = x402FacilitatorSync()
    register_exact_evm_facilitator(ours, FacilitatorWeb3Signer(private_key=key, rpc_url=rpc), networks=NETWORK)
    ours.register_extension(BuilderCodeFacilitatorExtension(builder_code="py_wallet"))
    app = FastAPI()

    async def read(request):
        body = await request.json()
        payload = parse_payment_payload(body["paymentPayload"])
        return payload, parse_payment_requirements(payload.x402_version, body["paymentRequirements"])

    def plain(model):
        return model.model_dump(by_alias=True, exclude_none=True)

    @app.post("/verify")
    async def verify(request: Request):
        payment = await read(request)
        return plain(await asyncio.to_thread(ours.verify, *payment))

    @app.post("/settle")
    async def settle(request: Request):
        payment = await read(request)
        settled = plain(await asyncio.to_thread(ours.settle, *payment))
        try:
            found = extract_discovery_info(*payment)
            print(json.dumps({"discovered": found and found.resource_url}), file=sys.stderr, flush=True)
        except Exception as error:
            print(json.dumps({"discovered": None, "error": str(error)}), file=sys.stderr, flush=True)
        return settled

    @app.get("/supported")
    async def supported():
        return plain(ours.get_supported())

    serve(app)


async def client(url, key, names):
    from eth_account import Account
    from x402 import x402Client
    from x402.extensions.builder_code import BuilderCodeClientExtension
    from x402.http.clients import wrapHttpxWithPayment
    from x402.mechanisms.evm import EthAccountSigner
    from x402.mechanisms.evm.exact import register_exact_evm_client

    payer = x402Client()
    account = Account.from_key(key)
    register_exact_evm_client(payer, EthAccountSigner(account))
    if "builder-code" in names:
        payer.register_extension(BuilderCodeClientExtension("py_client"))
    if "payment-identifier" in names:
        from x402.extensions.payment_identifier import append_payment_identifier_to_extensions

        payer.on_before_payment_creation(
            lambda context: append_payment_identifier_to_extensions(context.payment_required.extensions) and None)
    signs_in = "sign-in-with-x" in names
    if signs_in:
        from x402.extensions.sign_in_with_x import CreateSIWxClientExtensionOptions, create_siwx_client_extension

        payer.register_extension(create_siwx_client_extension(CreateSIWxClientExtensionOptions(signers=[account])))
    async with wrapHttpxWithPayment(payer) as http:
        for _ in range(2 if signs_in else 1):
            response = await http.get(url)
            await response.aread()
            receipt = response.headers.get("PAYMENT-RESPONSE")
            print(json.dumps({
                "status": response.status_code,
                "body": response.json(),
                "payment": receipt and json.loads(base64.b64decode(receipt)),
                "reports": response.headers.get("EXTENSION-RESPONSES"),
            }))


def search(facilitator, words):
    from x402.extensions.bazaar.facilitator_client import SearchDiscoveryResourcesParams, with_bazaar
    from x402.http import FacilitatorConfig, HTTPFacilitatorClientSync

    found = with_bazaar(HTTPFacilitatorClientSync(FacilitatorConfig(url=facilitator))).extensions.bazaar.search(
        SearchDiscoveryResourcesParams(query=words))
    print(json.dumps([resource.resource for resource in found.resources]))


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role in ("search", "facilitator"):
        {"search": search, "facilitator": facilitator}[role](*rest)
    else:
        *rest, listed = rest
        names = [name for name in listed.split(",") if name]
        server(*rest, names) if role == "server" else asyncio.run(client(*rest, names))
