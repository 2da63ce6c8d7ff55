//! The trail of a payment: the steps of its row, as far as the payer may see them.

use x402_facilitator_core::Payment;

use crate::order::Order;
use crate::settle::{CHARGE, RECORD};
use crate::stores::ChargeResult;

/// The trail of a payment that was not made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CardTrail {
    /// The charge, if the card was charged.
    pub order: Option<String>,
    /// The bank's code of the refusal.
    pub decline: Option<String>,
    /// The refund, or `owed`.
    pub refund: Option<String>,
}

/// Reads the trail of a payment.
#[must_use]
pub fn trail(payment: &Payment) -> CardTrail {
    let mut trail =
        CardTrail { order: payment.proven(&CHARGE).map(|proof| proof.tx.as_str().to_owned()), ..CardTrail::default() };
    for step in &payment.steps {
        match Order::of(step) {
            Ok(Order::Release { decline, refund, .. }) => (trail.decline, trail.refund) = (decline, refund),
            Ok(Order::Record { result, .. }) if step.name == RECORD && result == ChargeResult::Owed.as_str() => {
                trail.refund = Some(result);
            }
            _ => {}
        }
    }
    trail
}
