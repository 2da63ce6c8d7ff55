//! Parts that belong to a process: its name among the owners of leases, HTTP clients, and providers for nodes.

use std::time::Duration;

use alloy_rpc_client::RpcClient;
use alloy_transport_http::Http;
use x402_facilitator_core::OwnerId;

use crate::config::ConfigError;

/// Returns a name for this start of this process.
#[must_use]
pub fn owner() -> OwnerId {
    use std::hash::{BuildHasher, Hasher};
    // `RandomState` is seeded by the operating system; the pid is for readers of the ledger.
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("{}-{random:016x}", std::process::id()).into()
}

/// The client of a node, and its WebSocket, if it has one.
pub(crate) struct Node {
    pub(crate) client: RpcClient,
    #[cfg(feature = "ws")]
    pub(crate) ws: Option<crate::ws::WsNode>,
}

/// The description of a node's URL for errors.
const NODE: &str = if cfg!(feature = "ws") { "an http, https, ws or wss URL" } else { "an http or https URL" };

/// Makes a client for a node's URL. It waits 5 s for an answer.
pub(crate) fn node(field: &'static str, url: &str) -> Result<Node, ConfigError> {
    let range = ConfigError::Range { field, expected: NODE };
    let parsed = reqwest::Url::parse(url).map_err(|_| range.clone())?;
    match parsed.scheme() {
        "http" | "https" => {}
        #[cfg(feature = "ws")]
        "ws" | "wss" => {
            x402_http::service::install_tls();
            let node = crate::ws::WsNode::new(url);
            return Ok(Node { client: node.client(), ws: Some(node) });
        }
        _ => return Err(range),
    }
    let url = parsed;
    let client = http_client(Duration::from_secs(5))?;
    let client = RpcClient::new(Http::with_client(client, url), false);
    Ok(Node {
        client,
        #[cfg(feature = "ws")]
        ws: None,
    })
}

/// Makes a client that waits `timeout` for an answer and follows no redirect.
pub(crate) fn http_client(timeout: Duration) -> Result<reqwest::Client, ConfigError> {
    x402_http::service::install_tls();
    let builder = reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
    builder.build().map_err(|error| ConfigError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use x402_evm::chain::RpcChain;
    use x402_types::ChainId;

    use super::*;

    #[tokio::test]
    async fn a_key_in_the_url_of_a_node_stays_out_of_faults() {
        let client = node("network.rpc", "http://127.0.0.1:9/v2/VERYSECRETKEY").unwrap().client;
        let fault = RpcChain::new(client, ChainId::eip155(1), 0).check_network().await.unwrap_err();
        assert!(!fault.to_string().contains("VERYSECRETKEY"), "{fault}");
    }
}
