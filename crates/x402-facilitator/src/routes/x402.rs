//! Versions 1 and 2: [x402 v2 §7](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md).
//!
//! 200 for verdicts, an entry of another scheme or network among them; 400 with `isValid` or `success` `false` and a
//! code for what cannot be decoded or routed, 409 for a payment of another request or a name of another payment, 413
//! over size, 503 where the fault is ours.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use sha2::{Digest, Sha256};
use x402_codec::{DecodeErrorKind, body};
use x402_types::v2::SettleResponse;
use x402_types::{Claim, ErrorReason, Fault, Identity, PaymentPayload, Refusal, Rejection, Terms, VerifyRequest};

use super::names::payment;
use super::{Api, NAMES_ANOTHER, Received, Refused, json, key_of, network_asked, unavailable};
use crate::engine::{invalid, refused, undecided};

/// A claim that was read, and the names of its request.
struct Read {
    claim: Claim,
    names: Vec<Name>,
    /// Whether the caller named the request. The name of an extension is chosen by the payer, and a server that receives a
    /// success twice serves twice.
    by_caller: bool,
}

/// One name of a request.
struct Name {
    name: String,
    /// The payment or the exact payload that the name is for.
    of: [u8; 32],
    /// The message of 409.
    another: String,
}

impl Api {
    async fn claim(&self, received: Received) -> Result<Read, Refused> {
        let Received { caller, headers, body } = received;
        let request = body::verify_request(&body, &self.limits).map_err(|error| match error.kind() {
            DecodeErrorKind::TooLarge => Refused::TooLarge,
            _ => Refused::Unreadable(error.into()),
        })?;
        let name = key_of(&headers).map(|name| name.map(str::to_owned));
        let exact = (!self.engine.extensions().is_empty()).then(|| digest(&request.payment_payload)).transpose();
        let identity = name.clone().and_then(|name| request_id(name.as_deref(), &request));
        let terms = Terms::try_from(request.payment_requirements)
            .map_err(|why| Rejection::new(ErrorReason::INVALID_NETWORK).because(format!("network: {why}")));
        let terms = terms.map_err(Refused::Unreadable)?;
        // The server has compared them; a facilitator that trusts it would settle what was never offered.
        if !request.payment_payload.is_for(&terms) {
            return Err(self.another(request.payment_payload, terms));
        }
        let identity = Identity { caller, request: identity.map_err(Refused::Unreadable)? };
        let mut claim = Claim::new(terms, request.payment_payload);
        claim.identity = identity;
        // Somebody here serves the terms and can read the payload; what it says is for the verdict.
        let key = match self.engine.settlement().key(&claim) {
            Ok(key) => key,
            // It was read: it is of another method.
            Err(why) if why.reason == ErrorReason::UNSUPPORTED_PAYLOAD_TYPE => return Err(Refused::Verdict(why)),
            Err(why) => return Err(Refused::Unreadable(why)),
        };
        let mut read = Read { claim, names: Vec::new(), by_caller: false };
        if let Some(name) = name.unwrap_or_default() {
            read.by_caller = true;
            read.names.push(Name { name, of: payment(&key), another: NAMES_ANOTHER.to_owned() });
        }
        match self.engine.extensions().on_claim(&read.claim).await {
            Ok(Some(name)) => {
                if !read.by_caller {
                    read.claim.identity.request = name.to_string();
                }
                let of = exact.map_err(Refused::Unreadable)?.unwrap_or_default();
                let another = format!("{}: it names another payment", name.extension);
                // A header value contains no line feed, so the name differs from every `Idempotency-Key`.
                read.names.push(Name { name: format!("{}\n{}", name.extension, name.name), of, another });
            }
            Ok(None) => {}
            Err(Refusal::Rejection(why)) => {
                let why = self.engine.of_payer(&read.claim, why);
                return Err(if why.status == Some(400) { Refused::Unreadable(why) } else { Refused::Verdict(why) });
            }
            Err(Refusal::Fault(fault)) => return Err(Refused::Unavailable(fault)),
        }
        Ok(read)
    }

    /// Returns 503 of `/settle`.
    fn not_known(&self, body: &[u8], claim: &Claim, fault: &Fault) -> Response {
        let rejection = Rejection::new(ErrorReason::UNEXPECTED_SETTLE_ERROR);
        unavailable(fault, &on_network(body, undecided(self.engine.of_payer(claim, rejection))))
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
    Ok(format!("body:{}", alloy_primitives::hex::encode(digest(request)?)))
}

/// Hashes the canonical JSON of a message: members in alphabetical order, numbers and strings in one spelling, no white
/// space. There is no default on failure, because two requests could then pass for one.
fn digest<T: Serialize>(message: &T) -> Result<[u8; 32], Rejection> {
    let canonical = serde_json::to_value(message)
        .map_err(|error| Rejection::new(ErrorReason::INVALID_PAYLOAD).because(format!("the body: {error}")))?;
    Ok(Sha256::digest(canonical.to_string().as_bytes()).into())
}

/// Creates the rejection of 409: the name belongs to another payment.
fn taken(name: &Name) -> Rejection {
    Rejection::new(ErrorReason::DUPLICATE_SETTLEMENT).because(&*name.another)
}

pub(super) async fn verify(api: &Api, received: Received) -> Response {
    let Read { claim, names, .. } = match api.claim(received).await {
        Ok(read) => read,
        Err(refused) => return refused.answer(invalid),
    };
    let caller = &claim.identity.caller;
    let fault = |fault: Fault| unavailable(&fault, &invalid(Rejection::new(ErrorReason::UNEXPECTED_VERIFY_ERROR)));
    for name in &names {
        match api.names.fits(caller, &name.name, name.of).await {
            Ok(true) => {}
            Ok(false) => return json(StatusCode::CONFLICT, &invalid(taken(name))),
            Err(unread) => return fault(unread),
        }
    }
    match api.engine.verify_claim(&claim).await {
        Ok(response) => {
            for name in names.iter().filter(|_| response.is_valid) {
                api.names.verified(caller, &name.name, name.of);
            }
            json(StatusCode::OK, &response)
        }
        Err(unknown) => fault(unknown),
    }
}

pub(super) async fn settle(api: &Api, received: Received) -> Response {
    let body = received.body.clone();
    let Read { claim, names, by_caller } = match api.claim(received).await {
        Ok(read) => read,
        Err(refused) => return refused.answer(|rejection| on_network(&body, undecided(rejection))),
    };
    for name in &names {
        match api.names.take(&claim.identity.caller, &name.name, name.of).await {
            Ok(true) => {}
            Ok(false) => return json(StatusCode::CONFLICT, &refused(taken(name), &claim)),
            Err(fault) => return api.not_known(&body, &claim, &fault),
        }
    }
    let settled = if by_caller { api.engine.settle_named(&claim).await } else { api.engine.settle_claim(&claim).await };
    match settled {
        Ok(response) if response.error_reason == Some(ErrorReason::DUPLICATE_SETTLEMENT) => {
            json(StatusCode::CONFLICT, &response)
        }
        Ok(response) => json(StatusCode::OK, &response),
        Err(fault) => api.not_known(&body, &claim, &fault),
    }
}

/// §5.3.2: `network` is required, in a refusal too. It is the one that was asked, as it is written.
fn on_network(body: &[u8], response: SettleResponse) -> SettleResponse {
    SettleResponse { network: network_asked(body), ..response }
}
