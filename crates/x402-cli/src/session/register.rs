//! `x402 session register`: sends a session key to a facilitator, so that payments need only its hash.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use x402_erc4337::session::zerodev::Approval;
use x402_types::{ChainId, EvmAddress};
use zeroize::Zeroizing;

use super::{Failure, input, show};

/// Registers a session key at a facilitator; prints the hash by which payments refer to it. A bearer token for the
/// facilitator is read from the environment variable `X402_FACILITATOR_TOKEN`.
#[derive(Debug, clap::Args)]
pub(crate) struct Register {
    /// The facilitator's address.
    #[arg(long, value_name = "URL")]
    facilitator: String,
    /// The network of the key's account, CAIP-2.
    #[arg(long, value_name = "NETWORK")]
    network: ChainId,
    /// Removes the key instead.
    #[arg(long)]
    remove: bool,
    /// The serialized key; `-` or nothing reads standard input.
    file: Option<PathBuf>,
}

pub(super) async fn run(args: &Register) -> Result<(), Failure> {
    let text = input(args.file.as_ref())?;
    let data = text.trim();
    let approval = Approval::read(data)?;
    let body = json!({
        "network": args.network, "from": EvmAddress::from(approval.account),
        "sessionKeysProvider": "zerodev", "data": data,
    });
    let unreachable = |error: reqwest::Error| Failure::Unreadable(format!("the facilitator: {error}"));
    x402_http::service::install_tls();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().map_err(unreachable)?;
    let url = format!("{}/session-keys", args.facilitator.trim_end_matches('/'));
    let mut request = if args.remove { client.delete(url) } else { client.post(url) };
    if let Ok(token) = std::env::var("X402_FACILITATOR_TOKEN") {
        request = request.bearer_auth(Zeroizing::new(token).as_str());
    }
    let response = request.json(&body).send().await.map_err(unreachable)?;
    let status = response.status();
    if status.is_success() {
        return show(&approval.hash().to_string());
    }
    let said: Value = response.json().await.unwrap_or_default();
    let text = |pointer: &str| said.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    Err(Failure::Refused(format!("HTTP {}: {} {}", status.as_u16(), text("/error/code"), text("/error/message"))))
}
