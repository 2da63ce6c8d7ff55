//! `/verify` and `/settle` of the [Smart Accounts Extension](https://docs.nevermined.app/docs/specs/x402-smart-accounts):
//! steps 6 and 22, told from x402's by the body's shape.
//!
//! 200 for verdicts, 400 for what cannot be parsed, 409 for another amount or payment under a known id, 503 where the
//! fault is ours. Every answer has the extension's envelope beside what x402 servers read.

use alloy_primitives::{hex, keccak256};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::json;
use x402_codec::nvm::Request;
use x402_types::nvm::{Code, Payload, PaymentPayload};
use x402_types::v2::SettleResponse;
use x402_types::{
    AtomicAmount, Claim, ErrorReason, Fault, Identity, Members, NetworkName, RawJson, Refusal, Rejection, UnixSeconds,
};

use super::names::named;
use super::{Api, Received, json as answer, key_of, network_asked, unavailable};
use crate::clock::now;
use crate::nvm;
use x402_store::requests::Remembered;

/// Seconds that a request is remembered that was settled without being verified first.
const REMEMBERED: u64 = 30 * 86_400;

/// Seconds that a request is remembered at most that was verified: a session key may last for years, and every
/// verification without a name has a row of its own.
const VERIFIED: u64 = 86_400;

/// A request that was read.
struct Asked {
    request: Request,
    identity: Identity,
    /// Whether the caller named the request, so that it may ask again.
    named: bool,
}

/// Why a request is answered without the mechanism.
enum Stopped {
    /// Cannot be parsed: 400.
    Unparsed(Rejection),
    /// A verdict.
    Refused(Rejection),
    /// Another payment or amount under an id that is known: 409.
    Taken,
    Fault(Fault),
}

