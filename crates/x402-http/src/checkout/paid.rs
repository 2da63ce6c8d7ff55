//! The payment, as the handler sees it.

use x402_types::{AtomicAmount, ChainId, PaymentKey};

/// The part of the verified amount that a request used. A handler puts it into its response's extensions; more than was
/// verified is never taken. It counts only for schemes that settle at most the authorized amount
/// ([`PaymentKeyFn::amount_rule`]): `nvm:erc4337` redeems this many credits, within the plan's minimum and maximum; `exact`
/// moves the signed amount.
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
