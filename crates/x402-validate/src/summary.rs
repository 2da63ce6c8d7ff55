//! The offers of a document, entry by entry.

use serde::Serialize;
use serde_json::Value;

use crate::caip2::Caip2;
use crate::report::Report;
use crate::token::Token;
use crate::{Registry, amount};

/// One entry of `accepts`, with the registry's data about it. Fields that are absent or not text are null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Summary {
    /// The endpoint of a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The index of the entry in `accepts`.
    pub index: usize,
    /// The payment scheme.
    pub scheme: Option<String>,
    /// The CAIP-2 identifier.
    pub network: Option<String>,
    /// The network's display name, for example `Base Sepolia`.
    pub network_name: Option<String>,
    /// The namespace: `eip155`, `solana`, …
    pub network_type: Option<String>,
    /// The recipient's address.
    pub pay_to: Option<String>,
    /// The amount in atomic units.
    pub amount: Option<String>,
    /// The token's address.
    pub asset: Option<String>,
    /// The token's symbol, for example `USDC`.
    pub asset_symbol: Option<String>,
    /// The number of decimal places of `amount`.
    pub asset_decimals: Option<u8>,
    /// The amount for people, for example `0.01 USDC`.
    pub human_amount: Option<String>,
}

/// Summarises a linted document, from its version 2 form.
#[must_use]
pub fn summary(report: &Report, registry: &Registry) -> Vec<Summary> {
    let Some(document) = &report.normalized else { return Vec::new() };
    match document.get("endpoints").and_then(Value::as_object) {
        Some(endpoints) => {
            endpoints.iter().flat_map(|(name, document)| entries(Some(name), document, registry)).collect()
        }
        None => entries(None, document, registry).collect(),
    }
}

fn entries<'v>(
    endpoint: Option<&'v str>,
    document: &'v Value,
    registry: &'v Registry,
) -> impl Iterator<Item = Summary> + use<'v> {
    let accepts = document.get("accepts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    accepts.iter().enumerate().map(move |(index, entry)| one(endpoint, index, entry, registry))
}

fn one(endpoint: Option<&str>, index: usize, entry: &Value, registry: &Registry) -> Summary {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let (network, address, amount) = (text("network"), text("asset"), text("amount"));
    // A token that the registry leaves out may be one that every client knows.
    let asset = network.zip(address).and_then(|(network, address)| {
        let own = registry.asset(network, address).map(|asset| (asset.symbol.to_string(), asset.decimals));
        own.or_else(|| Token::find(network, address).map(|token| (token.symbol.to_owned(), token.decimals)))
    });
    let human = asset.as_ref().zip(amount.and_then(amount::digits));
    Summary {
        endpoint: endpoint.map(str::to_owned),
        index,
        scheme: text("scheme").map(str::to_owned),
        network: network.map(str::to_owned),
        network_name: network.and_then(|id| registry.network(id)).map(|network| network.name.clone().into_owned()),
        network_type: network.and_then(Caip2::parse).map(|id| id.namespace().to_owned()),
        pay_to: text("payTo").map(str::to_owned),
        amount: amount.map(str::to_owned),
        asset: address.map(str::to_owned),
        asset_symbol: asset.as_ref().map(|(symbol, _)| symbol.clone()),
        asset_decimals: asset.as_ref().map(|(_, decimals)| *decimals),
        human_amount: human
            .map(|((symbol, decimals), digits)| format!("{} {symbol}", amount::human(digits, *decimals))),
    }
}
