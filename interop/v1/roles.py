"""The published Python SDK of version 1, x402 1.0.0: `roles.py server FACILITATOR PAY_TO` sells GET /paid on FastAPI, and
`roles.py client URL KEY` pays once. It has no facilitator."""

import asyncio
import json
import os
import socket
import sys
import threading


def server(facilitator, pay_to):
    import uvicorn
    from fastapi import FastAPI
    from x402.fastapi.middleware import require_payment

    app = FastAPI()
    app.middleware("http")(require_payment(
        price="$0.01", pay_to_address=pay_to, path="/paid", description="A paid report", mime_type="application/json",
        network="base-sepolia", facilitator_config={"url": facilitator}))

    @app.get("/paid")
    async def paid():
        return {"report": "paid content"}

    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"listening": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


async def client(url, key):
    from eth_account import Account
    from x402.clients.base import decode_x_payment_response
    from x402.clients.httpx import x402HttpxClient

    base, path = url.rsplit("/", 1)
    async with x402HttpxClient(account=Account.from_key(key), base_url=base) as http:
        response = await http.get(f"/{path}")
        await response.aread()
    receipt = response.headers.get("X-Payment-Response")
    print(json.dumps({
        "status": response.status_code,
        "body": response.json(),
        "payment": receipt and decode_x_payment_response(receipt),
    }))


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    server(*rest) if role == "server" else asyncio.run(client(*rest))
