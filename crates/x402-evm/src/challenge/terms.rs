//! The terms of x402 v2 for a challenge, which a facilitator understands.

use x402_types::challenge::{Network, Networks};
use x402_types::{AtomicAmount, ChainId, EvmAddress, Fault, Members, SchemeName, Terms, TimeoutSeconds};

use crate::token::Tokens;

/// The known networks and tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) networks: Networks,
    pub(super) tokens: Tokens,
}

/// An amount to be moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum<'s> {
    pub(super) network: &'s Network,
    pub(super) asset: EvmAddress,
    pub(super) pay_to: EvmAddress,
    pub(super) amount: AtomicAmount,
    pub(super) timeout: TimeoutSeconds,
}

impl Known {
    /// Returns the CAIP-2 name of a network.
    pub(super) fn chain(&self, network: &Network) -> Result<ChainId, Fault> {
        self.networks.caip2(network).ok_or_else(|| Fault::broken(format_args!("the network `{network}` is not known")))
    }

    /// Builds the terms under which an amount is moved.
    pub(super) fn terms(&self, sum: Sum<'_>) -> Result<Terms, Fault> {
        let network = self.chain(sum.network)?;
        let domain = self.tokens.find(network, sum.asset.unchecked()).and_then(|token| token.domain.as_ref());
        let domain = domain.ok_or_else(|| Fault::broken(format_args!("{} is not known on {network}", sum.asset)))?;
        let mut extra = Members::new();
        extra.insert_text("name", &domain.name);
        extra.insert_text("version", &domain.version);
        Ok(Terms::new(
            SchemeName::EXACT,
            network,
            sum.amount,
            EvmAddress::from(sum.asset.unchecked()).to_string(),
            EvmAddress::from(sum.pay_to.unchecked()).to_string(),
        )
        .with_max_timeout_seconds(sum.timeout)
        .with_extra(extra))
    }
}
