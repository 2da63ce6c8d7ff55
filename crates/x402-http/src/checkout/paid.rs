//! The part of a payment that the work may know.

use x402_types::{AtomicAmount, ChainId, PaymentKey};

/// The amount that a request used of the amount that was verified. A handler puts it into its answer's extensions; more
/// than was verified is never taken. It counts for schemes that settle at most what was authorized
/// ([`PaymentKeyFn::amount_rule`]) and for no other: `nvm:erc4337` redeems so many credits, within the plan's minimum
/// and maximum; `exact` moves what was signed.
///
/// [`PaymentKeyFn::amount_rule`]: x402_types::PaymentKeyFn::amount_rule
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used(pub AtomicAmount);

/// The payment of a request. It is in the request's extensions.
///
/// In the `authorization` flow the handler runs before settlement: the payment is verified, but not made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Paid {
    /// The payer, as the facilitator names it.
    pub payer: Option<Box<str>>,
    /// The amount in atomic units.
    pub amount: AtomicAmount,
    /// The asset, as the offer writes it.
    pub asset: Box<str>,
    /// The network of the payment.
    pub network: ChainId,
    /// The payment's identity, which does not depend on its spelling.
    pub key: PaymentKey,
}
