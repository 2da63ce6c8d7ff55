//! What the handler is told of the payment.

use x402_types::{AtomicAmount, ChainId, PaymentKey};

/// What a request used of what it was verified for. A handler puts it into its answer's extensions; more than was
/// verified is never taken. It counts for schemes that settle at most what was authorized ([`PaymentKeyFn::amount_rule`]) and
/// for no other: `nvm:erc4337` redeems so many credits, within the plan's minimum and maximum; `exact` moves what was signed.
///
/// [`PaymentKeyFn::amount_rule`]: x402_types::PaymentKeyFn::amount_rule
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used(pub AtomicAmount);

/// The payment that a request carries. The handler finds it in the request's extensions.
///
/// In the `authorization` flow the handler runs before settlement: the payment is verified, not made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Paid {
    /// Who pays, as the facilitator names them.
    pub payer: Option<Box<str>>,
    /// The amount in atomic units.
    pub amount: AtomicAmount,
    /// The asset, as the offer writes it.
    pub asset: Box<str>,
    /// The network.
    pub network: ChainId,
    /// The payment's identity: the same however the payment was spelled.
    pub key: PaymentKey,
}
