//! The routes `POST` and `DELETE /session-keys`, which register keys that payments then name by their hash.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::json;
use x402_types::nvm::{Code, ErrorBody, ErrorResponse};
use x402_types::{ErrorReason, Fault, Members, Refusal, Rejection};

use crate::dialect::{AdmittedRequest, Context, NotAdmitted, Reply};
use crate::routes::Routes;
use crate::session_keys::{KeptKeys, KeyName, Registration, SessionKeys};

type Done<T> = Result<T, Box<Response>>;

/// Returns the routes. Without [`KeptKeys`] they refuse every registration.
pub(super) fn routes(context: &Arc<Context>) -> Router {
    Router::new().route("/session-keys", post(register).delete(remove)).with_state(Arc::clone(context))
}

impl Routes {
    /// Sets the store at which session keys are registered.
    #[must_use]
    pub fn with_session_keys(self, keys: KeptKeys) -> Self {
        self.with_value(keys)
    }
}

async fn register(State(context): State<Arc<Context>>, headers: HeaderMap, body: Body) -> Response {
    let done = async {
        let (store, name, caller, registration) = read(&context, headers, body).await?;
        store.register(&name, &caller, &registration.data).await.map_err(|fault| failed(&fault))?;
        let hash = json!({ "hash": alloy_primitives::hex::encode_prefixed(name.hash) });
        Ok(Reply::json(StatusCode::OK, &hash).into_response())
    };
    done.await.unwrap_or_else(|response: Box<Response>| *response)
}

/// Takes the body of the registration, not the hash: seeing a hash in a payment must not suffice to delete the key.
async fn remove(State(context): State<Arc<Context>>, headers: HeaderMap, body: Body) -> Response {
    let done = async {
        let (store, name, caller, _) = read(&context, headers, body).await?;
        store.remove(&name, &caller).await.map_err(|fault| failed(&fault))?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    done.await.unwrap_or_else(|response: Box<Response>| *response)
}

async fn read(
    context: &Context,
    headers: HeaderMap,
    body: Body,
) -> Done<(&dyn SessionKeys, KeyName, String, Registration)> {
    let said = |refused: NotAdmitted| Box::new(refused.answer(|rejection| envelope(&rejection)));
    let AdmittedRequest { caller, body } = context.admit(&headers, body).await.map_err(said)?;
    let registration: Registration = x402_codec::json::from_slice(&body, context.limits())
        .map_err(|error| said(NotAdmitted::Unreadable(Code::InvalidPayload.because(error.to_string()))))?;
    let Some(smart) = context.value::<KeptKeys>() else {
        return Err(refuse(&Code::UnsupportedNetwork.because("network: no session keys are kept for it")));
    };
    let registrar = smart.registrars.iter().find(|registrar| registrar.network() == registration.network);
    let registrar = registrar
        .ok_or_else(|| refuse(&Code::UnsupportedNetwork.because("network: no session keys are kept for it")))?;
    match registrar.check(&registration).await {
        Ok(name) => Ok((smart.store.as_ref(), name, caller, registration)),
        Err(Refusal::Rejection(rejection)) => Err(refuse(&rejection)),
        Err(Refusal::Fault(fault)) => Err(failed(&fault)),
    }
}

fn envelope(rejection: &Rejection) -> ErrorResponse {
    ErrorResponse { error: ErrorBody::from(rejection), rest: Members::new() }
}

fn refuse(rejection: &Rejection) -> Box<Response> {
    Box::new(Reply::json(StatusCode::BAD_REQUEST, &envelope(rejection)).into_response())
}

fn failed(fault: &Fault) -> Box<Response> {
    let reason = ErrorReason::UNEXPECTED_VERIFY_ERROR;
    let text = reason.row().map_or("", |row| row.text);
    let body = json!({ "retryable": true, "error": ErrorBody::new(reason, text) });
    Box::new(Reply::unavailable(fault, &body).into_response())
}
