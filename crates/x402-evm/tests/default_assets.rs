//! The default assets, compared with the tables of two published SDKs, and the offers that a price in dollars makes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;

use serde_json::Value;
use x402_evm::exact::Exact;
use x402_evm::permit2::ByPermit2;
use x402_types::{Assets, ChainId, TransferMethod};

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../x402-testkit/vectors/default-assets.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A row as text: network, address, symbol, name, version, decimals, method, EIP-2612.
fn row(network: &str, row: &Value, method: &str, permits: &str) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let method = row[method].as_str().unwrap_or("eip3009");
    // What a token with EIP-3009 has of EIP-2612 stands in no table.
    let permits = method == "eip3009" || row[permits] == true;
    let (asset, symbol, name, version) = (text("asset"), text("symbol"), text("name"), text("version"));
    format!("{network} {asset} {symbol} {name:?} {version} {} {method} {permits}", row["decimals"])
}

fn ours() -> BTreeSet<String> {
    let assets = Assets::default();
    let evm = assets.iter().filter(|asset| asset.network.namespace() == "eip155");
    evm.map(|asset| {
        let method = match asset.transfer {
            TransferMethod::Eip3009 => "eip3009",
            TransferMethod::Permit2 => "permit2",
        };
        format!(
            "{} {} {} {:?} {} {} {method} {}",
            asset.network, asset.address, asset.symbol, asset.name, asset.version, asset.decimals, asset.permits
        )
    })
    .collect()
}

#[test]
fn the_table_is_that_of_the_published_sdks() {
    let vectors = vectors();
    let table = |sdk: &str, method: &str, permits: &str| -> BTreeSet<String> {
        let rows = vectors[sdk].as_array().unwrap().iter();
        rows.map(|entry| row(entry["network"].as_str().unwrap(), entry, method, permits)).collect()
    };
    let typescript = table("typescript", "assetTransferMethod", "supportsEip2612");
    let python = table("python", "asset_transfer_method", "supports_eip2612");
    assert_eq!((typescript.len(), python.len()), (28, 31));
    assert!(python.is_superset(&typescript));
    assert_eq!(ours(), python);
}

/// One cent on each network: the same asset, amount and members as the TypeScript SDK asks for, by whichever method the
/// asset moves.
#[test]
fn a_price_in_dollars_is_what_the_sdk_asks_for_on_every_network() {
    let vectors = vectors();
    let mut networks = 0;
    for entry in vectors["typescript"].as_array().unwrap() {
        let expected = &entry["requirements"];
        if expected.is_null() {
            continue;
        }
        networks += 1;
        let network: ChainId = entry["network"].as_str().unwrap().parse().unwrap();
        let pay_to = expected["payTo"].as_str().unwrap().parse().unwrap();
        let offer = Exact::default().requirements(network, pay_to, "$0.01".parse().unwrap()).unwrap();
        assert_eq!(serde_json::to_value(offer.terms.to_v2()).unwrap(), *expected, "{network}");
        // A named token is offered alike.
        let token = expected["asset"].as_str().unwrap().parse().unwrap();
        let named = Exact::default().requirements_in(network, token, pay_to, "$0.01".parse().unwrap()).unwrap();
        assert_eq!(named.terms, offer.terms, "{network}");
        assert!(ByPermit2::default().exact(network, pay_to, "$0.01".parse().unwrap()).is_ok(), "{network}");
    }
    assert_eq!(networks, 26);
}

/// The networks that only the Python SDK knows, by its table.
#[test]
fn a_price_in_dollars_on_the_other_networks() {
    let pay_to = "0x90F79bf6EB2c4f870365E785982E1f101E93b906".parse().unwrap();
    for entry in vectors()["python"].as_array().unwrap() {
        let network: ChainId = entry["network"].as_str().unwrap().parse().unwrap();
        let offer = Exact::default().requirements(network, pay_to, "$1".parse().unwrap()).unwrap();
        let decimals = usize::try_from(entry["decimals"].as_u64().unwrap()).unwrap();
        assert_eq!(offer.terms.amount.to_string(), format!("1{}", "0".repeat(decimals)), "{network}");
    }
}
