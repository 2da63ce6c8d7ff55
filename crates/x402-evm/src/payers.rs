//! The facts that decide about a payer besides the payment itself: the other pending payments, the balance that was read a
//! moment ago, and transactions that reverted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{Address, B256, Bytes, U256};
use x402_facilitator_core::{Ledger, Payment, Step, StepState};
use x402_types::{AuthorizationKind, ChainId, ErrorReason, EvmAddress, Fault, PaymentKey, Rejection, UnixSeconds};

use crate::chain::Returned;
use crate::eip3009::state_call;
use crate::permit2::{PERMIT2, nonce_bitmap_call, word_and_mask};
use crate::unreliable::{MAX_REVERTS, UnreliablePayers};
use crate::wallet::Signer;

/// The seconds after which a claim without a step is checked on the chain again before anything is sent.
pub(crate) const STALE: u64 = 5;
/// The number of pending authorizations whose state is read; further ones count whether they were used meanwhile or
/// not.
const LOOKED_AT: usize = 64;

/// The sum that a payment takes from a payer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taking {
    pub(crate) token: Address,
    pub(crate) payer: Address,
    pub(crate) value: U256,
}

/// The payers of one network, as far as their payments by one method were seen here.
#[derive(Default)]
pub(crate) struct Payers {
    /// The ledger of the settlement machine: a payer's pending payments count against the balance.
    pub(crate) ledger: Option<Arc<dyn Ledger>>,
    unreliable: UnreliablePayers,
    /// The facts that were read of payers in the last [`STALE`] seconds, by token and payer: a payment that was verified a
    /// moment ago is sent without another read if the sum also covers the payments before it.
    read: Mutex<Reads>,
}

#[derive(Default)]
struct Reads {
    of: BTreeMap<(Address, Address), Read>,
    /// The second in which the old ones were last removed.
    swept: UnixSeconds,
}

/// The facts that were read of a payer: the sum that can be taken, and the kind of signer.
#[derive(Debug, Clone, Copy)]
struct Read {
    balance: U256,
    signer: Signer,
    when: UnixSeconds,
}

impl Payers {
    /// Returns the payer's unanswered payments in the same token, by whichever method, except this one.
    pub(crate) async fn others(
        &self,
        network: ChainId,
        of: &Taking,
        own: &PaymentKey,
    ) -> Result<Vec<Arc<Payment>>, Fault> {
        let Some(ledger) = &self.ledger else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for (kind, contract) in [(AuthorizationKind::Eip3009, of.token), (AuthorizationKind::Permit2, PERMIT2)] {
            let prefix = PaymentKey::prefix(kind, network, contract.as_slice(), of.payer.as_slice());
            all.append(&mut ledger.unanswered(&prefix).await?);
        }
        let token = |row: &Payment| row.claim.terms.asset.parse::<EvmAddress>().and_then(Address::try_from).ok();
        // The key of an authorization by EIP-3009 names its token: only a permit's terms have to be parsed for it.
        all.retain(|row| row.key != *own && (!is_permit(row) || token(row) == Some(of.token)));
        Ok(all)
    }

    /// Refuses a payer whose transactions revert although they pass in simulation.
    pub(crate) fn check(&self, payer: Address, others: &[Arc<Payment>], now: UnixSeconds) -> Result<(), Rejection> {
        others.iter().for_each(|row| self.note_reverts(payer, row, now));
        match self.unreliable.refused_until(payer, now) {
            None => Ok(()),
            Some(until) => Err(Rejection::new(ErrorReason::PAYER_REVERTS).because(format!(
                "{MAX_REVERTS} transactions for a payment of this payer reverted, which passed in simulation: refused \
                 until {until}"
            ))),
        }
    }

    /// Records the payer if as many transactions as a payment may cost were sent for this one without any effect on the
    /// chain.
    pub(crate) fn note_reverts(&self, payer: Address, payment: &Payment, now: UnixSeconds) {
        let reverted = |step: &&Step| step.state == StepState::Unaccounted && step.parcels.len() >= MAX_REVERTS;
        if payment.open_step().filter(reverted).is_some() {
            self.unreliable.note(payer, &payment.key, now);
        }
    }

