//! A facilitator of cards without configuration: its processor is a double in this process, behind HTTP on a loopback
//! port, and its stores are in memory.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use x402_card::double::{Double, DoubleRequest};
use x402_card::stores::{Books, Delegations};
use x402_card::{CardAccount, CardPlans, MemoryCards, TokenKeys, TokenSigner};
use x402_facilitator_core::MemoryLedger;
use x402_types::Fault;
use zeroize::Zeroizing;

use crate::clock::now;
use crate::engine::Engine;
use crate::mechanisms::{Builder, CardPayments};
use crate::process::owner;
use crate::processor::HttpProcessor;
use crate::routes::Routes;
use crate::server::Serving;

/// The most bytes of a request to the double.
const LONGEST: usize = 1 << 20;
/// The longest life of a delegation, in seconds.
const LONGEST_DELEGATION: u64 = 86_400;

/// A double behind HTTP. Its port is free again when it is dropped.
#[derive(Debug)]
pub struct DoubleServer {
    url: String,
    task: JoinHandle<()>,
}

impl DoubleServer {
    /// Serves a double on a free loopback port.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(double: Arc<Double>) -> Result<Self, Fault> {
        let unusable = |error: std::io::Error| Fault::unreachable("the address of the double", error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(unusable)?;
        let url = format!("http://{}", listener.local_addr().map_err(unusable)?);
        let answer = move |request: Request| answered(Arc::clone(&double), request);
        let app = Router::new().fallback(answer);
        let task = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Ok(Self { url, task })
    }

    /// Returns its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for DoubleServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answered(double: Arc<Double>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header =
        |headers: &HeaderMap, name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let Ok(body) = axum::body::to_bytes(body, LONGEST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let request = DoubleRequest {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        body: String::from_utf8_lossy(&body).into_owned(),
        authorization: header(&parts.headers, "authorization").unwrap_or_default(),
        key: header(&parts.headers, "idempotency-key"),
    };
    let Some(answer) = double.handle(&request, now()) else {
        // The connection breaks within the answer.
        let broken = futures_util::stream::iter([Err::<axum::body::Bytes, _>(std::io::Error::other("broken"))]);
        return Body::from_stream(broken).into_response();
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut headers = HeaderMap::new();
    let replayed = answer.replayed.then(|| "true".to_owned());
    for (name, value) in [
        ("content-type", Some("application/json".to_owned())),
        ("request-id", Some(answer.request_id)),
        ("idempotent-replayed", replayed),
    ] {
        if let Some(value) = value.and_then(|value| value.parse().ok()) {
            headers.insert(name, value);
        }
    }
    (status, headers, answer.body).into_response()
}

/// A facilitator of cards whose processor is a double.
#[derive(Debug)]
pub struct DevCards {
    double: Arc<Double>,
    stores: Arc<MemoryCards>,
    _processor: DoubleServer,
    serving: Serving,
    url: String,
}

impl DevCards {
    /// Starts the double and the facilitator, for callers with their tokens. `dress` may wrap the routes.
    ///
    /// # Errors
    /// An address cannot be listened on, or the parts do not fit together.
    pub async fn start(
        listen: SocketAddr,
        plans: CardPlans,
        callers: &[(&str, &str)],
        dress: impl FnOnce(Router) -> Router,
    ) -> Result<Self, Fault> {
        let double = Arc::new(Double::default());
        let processor = DoubleServer::start(Arc::clone(&double)).await?;
        let secret = Zeroizing::new("sk_test_double".to_owned());
        let http = HttpProcessor::new(processor.url(), secret).map_err(Fault::broken)?;
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut()).map_err(|error| Fault::unreachable("the random numbers", error))?;
        let stores = Arc::new(MemoryCards::default());
        let (builder, desk) = Builder::new(owner(), Arc::new(MemoryLedger::new(now))).with_cards(CardPayments {
            issuer: "https://facilitator.example".to_owned(),
            signer: TokenSigner::new("k1", &key).map_err(Fault::broken)?,
            former: TokenKeys::new(),
            plans,
            account: Arc::new(CardAccount::new(Arc::new(http), "main", false)),
            delegations: Arc::clone(&stores) as _,
            books: Arc::clone(&stores) as _,
            cards: Arc::clone(&stores) as _,
            longest: LONGEST_DELEGATION,
            lanes: 2,
        })?;
        let (engine, heads): (Arc<Engine>, _) = builder.build()?;
        let routes = Routes::new(Arc::clone(&engine)).with_cards(desk);
        let routes = callers
            .iter()
            .fold(routes, |routes, (name, token)| routes.with_caller(*name, Zeroizing::new((*token).to_owned())));
        let serving = Serving::start(listen, &engine, heads, dress(routes.into_router())).await?;
        let url = format!("http://{}", serving.address());
        Ok(Self { double, stores, _processor: processor, serving, url })
    }

    /// Returns the double, whose money book is the judge.
    #[must_use]
    pub fn double(&self) -> &Arc<Double> {
        &self.double
    }

    /// Returns the delegations.
    #[must_use]
    pub fn delegations(&self) -> &dyn Delegations {
        self.stores.as_ref()
    }

    /// Returns the books of credits.
    #[must_use]
    pub fn books(&self) -> &dyn Books {
        self.stores.as_ref()
    }

    /// Returns the address of the facilitator.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Finishes what runs, and stops.
    pub async fn stop(self) {
        self.serving.stop().await;
    }
}
