//! What a facilitator of this scheme leaves open.

use alloy_primitives::Address;
use x402_evm::wallet::Signers;

use super::StatementDomain;
use crate::session::zerodev::{KernelVersion, META_FACTORY};

/// What a facilitator leaves open. Everything is closed unless told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// What is signed beside the chain.
    pub domain: StatementDomain,
    /// Seconds that must be left of a session key: 6, to land in a block.
    pub margin: u64,
    /// Whether keys are used that may sign in the account's name beside operations.
    pub open_keys: bool,
    /// Whether keys without end are used.
    pub endless_keys: bool,
    /// Whether keys are used whose private half stands beside them.
    pub private_keys: bool,
    /// Whose signatures are taken: contracts, and those that an allow-listed factory makes.
    pub(super) signers: Signers,
    /// Gas limit of an order's calls; what is not used is not paid for.
    pub order_gas: u64,
    /// Gas limit of a redemption's call. Credits that end are kept order by order, and a redemption reads them all.
    pub redeem_gas: u64,
    /// How many operations are tried for one step before the settlement has failed.
    pub slots: usize,
}

impl Default for Policy {
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

impl Policy {
    /// With another domain, as peers have agreed.
    #[must_use]
    pub fn domain(mut self, domain: StatementDomain) -> Self {
        self.domain = domain;
        self
    }

    /// With other gas limits of the calls of an order and of a redemption. Together with validation each must fit into
    /// a transaction, so at most 12,000,000 are of use.
    #[must_use]
    pub const fn gas(mut self, order: u64, redeem: u64) -> Self {
        self.order_gas = order;
        self.redeem_gas = redeem;
        self
    }

    /// Also accounts that are not deployed yet and that this factory makes.
    #[must_use]
    pub fn factory(mut self, factory: Address) -> Self {
        self.signers = self.signers.with_factory(factory);
        self
    }

    /// Also Kernels that are not deployed yet, made by ZeroDev's factories.
    #[must_use]
    pub fn kernel_factories(self) -> Self {
        KernelVersion::ALL
            .into_iter()
            .fold(self.factory(META_FACTORY), |policy, version| policy.factory(version.factory()))
    }

    /// Also keys that may sign in the account's name beside operations: they can move its tokens.
    #[must_use]
    pub const fn open_keys(mut self) -> Self {
        self.open_keys = true;
        self
    }

    /// Also keys without end.
    #[must_use]
    pub const fn endless_keys(mut self) -> Self {
        self.endless_keys = true;
        self
    }

    /// Also keys whose private half stands beside them: whoever sees the payment has the key.
    #[must_use]
    pub const fn private_keys(mut self) -> Self {
        self.private_keys = true;
        self
    }
}
