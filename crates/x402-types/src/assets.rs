//! Default assets: TypeScript SDK 2.27 `mechanisms/evm/src/defaultAssets.ts`, Python SDK 2.25
//! `mechanisms/evm/default_assets.py` and `specs/x402-config-rules.md`. `crates/x402-evm/tests/default_assets.rs` compares the
//! table with what both packages contain.

use std::borrow::Cow;

#[cfg(feature = "alloy")]
use alloy_primitives::Address;

use crate::{ChainId, EvmAddress};

/// The standard by which a signature authorizes transfers of an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferMethod {
    /// EIP-3009: the token itself checks the signature, in `transferWithAuthorization`.
    Eip3009,
    /// Permit2: Uniswap's allowance contract checks the signature.
    Permit2,
}

/// A token on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asset {
    /// The network of the token.
    pub network: ChainId,
    /// The address of the contract, as it was written.
    pub address: Cow<'static, str>,
    /// The ticker symbol, for display only.
    pub symbol: Cow<'static, str>,
    /// The `name` in the token's EIP-712 domain.
    pub name: Cow<'static, str>,
    /// The `version` in the token's EIP-712 domain.
    pub version: Cow<'static, str>,
    /// The number of decimal places: one unit of the token is 10^`decimals` atomic units.
    pub decimals: u8,
    /// The standard by which a signature authorizes transfers.
    pub transfer: TransferMethod,
    /// Whether the token has EIP-2612's `permit`, by which a payer without an allowance for Permit2 can sign one.
    pub permits: bool,
    /// Whether one unit is worth one US dollar, so that a price in dollars can be expressed in this token.
    pub dollar: bool,
}

impl Asset {
    /// Creates a token from configuration.
    #[must_use]
    pub fn new(
        network: ChainId,
        address: impl Into<EvmAddress>,
        symbol: &str,
        name: &str,
        version: &str,
        decimals: u8,
    ) -> Self {
        let address: EvmAddress = address.into();
        Self {
            network,
            address: address.to_string().into(),
            symbol: symbol.to_owned().into(),
            name: name.to_owned().into(),
            version: version.to_owned().into(),
            decimals,
            transfer: TransferMethod::Eip3009,
            permits: true,
            dollar: false,
        }
    }

    /// Sets whether the token has EIP-2612's `permit`: offers name the token's domain for it.
    #[must_use]
    pub const fn with_permits(mut self, permits: bool) -> Self {
        self.permits = permits;
        self
    }

    /// Sets the standard by which a signature authorizes transfers: EIP-3009 by default.
    #[must_use]
    pub const fn with_transfer(mut self, transfer: TransferMethod) -> Self {
        self.transfer = transfer;
        self
    }

    /// Declares that one unit is worth one US dollar.
    #[must_use]
    pub const fn dollar(mut self) -> Self {
        self.dollar = true;
        self
    }

    /// Returns the contract as an EVM address, if it is one.
    #[cfg(feature = "alloy")]
    #[must_use]
    pub fn evm_address(&self) -> Option<Address> {
        self.address.parse::<EvmAddress>().ok()?.try_into().ok()
    }
}

/// A row of [`TABLE`].
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, u8, TransferMethod);

use TransferMethod::{Eip3009, Permit2};

