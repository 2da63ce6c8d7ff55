//! The `x402.v1` dialect, `specs/402kit-x402v1.md` "With Facilitators": `POST /initiate`, `/verify`, `/settle`.
//!
//! The document defines no bodies; these are those of its own implementation, distinguished by `action`. A ticket is
//! paid by an EIP-3009 authorization in `proof.payload`, the one that an `exact` proof carries: its nonce is the hash
//! of the payment, so that it pays this challenge by this payment and nothing else.
//!
//! A ticket is written out, not stored: it repeats the terms of the challenge and promises nothing. Payers request
//! tickets, so a ticket's content is only the payer's claim. A seller sends its own `challenge` beside the header, and
//! the ticket must match it; a seller that does not must compare `details` with its challenge, `payTo` above all.
//!
//! The statuses are 200 for verdicts, 400 for an unreadable body, 409 for a name of another payment, 413 for an
//! oversized body, and 503 if the answer is unknown.

mod ticket;

use std::sync::Arc;

use axum::Router;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::{Deserialize, Serialize};
use x402_challenge::{exact_nonce, payment_digest};
use x402_codec::{DecodeError, Limits, challenge as codec, json as strict};
use x402_evm::eip3009::Payload;
use x402_types::challenge::{Challenge, ChallengeId, Code, Network, Payment, ProofKind, ResourceName};
use x402_types::v2::{self, ResourceInfo};
use x402_types::{
    AtomicAmount, Claim, ErrorReason, EvmAddress, Fault, Identity, Members, PaymentPayload, RawJson, Rejection, Terms,
    Version,
};

use self::ticket::Ticket;
use super::TOO_LARGE;
use crate::dialect::{Answer, Body, Context, Dialect, Endpoint, Name, Reply, Request, Settled, Stopped, Submission};
use crate::engine::Engine;
use crate::names;

/// The `x402.v1` dialect.
#[derive(Debug, Clone, Copy)]
pub(super) struct X402V1;

/// The members of a body. This is one struct rather than a tagged enum, which would deserialize a challenge's own
/// members before they are checked.
#[derive(Deserialize)]
struct Asked {
    action: Action,
    /// The challenge: of `initiate`, or the seller's own beside a header.
    challenge: Option<Challenge>,
    /// The value of `X-PAYMENT`.
    header: Option<String>,
    /// The amount to settle of a metered payment.
    amount: Option<AtomicAmount>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Initiate,
    Verify,
    Settle,
}

/// A body of `/verify` or `/settle`, and the payment in its header.
struct Shown {
    asked: Asked,
    /// The payment, or `None` without a header.
    payment: Option<Result<(Payment, Ticket), Rejection>>,
}

/// Whether an unreadable body is in this dialect all the same: it has an `action`, which no other dialect uses.
struct IsOne(bool);

/// Makes a refusal in the codes of the dialect.
fn refused(code: Code, why: impl Into<String>) -> Rejection {
    Rejection::new(ErrorReason::defined(code.as_str())).because(why.into())
}

fn shown(body: &Body) -> Arc<Result<Shown, DecodeError>> {
    body.view(|bytes, limits| {
        let asked: Asked = strict::from_slice(bytes, limits)?;
        let payment = asked.header.as_deref().map(|header| covered(header, asked.challenge.as_ref(), limits));
        Ok(Shown { asked, payment })
    })
}

/// Reads a payment and the ticket that covers it, and checks them in the order of the document's table.
fn covered(header: &str, asked: Option<&Challenge>, limits: &Limits) -> Result<(Payment, Ticket), Rejection> {
    let payment = codec::payment(header.as_bytes()).map_err(|error| refused(Code::InvalidSchema, error.to_string()))?;
    if !payment.version.is_x402_v1() {
        return Err(refused(Code::Mismatch, "version: expected `x402.v1`"));
    }
    if payment.proof.kind != ProofKind::Facilitator {
        return Err(refused(Code::VerificationFailed, "proof.type: expected `facilitator`"));
    }
    let ticket = Ticket::read(payment.proof.ticket.as_deref().unwrap_or_default(), limits)?;
    // The seller's own challenge, if present, decides: the ticket is only the payer's claim.
    if asked.is_some_and(|challenge| Ticket::of(challenge) != ticket) {
        return Err(refused(Code::Mismatch, "proof.ticket: not for this challenge"));
    }
    ticket.covers(&payment)?;
    Ok((payment, ticket))
}

