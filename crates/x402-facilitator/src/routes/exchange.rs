//! `/verify` and `/settle`: the way of a request, which is the same for every dialect.

use std::sync::Arc;

use axum::body::{Body as HttpBody, Bytes};
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use tracing::Span;
use x402_codec::header;
use x402_facilitator_core::Outcome;
use x402_types::{Claim, Fault, Members, Refusal, Terms};

use crate::dialect::{
    Answer, Body, Context, Dialect, Endpoint, Name, NotAdmitted, Request, Settled, Stopped, Submission, log,
};

pub(super) async fn verify(State(context): State<Arc<Context>>, headers: HeaderMap, body: HttpBody) -> Response {
    answer(&context, Endpoint::Verify, headers, body).await
}

pub(super) async fn settle(State(context): State<Arc<Context>>, headers: HeaderMap, body: HttpBody) -> Response {
    answer(&context, Endpoint::Settle, headers, body).await
}

async fn answer(context: &Context, endpoint: Endpoint, headers: HeaderMap, body: HttpBody) -> Response {
    let (caller, bytes) = match context.admit(&headers, body).await {
        Ok(admitted) => (admitted.caller, Ok(admitted.body)),
        Err(NotAdmitted::TooLarge) => (String::new(), Err(Stopped::TooLarge)),
        Err(refused) => return refused.answer(|_| ()),
    };
    // A body that is too large has no dialect; the last one writes the answer.
    let (bytes, whole) = bytes.map_or_else(|stopped| (Bytes::new(), Err(stopped)), |bytes| (bytes, Ok(())));
    if !caller.is_empty() {
        Span::current().record("caller", &*caller);
    }
    let request = Request { endpoint, caller, headers, body: Body::new(bytes, *context.limits()) };
    let Some(dialect) = context.engine().dialect_of(&request.body) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let read = match whole.and_then(|()| dialect.read(context, &request)) {
        Ok(submission) => extended(context, submission).await,
        Err(stopped) => Err(stopped),
    };
    let key = read.as_ref().ok().and_then(|submission| context.engine().settlement().key(&submission.claim).ok());
    if let Some(key) = &key {
        Span::current().record("key", tracing::field::display(key));
    }
    let read = logged(read);
    let mut reports = Members::new();
    let reply = match (endpoint, read) {
        (Endpoint::Verify, Ok(submission)) => {
            let verdict = verified(context, dialect.as_ref(), &request, &submission).await;
            dialect.write_verdict(context, &request, Answer::of(&submission, logged(verdict)))
        }
        (Endpoint::Verify, Err(stopped)) => dialect.write_verdict(context, &request, Answer::Stopped(None, stopped)),
        (Endpoint::Settle, Ok(submission)) => {
            let settled = settled(context, dialect.as_ref(), &request, &submission).await;
            if let Ok(Settled { outcome: Outcome::Settled { .. }, .. }) = &settled {
                reports = context.engine().extensions().reports(&submission.claim);
            }
            dialect.write_settlement(context, &request, Answer::of(&submission, logged(settled)))
        }
        (Endpoint::Settle, Err(stopped)) => dialect.write_settlement(context, &request, Answer::Stopped(None, stopped)),
    };
    let mut response = reply.into_response();
    // The payment can be read by its key from here on.
    if endpoint == Endpoint::Settle
        && let Some(place) = key.and_then(|key| format!("/payments/{key}").parse().ok())
    {
        response.headers_mut().insert(LOCATION, place);
    }
    if !reports.is_empty()
        && let Ok(reports) = header::encode(&reports)
    {
        response.headers_mut().insert(&header::EXTENSION_RESPONSES, reports);
    }
    response
}

/// Passes a payment to the extensions. The name that one of them gives is the payer's choice: it is bound to the exact
/// payload, and does not let a success be sent twice, because a server that receives it twice serves twice.
async fn extended(context: &Context, mut submission: Submission) -> Result<Submission, Stopped> {
    let engine = context.engine();
    let name = match engine.extensions().on_claim(&submission.claim).await {
        Ok(Some(name)) => name,
        Ok(None) => return Ok(submission),
        Err(Refusal::Rejection(rejection)) => {
            let rejection = engine.of_payer(&submission.claim, rejection);
            let unreadable = rejection.status == Some(StatusCode::BAD_REQUEST.as_u16());
            return Err(if unreadable { Stopped::Unreadable(rejection) } else { Stopped::Refused(rejection) });
        }
        Err(Refusal::Fault(fault)) => return Err(fault.into()),
    };
    let of = payload(&submission.claim).map_err(Fault::broken)?;
    // The caller's own name of the request, if there is one, stays its identity.
    if submission.names.is_empty() {
        submission.claim.identity.request = name.to_string();
    }
    // A header value contains no line feed, so the name differs from every `Idempotency-Key`.
    let text = format!("{}\n{}", name.extension, name.name);
    submission.names.push(Name { text, of, another: format!("{}: it names another payment", name.extension) });
    Ok(submission)
}

/// Hashes what a payment consists of, in canonical JSON: members in alphabetical order, no white space. The amount is
/// left to the payload, since `/settle` may request less than `/verify`.
fn payload(claim: &Claim) -> Result<[u8; 32], serde_json::Error> {
    let Terms { version, scheme, network, asset, pay_to, .. } = &claim.terms;
    let terms = (version, scheme, network, asset, pay_to);
    let exact = serde_json::to_value((terms, &claim.payload, &claim.resource, &claim.extensions))?;
    Ok(Sha256::digest(exact.to_string()).into())
}

/// Verifies a payment and returns its payer.
async fn verified(
    context: &Context,
    dialect: &dyn Dialect,
    request: &Request,
    submission: &Submission,
) -> Result<String, Stopped> {
    dialect.admit(context, request, submission).await?;
    let verified = context.engine().check(&submission.claim).await?;
    dialect.remember(context, submission, &verified).await?;
    Ok(verified.verdict().payer.clone())
}

/// Settles a payment.
async fn settled(
    context: &Context,
    dialect: &dyn Dialect,
    request: &Request,
    submission: &Submission,
) -> Result<Settled, Stopped> {
    dialect.admit(context, request, submission).await?;
    Ok(context.engine().settle_as(&submission.claim, submission.may_replay, dialect).await?)
}

/// Logs a fault: the answer has a general code alone.
fn logged<T>(answer: Result<T, Stopped>) -> Result<T, Stopped> {
    if let Err(Stopped::Fault(fault)) = &answer {
        log(fault);
    }
    answer
}
