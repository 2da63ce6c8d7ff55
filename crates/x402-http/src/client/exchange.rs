//! One paid exchange: ask, read the 402, pay, wait while it is pending.

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
use x402_types::PaymentRequired;

use super::outcome::{Outcome, outcome};
use super::payer::{Flight, Purchase};
use super::{ClientError, Closed, PayError, Payer};
use crate::Body;

/// The most redirects that are followed.
pub(super) const REDIRECTS: usize = 10;

/// A pause before a request is sent again that met no server.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

type Answer<B, E> = Result<Response<Body<B>>, ClientError<E>>;

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
    // Somebody else pays for this request.
    if leg.carries_payment() {
        return Ok(send(&mut service, leg.request(None)).await.map_err(ClientError::Transport)?.map(Body::inner));
    }
    let start = leg.url();
    let response = loop {
        let response = send(&mut service, leg.request(None)).await.map_err(ClientError::Transport)?;
        match response.headers().get(LOCATION) {
            Some(location) if redirects > 0 && leg.follows(response.status()) => {
                redirects -= 1;
                leg = leg.redirected(response.status(), location).ok_or(PayError::BadRedirect)?;
                if redirects == 0 {
                    return Err(PayError::BadRedirect.into());
                }
            }
            _ => break response,
        }
    };
    if response.status() != StatusCode::PAYMENT_REQUIRED {
        return Ok(response.map(Body::inner));
    }
    let (Some(start), Some(url)) = (start, leg.url()) else { return Err(PayError::Url.into()) };
    // Whom the caller asked is whom the caller pays.
    if start.origin() != url.origin() {
        return Err(PayError::Redirected.into());
    }
    let required = terms(&payer, response).await?;
    let purchase = Purchase::new(leg.parts.method.clone(), url, &leg.body);
    let signed = payer.sign(&required, &purchase).await?;
    pay(&payer, &mut service, &leg, Flight::new(&payer, purchase, signed)).await
}

async fn pay<S, B>(payer: &Payer, service: &mut S, leg: &Leg, mut flight: Flight<'_>) -> Answer<B, S::Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    B: http_body::Body<Data = Bytes>,
{
    let mut resends = payer.resends;
    loop {
        let Some((header, before)) = flight.depart() else { return Err(PayError::NoTerms.into()) };
        let response = match send(service, leg.request(Some(header))).await {
            Ok(response) => response,
            Err(error) if resends == 0 => return Err(ClientError::Unknown(error)),
            Err(_) => {
                resends -= 1;
                payer.clock.sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        let (receipt, decided) = match outcome(response.status(), response.headers(), &payer.limits) {
            Outcome::Pending(_, wait) if resends > 0 => {
                resends -= 1;
                payer.clock.sleep(wait).await;
                continue;
            }
            Outcome::Pending(receipt, _) | Outcome::Open(receipt) => (receipt, None),
            Outcome::Paid(receipt) => (receipt, Some(Some(Closed::Paid))),
            // After an earlier sending whose outcome is not known, a refusal may mean that one.
            Outcome::Refused(receipt) => (receipt, Some((!before).then_some(Closed::Refused))),
            Outcome::Spent(receipt) => (receipt, Some(None)),
        };
        if let Some(how) = decided {
            flight.land(how);
        }
        let mut response = response.map(Body::inner);
        if let Some(receipt) = receipt {
            response.extensions_mut().insert(receipt);
        }
        return Ok(response);
    }
}

/// "For a client the header decides; the body is read only where there is no `PAYMENT-REQUIRED`."
async fn terms<B>(payer: &Payer, response: Response<B>) -> Result<PaymentRequired, PayError>
where
    B: http_body::Body<Data = Bytes>,
{
    if let Some(required) = header::payment_required_header(response.headers(), &payer.limits)? {
        return Ok(required);
    }
    let collected = whole(response.into_body(), payer.limits.body).await.ok_or(PayError::Answer)?;
    if collected.is_empty() {
        return Err(PayError::NoTerms);
    }
    Ok(body::payment_required(&collected, &payer.limits)?)
}

/// All of a body that is no longer than `limit`; `None` where it is, or where it breaks off.
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

async fn send<S, B>(service: &mut S, request: Request<Full<Bytes>>) -> Result<Response<B>, S::Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
{
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}

/// A request that can be sent any number of times.
struct Leg {
    parts: Parts,
    body: Bytes,
}

impl Leg {
    fn request(&self, payment: Option<(HeaderName, HeaderValue)>) -> Request<Full<Bytes>> {
        let mut request = Request::from_parts(self.parts.clone(), Full::new(self.body.clone()));
        if let Some((name, value)) = payment {
            request.headers_mut().insert(name, value);
        }
        request
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

    /// RFC 9110 §15.4: 303 asks with GET, 301 and 302 turn POST into GET, 307 and 308 change nothing.
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
