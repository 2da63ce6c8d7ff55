"""Records messages of the Python SDK: `record.py DIRECTORY`, in a venv with x402[extensions]==2.25.0.

They are built from its models and written as its HTTP layer writes them; nothing is signed or settled here.
"""

import base64
import json
import sys
from dataclasses import asdict
from pathlib import Path

from x402.extensions.bazaar.facilitator_client import DiscoveryResource, Pagination
from x402.http.utils import encode_payment_required_header, encode_payment_response_header
from x402.schemas import PaymentRequired, PaymentRequirements, SettleResponse, SupportedKind, SupportedResponse, VerifyResponse
from x402.schemas.v1 import PaymentRequiredV1, PaymentRequirementsV1, SupportedResponseV1

DIRECTORY = Path(sys.argv[1])
SOFTWARE = "Python x402 2.25.0"
TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
PAYEE = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
PAYER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def write(name, kind, how, value=None, header=None):
    if value is None:
        value = json.loads(base64.b64decode(header))
    vector = {"type": kind, "software": SOFTWARE, "how": how, **({"header": header} if header else {}), "json": value}
    (DIRECTORY / f"{name}.json").write_text(json.dumps(vector, indent=2, ensure_ascii=False) + "\n")


entry = PaymentRequirements(
    scheme="exact", network="eip155:84532", asset=TOKEN, amount="10000", pay_to=PAYEE, max_timeout_seconds=300
)
unnamed = PaymentRequired(accepts=[entry])
write("py-payment-required-no-resource", "v2::PaymentRequired", "PAYMENT-REQUIRED without resource, error and extensions",
      header=encode_payment_required_header(unnamed))
write("py-payment-required-nulls", "v2::PaymentRequired", "the same model dumped without exclude_none",
      value=unnamed.model_dump(by_alias=True))
write("py-payment-response-failure", "v2::SettleResponse", "PAYMENT-RESPONSE of a failed settlement without payer",
      header=encode_payment_response_header(
          SettleResponse(success=False, error_reason="transaction_failed", transaction="", network="eip155:84532")))
write("py-verify-response-nulls", "v2::VerifyResponse", "model dumped without exclude_none",
      value=VerifyResponse(is_valid=True, payer=PAYER).model_dump(by_alias=True))
write("py-supported-response", "v2::SupportedResponse", "model dumped without exclude_none",
      value=SupportedResponse(kinds=[SupportedKind(x402_version=2, scheme="exact", network="eip155:84532")],
                              signers={"eip155:*": [PAYEE]}).model_dump(by_alias=True))
SupportedResponseV1.model_rebuild(_types_namespace={"SupportedKind": SupportedKind})
write("py-v1-supported-response", "v2::SupportedResponse", "kinds only, as version 1 has them",
      value=SupportedResponseV1(kinds=[SupportedKind(x402_version=1, scheme="exact", network="base-sepolia")])
      .model_dump(by_alias=True, exclude_none=True))
write("py-v1-payment-required", "v1::PaymentRequired", "402 body without error, description, media type and extra",
      value=PaymentRequiredV1(accepts=[PaymentRequirementsV1(
          scheme="exact", network="base-sepolia", max_amount_required="10000", resource="http://127.0.0.1/paid",
          pay_to=PAYEE, max_timeout_seconds=300, asset=TOKEN)]).model_dump(by_alias=True, exclude_none=True))

item = DiscoveryResource(resource="http://127.0.0.1/paid", type="http", x402_version=2, description="A paid report",
                         accepts=[entry.model_dump(by_alias=True)], last_updated="2026-11-20T13:00:00Z")
write("py-discovery-list", "v2::DiscoveryList", "DiscoveryResource.to_dict in a list after the SDK's types; lastUpdated is text there",
      value={"x402Version": 2, "items": [item.to_dict()], "pagination": asdict(Pagination(limit=20, offset=0, total=1))})
