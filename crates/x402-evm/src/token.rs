//! The known tokens, each with its pinned EIP-712 domain.

use alloy_primitives::{Address, U256};
use x402_types::{Asset, Assets, ChainId, EvmAddress, Terms, TransferMethod};

use crate::eip712::DomainSeparator;

/// An ERC-20 token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Token {
    /// The network of the token.
    pub network: ChainId,
    /// The number in the network's name: EIP-155's chain id.
    pub chain_id: u64,
    /// The address of the contract.
    pub address: Address,
    /// The `name` and `version` of its EIP-712 domain with their separator; `None` if the configuration lacks them and
    /// they are read from the chain.
    pub domain: Option<Domain>,
    /// The number of decimal places.
    pub decimals: u8,
    /// Whether it has EIP-2612's `permit`.
    pub permits: bool,
    /// Whether one unit is one US dollar.
    pub dollar: bool,
}

/// The EIP-712 domain of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Domain {
    /// The `name` in the domain.
    pub name: Box<str>,
    /// The `version` in the domain.
    pub version: Box<str>,
    /// The separator, computed once.
    pub separator: DomainSeparator,
}

impl Domain {
    /// Creates the domain of a token with this name and version.
    #[must_use]
    pub fn new(name: &str, version: &str, chain_id: u64, token: Address) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            separator: DomainSeparator::new(name, version, chain_id, token),
        }
    }
}

impl Token {
    /// Converts an asset to a token with EIP-3009, if it is one.
    #[must_use]
    pub fn of(asset: &Asset) -> Option<Self> {
        if asset.transfer == TransferMethod::Eip3009 { Self::of_any(asset) } else { None }
    }

    /// Converts an asset to a token, whatever its method of transfer, if its network is an EVM chain.
    #[must_use]
    pub fn of_any(asset: &Asset) -> Option<Self> {
        let chain_id = asset.network.eip155_chain()?;
        let address = asset.evm_address()?;
        let pinned = !asset.name.is_empty() && !asset.version.is_empty();
        Some(Self {
            network: asset.network,
            chain_id,
            address,
            domain: pinned.then(|| Domain::new(&asset.name, &asset.version, chain_id, address)),
            decimals: asset.decimals,
            permits: asset.permits,
            dollar: asset.dollar,
        })
    }

    /// Returns one unit in atomic units.
    #[must_use]
    pub fn unit(&self) -> Option<U256> {
        U256::from(10).checked_pow(U256::from(self.decimals))
    }
}

/// The known tokens; no others are signed for or settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens(Vec<Token>);

impl Default for Tokens {
    fn default() -> Self {
        Self::new(&Assets::default())
    }
}

impl Tokens {
    /// Selects the assets that are tokens with EIP-3009, in their order.
    #[must_use]
    pub fn new(assets: &Assets) -> Self {
        Self(assets.iter().filter_map(Token::of).collect())
    }

    /// Selects the assets that are tokens of EVM chains, in their order: Permit2 moves every ERC-20.
    #[must_use]
    pub fn for_permit2(assets: &Assets) -> Self {
        Self(assets.iter().filter_map(Token::of_any).collect())
    }

    /// Keeps only those of one network.
    #[must_use]
    pub fn on(mut self, network: ChainId) -> Self {
        self.0.retain(|token| token.network == network);
        self
    }

    /// Finds the token at an address, compared by value.
    #[must_use]
    pub fn find(&self, network: ChainId, address: Address) -> Option<&Token> {
        self.0.iter().find(|token| token.address == address && token.network == network)
    }

    /// Returns the token of a price in dollars on a network: the first listed.
    #[must_use]
    pub fn dollar(&self, network: ChainId) -> Option<&Token> {
        self.0.iter().find(|token| token.dollar && token.network == network)
    }

    /// Finds the token that the terms name.
    #[must_use]
    pub fn of(&self, terms: &Terms) -> Option<&Token> {
        let address = terms.asset.parse::<EvmAddress>().ok()?.try_into().ok()?;
        self.find(terms.network, address)
    }

    /// Iterates over all tokens.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.0.iter()
    }
}
