//! A request with a payment: [x402 v2 §6.1](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md),
//! flows `authorization` (verify, handler, settle) and `upfront` (settle, handler).
//!
//! This is HTTP's part of it. What becomes of the payment is decided by [`Checkout`](crate::checkout::Checkout).

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tower_service::Service;
use x402_codec::header;
use x402_types::v2::{ResourceInfo, SettleResponse};
use x402_types::{ErrorReason, Fault, Offer, Rejection};

use super::answer;
use super::dialect::HttpDialect;
use super::kept;
use super::layer::Route;
use crate::Body;
use crate::checkout::{Declined, Flow, PaymentIn, Received, Step, Used};

pub(super) fn run<S, Q, B>(
    route: Arc<Route>,
    mut inner: S,
    request: Request<Q>,
) -> impl Future<Output = Result<Response<Body<B>>, S::Error>>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: http_body::Body<Data = bytes::Bytes>,
{
    // Not an `async fn`, which would hold the request twice: as it came, and in parts.
    let (mut parts, body) = request.into_parts();
    async move {
        let offers = match route.offers(&parts).await {
            Ok(offers) => offers,
            Err(fault) => {
                let resource = route.served(parts.uri.path());
                route.seller.checkout.report(&resource.url, Step::Price, &fault);
                return Ok(unavailable(&route, fault));
            }
        };
        let exchange = Exchange { route: &route, offers: &offers, resource: route.served(parts.uri.path()) };
        let received = match exchange.receive(&parts) {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(exchange.refuse(None)),
            Err(rejection) => return Ok(exchange.refuse(Some(&rejection))),
        };
        route.look_at_served(&offers, &exchange.resource.url).await;
        let dialect = received.dialect();
        if parts.method == Method::HEAD {
            // Nothing but headers would be given for it, so nothing is taken.
            let paid = match received.look().await {
                Ok(paid) => paid,
                Err(declined) => return Ok(*exchange.decline(declined, &**dialect)),
            };
            if received.flow() == Flow::Upfront {
                // Its handler counts on the money.
                return Ok(answer::verified());
            }
            parts.extensions.insert(paid);
            let mut response = inner.call(Request::from_parts(parts, body)).await?.map(Body::inner);
            answer::make_private(response.headers_mut());
            return Ok(response);
        }
        let (admitted, paid) = match received.admit().await {
            Ok(admitted) => admitted,
            Err(declined) => return Ok(*exchange.decline(declined, &**dialect)),
        };
        parts.extensions.insert(paid);
        let mut response = inner.call(Request::from_parts(parts, body)).await?.map(Body::inner);
        let (named, mut kept) = (admitted.named().map(Box::from), None);
        if named.is_some() && !failed(response.status()) {
            // An answer that is to be repeated must be whole before it is paid for.
            (response, kept) = kept::in_hand(response).await.unwrap_or_else(|_| (answer::broken(), None));
        }
        let receipt = if failed(response.status()) {
            match admitted.fail() {
                Some(receipt) => receipt,
                None => return Ok(response),
            }
        } else {
            // From here to the end the handler's answer is only held: none of its body is read before the money moved.
            let used = response.extensions().get::<Used>().copied();
            match admitted.finish(used).await {
                Ok(receipt) => receipt,
                Err(declined) => return Ok(*exchange.decline(declined, &**dialect)),
            }
        };
        dialect.write_receipt(response.headers_mut(), &receipt);
        answer::make_private(response.headers_mut());
        if let (Some(request), Some(body)) = (named, kept) {
            route.seller.kept.put(request, kept::copy(&response, body));
        }
        Ok(response)
    }
}

/// What every step of one request needs.
struct Exchange<'r> {
    route: &'r Route,
    offers: &'r [Offer],
    resource: Arc<ResourceInfo>,
}

impl<'r> Exchange<'r> {
    /// Takes the payment out of the request, if it has one, and finds the entry that it was made for.
    fn receive(&self, parts: &Parts) -> Result<Option<Received<'r, dyn HttpDialect>>, Rejection> {
        let checkout = &self.route.seller.checkout;
        let Some((raw, token)) = self.payment_text(&parts.headers)? else { return Ok(None) };
        let method = if parts.method == Method::HEAD { Method::GET.as_str() } else { parts.method.as_str() };
        let name = parts.headers.get("idempotency-key").and_then(|value| value.to_str().ok());
        let payment = PaymentIn { raw, token, resource: Arc::clone(&self.resource), method, name };
        checkout.receive(payment, self.offers).map(Some)
    }

    /// The payment's text: from a header that one dialect has for itself, else from those that all of them share.
    fn payment_text(&self, headers: &HeaderMap) -> Result<Option<(String, Option<Box<str>>)>, Rejection> {
        let checkout = &self.route.seller.checkout;
        for dialect in checkout.dialects().iter().rev() {
            if let Some(text) = dialect.payment_text(headers, checkout.limits()) {
                return text.map(|text| Some((text, None)));
            }
        }
        let shared = header::payment_text(headers, checkout.limits());
        let unreadable = |error| Rejection::new(ErrorReason::INVALID_PAYLOAD).because(format!("{error}"));
        Ok(shared.map_err(unreadable)?.map(x402_codec::header::PaymentText::into_parts))
    }

    fn decline<B>(&self, declined: Declined, dialect: &dyn HttpDialect) -> Box<Response<Body<B>>> {
        let retry_after = self.route.seller.retry_after;
        let with_receipt = |mut response: Response<Body<B>>, receipt: &SettleResponse| {
            dialect.write_receipt(response.headers_mut(), receipt);
            response
        };
        Box::new(match declined {
            Declined::Refused(rejection) => self.refuse(Some(&rejection)),
            Declined::Repeated { request, rejection } => {
                let kept = self.route.seller.kept.get(&request);
                kept.unwrap_or_else(|| self.refuse(Some(&rejection)))
            }
            Declined::Busy(rejection) => {
                let mut response = self.refuse(Some(&rejection));
                answer::later(&mut response, retry_after);
                response
            }
            Declined::NotSettled { rejection, receipt } => {
                with_receipt(self.route.ask(self.path(), self.offers, Some(&rejection)), &receipt)
            }
            Declined::Unknown { receipt, fault } => {
                with_receipt(answer::unknown(&receipt, fault, retry_after), &receipt)
            }
            Declined::Unavailable(fault) => unavailable(self.route, fault),
        })
    }

    /// Asks for payment, or answers with the status of the rejection's row.
    fn refuse<B>(&self, rejection: Option<&Rejection>) -> Response<Body<B>> {
        self.route.refuse(self.path(), self.offers, rejection)
    }

    fn path(&self) -> &str {
        self.route.path_of(&self.resource)
    }
}

/// "No settlement when the handler answers 4xx or 5xx", and none for a 304, which says that the payer has the content.
fn failed(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error() || status == StatusCode::NOT_MODIFIED
}

fn unavailable<B>(route: &Route, fault: Fault) -> Response<Body<B>> {
    if fault.is_lasting() {
        return answer::misconfigured(fault);
    }
    answer::unavailable(ErrorReason::UNEXPECTED_VERIFY_ERROR, Some(fault), Some(route.seller.retry_after))
}
