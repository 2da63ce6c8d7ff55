//! A request with a payment: [x402 v2 §6.1](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md),
//! flows `authorization` (verify, handler, settle) and `upfront` (settle, handler).
//!
//! This is HTTP's part of it. [`Checkout`](crate::checkout::Checkout) decides on the payment.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use tower_service::Service;
use x402_codec::header;
use x402_types::extension::{Admission, Unpaid};
use x402_types::v2::{ResourceInfo, SettleResponse};
use x402_types::{ErrorReason, Fault, Offer, Refusal, Rejection};

use super::answer::{self, Answer, is_unserved};
use super::dialect::HttpDialect;
use super::kept;
use super::layer::Route;
use super::overrides::Overrides;
use crate::Body;
use crate::checkout::{Declined, Flow, IncidentStep, PaymentIn, Received, Used};

pub(super) fn run<S, Q, B>(
    route: Arc<Route>,
    mut inner: S,
    request: Request<Q>,
) -> impl Future<Output = Result<Response<Body<B>>, S::Error>>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: http_body::Body<Data = bytes::Bytes>,
{
    // An `async fn` would hold the request twice: as it came, and in parts.
    let (mut parts, body) = request.into_parts();
    async move {
        let offers = match route.offers(&parts).await {
            Ok(offers) => offers,
            Err(fault) => {
                let resource = route.served(parts.uri.path());
                route.seller.checkout.report(&resource.url, IncidentStep::Price, &fault);
                return Ok(unavailable(&route, fault).map(Body::own));
            }
        };
        let exchange = Exchange { route: &route, offers: &offers, resource: route.served(parts.uri.path()) };
        let unpaid = exchange.admit(&parts).await;
        if let Ok(Some(admission)) = unpaid {
            parts.extensions.insert(admission);
            let mut response = inner.call(Request::from_parts(parts, body)).await?.map(Body::inner);
            Overrides::take(response.headers_mut());
            answer::make_private(response.headers_mut());
            return Ok(response);
        }
        let received = match exchange.receive(&parts) {
            Ok(Some(received)) => received,
            // A request that is not admitted can still be paid.
            Ok(None) => return Ok(exchange.unpaid(unpaid.err()).map(Body::own)),
            Err(rejection) => return Ok(exchange.refuse(Some(&rejection)).map(Body::own)),
        };
        route.look_at_served(&offers, &exchange.resource.url).await;
        let dialect = received.dialect();
        if parts.method == Method::HEAD {
            // The response would consist only of headers, so nothing is charged.
            let paid = match received.look().await {
                Ok(paid) => paid,
                Err(declined) => return Ok(exchange.decline(declined, &**dialect).await.map(Body::own)),
            };
            if received.flow() == Flow::Upfront {
                // The handler of such a route relies on the money.
                return Ok(answer::verified().map(Body::own));
            }
            parts.extensions.insert(paid);
            let mut response = inner.call(Request::from_parts(parts, body)).await?.map(Body::inner);
            Overrides::take(response.headers_mut());
            answer::make_private(response.headers_mut());
            return Ok(response);
        }
        let (mut admitted, paid) = match received.admit().await {
            Ok(admitted) => admitted,
            Err(declined) => return Ok(exchange.decline(declined, &**dialect).await.map(Body::own)),
        };
        parts.extensions.insert(paid);
        let mut response = inner.call(Request::from_parts(parts, body)).await?.map(Body::inner);
        let overrides = Overrides::take(response.headers_mut());
        let (named, mut kept) = (admitted.named().map(Box::from), None);
        if named.is_some() && !is_unserved(response.status()) {
            // An answer that is to be repeated must be whole before it is paid for.
            (response, kept) =
                kept::in_hand(response).await.unwrap_or_else(|_| (answer::broken().map(Body::own), None));
        }
        let receipt = if is_unserved(response.status()) {
            match admitted.fail() {
                Some(receipt) => receipt,
                None => return Ok(response),
            }
        } else {
            // From here on the handler's response is only held: none of its body is read before the money moved.
            let used = match (response.extensions().get::<Used>(), admitted.unsettled()) {
                (None, Some((terms, rule))) => match overrides.used(terms, rule, &route.seller.assets) {
                    Ok(used) => used,
                    Err(why) => {
                        let fault = Fault::broken(format_args!("the handler's Settlement-Overrides: expected {why}"));
                        route.seller.checkout.report(&exchange.resource.url, IncidentStep::Price, &fault);
                        return Ok(answer::unpriced().map(Body::own));
                    }
                },
                (used, _) => used.copied(),
            };
            if let (Some(answers), Some(request), Some(body)) = (&route.seller.answers, &named, &kept) {
                // Whoever finds the payment granted finds the answer, whenever this process ends.
                let receipt = match admitted.settle_now(used).await {
                    Ok(receipt) => receipt,
                    Err(declined) => return Ok(exchange.decline(declined, &**dialect).await.map(Body::own)),
                };
                dialect.write_receipt(response.headers_mut(), receipt);
                answer::make_private(response.headers_mut());
                let copy = kept::to_bytes(&kept::copy(&response, body.clone()));
                if let Err(fault) = answers.keep(request, copy, route.seller.checkout.now()).await {
                    route.seller.checkout.report(&exchange.resource.url, IncidentStep::Grants, &fault);
                }
            }
            match admitted.finish(used).await {
                Ok(receipt) => receipt,
                Err(declined) => return Ok(exchange.decline(declined, &**dialect).await.map(Body::own)),
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

/// The parts of one request that every step needs.
struct Exchange<'r> {
    route: &'r Route,
    offers: &'r [Offer],
    resource: Arc<ResourceInfo>,
}

impl<'r> Exchange<'r> {
    /// Passes the request to the extensions, if it has a header that one of them reads.
    async fn admit(&self, parts: &Parts) -> Result<Option<Admission>, Refusal> {
        let seller = &self.route.seller;
        if !seller.finds_extension(&parts.headers) {
            return Ok(None);
        }
        // A header that occurs twice has no meaning.
        let header = |name: &str| {
            let mut values = parts.headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
        };
        let (checkout, is_fixed) = (&seller.checkout, self.route.has_fixed_price());
        let request = Unpaid::new(&header, &self.resource, self.offers, is_fixed, checkout.now());
        checkout.admit_unpaid(&request).await
    }

    /// Answers a request that has no payment: with the 402, with the code of an extension that did not admit it, or with 503
    /// if that could not be decided.
    fn unpaid(&self, refused: Option<Refusal>) -> Answer {
        match refused {
            Some(Refusal::Rejection(rejection)) => self.refuse(Some(&rejection)),
            Some(Refusal::Fault(fault)) => {
                self.route.seller.checkout.report(&self.resource.url, IncidentStep::Extension, &fault);
                unavailable(self.route, fault)
            }
            None => self.refuse(None),
        }
    }

    /// Takes the payment from the request, if it has one, and finds the entry that it was made for.
    fn receive(&self, parts: &Parts) -> Result<Option<Received<'r, dyn HttpDialect>>, Rejection> {
        let checkout = &self.route.seller.checkout;
        let Some(payment) = self.payment(parts)? else { return Ok(None) };
        checkout.receive(payment, self.offers).map(Some)
    }

    /// Returns the payment: from a header that one dialect has for itself, else from those that all of them share.
    fn payment<'p>(&self, parts: &'p Parts) -> Result<Option<PaymentIn<'p>>, Rejection> {
        let method = if parts.method == Method::HEAD { Method::GET.as_str() } else { parts.method.as_str() };
        let name = parts.headers.get("idempotency-key").and_then(|value| value.to_str().ok());
        let resource = || Arc::clone(&self.resource);
        let checkout = &self.route.seller.checkout;
        for dialect in checkout.dialects().iter().rev() {
            if let Some(raw) = dialect.payment_text(&parts.headers, checkout.limits()) {
                return raw.map(|raw| Some(PaymentIn { raw, token: None, resource: resource(), method, name }));
            }
        }
        let unreadable = |error| Rejection::new(ErrorReason::INVALID_PAYLOAD).because(format!("{error}"));
        let shared = header::payment_text(&parts.headers, checkout.limits()).map_err(unreadable)?;
        Ok(shared.map(|text| {
            let (raw, token) = text.into_parts();
            PaymentIn { raw, token, resource: resource(), method, name }
        }))
    }

    async fn decline(&self, declined: Declined, dialect: &dyn HttpDialect) -> Answer {
        let retry_after = self.route.seller.retry_after;
        let with_receipt = |mut response: Answer, receipt: &SettleResponse| {
            dialect.write_receipt(response.headers_mut(), receipt);
            response
        };
        match declined {
            Declined::Refused(rejection) => self.refuse(Some(&rejection)),
            Declined::Repeated { request, rejection } => match self.kept(&request).await {
                Ok(Some(kept)) => kept,
                Ok(None) => self.refuse(Some(&rejection)),
                Err(fault) => unavailable(self.route, fault),
            },
            Declined::Busy(rejection) => {
                let mut response = self.refuse(Some(&rejection));
                answer::later(&mut response, retry_after);
                response
            }
            Declined::NotSettled { rejection, receipt } => {
                with_receipt(self.route.ask(self.path(), self.offers, Some(&rejection)), &receipt)
            }
            Declined::Unknown { receipt, fault } => {
                let receipt = dialect.in_own_words(*receipt);
                with_receipt(answer::unknown(&receipt, fault, retry_after), &receipt)
            }
            Declined::Unavailable(fault) => unavailable(self.route, fault),
        }
    }

    /// Returns the answer that this request had: from memory, else from the store.
    async fn kept(&self, request: &str) -> Result<Option<Answer>, Fault> {
        let seller = &self.route.seller;
        let (None, Some(answers)) = (seller.kept.get(request), &seller.answers) else {
            return Ok(seller.kept.get(request));
        };
        let read = answers.kept(request).await.and_then(|bytes| match bytes {
            Some(bytes) => match kept::from_bytes(bytes.into()) {
                Some(answer) => Ok(Some(answer)),
                None => Err(Fault::store("a stored answer is damaged")),
            },
            None => Ok(None),
        });
        read.inspect_err(|fault| seller.checkout.report(&self.resource.url, IncidentStep::Grants, fault))
    }

    /// Returns the 402, or an answer with the status of the rejection's row.
    fn refuse(&self, rejection: Option<&Rejection>) -> Answer {
        self.route.refuse(self.path(), self.offers, rejection)
    }

    fn path(&self) -> &str {
        self.route.path_of(&self.resource)
    }
}

fn unavailable(route: &Route, fault: Fault) -> Answer {
    if fault.is_lasting() {
        return answer::misconfigured(fault);
    }
    answer::unavailable(ErrorReason::UNEXPECTED_VERIFY_ERROR, Some(fault), Some(route.seller.retry_after))
}
