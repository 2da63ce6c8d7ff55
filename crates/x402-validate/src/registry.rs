//! The document's tables "Known Networks", "Known Assets" and "Simple Name to CAIP-2 Mapping", and additions to them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::Namespace;
use crate::caip2::Caip2;

type Text = Cow<'static, str>;

/// A network of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNetwork {
    /// The display name: `Base Sepolia`.
    pub name: Cow<'static, str>,
    /// Whether the network is a testnet, whose money is worth nothing.
    pub testnet: bool,
}

/// A token of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAsset {
    /// The address, as the network writes it.
    pub address: Cow<'static, str>,
    /// The symbol, for example `USDC`.
    pub symbol: Cow<'static, str>,
    /// The number of decimal places of an amount.
    pub decimals: u8,
}

/// The known networks, assets and simple names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    networks: BTreeMap<Text, KnownNetwork>,
    assets: BTreeMap<Text, Vec<KnownAsset>>,
    simple: BTreeMap<Text, Text>,
}

/// The document's networks.
pub const NETWORKS: &[(&str, &str, bool)] = &[
    ("eip155:8453", "Base", false),
    ("eip155:84532", "Base Sepolia", true),
    ("eip155:43114", "Avalanche C-Chain", false),
    ("eip155:43113", "Avalanche Fuji", true),
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "Solana Mainnet", false),
    ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "Solana Devnet", true),
    ("solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z", "Solana Testnet", true),
    ("stellar:pubnet", "Stellar Mainnet", false),
    ("stellar:testnet", "Stellar Testnet", true),
    ("aptos:1", "Aptos Mainnet", false),
    ("aptos:2", "Aptos Testnet", true),
];

/// The document's assets: network, address, symbol, decimals.
pub const ASSETS: &[(&str, &str, &str, u8)] = &[
    ("eip155:8453", "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", "USDC", 6),
    ("eip155:84532", "0x036cbd53842c5426634e7929541ec2318f3dcf7e", "USDC", 6),
    ("eip155:43114", "0xb97ef9ef8734c71904d8002f8b6bc66dd9c48a6e", "USDC", 6),
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "USDC", 6),
];

/// The document's simple names.
pub const SIMPLE_NAMES: &[(&str, &str)] = &[
    ("base", "eip155:8453"),
    ("base-sepolia", "eip155:84532"),
    ("avalanche", "eip155:43114"),
    ("avalanche-fuji", "eip155:43113"),
    ("solana", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"),
    ("solana-devnet", "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"),
    ("solana-testnet", "solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z"),
    ("stellar", "stellar:pubnet"),
    ("stellar-testnet", "stellar:testnet"),
    ("aptos", "aptos:1"),
];

impl Default for Registry {
    fn default() -> Self {
        Self::document()
    }
}

impl Registry {
    /// Creates an empty registry.
    #[must_use]
    pub const fn empty() -> Self {
        Self { networks: BTreeMap::new(), assets: BTreeMap::new(), simple: BTreeMap::new() }
    }

    /// Creates a registry with exactly the document's tables.
    #[must_use]
    pub fn document() -> Self {
        let mut registry = Self::empty();
        for (id, name, testnet) in NETWORKS {
            registry.add_network(*id, *name, *testnet);
        }
        for (network, address, symbol, decimals) in ASSETS {
            registry.add_asset(*network, *address, *symbol, *decimals);
        }
        for (name, id) in SIMPLE_NAMES {
            registry.add_simple_name(name, *id);
        }
        registry
    }

    /// Creates a registry with the document's tables and the larger ones of `x402-types`. If both have a row, the
    /// document's takes precedence.
    #[must_use]
    pub fn all() -> Self {
        let mut registry = Self::document();
        for row in x402_types::networks::TABLE {
            if registry.network(row.id).is_none() {
                registry.add_network(row.id, row.name, row.testnet);
            }
            if let Some(simple) = row.simple.filter(|simple| registry.simple_name(simple).is_none()) {
                registry.add_simple_name(simple, row.id);
            }
        }
        for asset in x402_types::assets::TABLE {
            let (network, address, symbol, decimals) = (asset.0, asset.1, asset.2, asset.5);
            if registry.asset(network, address).is_none() {
                registry.add_asset(network, address, symbol, decimals);
            }
        }
        registry
    }

    /// Adds or replaces a network.
    pub fn add_network(&mut self, id: impl Into<Text>, name: impl Into<Text>, testnet: bool) -> &mut Self {
        self.networks.insert(id.into(), KnownNetwork { name: name.into(), testnet });
        self
    }

    /// Adds or replaces an asset of a network.
    pub fn add_asset(
        &mut self,
        network: impl Into<Text>,
        address: impl Into<Text>,
        symbol: impl Into<Text>,
        decimals: u8,
    ) -> &mut Self {
        let (network, address) = (network.into(), address.into());
        let asset = KnownAsset { address, symbol: symbol.into(), decimals };
        let caseless = caseless(&network);
        let assets = self.assets.entry(network).or_default();
        match assets.iter_mut().find(|known| same(&known.address, &asset.address, caseless)) {
            Some(known) => *known = asset,
            None => assets.push(asset),
        }
        self
    }

    /// Adds or replaces a simple name; its case does not matter.
    pub fn add_simple_name(&mut self, name: &str, network: impl Into<Text>) -> &mut Self {
        self.simple.insert(name.to_ascii_lowercase().into(), network.into());
        self
    }

    /// Returns the network of a CAIP-2 identifier.
    #[must_use]
    pub fn network(&self, id: &str) -> Option<&KnownNetwork> {
        self.networks.get(id)
    }

    /// Returns the asset of an address; hex addresses are matched in any case.
    #[must_use]
    pub fn asset(&self, network: &str, address: &str) -> Option<&KnownAsset> {
        let caseless = caseless(network);
        self.assets.get(network)?.iter().find(|known| same(&known.address, address, caseless))
    }

    /// Returns the asset of a symbol, for a fix.
    pub(crate) fn asset_by_symbol(&self, network: &str, symbol: &str) -> Option<&KnownAsset> {
        self.assets.get(network)?.iter().find(|known| known.symbol.eq_ignore_ascii_case(symbol))
    }

    /// Returns the CAIP-2 identifier of a simple name, in any case.
    #[must_use]
    pub fn simple_name(&self, name: &str) -> Option<&str> {
        // Every name is shorter, so a longer text is not copied just to find that out.
        if name.len() > 64 {
            return None;
        }
        self.simple.get(name.to_ascii_lowercase().as_str()).map(|id| &**id)
    }

    /// Iterates over the networks and their identifiers.
    pub fn networks(&self) -> impl Iterator<Item = (&str, &KnownNetwork)> {
        self.networks.iter().map(|(id, network)| (&**id, network))
    }

    /// Iterates over the simple names and their identifiers.
    pub fn simple_names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.simple.iter().map(|(name, id)| (&**name, &**id))
    }
}