/// Makes the claim of a payment that its ticket covers.
fn claim(engine: &Engine, payment: &Payment, ticket: &Ticket, caller: &str) -> Result<Claim, Rejection> {
    let terms = ticket.terms(engine, payment.paid_amount)?;
    let payload = payment.proof.payload.clone();
    let payload = payload.ok_or_else(|| {
        refused(Code::VerificationFailed, "proof.payload: expected an EIP-3009 authorization to settle by")
    })?;
    let authorization = Payload::read(&payload)
        .map_err(|rejection| refused(Code::VerificationFailed, format!("proof.{rejection}")))?
        .authorization;
    if authorization.nonce != exact_nonce(payment) {
        let why = "proof.payload.authorization.nonce: not that of this payment";
        return Err(refused(Code::VerificationFailed, why));
    }
    if payment.payer.is_some_and(|payer| payer.unchecked() != authorization.from) {
        return Err(refused(Code::VerificationFailed, "payer: not who signed"));
    }
    let digest = payment_digest(payment).map_err(|why| refused(why.code, why.message))?;
    let mut claim = Claim::new(terms.clone(), presented(terms, payload, &ticket.resource));
    claim.identity = Identity::new(caller.to_owned(), format!("x402.v1:{digest}"));
    Ok(claim)
}

fn presented(terms: Terms, payload: RawJson, resource: &ResourceName) -> PaymentPayload {
    PaymentPayload::V2(v2::PaymentPayload {
        x402_version: Version::V2,
        resource: Some(ResourceInfo::of(resource.as_str())),
        accepted: terms.to_v2(),
        payload,
        extensions: Members::new(),
        rest: Members::new(),
    })
}

