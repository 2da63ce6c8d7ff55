//! The server's layer around a handler that answers at once, with a facilitator that does nothing.
//!
//! The request is built while the clock runs, for all alike. Each payment has a nonce of its own, as ours grants none
//! twice.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use axum_core::body::Body;
use axum_core::extract::Request;
use axum_core::response::Response;
use http::{HeaderValue, StatusCode};
use ours_codec::header;
use ours_facilitator_core::PaymentRequest;
use ours_http::server::{MemoryGrants, Seller};
use ours_types::{Fault, Members};
use r402_protocol::error::FacilitatorError;
use r402_protocol::network::ChainIdPattern;
use tower::{Layer, Service};

use crate::sample;
use crate::table::Row;
use crate::timing::{Run, each, plain};

const PAYER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const TRANSACTION: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";

#[derive(Clone)]
struct Hello;

impl Service<Request> for Hello {
    type Response = Response;
    type Error = Infallible;
    type Future = Ready<Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        ready(Ok(Response::new(Body::from("sunny"))))
    }
}

struct Ours;

#[async_trait]
impl ours_facilitator_core::Facilitator for Ours {
    async fn verify(&self, _: &PaymentRequest) -> Result<ours_types::v2::VerifyResponse, Fault> {
        Ok(ours_types::v2::VerifyResponse {
            is_valid: true,
            invalid_reason: None,
            invalid_message: None,
            payer: Some(PAYER.to_owned()),
            extra: Members::new(),
            extensions: Members::new(),
            rest: Members::new(),
        })
    }

    async fn settle(&self, request: &PaymentRequest) -> Result<ours_types::v2::SettleResponse, Fault> {
        Ok(ours_types::v2::SettleResponse {
            success: true,
            error_reason: None,
            error_message: None,
            payer: Some(PAYER.to_owned()),
            transaction: TRANSACTION.to_owned(),
            network: request.claim.terms.network.into(),
            amount: None,
            extra: Members::new(),
            extensions: Members::new(),
            rest: Members::new(),
        })
    }

    async fn supported(&self) -> Result<ours_types::v2::SupportedResponse, Fault> {
        Err(Fault::broken("not asked"))
    }
}

/// Its answers are made before: the middleware asks `/supported` at every request, which its HTTP client keeps.
#[derive(Clone)]
struct Rs {
    verdict: rs_types::proto::VerifyResponse,
    receipt: rs_types::proto::SettleResponse,
    supported: rs_types::proto::SupportedResponse,
}

impl Rs {
    fn new() -> Self {
        use rs_types::proto::v2;
        let receipt = v2::SettleResponse::Success {
            payer: PAYER.to_owned(),
            transaction: TRANSACTION.to_owned(),
            network: sample::NETWORK.to_owned(),
        };
        Self {
            verdict: v2::VerifyResponse::valid(PAYER.to_owned()).into(),
            receipt: receipt.into(),
            supported: serde_json::from_value(supported()).unwrap(),
        }
    }
}

impl rs_types::facilitator::Facilitator for Rs {
    type Error = Infallible;

    async fn verify(&self, _: &rs_types::proto::VerifyRequest) -> Result<rs_types::proto::VerifyResponse, Infallible> {
        Ok(self.verdict.clone())
    }

    async fn settle(&self, _: &rs_types::proto::SettleRequest) -> Result<rs_types::proto::SettleResponse, Infallible> {
        Ok(self.receipt.clone())
    }

    async fn supported(&self) -> Result<rs_types::proto::SupportedResponse, Infallible> {
        Ok(self.supported.clone())
    }
}

struct R402(r402_protocol::payment::SupportedResponse);

impl r402_facilitator::Facilitator for R402 {
    fn verify(
        &self,
        _: r402_protocol::payment::VerifyRequest,
    ) -> impl Future<Output = Result<r402_protocol::payment::VerifyResponse, FacilitatorError>> + Send {
        ready(Ok(r402_protocol::payment::VerifyResponse::valid(PAYER)))
    }

    fn settle(
        &self,
        _: r402_protocol::payment::SettleRequest,
    ) -> impl Future<Output = Result<r402_protocol::payment::SettleResponse, FacilitatorError>> + Send {
        ready(Ok(r402_protocol::payment::SettleResponse::Success {
            payer: Some(PAYER.into()),
            transaction: TRANSACTION.into(),
            network: sample::NETWORK.into(),
            amount: None,
            extensions: Default::default(),
            extension_responses: Default::default(),
            extra: None,
        }))
    }

    fn supported(
        &self,
    ) -> impl Future<Output = Result<r402_protocol::payment::SupportedResponse, FacilitatorError>> + Send {
        ready(Ok(self.0.clone()))
    }
}