fn caseless(network: &str) -> bool {
    let namespace = Caip2::parse(network).and_then(|id| Namespace::known(id.namespace()));
    matches!(namespace, Some(Namespace::Eip155 | Namespace::Aptos))
}

fn same(one: &str, other: &str, caseless: bool) -> bool {
    if caseless { one.eq_ignore_ascii_case(other) } else { one == other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_knows_its_tables_and_nothing_else() {
        let registry = Registry::document();
        assert_eq!(registry.networks().count(), 11);
        assert_eq!(registry.simple_names().count(), 10);
        assert_eq!(registry.assets.values().map(Vec::len).sum::<usize>(), 4);
        assert_eq!(registry.network("eip155:43113").map(|n| (&*n.name, n.testnet)), Some(("Avalanche Fuji", true)));
        assert_eq!(registry.network("eip155:1"), None);
        assert_eq!(registry.simple_name("Base-Sepolia"), Some("eip155:84532"));
        assert_eq!(registry.simple_name("aptos-testnet"), None, "the document has no such name");
        assert!(registry.asset("eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913").is_some());
        assert!(registry.asset("eip155:43113", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913").is_none());
        let usdc = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
        assert!(registry.asset("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", usdc).is_some());
        assert!(registry.asset("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", &usdc.to_lowercase()).is_none());
    }

    #[test]
    fn everything_of_the_document_stays_when_the_larger_tables_are_added() {
        let (document, all) = (Registry::document(), Registry::all());
        for (id, network) in document.networks() {
            assert_eq!(all.network(id), Some(network));
        }
        for (name, id) in document.simple_names() {
            assert_eq!(all.simple_name(name), Some(id));
        }
        assert_eq!(all.network("eip155:137").map(|n| &*n.name), Some("Polygon"));
        assert_eq!(all.simple_name("polygon"), Some("eip155:137"));
        assert!(all.asset("eip155:137", "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359").is_some());
    }

    #[test]
    fn rows_can_be_added_and_replaced() {
        let mut registry = Registry::empty();
        registry.add_network("eip155:31337", "Anvil", true).add_simple_name("Anvil", "eip155:31337");
        registry.add_asset("eip155:31337", "0xAA", "TOK", 18).add_asset("eip155:31337", "0xaa", "TWO", 2);
        assert_eq!(registry.simple_name("anvil"), Some("eip155:31337"));
        assert_eq!(registry.asset("eip155:31337", "0xAa").map(|a| &*a.symbol), Some("TWO"));
        assert_eq!(registry.asset_by_symbol("eip155:31337", "TOK"), None);
    }
}
