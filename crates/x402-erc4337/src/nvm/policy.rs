//! The settings that an operator of this scheme may relax.

use alloy_primitives::Address;
use x402_evm::wallet::Signers;

use super::StatementDomain;
use crate::session::zerodev::{KernelVersion, META_FACTORY};

/// The settings that an operator may relax. The defaults are the strictest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NvmPolicy {
    /// The domain of the signed statement, in addition to the chain.
    pub domain: StatementDomain,
    /// The validity in seconds that a session key must have left: 6, to land in a block.
    pub margin: u64,
    /// Whether keys are accepted that may also sign in the account's name.
    pub open_keys: bool,
    /// Whether keys without an expiry are accepted.
    pub endless_keys: bool,
    /// Whether keys are accepted whose text contains their private key.
    pub private_keys: bool,
    /// The accepted signers: contracts, and accounts that an allow-listed factory creates.
    pub(super) signers: Signers,
    /// The gas limit of an order's calls; unused gas is not paid for.
    pub order_gas: u64,
    /// The gas limit of a redemption's call. Credits that expire are stored per order, and a redemption reads them all.
    pub redeem_gas: u64,
    /// The number of operations that are tried for one step before the settlement has failed.
    pub slots: usize,
}

impl Default for NvmPolicy {
    fn default() -> Self {
        Self {
            domain: StatementDomain::default(),
            margin: 6,
            open_keys: false,
            endless_keys: false,
            private_keys: false,
            signers: Signers::contracts(),
            order_gas: 1_500_000,
            redeem_gas: 1_500_000,
            slots: 3,
        }
    }
}

impl NvmPolicy {
    /// Sets the domain that was agreed with the peers.
    #[must_use]
    pub fn with_domain(mut self, domain: StatementDomain) -> Self {
        self.domain = domain;
        self
    }

    /// Sets the gas limits of the calls of an order and of a redemption. Together with validation each must fit into a
    /// transaction, so values above 12,000,000 have no use.
    #[must_use]
    pub const fn with_gas(mut self, order: u64, redeem: u64) -> Self {
        self.order_gas = order;
        self.redeem_gas = redeem;
        self
    }

    /// Accepts also accounts that are not deployed yet and that this factory creates.
    #[must_use]
    pub fn with_factory(mut self, factory: Address) -> Self {
        self.signers = self.signers.with_factory(factory);
        self
    }

    /// Accepts also Kernels that are not deployed yet and that ZeroDev's factories create.
    #[must_use]
    pub fn with_kernel_factories(self) -> Self {
        KernelVersion::ALL
            .into_iter()
            .fold(self.with_factory(META_FACTORY), |policy, version| policy.with_factory(version.factory()))
    }

    /// Accepts also keys that may sign in the account's name: they can move its tokens.
    #[must_use]
    pub const fn with_open_keys(mut self) -> Self {
        self.open_keys = true;
        self
    }

    /// Accepts also keys without an expiry.
    #[must_use]
    pub const fn with_endless_keys(mut self) -> Self {
        self.endless_keys = true;
        self
    }

    /// Accepts also keys whose text contains their private key: whoever sees the payment has the key.
    #[must_use]
    pub const fn with_private_keys(mut self) -> Self {
        self.private_keys = true;
        self
    }
}
