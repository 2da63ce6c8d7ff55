//! Payers whose transactions revert although they passed in simulation.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use alloy_primitives::Address;
use x402_types::{PaymentKey, UnixSeconds};

/// The number of transactions that one payment may cost before its payer is refused.
pub const MAX_REVERTS: usize = 3;
/// The seconds for which a payer is refused.
pub const REFUSED_SECONDS: u64 = 3_600;
/// The seconds for which a counted payment is remembered.
const REMEMBERED_SECONDS: u64 = 86_400;

/// Payers with [`MAX_REVERTS`] reverted transactions of one payment: a contract can distinguish a transaction from its
/// simulation, and fail only in the former. Each is refused for an hour from the moment when its payment is
/// recorded.
///
/// The list is in memory. Unanswered rows of the ledger are recorded again at the payer's next verification, so after a
/// restart the hour begins anew for them.
#[derive(Debug, Default)]
pub struct UnreliablePayers(Mutex<BTreeMap<Address, BTreeMap<PaymentKey, UnixSeconds>>>);

impl UnreliablePayers {
    /// Records that a payment of this payer had as many transactions revert as it may cost. Only the first record of a
    /// payment counts.
    pub fn note(&self, payer: Address, payment: &PaymentKey, now: UnixSeconds) {
        let mut payers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        payers.retain(|_, payments| {
            payments.retain(|_, until| until.plus(REMEMBERED_SECONDS) > now);
            !payments.is_empty()
        });
        payers.entry(payer).or_default().entry(payment.clone()).or_insert_with(|| now.plus(REFUSED_SECONDS));
    }

    /// Returns the time until which this payer is refused, if it is.
    #[must_use]
    pub fn refused_until(&self, payer: Address, now: UnixSeconds) -> Option<UnixSeconds> {
        let payers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        payers.get(&payer)?.values().copied().max().filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payer_is_refused_for_an_hour_and_each_payment_counts_once() {
        let payers = UnreliablePayers::default();
        let (payer, key) = (Address::repeat_byte(1), PaymentKey::from_bytes(&[1]));
        let at = UnixSeconds;
        assert_eq!(payers.refused_until(payer, at(1_000)), None);
        payers.note(payer, &key, at(1_000));
        payers.note(payer, &key, at(2_000));
        assert_eq!(payers.refused_until(payer, at(4_599)), Some(at(4_600)));
        assert_eq!(payers.refused_until(payer, at(4_600)), None);
        assert_eq!(payers.refused_until(Address::ZERO, at(1_000)), None);
        payers.note(payer, &key, at(5_000));
        assert_eq!(payers.refused_until(payer, at(5_000)), None);
        payers.note(payer, &PaymentKey::from_bytes(&[2]), at(5_000));
        assert_eq!(payers.refused_until(payer, at(5_001)), Some(at(8_600)));
    }
}
