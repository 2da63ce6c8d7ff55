//! The dialect of the [Card Delegation
//! Extension](https://github.com/nevermined-io/docs/blob/main/specs/x402-card-delegation.mdx): `/verify` and `/settle`
//! with the payment beside `paymentRequired`, and the routes of cards, delegations and access tokens.
//!
//! The statuses are 200 for verdicts, 400 for an unreadable body, 409 for another amount or payment under a known id, and
//! 503 for a fault of this facilitator.

mod desk;
mod routes;
mod words;

use std::sync::Arc;

use alloy_primitives::{hex, keccak256};
use async_trait::async_trait;
use axum::Router;
use axum::http::StatusCode;
use serde_json::json;
use x402_codec::nvm::{self as codec, DecodedRequest};
use x402_facilitator_core::{PaymentRequest, Verified};
use x402_types::nvm::card::CardCode;
use x402_types::v2::{SettleResponse, VerifyResponse};
use x402_types::{AtomicAmount, Claim, ErrorReason, Fault, Identity, RawJson, Rejection, SchemeName, Terms};

use super::naming::{self, Presented};
use super::network_asked;
use super::nvm::check_resource;
use crate::dialect::{Answer, Body, Context, Dialect, Endpoint, Name, Reply, Request, Settled, Stopped, Submission};
use crate::names::named;

pub use self::desk::CardDesk;

/// The dialect of payments by card.
#[derive(Debug, Clone, Copy)]
pub(super) struct NvmCard;

/// A body of Nevermined's extensions.
type Asked = Result<DecodedRequest, Rejection>;

fn asked(body: &Body) -> Arc<Asked> {
    body.view(codec::request)
}

