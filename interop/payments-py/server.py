"""A seller with the SDK's own middleware. NVM_BACKEND_URL names the facilitator; PLAN_ID, NETWORK and BODY what it sells."""

import asyncio
import json
import os
import socket

import jwt
import uvicorn
from payments_py import Payments, PaymentOptions
from payments_py.x402.fastapi import PaymentMiddleware
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

key = "interop:" + jwt.encode({"sub": "0x" + "22" * 20, "o11y": "none"}, "k" * 32, algorithm="HS256")
payments = Payments.get_instance(PaymentOptions(nvm_api_key=key))
body = json.loads(os.environ["BODY"])


async def tasks(request):
    """Works for as long as the query says."""
    await asyncio.sleep(int(request.query_params.get("ms", "0")) / 1000)
    return JSONResponse(body)


app = Starlette(routes=[Route("/tasks", tasks, methods=["POST"])])
route = {"plan_id": os.environ["PLAN_ID"], "credits": 1, "network": os.environ["NETWORK"], "scheme": "nvm:erc4337"}
app.add_middleware(PaymentMiddleware, payments=payments, routes={"POST /tasks": route})


async def main():
    """Listens on a free port and says which."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(json.dumps({"listening": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


asyncio.run(main())
