//! What the handler is told of the payment.

use x402_types::{AtomicAmount, ChainId, PaymentKey};

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
