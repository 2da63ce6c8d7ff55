//! Takes up a payment of an earlier call or process, before anything is signed.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use tower_service::Service;
use x402_types::challenge::{ChallengeId, ResourceName};

use super::super::exchange::{Leg, send};
use super::super::flight::{Flight, Purchase};
use super::super::outcome::is_served;
use super::super::{ClientError, Payer};
use super::ChallengeReceipt;
use crate::Body;

/// The result of taking up a payment that was kept.
pub(in super::super) enum TakenUp<'p, B> {
    /// The payment's entitlement was presented, and this is the response.
    Answered(Response<Body<B>>),
    /// The bought entitlement is over. This 402 requires a new payment, and came after this number of requests.
    Over(Response<B>, u32),
    /// The payment of this challenge is sent again.
    Shown(Flight<'p>, ChallengeId),
    /// The payment is of another dialect. This 402 is as it was.
    Other(Flight<'p>, Response<B>),
}

/// Decides on a kept payment. `asked` is the 402; `presented` is the resource whose entitlement it refused.
pub(in super::super) async fn take_up<'p, S, B>(
    payer: &Payer,
    service: &mut S,
    leg: &Leg,
    flight: Flight<'p>,
    asked: Response<B>,
    presented: Option<&ResourceName>,
) -> Result<TakenUp<'p, B>, ClientError<S::Error>>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    B: http_body::Body<Data = Bytes>,
{
    let Some(challenge) = flight.challenge().cloned() else { return Ok(TakenUp::Other(flight, asked)) };
    let Some(entitlement) = challenge.entitlement else { return Ok(TakenUp::Shown(flight, challenge.id)) };
    let (kept, url, now) = (&payer.wallet.entitlements, flight.purchase().url.clone(), payer.clock.now());
    // The payment is made, and what it bought is an entitlement: it ends when the entitlement was used or is over.
    if presented == Some(&entitlement.resource) || entitlement.until <= now {
        flight.land(None).await;
        return Ok(TakenUp::Over(asked, 1));
    }
    kept.restore(&url, &entitlement, now);
    let mut request = leg.request(None);
    if !kept.present(&url, &entitlement.resource, request.headers_mut(), now) {
        // The caller's request has credentials of its own.
        return Ok(TakenUp::Shown(flight, challenge.id));
    }
    let response = send(service, request).await.map_err(ClientError::Transport)?;
    if response.status() == StatusCode::PAYMENT_REQUIRED {
        kept.forget(&url, &entitlement.resource);
        flight.land(None).await;
        return Ok(TakenUp::Over(response, 2));
    }
    let mut response = response.map(Body::inner);
    if let Some(receipt) = challenge.receipt {
        response.extensions_mut().insert(ChallengeReceipt(receipt));
    }
    if is_served(&leg.parts.method, response.status()) {
        flight.land(None).await;
    }
    Ok(TakenUp::Answered(response))
}

/// Ends the payment of this request whose entitlement, presented with the first request, was answered with this status.
pub(in super::super) async fn end_served(payer: &Payer, purchase: Purchase, method: &Method, status: StatusCode) {
    if is_served(method, status)
        && let Some(kept) = payer.take_entitled(&purchase)
    {
        Flight::new(payer, purchase, kept).land(None).await;
    }
}