impl Dialect for X402V1 {
    fn recognises(&self, body: &Body) -> bool {
        #[derive(Deserialize)]
        struct Mark {
            action: Option<RawJson>,
        }
        let is_one = |bytes: &[u8], limits: &Limits| {
            IsOne(strict::from_slice::<Mark>(bytes, limits).is_ok_and(|mark| mark.action.is_some()))
        };
        body.mentions(r#""action""#) && (shown(body).is_ok() || body.view(is_one).0)
    }

    fn read(&self, context: &Context, request: &Request) -> Result<Submission, Stopped> {
        let unreadable = |why: String| Stopped::Unreadable(refused(Code::InvalidSchema, why));
        let shown = shown(&request.body);
        let Shown { asked, payment } = (*shown).as_ref().map_err(|error| unreadable(error.to_string()))?;
        let action = match request.endpoint {
            Endpoint::Verify => Action::Verify,
            Endpoint::Settle => Action::Settle,
        };
        if asked.action != action {
            return Err(unreadable("action: not that of this route".to_owned()));
        }
        let payment = payment.as_ref().ok_or_else(|| unreadable("header: missing".to_owned()))?;
        let (payment, ticket) = payment.as_ref().map_err(|why| Stopped::Refused(why.clone()))?;
        let mut claim = claim(context.engine(), payment, ticket, &request.caller).map_err(Stopped::Refused)?;
        let is_other = |amount: AtomicAmount| amount != claim.terms.amount;
        if request.endpoint == Endpoint::Settle && asked.amount.is_some_and(is_other) {
            let why = "amount: an authorization moves the sum that it names, and no other";
            return Err(Stopped::Refused(refused(Code::Mismatch, why)));
        }
        let unnamed = |rejection: Rejection| unreadable(rejection.to_string());
        let Some(name) = request.name().map_err(unnamed)? else {
            return Ok(Submission::new(claim, Vec::new()));
        };
        let payment = names::payment(&context.engine().settlement().key(&claim).map_err(unnamed)?);
        name.clone_into(&mut claim.identity.request);
        Ok(Submission::new(claim, vec![Name::of_caller(name, payment)]))
    }

    fn write_verdict(&self, _: &Context, request: &Request, answer: Answer<'_, String>) -> Reply {
        match answer {
            Answer::Made(submission, payer) => yes(&request.body, submission, Some(payer), None),
            Answer::Stopped(_, stopped) => stopped_by(stopped),
        }
    }

    /// Repeats the answer to the same header for a caller that names its request by `Idempotency-Key`. Otherwise only the
    /// first request gets the success, and all later ones learn that the payment is used.
    fn write_settlement(&self, _: &Context, request: &Request, answer: Answer<'_, Settled>) -> Reply {
        let (submission, settled) = match answer {
            Answer::Made(submission, settled) => (submission, settled),
            Answer::Stopped(_, stopped) => return stopped_by(stopped),
        };
        let response = self.settle_response(&submission.claim.terms, Ok(&settled));
        if response.success {
            yes(&request.body, submission, response.payer, Some(response.transaction))
        } else {
            let reason = response.error_reason.unwrap_or(ErrorReason::UNEXPECTED_SETTLE_ERROR);
            no(&reason, response.error_message.as_deref())
        }
    }

    fn routes(&self, context: &Arc<Context>) -> Router {
        Router::new().route("/initiate", post(initiate)).with_state(Arc::clone(context))
    }
}

/// Handles `POST /initiate`: issues a ticket for a challenge that can be settled here.
async fn initiate(State(context): State<Arc<Context>>, headers: HeaderMap, body: HttpBody) -> Response {
    // No token is required: payers request tickets and have none of this facilitator's. A ticket alone is worth
    // nothing.
    let reply = match axum::body::to_bytes(body, context.limits().body).await {
        Ok(body) => initiated(&context, &headers, &body),
        Err(_) => stopped_by(Stopped::TooLarge),
    };
    reply.into_response()
}

fn initiated(context: &Context, headers: &HeaderMap, body: &[u8]) -> Reply {
    let asked = strict::from_slice::<Asked>(body, context.limits()).map_err(|error| error.to_string());
    let challenge = asked.and_then(|asked| match (asked.action, asked.challenge) {
        (Action::Initiate, Some(challenge)) => Ok(challenge),
        (Action::Initiate, None) => Err("challenge: missing".to_owned()),
        _ => Err("action: not that of this route".to_owned()),
    });
    let challenge = match challenge {
        Ok(challenge) => challenge,
        Err(why) => return stopped_by(Stopped::Unreadable(refused(Code::InvalidSchema, why))),
    };
    let ticket = Ticket::of(&challenge);
    match ticket.terms(context.engine(), challenge.max_amount_required).and_then(|_| ticket.write()) {
        Ok(ticket) => {
            // The host is the one that the caller used; it only appears in the caller's own answer.
            let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            let url = |end: &str| format!("http://{host}/{end}");
            Reply::json(StatusCode::OK, &Initiated { ticket, verify_url: url("verify"), settle_url: url("settle") })
        }
        Err(refused) => stopped_by(Stopped::Unreadable(refused)),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Initiated {
    ticket: String,
    verify_url: String,
    settle_url: String,
}

#[derive(Serialize)]
struct Verdict<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a ResourceName>,
    details: Details,
}

/// The amount, the recipient and the transaction of a payment, or the refusal.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(flatten)]
    paid: Option<Paid>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Paid {
    challenge_id: ChallengeId,
    network: Network,
    asset: EvmAddress,
    pay_to: EvmAddress,
    amount: AtomicAmount,
    #[serde(skip_serializing_if = "Option::is_none")]
    payer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<String>,
}

/// Writes the answer that a payment covered by its ticket is good, or was settled by this transaction.
fn yes(body: &Body, submission: &Submission, payer: Option<String>, transaction: Option<String>) -> Reply {
    let shown = shown(body);
    let payment = shown.as_ref().as_ref().ok().and_then(|shown| shown.payment.as_ref()?.as_ref().ok());
    let Some((_, ticket)) = payment else { return unknown() };
    let paid = Paid {
        challenge_id: ticket.challenge_id.clone(),
        network: ticket.network.clone(),
        asset: ticket.asset,
        pay_to: ticket.pay_to,
        amount: submission.claim.terms.amount,
        payer,
        transaction,
    };
    let details = Details { message: None, paid: Some(paid) };
    Reply::json(StatusCode::OK, &Verdict { ok: true, reason: None, resource: Some(&ticket.resource), details })
}

fn stopped_by(stopped: Stopped) -> Reply {
    let status = stopped.status();
    let why = match stopped {
        Stopped::TooLarge => refused(Code::InvalidSchema, TOO_LARGE),
        Stopped::Unreadable(why) | Stopped::Refused(why) => why,
        Stopped::Rejected(rejection) => return no(&rejection.reason, Some(rejection.words())),
        Stopped::Taken(words) => refused(Code::Replay, words),
        Stopped::Fault(_) => return unknown(),
    };
    let details = Details { message: why.message.map(String::from), paid: None };
    Reply::json(status, &Verdict { ok: false, reason: Some(why.reason.as_str()), resource: None, details })
}

/// Translates a refusal of the machine into this dialect's codes.
fn no(reason: &ErrorReason, message: Option<&str>) -> Reply {
    if reason.row().is_some_and(|row| row.status == 503) {
        tracing::error!(fault = %Fault::unreachable("the settlement", reason), "a request could not be answered");
        return unknown();
    }
    let used = [ErrorReason::DUPLICATE_SETTLEMENT, ErrorReason::NONCE_ALREADY_USED].contains(reason);
    let code = if used { Code::Replay } else { Code::VerificationFailed };
    let why = message.map_or_else(|| reason.to_string(), |message| format!("{reason}: {message}"));
    stopped_by(Stopped::Refused(refused(code, why)))
}

fn unknown() -> Reply {
    let answer = serde_json::json!({ "ok": false, "reason": "unexpected_settle_error" });
    Reply::json(StatusCode::SERVICE_UNAVAILABLE, &answer)
}
