//! Versions 1 and 2: [x402 v2 §7](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md).
//!
//! 200 for verdicts, an entry of another scheme or network among them; 400 with `isValid` or `success` `false` and a
//! code for what cannot be decoded or routed, 409 for a payment of another request or a name of another payment, 413
//! over size, 503 where the fault is ours.

use axum::http::StatusCode;
use axum::response::Response;
use sha2::{Digest, Sha256};
use x402_codec::{DecodeErrorKind, body};
use x402_types::v2::SettleResponse;
use x402_types::{Claim, ErrorReason, Fault, Identity, PaymentPayload, Rejection, Terms, VerifyRequest};

use super::names::payment;
use super::{Api, NAMES_ANOTHER, Received, Refused, json, key_of, network_asked, unavailable};
use crate::engine::{invalid, refused, undecided};

/// A claim that was read, and its caller's name for it.
struct Read {
    claim: Claim,
    payment: [u8; 32],
    name: Option<String>,
}

impl Api {
    fn claim(&self, received: Received) -> Result<Read, Refused> {
        let Received { caller, headers, body } = received;
        let request = body::verify_request(&body, &self.limits).map_err(|error| match error.kind() {
            DecodeErrorKind::TooLarge => Refused::TooLarge,
            _ => Refused::Unreadable(error.into()),
        })?;
        let name = key_of(&headers).map(|name| name.map(str::to_owned));
        let identity = name.clone().and_then(|name| request_id(name.as_deref(), &request));
        let terms = Terms::try_from(request.payment_requirements)
            .map_err(|why| Rejection::new(ErrorReason::INVALID_NETWORK).because(format!("network: {why}")));
        let terms = terms.map_err(Refused::Unreadable)?;
        // The server has compared them; a facilitator that trusts it would settle what was never offered.
        let rule = self.engine.settlement().amount_rule(&terms.scheme);
        if !request.payment_payload.settles(&terms, rule) {
            return Err(self.another(request.payment_payload, terms));
        }
        let identity = Identity { caller, request: identity.map_err(Refused::Unreadable)? };
        let mut claim = Claim::new(terms, request.payment_payload);
        claim.identity = identity;
        // Somebody here serves the terms and can read the payload; what it says is for the verdict.
        match self.engine.settlement().key(&claim) {
            Ok(key) => Ok(Read { claim, payment: payment(&key), name: name.unwrap_or_default() }),
            // It was read: it is of another method.
            Err(why) if why.reason == ErrorReason::UNSUPPORTED_PAYLOAD_TYPE => Err(Refused::Verdict(why)),
            Err(why) => Err(Refused::Unreadable(why)),
        }
    }

    /// A payment for another entry than the one that it must fulfil. Of another scheme or network that is a verdict.
    fn another(&self, payment: PaymentPayload, terms: Terms) -> Refused {
        let named = match &payment {
            PaymentPayload::V1(payment) => Some((payment.scheme.clone(), payment.network.chain_id())),
            PaymentPayload::V2(payment) => Some((payment.accepted.scheme.clone(), Some(payment.accepted.network))),
            PaymentPayload::Nvm(_) => None,
        };
        let entry = match &payment {
            PaymentPayload::V1(_) => "paymentPayload",
            _ => "paymentPayload.accepted",
        };
        let (reason, is_verdict, member) = match &named {
            Some((scheme, _)) if *scheme != terms.scheme => (ErrorReason::INVALID_SCHEME, true, ".scheme"),
            Some((_, network)) if *network != Some(terms.network) => (ErrorReason::INVALID_NETWORK, true, ".network"),
            _ => (ErrorReason::INVALID_PAYMENT_REQUIREMENTS, false, ""),
        };
        let rejection = Rejection::new(reason).because(format!(
            "{entry}{member}: expected {} in paymentRequirements",
            if is_verdict { "the one" } else { "the entry" }
        ));
        // Whoever serves the scheme asked, or else the one offered, can read who would pay.
        let mut claim = Claim::new(terms, payment);
        let mut rejection = self.engine.of_payer(&claim, rejection);
        if let (None, Some((scheme, Some(network)))) = (&rejection.payer, named) {
            claim.terms.scheme = scheme;
            claim.terms.network = network;
            rejection = self.engine.of_payer(&claim, rejection);
        }
        if is_verdict { Refused::Verdict(rejection) } else { Refused::Unreadable(rejection) }
    }
}

/// `Idempotency-Key`, or the hash of the canonical body.
fn request_id(name: Option<&str>, request: &VerifyRequest) -> Result<String, Rejection> {
    if let Some(name) = name {
        return Ok(format!("key:{name}"));
    }
    // Members in alphabetical order, numbers and strings in one spelling: white space and order do not count.
    // Without it two requests could pass for one, so there is no default.
    let canonical = serde_json::to_value(request)
        .map_err(|error| Rejection::new(ErrorReason::INVALID_PAYLOAD).because(format!("the body: {error}")))?
        .to_string();
    Ok(format!("body:{}", alloy_primitives::hex::encode(Sha256::digest(canonical.as_bytes()))))
}

/// 409: the name is another payment's.
fn taken() -> Rejection {
    Rejection::new(ErrorReason::DUPLICATE_SETTLEMENT).because(NAMES_ANOTHER)
}

pub(super) async fn verify(api: &Api, received: Received) -> Response {
    let Read { claim, payment, name } = match api.claim(received) {
        Ok(read) => read,
        Err(refused) => return refused.answer(invalid),
    };
    let name = name.as_deref().map(|name| (claim.identity.caller.as_str(), name));
    let fault = |fault: Fault| unavailable(&fault, &invalid(Rejection::new(ErrorReason::UNEXPECTED_VERIFY_ERROR)));
    if let Some((caller, name)) = name {
        match api.names.fits(caller, name, payment).await {
            Ok(true) => {}
            Ok(false) => return json(StatusCode::CONFLICT, &invalid(taken())),
            Err(unread) => return fault(unread),
        }
    }
    match api.engine.verify_claim(&claim).await {
        Ok(response) => {
            if let Some((caller, name)) = name.filter(|_| response.is_valid) {
                api.names.verified(caller, name, payment);
            }
            json(StatusCode::OK, &response)
        }
        Err(unknown) => fault(unknown),
    }
}

pub(super) async fn settle(api: &Api, received: Received) -> Response {
    let body = received.body.clone();
    let Read { claim, payment, name } = match api.claim(received) {
        Ok(read) => read,
        Err(refused) => return refused.answer(|rejection| on_network(&body, undecided(rejection))),
    };
    let settled = match &name {
        None => api.engine.settle_claim(&claim).await,
        Some(name) => match api.names.take(&claim.identity.caller, name, payment).await {
            Ok(true) => api.engine.settle_named(&claim).await,
            Ok(false) => return json(StatusCode::CONFLICT, &refused(taken(), &claim)),
            Err(fault) => Err(fault),
        },
    };
    match settled {
        Ok(response) if response.error_reason == Some(ErrorReason::DUPLICATE_SETTLEMENT) => {
            json(StatusCode::CONFLICT, &response)
        }
        Ok(response) => json(StatusCode::OK, &response),
        Err(fault) => {
            let rejection = Rejection::new(ErrorReason::UNEXPECTED_SETTLE_ERROR);
            unavailable(&fault, &on_network(&body, undecided(api.engine.of_payer(&claim, rejection))))
        }
    }
}

/// §5.3.2: `network` is required, in a refusal too. It is the one that was asked, as it is written.
fn on_network(body: &[u8], response: SettleResponse) -> SettleResponse {
    SettleResponse { network: network_asked(body), ..response }
}