impl From<Rejection> for Stopped {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

pub(super) async fn verify(api: &Api, received: Received) -> Response {
    let Received { caller, headers, body } = &received;
    let network = network_of(body, api);
    match verified(api, caller.clone(), headers, body).await {
        Ok((payer, id)) => {
            let mut response = nvm::verdict(Ok(payer), &network);
            response.rest.insert_text("agentRequestId", &id);
            answer(StatusCode::OK, &response)
        }
        Err(Stopped::Unparsed(rejection)) => answer(StatusCode::BAD_REQUEST, &nvm::verdict(Err(rejection), &network)),
        Err(Stopped::Refused(rejection)) => answer(StatusCode::OK, &nvm::verdict(Err(rejection), &network)),
        Err(Stopped::Taken) => {
            let rejection = nvm::taken();
            answer(StatusCode::CONFLICT, &nvm::verdict(Err(rejection), &network))
        }
        Err(Stopped::Fault(fault)) => {
            let mut response = nvm::verdict(Err(ours(ErrorReason::UNEXPECTED_VERIFY_ERROR)), &network);
            retryable(&mut response.rest);
            unavailable(&fault, &response)
        }
    }
}

pub(super) async fn settle(api: &Api, received: Received) -> Response {
    let Received { caller, headers, body } = &received;
    let network = network_of(body, api);
    let stopped = match claimed(api, caller.clone(), headers, body).await {
        Ok((claim, named)) => match settled(api, &claim, named).await {
            Ok(response) if response.error_reason == Some(ErrorReason::DUPLICATE_SETTLEMENT) => {
                return answer(StatusCode::CONFLICT, &response);
            }
            Ok(response) => return answer(StatusCode::OK, &response),
            Err(fault) => Stopped::Fault(fault),
        },
        Err(stopped) => stopped,
    };
    match stopped {
        Stopped::Unparsed(rejection) => answer(StatusCode::BAD_REQUEST, &nvm::refused(&rejection, network)),
        Stopped::Refused(rejection) => answer(StatusCode::OK, &nvm::refused(&rejection, network)),
        Stopped::Taken => {
            let rejection = nvm::taken();
            answer(StatusCode::CONFLICT, &nvm::refused(&rejection, network))
        }
        Stopped::Fault(fault) => {
            let mut response = nvm::refused(&ours(ErrorReason::UNEXPECTED_SETTLE_ERROR), network);
            retryable(&mut response.rest);
            unavailable(&fault, &response)
        }
    }
}

/// `agentRequestId` alone is our name for the request. Only a name of the caller's own gets a success again.
async fn settled(api: &Api, claim: &Claim, named: bool) -> Result<SettleResponse, Fault> {
    if named { api.engine.settle_named(claim).await } else { api.engine.settle_claim(claim).await }
}

/// Steps 6 to 19: the payer, and what this request is called from now on.
async fn verified(api: &Api, caller: String, headers: &HeaderMap, body: &[u8]) -> Result<(String, String), Stopped> {
    let asked = read(api, caller, headers, body, None)?;
    let credits = asked.request.body.max_amount.unwrap_or_else(|| AtomicAmount::from(1));
    let claim = asked.claim(credits)?;
    let digest = digest(&claim);
    let known = api.requests.read(&claim.identity.caller, &claim.identity.request).await?;
    if known.is_some_and(|known| known.digest != digest || known.max_amount != credits) {
        return Err(Stopped::Taken);
    }
    let verified = match api.engine.check(&claim).await {
        Ok(verified) => verified,
        Err(Refusal::Rejection(rejection)) => return Err(nvm::refusal(rejection).into()),
        Err(Refusal::Fault(fault)) => return Err(fault.into()),
    };
    let Identity { caller, request } = claim.identity;
    let now = now();
    let expires = verified.verdict().keep_until.min(now.plus(VERIFIED));
    let stored = Remembered { id: request.clone(), caller, digest, max_amount: credits, expires };
    let first = api.requests.put(stored, now).await?;
    if (first.digest, first.max_amount) != (digest, credits) {
        return Err(Stopped::Taken);
    }
    Ok((verified.verdict().payer.clone(), request))
}

/// Steps 22 and on, up to the machine: the claim of a request that may be settled, and whether its caller named it.
async fn claimed(api: &Api, caller: String, headers: &HeaderMap, body: &[u8]) -> Result<(Claim, bool), Stopped> {
    let asked = read(api, caller, headers, body, Some("maxAmount"))?;
    let credits = asked.request.body.max_amount.unwrap_or_default();
    let from_verify = asked.request.body.agent_request_id.is_some();
    let named = asked.named;
    let claim = asked.claim(credits)?;
    if !named {
        return Ok((claim, false));
    }
    let digest = digest(&claim);
    let key = key_of(headers).map_err(Stopped::Unparsed)?;
    // The caller's own name beside an id of ours: it, too, is for one payment.
    if let Some(key) = key.filter(|_| from_verify)
        && !api.names.take(&claim.identity.caller, key, digest).await?
    {
        return Err(Stopped::Taken);
    }
    let Identity { caller, request } = &claim.identity;
    let known = match api.requests.read(caller, request).await? {
        Some(known) => known,
        None if from_verify => return Err(Code::InvalidPayload.because("agentRequestId: unknown or expired").into()),
        None => {
            let expires = UnixSeconds(now().0.saturating_add(REMEMBERED));
            let (id, caller) = (request.clone(), caller.clone());
            api.requests.put(Remembered { id, caller, digest, max_amount: credits, expires }, now()).await?
        }
    };
    if known.digest != digest {
        return Err(Stopped::Taken);
    }
    // "A need above the verified amount is refused."
    if credits > known.max_amount {
        return Err(Code::InvalidPayload.because("maxAmount: more than was verified").into());
    }
    Ok((claim, key.is_some()))
}

/// Reads the request and finds what it is called: `agentRequestId`, else a name made from `Idempotency-Key`, else a
/// new one.
fn read(api: &Api, caller: String, headers: &HeaderMap, body: &[u8], required: Option<&str>) -> Result<Asked, Stopped> {
    let request = x402_codec::nvm::request(body, &api.limits).map_err(Stopped::Unparsed)?;
    let amount = request.body.max_amount;
    if amount.is_none() && required.is_some() {
        return Err(Stopped::Unparsed(Code::InvalidPayload.because("maxAmount: expected a decimal of at least 1")));
    }
    if amount.is_some_and(AtomicAmount::is_zero) {
        return Err(Code::InvalidPayload.because("maxAmount: expected a decimal of at least 1").into());
    }
    let key = key_of(headers).map_err(Stopped::Unparsed)?;
    let (id, named) = match (&request.body.agent_request_id, key) {
        (Some(id), _) => (id.clone(), true),
        (None, Some(key)) => (named(&caller, key), true),
        (None, None) => {
            let mut random = [0; 16];
            getrandom::fill(&mut random).map_err(|error| Fault::unreachable("the random numbers", error))?;
            (hex::encode(random), false)
        }
    };
    Ok(Asked { request, identity: Identity { caller, request: id }, named })
}

impl Asked {
    fn claim(self, credits: AtomicAmount) -> Result<Claim, Rejection> {
        let required = &self.request.body.payment_required;
        let payment = self.request.payment?;
        let payer = payer_of(&payment);
        let claim = nvm::claim(payment, required.offered(), &required.resource, credits);
        let mut claim = claim.map_err(|mut rejection| {
            rejection.payer = payer;
            rejection
        })?;
        claim.identity = self.identity;
        Ok(claim)
    }
}

/// What must be the same when a request comes again: the payment, and what it pays for, but not how much.
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

/// Who pays, as the payment says it itself.
fn payer_of(payment: &PaymentPayload) -> Option<Box<str>> {
    let payload = Payload::from_raw(payment.payload()).ok()?;
    payload.authorization().from().map(|account| account.as_str().into())
}

/// The network that the payment names, for the answer; where the payment cannot be read, the one that was asked.
fn network_of(body: &[u8], api: &Api) -> NetworkName {
    let request = x402_codec::nvm::request(body, &api.limits).ok();
    let payment = request.and_then(|request| request.payment.ok());
    match payment {
        Some(PaymentPayload::V03(payment)) => payment.accepted.network,
        Some(PaymentPayload::V02(payment)) => payment.network().map(Into::into).unwrap_or_default(),
        None => network_asked(body),
    }
}

/// "503 ours (`retryable: true`)".
fn ours(reason: ErrorReason) -> Rejection {
    Rejection::new(reason).detail("nvmCode", "BCK.X402.0051")
}

fn retryable(members: &mut Members) {
    if let Ok(yes) = RawJson::of(&true) {
        members.insert("retryable", yes);
    }
}
