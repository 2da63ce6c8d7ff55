//! Every table of the document, row by row.

use serde_json::{Value, json};
use x402_validate::{Code, Options, Registry, lint};

/// `x402-config-rules.md`, "Known Networks (CAIP-2)", "Known Assets", "Simple Name to CAIP-2 Mapping", verbatim.
const NETWORKS: &str = "
| `eip155:8453` | Base | No |
| `eip155:84532` | Base Sepolia | Yes |
| `eip155:43114` | Avalanche C-Chain | No |
| `eip155:43113` | Avalanche Fuji | Yes |
| `solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp` | Solana Mainnet | No |
| `solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1` | Solana Devnet | Yes |
| `solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z` | Solana Testnet | Yes |
| `stellar:pubnet` | Stellar Mainnet | No |
| `stellar:testnet` | Stellar Testnet | Yes |
| `aptos:1` | Aptos Mainnet | No |
| `aptos:2` | Aptos Testnet | Yes |
";
const ASSETS: &str = "
| `eip155:8453` | `0x833589fcd6edb6e08f4c7c32d4f71b54bda02913` | USDC | 6 |
| `eip155:84532` | `0x036cbd53842c5426634e7929541ec2318f3dcf7e` | USDC | 6 |
| `eip155:43114` | `0xb97ef9ef8734c71904d8002f8b6bc66dd9c48a6e` | USDC | 6 |
| `solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp` | `EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v` | USDC | 6 |
";
const SIMPLE_NAMES: &str = "
| `base` | `eip155:8453` |
| `base-sepolia` | `eip155:84532` |
| `avalanche` | `eip155:43114` |
| `avalanche-fuji` | `eip155:43113` |
| `solana` | `solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp` |
| `solana-devnet` | `solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1` |
| `solana-testnet` | `solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z` |
| `stellar` | `stellar:pubnet` |
| `stellar-testnet` | `stellar:testnet` |
| `aptos` | `aptos:1` |
";

fn rows(table: &'static str) -> Vec<Vec<&'static str>> {
    let cell = |cell: &'static str| cell.trim().trim_matches('`');
    table
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.trim_matches('|').split('|').map(cell).collect())
        .collect()
}

fn document(network: &str, asset: &str, pay_to: &str) -> Value {
    json!({
        "x402Version": 2,
        "resource": { "url": "https://api.example.com/" },
        "accepts": [{
            "scheme": "exact", "network": network, "amount": "1", "asset": asset, "payTo": pay_to, "maxTimeoutSeconds": 60
        }]
    })
}

/// An asset and a payee that have the form of the namespace.
fn addresses(network: &str) -> (&'static str, &'static str) {
    match network.split_once(':').unwrap().0 {
        "eip155" => ("0x036CbD53842c5426634e7929541eC2318f3dCF7e", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
        "solana" => ("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),
        "stellar" => ("native", "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN"),
        "aptos" => ("0x1::aptos_coin::AptosCoin", "0x1"),
        other => panic!("{other}"),
    }
}

#[test]
fn every_network_is_known_by_its_name() {
    let registry = Registry::document();
    let rows = rows(NETWORKS);
    assert_eq!(rows.len(), registry.networks().count());
    for row in rows {
        let network = registry.network(row[0]).unwrap();
        assert_eq!((&*network.name, network.testnet), (row[1], row[2] == "Yes"));
        let (asset, pay_to) = addresses(row[0]);
        let report = lint(&document(row[0], asset, pay_to), &Options::default());
        assert!(report.valid, "{report:?}");
        assert!(!report.has(Code::UnknownNetwork));
        // A payee of the wrong form is refused on every network.
        let report = lint(&document(row[0], asset, "!"), &Options::default());
        assert_eq!(report.errors.len(), 1, "{report:?}");
    }
}

#[test]
fn every_asset_is_known_with_its_symbol_and_decimals() {
    let registry = Registry::document();
    for row in rows(ASSETS) {
        let asset = registry.asset(row[0], row[1]).unwrap();
        assert_eq!((&*asset.symbol, asset.decimals.to_string().as_str()), (row[2], row[3]));
        let report = lint(&document(row[0], row[1], addresses(row[0]).1), &Options::default());
        assert!(report.valid && !report.has(Code::UnknownAsset), "{report:?}");
    }
}

#[test]
fn every_simple_name_is_refused_with_its_identifier() {
    let rows = rows(SIMPLE_NAMES);
    assert_eq!(rows.len(), Registry::document().simple_names().count());
    for row in rows {
        for name in [row[0].to_owned(), row[0].to_uppercase()] {
            let (asset, pay_to) = addresses(row[1]);
            let report = lint(&document(&name, asset, pay_to), &Options::default());
            assert_eq!(report.errors.len(), 1, "{report:?}");
            assert_eq!(report.errors[0].code, Code::InvalidNetworkFormat);
            assert_eq!(report.errors[0].fix.as_deref(), Some(format!("use '{}' instead of '{name}'", row[1]).as_str()));
            assert_eq!(report.normalized.unwrap()["accepts"][0]["network"], row[1]);
        }
    }
}
