//! `/verify` and `/settle`: the road of a request, the same for every dialect.

use std::sync::Arc;

use axum::body::{Body as HttpBody, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use x402_types::Fault;

use super::{Api, Refused};
use crate::dialect::{Body, Context, Dialect, Endpoint, Request, Settled, Stopped, Submission};

pub(super) async fn verify(State(api): State<Arc<Api>>, headers: HeaderMap, body: HttpBody) -> Response {
    answer(&api, Endpoint::Verify, headers, body).await
}

pub(super) async fn settle(State(api): State<Arc<Api>>, headers: HeaderMap, body: HttpBody) -> Response {
    answer(&api, Endpoint::Settle, headers, body).await
}

async fn answer(api: &Api, endpoint: Endpoint, headers: HeaderMap, body: HttpBody) -> Response {
    let context = &api.context;
    let (caller, bytes) = match api.receive(&headers, body).await {
        Ok(received) => (received.caller, Ok(received.body)),
        Err(Refused::TooLarge) => (String::new(), Err(Stopped::TooLarge)),
        Err(refused) => return refused.answer(|_| ()),
    };
    // A body that was not read to its end is nobody's, and the last of the dialects says so.
    let (bytes, whole) = bytes.map_or_else(|stopped| (Bytes::new(), Err(stopped)), |bytes| (bytes, Ok(())));
    let request = Request { endpoint, caller, headers, body: Body::new(bytes, *context.limits()) };
    let Some(dialect) = context.engine().dialect_of(&request.body) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let read = whole.and_then(|()| dialect.read(context, &request));
    let reply = match (endpoint, read) {
        (Endpoint::Verify, Ok(submission)) => {
            let verdict = verified(context, dialect.as_ref(), &request, &submission).await;
            dialect.write_verdict(context, &request, Some(&submission), logged(verdict))
        }
        (Endpoint::Verify, Err(stopped)) => dialect.write_verdict(context, &request, None, logged(Err(stopped))),
        (Endpoint::Settle, Ok(submission)) => {
            let settled = settled(context, dialect.as_ref(), &request, &submission).await;
            dialect.write_settlement(context, &request, Some(&submission), logged(settled))
        }
        (Endpoint::Settle, Err(stopped)) => dialect.write_settlement(context, &request, None, logged(Err(stopped))),
    };
    reply.into_response()
}

/// Who pays.
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

/// How the payment stands.
async fn settled(
    context: &Context,
    dialect: &dyn Dialect,
    request: &Request,
    submission: &Submission,
) -> Result<Settled, Stopped> {
    dialect.admit(context, request, submission).await?;
    Ok(context.engine().settle_as(&submission.claim, submission.may_replay, dialect).await?)
}

/// The log has what happened; the wire a general code.
fn logged<T>(answer: Result<T, Stopped>) -> Result<T, Stopped> {
    if let Err(Stopped::Fault(fault)) = &answer {
        log(fault);
    }
    answer
}

pub(super) fn log(fault: &Fault) {
    tracing::error!(%fault, "a request could not be answered");
}