fn supported() -> serde_json::Value {
    serde_json::json!({
        "kinds": [{ "x402Version": 2, "scheme": "exact", "network": sample::NETWORK }], "extensions": [], "signers": {},
    })
}

fn ours(grants: MemoryGrants) -> ours_http::server::RequirePayment<Hello> {
    let seller = Seller::new(sample::ORIGIN, Arc::new(Ours)).unwrap().with_grants(Arc::new(grants));
    let layer = seller.charge([sample::offer()]).unwrap();
    layer.with_description(sample::DESCRIPTION, sample::MIME).unwrap().layer(Hello)
}

fn rs() -> impl Service<Request, Response = Response, Error = Infallible> + 'static {
    let price =
        rs_types::proto::v2::PriceTag { requirements: serde_json::from_str(sample::ACCEPTED).unwrap(), enricher: None };
    let middleware = rs_axum::X402Middleware::from_facilitator(Arc::new(Rs::new()));
    let layer = middleware.with_base_url(sample::ORIGIN.parse().unwrap()).with_price_tag(price);
    let layer = layer.with_description(sample::DESCRIPTION.to_owned()).with_mime_type(sample::MIME.to_owned());
    layer.with_resource(sample::RESOURCE.parse().unwrap()).layer(Hello)
}

fn r402() -> impl Service<Request, Response = Response, Error = Infallible> + 'static {
    let price = r402_protocol::payment::PriceTag::new(serde_json::from_str(sample::ACCEPTED).unwrap());
    let facilitator = R402(serde_json::from_value(supported()).unwrap());
    let middleware = r402_http::server::X402Middleware::from_facilitator(facilitator)
        .with_base_url(sample::ORIGIN.parse().unwrap())
        .with_scheme(ChainIdPattern::wildcard("eip155"), r402_evm::Eip155Exact);
    let layer = middleware.with_price_tag(price).unwrap();
    let layer = layer.with_description(sample::DESCRIPTION.to_owned()).with_mime_type(sample::MIME.to_owned());
    layer.with_resource(sample::RESOURCE.parse().unwrap()).layer(Hello)
}

/// Nothing here waits.
fn answer<B, S>(service: &mut S, request: Request) -> http::Response<B>
where
    S: Service<Request, Response = http::Response<B>, Error = Infallible>,
{
    match pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => panic!("it waits"),
    }
}

fn unpaid<B: 'static>(
    mut service: impl Service<Request, Response = http::Response<B>, Error = Infallible> + 'static,
) -> Run {
    let asked = answer(&mut service, Request::get(sample::RESOURCE).body(Body::empty()).unwrap());
    assert!(asked.headers().contains_key(&header::PAYMENT_REQUIRED));
    plain(move || {
        let request = Request::get(sample::RESOURCE).body(Body::empty()).unwrap();
        let response = answer(&mut service, request);
        assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
        response
    })
}

fn paid<B: 'static>(
    mut service: impl Service<Request, Response = http::Response<B>, Error = Infallible> + 'static,
) -> Run {
    let text = sample::payment();
    let mut nonce = 0u64;
    let payment = move || {
        nonce += 1;
        let text = text.replace(sample::NONCE, &format!("0x{nonce:064x}"));
        HeaderValue::from_bytes(header::encode_text(text.as_bytes()).unwrap().as_bytes()).unwrap()
    };
    each(payment, move |value| {
        let request = Request::get(sample::RESOURCE).header(&header::PAYMENT_SIGNATURE, value);
        let response = answer(&mut service, request.body(Body::empty()).unwrap());
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers().contains_key(&header::PAYMENT_RESPONSE));
        response
    })
}

pub fn rows() -> Vec<Row> {
    let forgetful = MemoryGrants::new(1_000, Duration::ZERO);
    let build = plain(|| Request::get(sample::RESOURCE).body(Body::empty()).unwrap());
    vec![
        Row::new("unpaid 402, fixed path", Some(0.15))
            .ours(unpaid(ours(MemoryGrants::default())))
            .rs(unpaid(rs()))
            .r402(unpaid(r402())),
        Row::new("of that, the bench's own request", None).ours(build),
        // With the store as it is by default: it keeps what it granted, and grows while this runs, as a server's does.
        Row::new("paid, no-op facilitator", Some(0.4))
            .ours(paid(ours(MemoryGrants::default())))
            .rs(paid(rs()))
            .r402(paid(r402())),
        Row::new("the same, grants forgotten at once", None).ours(paid(ours(forgetful))),
    ]
}