    /// Records what a read of the chain showed of a payment's payer: the sum that can be taken, and the kind of signer.
    pub(crate) fn note_read(&self, of: &Taking, balance: U256, signer: Signer, now: UnixSeconds) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.swept != now {
            read.swept = now;
            read.of.retain(|_, read| read.when.plus(STALE) >= now);
        }
        read.of.insert((of.token, of.payer), Read { balance, signer, when: now });
    }

    fn read(&self, of: &Taking, now: UnixSeconds) -> Option<Read> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let known = read.of.get(&(of.token, of.payer)).copied();
        known.filter(|read| read.when.plus(STALE) >= now)
    }

    /// Returns whether the payer's account had no code at a recent read.
    pub(crate) fn is_key(&self, of: &Taking, now: UnixSeconds) -> bool {
        self.read(of, now).is_some_and(|read| read.signer == Signer::Key)
    }

    /// Returns whether the sum of a recent read covers this payment and those before it.
    pub(crate) fn cover(&self, of: &Taking, before: &[UnderWay], now: UnixSeconds) -> bool {
        let needed = before.iter().fold(of.value, |needed, other| needed.saturating_add(other.value));
        self.read(of, now).is_some_and(|read| read.balance >= needed)
    }
}

/// A pending payment of a payer, which will still take its value unless it was made since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnderWay {
    pub(crate) value: U256,
    /// Whether Permit2 moves it, within its allowance.
    pub(crate) by_permit: bool,
    nonce: B256,
    of: Taking,
}

impl UnderWay {
    /// Reads a payer's row. The key begins with the kind of authorization and ends with the nonce, and a payment is claimed
    /// only if its value is the amount of its terms: the payload of each pending payment need not be parsed for each new one.
    pub(crate) fn of_row(row: &Payment, of: Taking) -> Option<Self> {
        let by_permit = is_permit(row);
        let nonce = B256::from(*row.key.as_bytes().last_chunk::<32>()?);
        Some(Self { value: row.claim.terms.amount.value(), by_permit, nonce, of })
    }

    /// Returns the view that shows whether the authorization was used, which subtracts its value from the balance.
    pub(crate) fn view(&self) -> (Address, Bytes) {
        match self.by_permit {
            true => (PERMIT2, nonce_bitmap_call(self.of.payer, word_and_mask(self.nonce.into()).0)),
            false => (self.of.token, state_call(self.of.payer, self.nonce)),
        }
    }

    /// Returns whether the authorization is used, by the view's word.
    pub(crate) fn is_used(&self, word: U256) -> bool {
        let mask = if self.by_permit { word_and_mask(self.nonce.into()).1 } else { U256::MAX };
        !(word & mask).is_zero()
    }
}

/// The pending payments of a payer that come before one, and how many of their authorizations are read beside it.
#[derive(Debug, Default)]
pub(crate) struct Before {
    payments: Vec<UnderWay>,
    looked_at: usize,
}

impl Before {
    /// Returns payments whose authorizations are read.
    pub(crate) const fn read(payments: Vec<UnderWay>) -> Self {
        Self { payments, looked_at: LOOKED_AT }
    }

    /// Returns payments of which no authorization is read: each counts as if it will still take its value.
    pub(crate) const fn unread(payments: Vec<UnderWay>) -> Self {
        Self { payments, looked_at: 0 }
    }

    /// Returns the views that show which of the authorizations were used.
    pub(crate) fn views(&self) -> impl Iterator<Item = (Address, Bytes)> {
        self.payments.iter().take(self.looked_at).map(UnderWay::view)
    }

    /// Returns those that will still take their value, by the words of the views. One that was used since is already
    /// subtracted from the balance.
    pub(crate) fn still(&self, words: &[Returned]) -> impl Iterator<Item = &UnderWay> {
        let words = words.get(..self.looked_at).unwrap_or(words);
        let word = |place: usize| words.get(place).and_then(Returned::word);
        let still = move |(place, other): &(usize, &UnderWay)| word(*place).is_none_or(|word| !other.is_used(word));
        self.payments.iter().enumerate().filter(still).map(|(_, other)| other)
    }
}

/// Returns whether Permit2 moves a payment.
fn is_permit(row: &Payment) -> bool {
    row.key.as_bytes().first() == Some(&(AuthorizationKind::Permit2 as u8))
}

/// Returns whether another payment of the payer takes precedence: one that has begun; and of two that have both begun,
/// or both not, the one with the lower key, so that they do not wait for each other.
pub(crate) fn comes_first(other: &Payment, own: &Payment) -> bool {
    match (other.steps.is_empty(), own.steps.is_empty()) {
        (false, true) => true,
        (true, false) => false,
        _ => other.key < own.key,
    }
}
