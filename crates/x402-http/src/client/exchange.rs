//! One paid exchange: request, parse the 402, pay, wait while the payment is pending.

use core::future::poll_fn;
use core::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, LOCATION, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use tower_service::Service;
use url::Url;
use x402_codec::{body, header};

#[cfg(feature = "challenge")]
use super::challenge;
use super::extensions;
use super::flight::{Flight, Purchase};
use super::outcome::{Outcome, PaymentSent, outcome};
use super::refused;
use super::remedy::remedied;
use super::{ClientError, Closed, PayError, Payer};
use crate::Body;

/// The maximum number of redirects that are followed.
pub(super) const REDIRECTS: usize = 10;

/// The pause before a request is repeated that reached no server.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(1);

pub(super) type Answer<B, E> = Result<Response<Body<B>>, ClientError<E>>;

pub(super) async fn run<S, B>(
    payer: Payer,
    mut service: S,
    mut redirects: usize,
    request: Request<Bytes>,
) -> Answer<B, S::Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    B: http_body::Body<Data = Bytes>,
{
    let (parts, body) = request.into_parts();
    let mut leg = Leg { parts, body };
    // The request already carries another client's payment.
    if leg.carries_payment() {
        return Ok(send(&mut service, leg.request(None)).await.map_err(ClientError::Transport)?.map(Body::inner));
    }
    let start = leg.url();
    #[cfg_attr(not(feature = "challenge"), allow(unused_variables, reason = "this dialect has no entitlements"))]
    let (response, presented) = loop {
        let (request, presented) = leg.first(&payer);
        let response = send(&mut service, request).await.map_err(ClientError::Transport)?;
        match response.headers().get(LOCATION) {
            Some(location) if redirects > 0 && leg.follows(response.status()) => {
                redirects -= 1;
                leg = leg.redirected(response.status(), location).ok_or(PayError::BadRedirect)?;
                if redirects == 0 {
                    return Err(PayError::BadRedirect.into());
                }
            }
            _ => break (response, presented),
        }
    };
    if response.status() != StatusCode::PAYMENT_REQUIRED {
        #[cfg(feature = "challenge")]
        if let (Some(_), Some(url)) = (&presented, leg.url()) {
            let purchase = Purchase::new(&leg.parts.method, url, &leg.body);
            challenge::end_served(&payer, purchase, &leg.parts.method, response.status()).await;
        }
        return Ok(response.map(Body::inner));
    }
    let (Some(start), Some(url)) = (start, leg.url()) else { return Err(PayError::Url.into()) };
    // The client pays only the origin that its caller requested.
    if start.origin() != url.origin() {
        return Err(PayError::Redirected.into());
    }
    let purchase = Purchase::new(&leg.parts.method, url, &leg.body);
    #[cfg(feature = "challenge")]
    let (mut response, mut made) = (response, 1);
    if let Some(kept) = payer.take_kept(&purchase).await? {
        let flight = Flight::new(&payer, purchase.clone(), kept);
        #[cfg(feature = "challenge")]
        let flight = match challenge::take_up(&payer, &mut service, &leg, flight, response, presented.as_ref()).await? {
            challenge::TakenUp::Answered(response) => return Ok(response),
            challenge::TakenUp::Over(asked, requests) => {
                (response, made) = (asked, requests);
                None
            }
            challenge::TakenUp::Shown(flight, id) => {
                return challenge::pay_again(&payer, &mut service, &leg, flight, id).await;
            }
            challenge::TakenUp::Other(flight, asked) => {
                response = asked;
                Some(flight)
            }
        };
        #[cfg(not(feature = "challenge"))]
        let flight = Some(flight);
        if let Some(flight) = flight {
            return pay(&payer, &mut service, &leg, flight).await;
        }
    }
    let mut response = response;
    let mut in_header = header::payment_required_header(response.headers(), &payer.limits).map_err(PayError::from)?;
    // A way to be served without a payment is tried once, before anything is reserved or signed for one.
    if let Some(required) = &in_header
        && let Some(presented) = extensions::presented(&payer, required, &purchase, &leg.parts.headers).await?
    {
        let (extension, header) = presented;
        response = send(&mut service, leg.request(Some(header))).await.map_err(ClientError::Transport)?;
        if response.status() != StatusCode::PAYMENT_REQUIRED {
            let mut response = response.map(Body::inner);
            response.extensions_mut().insert(extension);
            return Ok(response);
        }
        in_header = header::payment_required_header(response.headers(), &payer.limits).map_err(PayError::from)?;
    }
    let body = response.into_body();
    let mut unpaid = None;
    if let Some(required) = &in_header {
        match payer.sign(required, &purchase).await {
            Ok(signed) => return pay(&payer, &mut service, &leg, Flight::new(&payer, purchase, signed)).await,
            Err(error) if error.leaves_others() && payer.takes_challenges() => unpaid = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    let body = whole(body, payer.limits.body).await.ok_or(PayError::Answer)?;
    let mut in_body = Err(PayError::NoTerms);
    // "For a client the header decides; the body is read only where there is no `PAYMENT-REQUIRED`."
    if in_header.is_none() && !body.is_empty() {
        in_body = body::payment_required(&body, &payer.limits).map_err(PayError::from);
    }
    #[cfg(feature = "challenge")]
    if payer.takes_challenges()
        && let Ok(asked) = x402_codec::challenge::challenge(&body)
    {
        // If the server also offers version 1, its terms accompany the challenge.
        if let Ok(required) = &in_body {
            match payer.sign(required, &purchase).await {
                Ok(signed) => return pay(&payer, &mut service, &leg, Flight::new(&payer, purchase, signed)).await,
                Err(error) if error.leaves_others() => {}
                Err(error) => return Err(error.into()),
            }
        }
        return challenge::pay(&payer, &mut service, &leg, purchase, asked, presented, made).await;
    }
    if let Some(error) = unpaid {
        return Err(error.into());
    }
    let signed = payer.sign(&in_body?, &purchase).await?;
    pay(&payer, &mut service, &leg, Flight::new(&payer, purchase, signed)).await
}

async fn pay<S, B>(payer: &Payer, service: &mut S, leg: &Leg, mut flight: Flight<'_>) -> Answer<B, S::Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    B: http_body::Body<Data = Bytes>,
{
    let (mut resends, mut remedies) = (payer.resends, 1u32);
    loop {
        let Some((header, before)) = flight.depart() else { return Err(PayError::NoTerms.into()) };
        let bytes = header.1.len();
        let response = match send(service, leg.request(Some(header.clone()))).await {
            Ok(response) => response,
            Err(error) if resends == 0 => {
                payer.observe_unknown(flight.purchase(), &header);
                return Err(ClientError::Unknown(error));
            }
            Err(_) => {
                resends -= 1;
                payer.clock.sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        let (reason, response) = refused::reason(response, &payer.limits).await;
        let status = response.status();
        let outcome = outcome(&leg.parts.method, status, response.headers(), reason.as_ref(), &payer.limits);
        if let Outcome::Pending(_, wait) = &outcome
            && resends > 0
        {
            resends -= 1;
            payer.clock.sleep(*wait).await;
            continue;
        }
        // A refusal after an unknown result may be caused by the first attempt, and is not acted on.
        if let Outcome::Refused(_) = &outcome
            && let (false, None, 1..) = (before, flight.settled(), remedies)
        {
            remedies = 0;
            match remedied(payer, &header, reason.as_ref()).await {
                Ok(true) => {
                    flight.returned();
                    continue;
                }
                Ok(false) => {}
                Err(error) => {
                    flight.land(Some(Closed::Refused)).await;
                    return Err(error.into());
                }
            }
        }
        payer.observe_outcome(flight.purchase(), &header, &outcome, before);
        let sent = PaymentSent::new(bytes, flight.valid_until(), status, response.headers());
        let earlier = flight.settled().cloned();
        let mut refusals = None;
        if let Outcome::Paid(Some(receipt)) = &outcome {
            let (clock, limits) = (&*payer.clock, &payer.limits);
            let purchase = flight.purchase();
            refusals = extensions::read_receipt(&payer.extensions, &header, receipt, purchase, clock, limits).await;
        }
        let mut unread = None;
        let receipt = match outcome {
            Outcome::Paid(receipt) => {
                unread = flight.land_paid(receipt.as_ref()).await;
                receipt
            }
            Outcome::Unserved(receipt) => {
                flight.settle(receipt.clone()).await;
                Some(receipt)
            }
            Outcome::Pending(receipt, _) | Outcome::Open(receipt) => receipt,
            Outcome::Refused(receipt) if earlier.is_none() && !before => {
                flight.land(Some(Closed::Refused)).await;
                receipt
            }
            // After an earlier attempt with an unknown result, a refusal may be caused by that attempt: it ends nothing.
            Outcome::Refused(receipt) | Outcome::Denied(receipt) if earlier.is_none() => {
                if let Some(open) = flight.blocks() {
                    return Err(PayError::EarlierUnknown(open).into());
                }
                receipt
            }
            Outcome::Refused(receipt) | Outcome::Denied(receipt) => {
                flight.land(None).await;
                let Some(receipt) = earlier.or(receipt).map(Box::new) else { return Err(PayError::NoTerms.into()) };
                return Err(ClientError::PaidWithoutAnswer { receipt, status });
            }
        };
        let mut response = response.map(|body| match unread {
            Some(unread) => body.watched(unread),
            None => body,
        });
        response.extensions_mut().insert(sent);
        if let Some(refusals) = refusals {
            response.extensions_mut().insert(refusals);
        }
        // A response without a receipt does not revoke an earlier settlement.
        if let Some(receipt) = earlier.filter(|_| receipt.is_none()).or(receipt) {
            response.extensions_mut().insert(receipt);
        }
        return Ok(response);
    }
}

/// Reads a whole body that is no longer than `limit`; returns `None` if it is longer or incomplete.
pub(super) async fn whole<Q: http_body::Body>(body: Q, limit: usize) -> Option<Bytes> {
    let mut body = Box::pin(body);
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers are dropped.
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if collected.len().saturating_add(data.remaining()) > limit {
            return None;
        }
        collected.put(data);
    }
    Some(collected.freeze())
}

pub(super) async fn send<S, B>(service: &mut S, request: Request<Full<Bytes>>) -> Result<Response<B>, S::Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
{
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}

/// A request that can be sent any number of times.
pub(super) struct Leg {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
}

impl Leg {
    pub(super) fn request(&self, payment: Option<(HeaderName, HeaderValue)>) -> Request<Full<Bytes>> {
        let mut request = Request::from_parts(self.parts.clone(), Full::new(self.body.clone()));
        if let Some((name, value)) = payment {
            request.headers_mut().insert(name, value);
        }
        request
    }

    /// Builds the request without payment, with the entitlement that was bought for it, and returns that entitlement's
    /// resource.
    #[cfg(feature = "challenge")]
    fn first(&self, payer: &Payer) -> (Request<Full<Bytes>>, Option<x402_types::challenge::ResourceName>) {
        let mut request = self.request(None);
        let presented = payer.wallet.present(self.url().as_ref(), request.headers_mut(), payer.clock.now());
        (request, presented)
    }

    #[cfg(not(feature = "challenge"))]
    fn first(&self, _: &Payer) -> (Request<Full<Bytes>>, ()) {
        (self.request(None), ())
    }

    fn carries_payment(&self) -> bool {
        [&header::PAYMENT_SIGNATURE, &header::X_PAYMENT].into_iter().any(|name| self.parts.headers.contains_key(name))
    }

    fn url(&self) -> Option<Url> {
        let mut url = Url::parse(&self.parts.uri.to_string()).ok()?;
        url.set_fragment(None);
        (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
    }

    fn follows(&self, status: StatusCode) -> bool {
        matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
    }

    /// Follows RFC 9110 §15.4: 303 requests with GET, 301 and 302 turn POST into GET, 307 and 308 change nothing.
    fn redirected(mut self, status: StatusCode, location: &HeaderValue) -> Option<Self> {
        let from = self.url()?;
        let mut to = from.join(location.to_str().ok()?).ok()?;
        to.set_fragment(None);
        if !matches!(to.scheme(), "http" | "https") || !to.username().is_empty() || to.password().is_some() {
            return None;
        }
        self.parts.uri = to.as_str().parse::<Uri>().ok()?;
        let get = match status.as_u16() {
            303 => self.parts.method != Method::HEAD,
            301 | 302 => self.parts.method == Method::POST,
            _ => false,
        };
        let headers = &mut self.parts.headers;
        if get {
            self.parts.method = Method::GET;
            self.body = Bytes::new();
            headers.remove(CONTENT_TYPE);
            headers.remove(CONTENT_LENGTH);
        }
        headers.remove(HOST);
        if from.origin() != to.origin() {
            for secret in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
                headers.remove(secret);
            }
        }
        Some(self)
    }
}
