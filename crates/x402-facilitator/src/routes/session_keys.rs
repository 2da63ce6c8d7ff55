//! The routes `POST` and `DELETE /session-keys`, which register keys that payments then name by their hash.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use x402_types::nvm::{Code, ErrorBody, ErrorResponse};
use x402_types::{ErrorReason, Fault, Members, Refusal, Rejection};

use super::{Api, Received, Refused, json as answer, unavailable};
use crate::session_keys::{KeyName, Registration, SessionKeys};

type Done<T> = Result<T, Box<Response>>;

pub(super) async fn register(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    let done = async {
        let (store, name, caller, registration) = read(&api, headers, body).await?;
        store.register(&name, &caller, &registration.data).await.map_err(|fault| failed(&fault))?;
        Ok(answer(StatusCode::OK, &json!({ "hash": alloy_primitives::hex::encode_prefixed(name.hash) })))
    };
    done.await.unwrap_or_else(|response: Box<Response>| *response)
}

/// Takes the body of the registration, not the hash: seeing a hash in a payment must not suffice to delete the key.
pub(super) async fn remove(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    let done = async {
        let (store, name, caller, _) = read(&api, headers, body).await?;
        store.remove(&name, &caller).await.map_err(|fault| failed(&fault))?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    done.await.unwrap_or_else(|response: Box<Response>| *response)
}

async fn read(api: &Api, headers: HeaderMap, body: Body) -> Done<(&dyn SessionKeys, KeyName, String, Registration)> {
    let said = |refused: Refused| Box::new(refused.answer(|rejection| envelope(&rejection)));
    let Received { caller, body, .. } = api.receive(&headers, body).await.map_err(said)?;
    let registration: Registration = x402_codec::json::from_slice(&body, api.context.limits())
        .map_err(|error| said(Refused::Unreadable(Code::InvalidPayload.because(error.to_string()))))?;
    let Some(smart) = &api.session_keys else {
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
    Box::new(answer(StatusCode::BAD_REQUEST, &envelope(rejection)))
}

fn failed(fault: &Fault) -> Box<Response> {
    let reason = ErrorReason::UNEXPECTED_VERIFY_ERROR;
    let text = reason.row().map_or("", |row| row.text);
    Box::new(unavailable(fault, &json!({ "retryable": true, "error": ErrorBody::new(reason, text) })))
}
