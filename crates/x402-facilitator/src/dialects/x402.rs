//! The dialects of versions 1 and 2: [x402 v2
//! §7](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md).
//!
//! The statuses are 200 for verdicts, an entry of another scheme or network among them; 400 with `isValid` or `success`
//! `false` and a code if the body cannot be decoded or routed, 409 for a payment of another request or a name of
//! another payment, 413 for an oversized body, and 503 for a fault of this facilitator.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::StatusCode;
use sha2::{Digest, Sha256};
use x402_codec::{DecodeError, DecodeErrorKind, body};
use x402_types::v2::{SettleResponse, VerifyResponse};
use x402_types::{Claim, ErrorReason, Identity, PaymentPayload, Rejection, Terms, VerifyRequest, Version};

use super::{TOO_LARGE, network_asked};
use crate::dialect::{Answer, Body, Context, Dialect, Name, Reply, Request, Settled, Stopped, Submission};
use crate::engine::Engine;
use crate::names::payment;

/// The dialect of one version.
#[derive(Debug, Clone, Copy)]
pub(super) struct X402(pub(super) Version);

/// A body of either version.
type Asked = Result<VerifyRequest, DecodeError>;

fn asked(body: &Body) -> Arc<Asked> {
    body.view(body::verify_request)
}

#[async_trait]
impl Dialect for X402 {
    fn recognises(&self, body: &Body) -> bool {
        match self.0 {
            Version::V1 => asked(body).as_ref().as_ref().is_ok_and(|asked| asked.payment_payload.version() == self.0),
            // Version 2 comes last in the list, so that a body of no dialect is refused in its format.
            Version::V2 => true,
        }
    }

    fn read(&self, context: &Context, request: &Request) -> Result<Submission, Stopped> {
        let engine = context.engine();
        let asked = (*asked(&request.body)).clone().map_err(|error| match error.kind() {
            DecodeErrorKind::TooLarge => Stopped::TooLarge,
            _ => Stopped::Unreadable(error.into()),
        })?;
        let name = request.name().map(|name| name.map(str::to_owned));
        let identity = name.clone().and_then(|name| request_id(name.as_deref(), &asked));
        let terms = Terms::try_from(asked.payment_requirements)
            .map_err(|why| Rejection::new(ErrorReason::INVALID_NETWORK).because(format!("network: {why}")));
        let terms = terms.map_err(Stopped::Unreadable)?;
        // The server has compared them already, but a facilitator that relied on it could settle a payment that was
        // never offered.
        let rule = engine.settlement().amount_rule(&terms.scheme);
        let payment_is_for = |terms: &Terms| {
            asked.payment_payload.settles(terms, rule) || asked.payment_payload.is_exceeded_by(terms, rule)
        };
        if !payment_is_for(&terms) {
            return Err(another(engine, asked.payment_payload, terms));
        }
        let identity = Identity::new(request.caller.clone(), identity.map_err(Stopped::Unreadable)?);
        let mut claim = Claim::new(terms, asked.payment_payload);
        claim.identity = identity;
        // A mechanism here serves the terms and can parse the payload; the verdict judges its content.
        match engine.settlement().key(&claim) {
            Ok(key) => {
                let names = name.iter().flatten().map(|name| Name::of_caller(name, payment(&key))).collect();
                Ok(Submission::new(claim, names))
            }
            // The payload was parsed: it is of another transfer method.
            Err(why) if why.reason == ErrorReason::UNSUPPORTED_PAYLOAD_TYPE => Err(Stopped::Refused(why)),
            Err(why) => Err(Stopped::Unreadable(why)),
        }
    }

    /// Refuses an amount above the authorized one. The mechanism refuses it first, since a scheme may have a code of its
    /// own for it, and an order of its checks.
    async fn admit(&self, context: &Context, request: &Request, submission: &Submission) -> Result<(), Stopped> {
        let (engine, claim) = (context.engine(), &submission.claim);
        let rule = engine.settlement().amount_rule(&claim.terms.scheme);
        let asked = asked(&request.body);
        if let Ok(asked) = &*asked
            && asked.payment_payload.is_exceeded_by(&claim.terms, rule)
        {
            engine.check(claim).await?;
            return Err(another(engine, asked.payment_payload.clone(), claim.terms.clone()));
        }
        context.admit_names(request, submission).await
    }

    fn write_verdict(&self, _: &Context, _: &Request, answer: Answer<'_, String>) -> Reply {
        match answer {
            Answer::Made(_, payer) => Reply::json(StatusCode::OK, &VerifyResponse::valid(payer)),
            Answer::Stopped(_, stopped) => {
                let status = stopped.status();
                let rejection = rejection(stopped, ErrorReason::UNEXPECTED_VERIFY_ERROR);
                let mut response = VerifyResponse::invalid(&rejection);
                response.invalid_message = self.words(response.invalid_reason.as_ref(), response.invalid_message);
                response.invalid_reason = response.invalid_reason.map(|code| code.in_version(self.0));
                Reply::json(status, &response)
            }
        }
    }

