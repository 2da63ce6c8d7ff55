//! The dialect of the [Smart Accounts Extension](https://docs.nevermined.app/docs/specs/x402-smart-accounts), `/verify`
//! and `/settle`: steps 6 and 22, distinguished from x402's by the body's shape.
//!
//! The statuses are 200 for verdicts, 400 for an unreadable body, 409 for another amount or payment under a known id,
//! and 503 for a fault of this facilitator. Every answer has the extension's envelope beside the members that x402
//! servers read.

mod session_keys;
mod words;

use std::sync::Arc;

use alloy_primitives::{hex, keccak256};
use async_trait::async_trait;
use axum::Router;
use axum::http::StatusCode;
use serde_json::json;
use x402_codec::nvm::{self as codec, is_request};
use x402_facilitator_core::{PaymentRequest, Verified};
use x402_types::nvm::{Code, Payload, PaymentPayload};
use x402_types::v2::{SettleResponse, VerifyResponse};
use x402_types::{
    AtomicAmount, Claim, ErrorReason, Fault, Identity, Members, NetworkName, RawJson, Rejection, SchemeName, Terms,
};

use super::naming::{self, Presented};
use super::network_asked;
use crate::dialect::{Answer, Body, Context, Dialect, Endpoint, Name, Reply, Request, Settled, Stopped, Submission};
use crate::names::named;

#[cfg(feature = "cards")]
pub(super) use self::words::check_resource;

/// A version of the payment. Their bodies are otherwise the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// The version whose authorization is in `extensions`.
    V02,
    /// The version whose payer echoes the entry that it accepts.
    V03,
}

/// The dialect of one version. The later version takes every body of the extension that the earlier one does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nvm(pub(super) Version);

/// A body of either version.
type Asked = Result<codec::DecodedRequest, Rejection>;

/// Whether an unreadable body belongs to this extension all the same.
struct IsOne(bool);

fn asked(body: &Body) -> Arc<Asked> {
    body.view(codec::request)
}

/// Returns the payment of a body that could be read.
fn presented(asked: &Asked) -> Option<&PaymentPayload> {
    asked.as_ref().ok()?.payment.as_ref().ok()
}

#[async_trait]
impl Dialect for Nvm {
    fn recognises(&self, body: &Body) -> bool {
        if !body.mentions(r#""paymentRequired""#) {
            return false;
        }
        let asked = asked(body);
        match (self.0, presented(&asked)) {
            (Version::V02, payment) => matches!(payment, Some(PaymentPayload::V02(_))),
            (Version::V03, Some(payment)) => matches!(payment, PaymentPayload::V03(_)),
            (Version::V03, None) => asked.is_ok() || body.view(|bytes, limits| IsOne(is_request(bytes, limits))).0,
        }
    }

    /// Determines the request's name, too: `agentRequestId`, else a name derived from `Idempotency-Key`, else a new one.
    fn read(&self, _: &Context, request: &Request) -> Result<Submission, Stopped> {
        let asked = asked(&request.body);
        let codec::DecodedRequest { body, payment, .. } =
            (*asked).as_ref().map_err(|why| Stopped::Unreadable(why.clone()))?;
        let too_few = || Code::InvalidPayload.because("maxAmount: expected a decimal of at least 1");
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
        let payer = payer_of(&payment);
        let required = &body.payment_required;
        let claim = words::claim(payment, required.offered(), &required.resource, credits);
        let mut claim = claim.map_err(|mut rejection| {
            rejection.payer = payer;
            Stopped::Refused(rejection)
        })?;
        claim.identity = Identity::new(request.caller.clone(), id);
        let names = key.map(|key| Name::of_caller(key, digest(&claim))).into_iter().collect();
        Ok(Submission::new(claim, names))
    }

    /// Compares the payment and the credits with those verified under the name: a settlement may take fewer credits.
    async fn admit(&self, context: &Context, request: &Request, submission: &Submission) -> Result<(), Stopped> {
        let asked = asked(&request.body);
        let from_verify = asked.as_ref().as_ref().is_ok_and(|asked| asked.body.agent_request_id.is_some());
        let refuse = |why| Code::InvalidPayload.because(why);
        naming::admit(context, request, submission, Presented { digest, from_verify, refuse: &refuse }).await
    }

    async fn remember(&self, context: &Context, submission: &Submission, verified: &Verified) -> Result<(), Stopped> {
        naming::remember(context, submission, verified, digest).await
    }

