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

/// Makes a client for a node's URL. It waits 5 s for an answer.
pub(crate) fn node(field: &'static str, url: &str) -> Result<RpcClient, ConfigError> {
    let range = ConfigError::Range { field, expected: "an http or https URL" };
    let url = reqwest::Url::parse(url).map_err(|_| range.clone())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(range);
    }
    let client = http_client(Duration::from_secs(5))?;
    Ok(RpcClient::new(Http::with_client(client, url), false))
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
        let client = node("network.rpc", "http://127.0.0.1:9/v2/VERYSECRETKEY").unwrap();
        let fault = RpcChain::new(client, ChainId::eip155(1), 0).check_network().await.unwrap_err();
        assert!(!fault.to_string().contains("VERYSECRETKEY"), "{fault}");
    }
}
