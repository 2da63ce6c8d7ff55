//! The counting proxy between a facilitator and the node. It can make the round trip longer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_primitives::{B256, hex};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::fault::Fallible;
use crate::rpc::http;

/// The selectors of `transferWithAuthorization`, with the signature in parts and as bytes. Its nonce is the sixth word.
const SELECTORS: [[u8; 4]; 2] = [[0xe3, 0xee, 0x16, 0x0e], [0xcf, 0x09, 0x29, 0x95]];
const NONCE: std::ops::Range<usize> = 4 + 5 * 32..4 + 6 * 32;

/// What passed.
#[derive(Debug, Default)]
pub struct Seen {
    /// Calls by method, each member of a batch for itself.
    pub calls: BTreeMap<String, u64>,
    /// HTTP requests.
    pub requests: u64,
    /// When the transaction of an authorization's nonce passed for the first time.
    pub sent: HashMap<B256, Instant>,
    /// Transactions that passed.
    pub transactions: u64,
}

/// A running proxy. It ends when it is dropped.
pub struct Proxy {
    pub url: String,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

struct Way {
    node: String,
    half: Duration,
    http: Client<HttpConnector, Full<Bytes>>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    method: &'a str,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

impl Proxy {
    /// Listens on a free port, before the node at this URL.
    pub async fn start(node: &str, round_trip: Duration) -> Fallible<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let seen = Arc::<Mutex<Seen>>::default();
        let way = Arc::new(Way { node: node.to_owned(), half: round_trip / 2, http: http(), seen: Arc::clone(&seen) });
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream.set_nodelay(true));
                let way = Arc::clone(&way);
                let service = service_fn(move |request| forward(Arc::clone(&way), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { url, seen, task })
    }

    /// Takes what passed since the last time.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().expect("nobody panics with it"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(way: Arc<Way>, request: Request<Incoming>) -> Fallible<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    if !way.half.is_zero() {
        tokio::time::sleep(way.half).await;
    }
    way.seen.lock().expect("nobody panics with it").note(&body);
    let request = Request::post(&way.node).header("content-type", "application/json").body(Full::from(body))?;
    let (parts, body) = way.http.request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    if !way.half.is_zero() {
        tokio::time::sleep(way.half).await;
    }
    let answer = Response::builder().status(parts.status).header("content-type", "application/json");
    Ok(answer.body(Full::from(body))?)
}

impl Seen {
    fn note(&mut self, body: &[u8]) {
        self.requests += 1;
        let calls = match serde_json::from_slice::<Vec<Call<'_>>>(body) {
            Ok(calls) => calls,
            Err(_) => serde_json::from_slice::<Call<'_>>(body).into_iter().collect(),
        };
        for call in calls {
            *self.calls.entry(call.method.to_owned()).or_default() += 1;
            if call.method.starts_with("eth_sendRawTransaction") {
                self.transactions += 1;
                let now = Instant::now();
                for nonce in call.params.map(authorizations).unwrap_or_default() {
                    self.sent.entry(nonce).or_insert(now);
                }
            }
        }
    }
}

/// The nonces of all authorizations in a raw transaction: one, or those of a batch.
fn authorizations(params: &RawValue) -> Vec<B256> {
    let Ok(params) = serde_json::from_str::<Vec<serde_json::Value>>(params.get()) else { return Vec::new() };
    let Some(raw) = params.first().and_then(|raw| raw.as_str()).and_then(|raw| hex::decode(raw).ok()) else {
        return Vec::new();
    };
    let at = |start: usize| {
        let called = raw.get(start..start + 4)?;
        let known = SELECTORS.iter().any(|selector| selector == called);
        known.then(|| raw.get(start + NONCE.start..start + NONCE.end).map(B256::from_slice)).flatten()
    };
    (0..raw.len()).filter_map(at).collect()
}