    fn write_verdict(&self, _: &Context, request: &Request, answer: Answer<'_, String>) -> Reply {
        let network = network_of(&request.body);
        let (status, mut response) = match answer {
            Answer::Made(submission, payer) => {
                let mut response = words::verdict(Ok(payer), &network);
                response.rest.insert_text("agentRequestId", &submission.claim.identity.request);
                (StatusCode::OK, response)
            }
            Answer::Stopped(_, stopped) => {
                let status = stopped.status();
                let rejection = rejection(stopped, ErrorReason::UNEXPECTED_VERIFY_ERROR);
                (status, words::verdict(Err(rejection), &network))
            }
        };
        of_status(status, &mut response.rest);
        Reply::json(status, &response)
    }

    /// Repeats a success only under a name of the caller's own: an `agentRequestId` alone is this facilitator's name for
    /// the request.
    fn write_settlement(&self, _: &Context, request: &Request, answer: Answer<'_, Settled>) -> Reply {
        let (mut status, mut response) = match answer {
            Answer::Made(submission, settled) => {
                (StatusCode::OK, self.settle_response(&submission.claim.terms, Ok(&settled)))
            }
            Answer::Stopped(Some(submission), ref stopped @ Stopped::Rejected(ref rejection)) => {
                (stopped.status(), self.settle_response(&submission.claim.terms, Err(rejection)))
            }
            Answer::Stopped(_, stopped) => {
                let status = stopped.status();
                let rejection = rejection(stopped, ErrorReason::UNEXPECTED_SETTLE_ERROR);
                (status, words::refused(&rejection, network_of(&request.body)))
            }
        };
        // A spent payment is a status of its own: payments-py 1.18 serves whatever is answered with 200, without looking
        // at `success`.
        if words::is_spent(&response.rest) {
            status = StatusCode::CONFLICT;
        }
        of_status(status, &mut response.rest);
        Reply::json(status, &response)
    }

    /// Returns the paths that are built into Nevermined's clients, payments-py and payments.
    fn paths(&self) -> &'static [(&'static str, Endpoint)] {
        match self.0 {
            Version::V02 => &[],
            Version::V03 => &[("/api/v1/x402/verify", Endpoint::Verify), ("/api/v1/x402/settle", Endpoint::Settle)],
        }
    }

    fn routes(&self, context: &Arc<Context>) -> Router {
        match self.0 {
            Version::V02 => Router::new(),
            Version::V03 => session_keys::routes(context),
        }
    }

    fn serves(&self, terms: &Terms) -> bool {
        terms.scheme == SchemeName::NVM_ERC4337
    }

    fn claim(&self, request: &PaymentRequest) -> Result<Claim, Rejection> {
        let mut claim = request.claim.clone();
        let names_agent = claim.terms.extra.get("agentId").is_some();
        words::check_resource(claim.resource.as_ref(), &request.resource, names_agent)?;
        claim.resource = Some((*request.resource).clone());
        Ok(claim)
    }

    fn verify_response(&self, terms: &Terms, verdict: Result<&str, &Rejection>) -> VerifyResponse {
        let verdict = verdict.map(str::to_owned).map_err(|rejection| words::refusal(rejection.clone()));
        words::verdict(verdict, &terms.network.into())
    }

    fn settle_response(&self, terms: &Terms, settled: Result<&Settled, &Rejection>) -> SettleResponse {
        match settled {
            Ok(settled) => words::answer(&settled.outcome, settled.row.as_ref(), terms.network),
            Err(rejection) => words::refused(&words::refusal(rejection.clone()), terms.network),
        }
    }

    fn tells_steps(&self) -> bool {
        true
    }
}

/// Returns the refusal for a request that was stopped. `unexpected` is the code for a fault of this facilitator.
fn rejection(stopped: Stopped, unexpected: ErrorReason) -> Rejection {
    match stopped {
        Stopped::TooLarge => Code::InvalidPayload.because(super::TOO_LARGE),
        Stopped::Unreadable(rejection) | Stopped::Refused(rejection) => rejection,
        Stopped::Rejected(rejection) => words::refusal(rejection),
        Stopped::Taken(_) => words::taken(),
        // "503 ours (`retryable: true`)".
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

/// Returns the payer that the payment names.
fn payer_of(payment: &PaymentPayload) -> Option<Box<str>> {
    let payload = Payload::from_raw(payment.payload()).ok()?;
    payload.authorization().from().map(|account| account.as_str().into())
}

/// Returns the network that the payment names, for the answer; if the payment cannot be read, the network of the terms.
fn network_of(body: &Body) -> NetworkName {
    match presented(&asked(body)) {
        Some(PaymentPayload::V03(payment)) => payment.accepted.network.clone(),
        Some(PaymentPayload::V02(payment)) => payment.network().map(Into::into).unwrap_or_default(),
        None => network_asked(body),
    }
}

/// Adds the members that only a status other than 200 has.
fn of_status(status: StatusCode, members: &mut Members) {
    if status != StatusCode::OK {
        words::exception(members);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE
        && let Ok(yes) = RawJson::of(&true)
    {
        members.insert("retryable", yes);
    }
}