    fn write_settlement(&self, context: &Context, request: &Request, answer: Answer<'_, Settled>) -> Reply {
        let (status, mut response) = match answer {
            Answer::Made(submission, settled) => {
                (StatusCode::OK, self.settle_response(&submission.claim.terms, Ok(&settled)))
            }
            Answer::Stopped(Some(submission), stopped @ (Stopped::Rejected(_) | Stopped::Taken(_))) => {
                let status = stopped.status();
                let rejection = rejection(stopped, ErrorReason::UNEXPECTED_SETTLE_ERROR);
                (status, self.settle_response(&submission.claim.terms, Err(&rejection)))
            }
            Answer::Stopped(submission, stopped) => {
                let status = stopped.status();
                let mut rejection = rejection(stopped, ErrorReason::UNEXPECTED_SETTLE_ERROR);
                if let Some(submission) = submission {
                    rejection = context.engine().of_payer(&submission.claim, rejection);
                }
                // §5.3.2 requires `network` in a refusal, too. It is the network of the request, as written there.
                (status, SettleResponse::refused(&rejection, network_asked(&request.body)))
            }
        };
        let is_used = response.error_reason == Some(ErrorReason::DUPLICATE_SETTLEMENT);
        response.error_message = self.words(response.error_reason.as_ref(), response.error_message);
        response.error_reason = response.error_reason.map(|code| code.in_version(self.0));
        Reply::json(if is_used { StatusCode::CONFLICT } else { status }, &response)
    }

    fn serves(&self, terms: &Terms) -> bool {
        terms.version == self.0
    }
}

impl X402 {
    /// Returns the words beside a code, with the code itself before them where this version has another for it.
    fn words(self, code: Option<&ErrorReason>, words: Option<String>) -> Option<String> {
        match code.filter(|code| (*code).clone().in_version(self.0) != **code) {
            Some(code) => Some(words.map_or_else(|| code.to_string(), |words| format!("{code}: {words}"))),
            None => words,
        }
    }
}

/// Returns the refusal for a request that was stopped. `unexpected` is the code for a fault of this facilitator.
fn rejection(stopped: Stopped, unexpected: ErrorReason) -> Rejection {
    match stopped {
        Stopped::TooLarge => Rejection::new(ErrorReason::INVALID_PAYLOAD).because(TOO_LARGE),
        Stopped::Unreadable(rejection) | Stopped::Refused(rejection) | Stopped::Rejected(rejection) => rejection,
        Stopped::Taken(words) => Rejection::new(ErrorReason::DUPLICATE_SETTLEMENT).because(words),
        Stopped::Fault(_) => Rejection::new(unexpected),
    }
}

/// Refuses a payment for another entry than the one that it must fulfil. If its scheme or network differs, the refusal
/// is a verdict.
fn another(engine: &Engine, payment: PaymentPayload, terms: Terms) -> Stopped {
    let (scheme, network) = match &payment {
        PaymentPayload::V1(payment) => (payment.scheme.clone(), payment.network.chain_id()),
        PaymentPayload::V2(payment) => (payment.accepted.scheme.clone(), Some(payment.accepted.network)),
    };
    let entry = match &payment {
        PaymentPayload::V1(_) => "paymentPayload",
        PaymentPayload::V2(_) => "paymentPayload.accepted",
    };
    let (reason, is_verdict, member) = if scheme != terms.scheme {
        (ErrorReason::INVALID_SCHEME, true, ".scheme")
    } else if network != Some(terms.network) {
        (ErrorReason::INVALID_NETWORK, true, ".network")
    } else {
        (ErrorReason::INVALID_PAYMENT_REQUIREMENTS, false, "")
    };
    let rejection = Rejection::new(reason).because(format!(
        "{entry}{member}: expected {} in paymentRequirements",
        if is_verdict { "the one" } else { "the entry" }
    ));
    // The mechanism of the server's scheme, or else of the offered one, can name the payer.
    let mut claim = Claim::new(terms, payment);
    let mut rejection = engine.of_payer(&claim, rejection);
    if let (None, Some(network)) = (&rejection.payer, network) {
        claim.terms.scheme = scheme;
        claim.terms.network = network;
        rejection = engine.of_payer(&claim, rejection);
    }
    if is_verdict { Stopped::Refused(rejection) } else { Stopped::Unreadable(rejection) }
}

/// Returns the request's name: `Idempotency-Key`, or the hash of the canonical body.
fn request_id(name: Option<&str>, request: &VerifyRequest) -> Result<String, Rejection> {
    if let Some(name) = name {
        return Ok(format!("key:{name}"));
    }
    // Members are in alphabetical order, numbers and strings in one spelling, so that white space and order do not
    // count. An error must not become a default: two requests could pass for one.
    let canonical = serde_json::to_value(request)
        .map_err(|error| Rejection::new(ErrorReason::INVALID_PAYLOAD).because(format!("the body: {error}")))?
        .to_string();
    Ok(format!("body:{}", alloy_primitives::hex::encode(Sha256::digest(canonical.as_bytes()))))
}
