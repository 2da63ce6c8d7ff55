"""The SDK's own client classes, driven by lines of JSON: {"do": "verify" | "settle", ...} in, the model or the error out.

NVM_BACKEND_URL names the facilitator. The API key has no known prefix, so the environment is `custom`, which reads it.
"""

import json
import sys

import jwt
from payments_py import Payments, PaymentOptions, PaymentsError
from payments_py.x402 import X402PaymentRequired

key = "interop:" + jwt.encode({"sub": "0x" + "22" * 20, "o11y": "none"}, "k" * 32, algorithm="HS256")
payments = Payments.get_instance(PaymentOptions(nvm_api_key=key))


def answer(line):
    """Calls the method that the line names."""
    asked = json.loads(line)
    what = asked.pop("do")
    asked["payment_required"] = X402PaymentRequired.model_validate(asked["payment_required"])
    methods = {"verify": payments.facilitator.verify_permissions, "settle": payments.facilitator.settle_permissions}
    try:
        return {"answer": methods[what](**asked).model_dump(by_alias=True)}
    except PaymentsError as error:
        return {"error": {"code": error.code, "message": str(error), "class": type(error).__name__}}


print(json.dumps({"ready": payments.environment.backend}), flush=True)
for line in sys.stdin:
    print(json.dumps(answer(line)), flush=True)
