//! Networks as the dialect writes them, `chain:net:env`, and [CAIP-2](https://chainagnostic.org/CAIPs/caip-2).

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ChainId, Malformed};

/// A network such as `evm:base:sepolia`: three parts, none of them empty. Any such name can be parsed; [`Networks`]
/// maps the known ones to CAIP-2.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(Box<str>);

impl Network {
    /// The grammar that a string must match.
    pub const EXPECTED: &'static str = "a network of three parts such as `evm:base:sepolia`";

    /// Returns the text as it was received.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Network {
    type Err = Malformed;

    fn from_str(s: &str) -> Result<Self, Malformed> {
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if s.len() <= 128 && s.split(':').count() == 3 && s.split(':').all(word) {
            Ok(Self(s.into()))
        } else {
            Err(Malformed::new(Self::EXPECTED))
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::parsed::deserialize(deserializer, Self::EXPECTED)
    }
}

/// The networks known by default, with their chain numbers.
pub const NETWORKS: &[(&str, u64)] = &[
    ("evm:base:mainnet", 8453),
    ("evm:base:sepolia", 84532),
    ("evm:polygon:mainnet", 137),
    ("evm:polygon:amoy", 80002),
    ("evm:avalanche:mainnet", 43114),
    ("evm:avalanche:fuji", 43113),
    ("evm:ethereum:mainnet", 1),
    ("evm:ethereum:sepolia", 11_155_111),
];

/// The mapping between the dialect's names and CAIP-2: the default table, and what a configuration adds.
#[derive(Debug, Clone, Default)]
pub struct Networks {
    added: Vec<(Network, ChainId)>,
}

/// The error for a name or a network that is already mapped to something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a new name and network, but `{name}` or {chain} is already in the table of networks")]
pub struct NetworkTaken {
    /// The name that was to be added.
    pub name: Network,
    /// The network that was to be added.
    pub chain: ChainId,
}

impl Networks {
    /// Adds a network.
    ///
    /// # Errors
    /// The name or the network is already in the table: the mapping must be one to one.
    pub fn add(&mut self, name: Network, chain: ChainId) -> Result<(), NetworkTaken> {
        if self.caip2(&name).is_some() || self.name(chain).is_some() {
            return Err(NetworkTaken { name, chain });
        }
        self.added.push((name, chain));
        Ok(())
    }

    /// Looks up the network of a name: `evm:base:sepolia` -> `eip155:84532`.
    #[must_use]
    pub fn caip2(&self, name: &Network) -> Option<ChainId> {
        let known = NETWORKS.iter().find(|(known, _)| *known == name.as_str());
        let added = || self.added.iter().find(|(added, _)| added == name);
        known.map(|(_, chain)| ChainId::eip155(*chain)).or_else(|| added().map(|(_, chain)| *chain))
    }

    /// Looks up the name of a network: `eip155:84532` -> `evm:base:sepolia`.
    #[must_use]
    pub fn name(&self, chain: ChainId) -> Option<Network> {
        let known = chain.eip155_chain().and_then(|number| NETWORKS.iter().find(|(_, known)| *known == number));
        let added = || self.added.iter().find(|(_, added)| *added == chain);
        known.and_then(|(name, _)| name.parse().ok()).or_else(|| added().map(|(name, _)| name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_maps_both_ways() {
        let networks = Networks::default();
        for (name, caip2, simple) in [
            ("evm:base:mainnet", "eip155:8453", "base"),
            ("evm:base:sepolia", "eip155:84532", "base-sepolia"),
            ("evm:polygon:mainnet", "eip155:137", "polygon"),
            ("evm:polygon:amoy", "eip155:80002", "polygon-amoy"),
            ("evm:avalanche:mainnet", "eip155:43114", "avalanche"),
            ("evm:avalanche:fuji", "eip155:43113", "avalanche-fuji"),
            ("evm:ethereum:mainnet", "eip155:1", "ethereum"),
            ("evm:ethereum:sepolia", "eip155:11155111", "sepolia"),
        ] {
            let (name, chain): (Network, ChainId) = (name.parse().unwrap(), caip2.parse().unwrap());
            assert_eq!(networks.caip2(&name), Some(chain));
            assert_eq!(networks.name(chain), Some(name));
            assert_eq!(crate::networks::by_name(simple), Some(chain));
        }
        assert_eq!(NETWORKS.len(), 8);
        assert_eq!(networks.caip2(&"evm:BASE:mainnet".parse().unwrap()), None);
    }

    #[test]
    fn additions_map_both_ways_and_shadow_nothing() {
        let mut networks = Networks::default();
        let (name, chain): (Network, ChainId) = ("evm:local:dev".parse().unwrap(), ChainId::eip155(31337));
        networks.add(name.clone(), chain).unwrap();
        assert_eq!((networks.caip2(&name), networks.name(chain)), (Some(chain), Some(name.clone())));
        assert!(networks.add(name, ChainId::eip155(5)).is_err());
        assert!(networks.add("evm:other:dev".parse().unwrap(), chain).is_err());
        let base = "evm:base:mainnet".parse().unwrap();
        assert_eq!(
            networks.add(base, ChainId::eip155(6)),
            Err(NetworkTaken { name: "evm:base:mainnet".parse().unwrap(), chain: ChainId::eip155(6) })
        );
    }

    #[test]
    fn other_forms_are_refused() {
        for s in [
            "",
            "base",
            "eip155:8453",
            "evm:base",
            "evm::sepolia",
            "evm:base:",
            ":base:x",
            "a:b:c:d",
            "evm:ba se:x",
            "evm:b\n:x",
        ] {
            assert!(s.parse::<Network>().is_err(), "{s:?}");
        }
    }
}
