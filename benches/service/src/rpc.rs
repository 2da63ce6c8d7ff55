//! The driver's own calls to the node. They do not pass a proxy and are counted nowhere.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::fault::Fallible;

/// A client of one node.
#[derive(Clone)]
pub struct Rpc {
    url: String,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// A pooled client whose small requests are sent at once.
pub fn http() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

impl Rpc {
    pub fn new(url: String) -> Self {
        Self { url, http: http() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls a method and returns its result.
    pub async fn call(&self, method: &str, params: Value) -> Fallible<Value> {
        let body = serde_json::to_vec(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))?;
        let request = Request::post(&self.url).header("content-type", "application/json").body(Full::from(body))?;
        let body = self.http.request(request).await?.into_body().collect().await?.to_bytes();
        let mut answer: Value = serde_json::from_slice(&body)?;
        match answer.get("error") {
            Some(error) => Err(format!("{method}: {error}").into()),
            None => Ok(answer["result"].take()),
        }
    }

    /// The number of the newest block.
    pub async fn head(&self) -> Fallible<u64> {
        quantity(&self.call("eth_blockNumber", json!([])).await?)
    }
}

/// Reads a quantity of JSON-RPC.
pub fn quantity(value: &Value) -> Fallible<u64> {
    let text = value.as_str().and_then(|text| text.strip_prefix("0x")).ok_or("a quantity was expected")?;
    Ok(u64::from_str_radix(text, 16)?)
}