#[async_trait]
impl Dialect for NvmCard {
    fn recognises(&self, body: &Body) -> bool {
        body.mentions(r#""paymentRequired""#) && asked(body).as_ref().as_ref().is_ok_and(|asked| asked.card.is_some())
    }

    /// Determines the request's name, too: `agentRequestId`, else a name derived from `Idempotency-Key`, else a new one.
    fn read(&self, _: &Context, request: &Request) -> Result<Submission, Stopped> {
        let asked = asked(&request.body);
        let DecodedRequest { body, card, .. } = (*asked).as_ref().map_err(|why| Stopped::Unreadable(why.clone()))?;
        let payment = card.as_ref().ok_or_else(|| Stopped::Fault(Fault::broken("a body of another dialect")))?;
        let too_few = || CardCode::InvalidPayload.because("maxAmount: expected a decimal of at least 1");
        let credits = match (body.max_amount, request.endpoint) {
            (None, Endpoint::Settle) => return Err(Stopped::Unreadable(too_few())),
            (None, Endpoint::Verify) => AtomicAmount::from(1),
            (Some(amount), _) if amount.is_zero() => return Err(Stopped::Refused(too_few())),
            (Some(amount), _) => amount,
        };
        let key = request.name().map_err(Stopped::Unreadable)?;
        let id = match (&body.agent_request_id, key) {
            (Some(id), _) => id.clone(),
            (None, Some(key)) => named(&request.caller, key),
            (None, None) => {
                let mut random = [0; 16];
                getrandom::fill(&mut random).map_err(|error| Fault::unreachable("the random numbers", error))?;
                hex::encode(random)
            }
        };
        let payment = payment.clone().map_err(Stopped::Refused)?;
        let required = &body.payment_required;
        let claim = words::claim(payment, &required.accepts, &required.resource, credits);
        let mut claim = claim.map_err(Stopped::Refused)?;
        claim.identity = Identity::new(request.caller.clone(), id);
        let names: Vec<Name> = key.map(|key| Name::of_caller(key, digest(&claim))).into_iter().collect();
        Ok(Submission::new(claim, names))
    }

    async fn admit(&self, context: &Context, request: &Request, submission: &Submission) -> Result<(), Stopped> {
        let asked = asked(&request.body);
        let from_verify = asked.as_ref().as_ref().is_ok_and(|asked| asked.body.agent_request_id.is_some());
        let refuse = |why| CardCode::InvalidPayload.because(why);
        naming::admit(context, request, submission, Presented { digest, from_verify, refuse: &refuse }).await
    }

    async fn remember(&self, context: &Context, submission: &Submission, verified: &Verified) -> Result<(), Stopped> {
        naming::remember(context, submission, verified, digest).await
    }

    fn write_verdict(&self, _: &Context, request: &Request, answer: Answer<'_, String>) -> Reply {
        let (status, mut response, submission) = match answer {
            Answer::Made(submission, payer) => {
                let network = submission.claim.terms.network_name();
                let mut response = words::verdict(Ok(payer), &network);
                response.rest.insert_text("agentRequestId", &submission.claim.identity.request);
                (StatusCode::OK, response, Some(submission))
            }
            Answer::Stopped(submission, stopped) => {
                let status = stopped.status();
                let rejection = rejection(stopped, ErrorReason::UNEXPECTED_VERIFY_ERROR);
                (status, words::verdict(Err(rejection), &network_asked(&request.body)), submission)
            }
        };
        if let Some(submission) = submission {
            words::name_network(&mut response.rest, &submission.claim.terms);
        }
        words::of_status(status, &mut response.rest);
        Reply::json(status, &response)
    }

    fn write_settlement(&self, _: &Context, request: &Request, answer: Answer<'_, Settled>) -> Reply {
        let (mut status, mut response) = match answer {
            Answer::Made(submission, settled) => {
                (StatusCode::OK, self.settle_response(&submission.claim.terms, Ok(&settled)))
            }
            Answer::Stopped(Some(submission), ref stopped @ Stopped::Rejected(ref rejection)) => {
                (stopped.status(), self.settle_response(&submission.claim.terms, Err(rejection)))
            }
            Answer::Stopped(submission, stopped) => {
                let status = stopped.status();
                let of_terms = |submission: &Submission| submission.claim.terms.network_name();
                let network = submission.map_or_else(|| network_asked(&request.body), of_terms);
                (status, words::refused(&rejection(stopped, ErrorReason::UNEXPECTED_SETTLE_ERROR), network))
            }
        };
        if response.error_reason.as_ref() == Some(&ErrorReason::DUPLICATE_SETTLEMENT) {
            status = StatusCode::CONFLICT;
        }
        words::of_status(status, &mut response.rest);
        Reply::json(status, &response)
    }

    fn routes(&self, context: &Arc<Context>) -> Router {
        routes::routes(context)
    }

    fn serves(&self, terms: &Terms) -> bool {
        terms.scheme == SchemeName::NVM_CARD_DELEGATION
    }

    fn claim(&self, request: &PaymentRequest) -> Result<Claim, Rejection> {
        let mut claim = request.claim.clone();
        let names_agent = claim.terms.extra.get("agentId").is_some();
        check_resource(claim.resource.as_ref(), &request.resource, names_agent)?;
        claim.resource = Some((*request.resource).clone());
        Ok(claim)
    }

    fn verify_response(&self, terms: &Terms, verdict: Result<&str, &Rejection>) -> VerifyResponse {
        let verdict = verdict.map(str::to_owned).map_err(|rejection| words::refusal(rejection.clone()));
        words::verdict(verdict, &terms.network_name())
    }

    fn settle_response(&self, terms: &Terms, settled: Result<&Settled, &Rejection>) -> SettleResponse {
        match settled {
            Ok(settled) => words::answer(&settled.outcome, settled.row.as_ref(), terms),
            Err(rejection) => words::refused(&words::refusal(rejection.clone()), terms.network_name()),
        }
    }

    fn tells_steps(&self) -> bool {
        true
    }
}

/// Returns the refusal for a request that was stopped. `unexpected` is the code for a fault of this facilitator.
fn rejection(stopped: Stopped, unexpected: ErrorReason) -> Rejection {
    match stopped {
        Stopped::TooLarge => CardCode::InvalidPayload.because(super::TOO_LARGE),
        Stopped::Unreadable(rejection) => words::unreadable(rejection),
        Stopped::Refused(rejection) => rejection,
        Stopped::Rejected(rejection) => words::refusal(rejection),
        Stopped::Taken(_) => Rejection::new(ErrorReason::DUPLICATE_SETTLEMENT),
        Stopped::Fault(_) => Rejection::new(unexpected).detail("nvmCode", "BCK.X402.0051"),
    }
}

/// Hashes the parts of a request that must be the same when it is repeated: the payment and its terms, without the
/// amount.
fn digest(claim: &Claim) -> [u8; 32] {
    let terms = &claim.terms;
    let canonical = json!({
        "payload": claim.payload.read::<serde_json::Value>().unwrap_or_default(),
        "scheme": terms.scheme, "network": terms.network, "plan": terms.asset,
        "extra": RawJson::of(&terms.extra).and_then(|raw| raw.read::<serde_json::Value>()).unwrap_or_default(),
        "resource": claim.resource.as_ref().map(|resource| resource.url.as_str()),
    });
    keccak256(canonical.to_string()).into()
}
