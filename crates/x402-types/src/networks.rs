//! Networks and their simple names: `specs/x402-config-rules.md` and the SDKs' v1 table (TypeScript 2.27, Python 2.25).

use crate::ChainId;

/// A network of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkRow {
    /// The CAIP-2 identifier.
    pub id: &'static str,
    /// The display name.
    pub name: &'static str,
    /// The simple name of v1, if the network has one.
    pub simple: Option<&'static str>,
    /// Whether the network is a testnet, whose money is worth nothing.
    pub testnet: bool,
}

macro_rules! networks {
    ($($id:literal $name:literal $simple:tt $kind:ident)*) => {
        /// The networks known by default.
        pub const TABLE: &[NetworkRow] = &[
            $( NetworkRow { id: $id, name: $name, simple: networks!(@simple $simple), testnet: networks!(@kind $kind) }, )*
        ];
    };
    (@simple -) => { None };
    (@simple $name:literal) => { Some($name) };
    (@kind main) => { false };
    (@kind test) => { true };
}

networks! {
    "eip155:8453" "Base" "base" main
    "eip155:84532" "Base Sepolia" "base-sepolia" test
    "eip155:43114" "Avalanche C-Chain" "avalanche" main
    "eip155:43113" "Avalanche Fuji" "avalanche-fuji" test
    "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp" "Solana Mainnet" "solana" main
    "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1" "Solana Devnet" "solana-devnet" test
    "solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z" "Solana Testnet" "solana-testnet" test
    "stellar:pubnet" "Stellar Mainnet" "stellar" main
    "stellar:testnet" "Stellar Testnet" "stellar-testnet" test
    "aptos:1" "Aptos Mainnet" "aptos" main
    "aptos:2" "Aptos Testnet" - test
    "eip155:1" "Ethereum" "ethereum" main
    "eip155:11155111" "Ethereum Sepolia" "sepolia" test
    "eip155:137" "Polygon" "polygon" main
    "eip155:80002" "Polygon Amoy" "polygon-amoy" test
    "eip155:42161" "Arbitrum One" - main
    "eip155:421614" "Arbitrum Sepolia" - test
    "eip155:2741" "Abstract" "abstract" main
    "eip155:11124" "Abstract Testnet" "abstract-testnet" test
    "eip155:4689" "IoTeX" "iotex" main
    "eip155:1329" "Sei" "sei" main
    "eip155:1328" "Sei Testnet" "sei-testnet" test
    "eip155:3338" "peaq" "peaq" main
    "eip155:1514" "Story" "story" main
    "eip155:41923" "EDU Chain" "educhain" main
    "eip155:324705682" "SKALE Base Sepolia" "skale-base-sepolia" test
    "eip155:4326" "MegaETH" "megaeth" main
    "eip155:143" "Monad" "monad" main
    "eip155:10143" "Monad Testnet" "monad-testnet" test
    "eip155:988" "Stable" "stable" main
    "eip155:2201" "Stable Testnet" "stable-testnet" test
    "eip155:42220" "Celo" "celo" main
    "eip155:11142220" "Celo Sepolia" - test
    "eip155:14" "Flare" "flare" main
    "eip155:31612" "Mezo" - main
    "eip155:31611" "Mezo Testnet" - test
    "eip155:723487" "Radius" - main
    "eip155:72344" "Radius Testnet" - test
    "eip155:36900" "ADI" - main
    "eip155:190415" "HPP" - main
    "eip155:181228" "HPP Sepolia" - test
    "eip155:50" "XDC" - main
    "eip155:51" "XDC Apothem" - test
    "eip155:38833" "Igra" - main
    "eip155:5042" "Arc" - main
    "eip155:5042002" "Arc Testnet" - test
}

/// Finds a network in the table.
#[must_use]
pub fn find(network: ChainId) -> Option<&'static NetworkRow> {
    TABLE.iter().find(|row| row.id == network.as_str())
}

/// Finds the network of a simple name: `base` -> `eip155:8453`.
#[must_use]
pub fn by_name(simple: &str) -> Option<ChainId> {
    TABLE.iter().find(|row| row.simple == Some(simple))?.id.parse().ok()
}

/// Returns the simple name of a network, as version 1 writes it.
#[must_use]
pub fn legacy_name(network: ChainId) -> Option<&'static str> {
    find(network)?.simple
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_caip2_and_stands_once() {
        for (i, row) in TABLE.iter().enumerate() {
            let id: ChainId = row.id.parse().unwrap();
            assert_eq!(find(id), Some(row));
            assert!(TABLE.iter().skip(i + 1).all(|other| other.id != row.id));
            if let Some(simple) = row.simple {
                assert_eq!(by_name(simple), Some(id), "{simple}");
            }
        }
    }
}
