//! The node of a chain, by its URL.

use std::time::Duration;

use alloy_rpc_client::RpcClient;
use alloy_transport_http::Http;

/// Creates a client of a node. Responses may take 10 s at most.
pub(crate) fn client(url: &str) -> Result<RpcClient, String> {
    let url = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or("rpc: expected an http or https URL")?;
    x402_http::service::install_tls();
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| error.to_string())?;
    Ok(RpcClient::new(Http::with_client(client, url), false))
}