/// The default assets: network, address, symbol, EIP-712 name, version, decimals, method. A price in dollars means the
/// first asset of its network.
pub const TABLE: &[Row] = &[
    ("eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "USDC", "USD Coin", "2", 6, Eip3009),
    ("eip155:84532", "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC", "USDC", "2", 6, Eip3009),
    ("eip155:1", "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "USDC", "USD Coin", "2", 6, Eip3009),
    ("eip155:43114", "0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E", "USDC", "USD Coin", "2", 6, Eip3009),
    ("eip155:137", "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", "USDC", "USD Coin", "2", 6, Eip3009),
    ("eip155:42161", "0xaf88d065e77c8cC2239327C5EDb3A432268e5831", "USDC", "USD Coin", "2", 6, Eip3009),
    ("eip155:421614", "0x75faf114eafb1BDbe2F0316DF893fd58CE46AA4d", "USDC", "USD Coin", "2", 6, Eip3009),
    ("eip155:143", "0x754704Bc059F8C67012fEd69BC8A327a5aafb603", "USDC", "USDC", "2", 6, Eip3009),
    ("eip155:10143", "0x534b2f3A21130d7a60830c2Df862319e593943A3", "USDC", "USDC", "2", 6, Eip3009),
    ("eip155:4326", "0xFAfDdbb3FC7688494971a79cc65DCa3EF82079E7", "MegaUSD", "MegaUSD", "1", 18, Permit2),
    ("eip155:988", "0x779Ded0c9e1022225f8E0630b35a9b54bE713736", "USDT0", "USDT0", "1", 6, Eip3009),
    ("eip155:2201", "0x78Cf24370174180738C5B8E352B6D14c83a6c9A9", "USDT0", "USDT0", "1", 6, Eip3009),
    ("eip155:31612", "0xdD468A1DDc392dcdbEf6db6e34E89AA338F9F186", "mUSD", "Mezo USD", "1", 18, Permit2),
    ("eip155:31611", "0x118917a40FAF1CD7a13dB0Ef56C86De7973Ac503", "mUSD", "Mezo USD", "1", 18, Permit2),
    ("eip155:723487", "0x33ad9e4BD16B69B5BFdED37D8B5D9fF9aba014Fb", "SBC", "Stable Coin", "1", 6, Permit2),
    ("eip155:72344", "0x33ad9e4BD16B69B5BFdED37D8B5D9fF9aba014Fb", "SBC", "Stable Coin", "1", 6, Permit2),
    ("eip155:36900", "0x9cb8142aEBBcdc60AF7c97Af897A67A8f3CA71C2", "USDC.e", "USDC.e", "2", 6, Eip3009),
    ("eip155:190415", "0x401eCb1D350407f13ba348573E5630B83638E30D", "USDC.e", "Bridged USDC", "2", 6, Eip3009),
    ("eip155:181228", "0x401eCb1D350407f13ba348573E5630B83638E30D", "USDC.e", "Bridged USDC", "2", 6, Eip3009),
    ("eip155:50", "0xfA2958CB79b0491CC627c1557F441eF849Ca8eb1", "USDC", "USDC", "2", 6, Eip3009),
    ("eip155:51", "0xb5AB69F7bBada22B28e79C8FFAECe55eF1c771D4", "USDC", "USDC", "2", 6, Eip3009),
    ("eip155:38833", "0xA5b8BF902b2844dA17d4506cc827F7F1681735E7", "USDC", "USDC", "1", 6, Permit2),
    ("eip155:14", "0xe7cd86e13AC4309349F30B3435a9d337750fC82D", "USDT0", "USD\u{20ae}0", "1", 6, Eip3009),
    ("eip155:42220", "0xcebA9300f2b948710d2653dD7B07f33A8B32118C", "USDC", "USDC", "2", 6, Eip3009),
    ("eip155:42220", "0x48065fbBE25f71C9282ddf5e1cD6D6A887483D5e", "USDT", "Tether USD", "1", 6, Eip3009),
    ("eip155:42220", "0xD2ab3C9A02DBBAB236BfEC45D1d755DF4267F771", "USAT", "Tether America USD", "1", 6, Eip3009),
    ("eip155:11142220", "0x01C5C0122039549AD1493B8220cABEdD739BC44E", "USDC", "USDC", "2", 6, Eip3009),
    ("eip155:1329", "0xe15fC38F6D8c56aF07bbCBe3BAf5708A2Bf42392", "USDC", "USDC", "2", 6, Eip3009),
    ("eip155:1328", "0x4fCF1784B31630811181f670Aea7A7bEF803eaED", "USDC", "USDC", "2", 6, Eip3009),
    ("eip155:5042", "0x3600000000000000000000000000000000000000", "USDC", "USDC", "2", 6, Eip3009),
    ("eip155:5042002", "0x3600000000000000000000000000000000000000", "USDC", "USDC", "2", 6, Eip3009),
    (
        "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
        "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
        "USDC",
        "",
        "",
        6,
        Eip3009,
    ),
    (
        "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
        "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU",
        "USDC",
        "",
        "",
        6,
        Eip3009,
    ),
];

/// The assets of the table that have no `permit`, and are moved by Permit2.
const WITHOUT_PERMIT: &[&str] = &["0xA5b8BF902b2844dA17d4506cc827F7F1681735E7"];

/// The known assets: those of the table, and those that a configuration adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets(Vec<Asset>);

impl Default for Assets {
    /// Creates the list with the assets of the table.
    fn default() -> Self {
        let row = |&(network, address, symbol, name, version, decimals, transfer): &Row| {
            Some(Asset {
                network: network.parse().ok()?,
                address: address.into(),
                symbol: symbol.into(),
                name: name.into(),
                version: version.into(),
                decimals,
                transfer,
                permits: !WITHOUT_PERMIT.contains(&address),
                dollar: true,
            })
        };
        Self(TABLE.iter().filter_map(row).collect())
    }
}

impl Assets {
    /// Creates an empty list.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Adds an asset, or replaces the one with the same address.
    pub fn add(&mut self, asset: Asset) {
        self.0.retain(|old| old.network != asset.network || !old.address.eq_ignore_ascii_case(&asset.address));
        self.0.push(asset);
    }

    /// Finds the asset with this address. EVM addresses are compared by value, others as text.
    #[must_use]
    pub fn find(&self, network: ChainId, address: &str) -> Option<&Asset> {
        let evm = network.namespace() == "eip155";
        self.0.iter().find(|asset| {
            asset.network == network
                && if evm { asset.address.eq_ignore_ascii_case(address) } else { asset.address == address }
        })
    }

    /// Returns the asset in which a price in dollars is paid on a network: the first one listed.
    #[must_use]
    pub fn default_for(&self, network: ChainId) -> Option<&Asset> {
        self.0.iter().find(|asset| asset.network == network && asset.dollar)
    }

    /// Iterates over all assets.
    pub fn iter(&self) -> impl Iterator<Item = &Asset> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_known_network_and_a_right_checksum() {
        assert_eq!(Assets::default().iter().count(), TABLE.len());
        for asset in Assets::default().iter() {
            assert!(crate::networks::find(asset.network).is_some(), "{asset:?}");
            if asset.network.namespace() == "eip155" {
                let address: EvmAddress = asset.address.parse().unwrap();
                assert!(address.checked().is_ok(), "{asset:?}");
            }
        }
    }
}
