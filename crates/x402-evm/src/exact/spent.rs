//! Authorizations that somebody else's transaction used before we first heard of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, B256};
use x402_facilitator_core::TxId;
use x402_types::{Fault, Rejection, UnixSeconds};

use super::check::Checked;
use super::mechanism::{tx_id, watched};
use crate::chain::{Fate, Moved, WatchEvents};

/// Seconds that an answer holds: a body that is shown again and again is looked for once.
const HOLDS: u64 = 10;
/// Answers that are kept.
const KEPT: usize = 1_000;

/// By token, payer and nonce.
type Found = BTreeMap<(Address, Address, B256), (Fate, UnixSeconds)>;

/// What was found of each lately.
#[derive(Debug, Default)]
pub(super) struct SpentElsewhere(Mutex<Found>);

impl SpentElsewhere {
    /// The refusal of a used authorization, with the transaction that used it where a node shows it: seller and payer
    /// have to settle it between them, and need to know what was paid by what.
    pub(super) async fn refusal(
        &self,
        chain: &(impl WatchEvents + ?Sized),
        checked: &Checked,
        refusal: Rejection,
        now: UnixSeconds,
    ) -> Rejection {
        let (transaction, what) = match self.fate(chain, checked, now).await {
            Ok(Fate::Used { transaction, moved: Moved::Paid }) => {
                (transaction, "and paid what is asked: seller and payer have to settle it between them")
            }
            Ok(Fate::Used { transaction, moved: Moved::Nothing }) => (transaction, "and did not pay what is asked"),
            Ok(Fate::Used { transaction, moved: Moved::Unclear }) => {
                (transaction, "whose transfers do not say which of them it made")
            }
            Ok(Fate::Canceled) => return refusal.because("the payer cancelled the authorization"),
            // The node has no such log in the blocks that it was asked for, or none to show.
            Ok(Fate::Unseen) | Err(_) => return refusal,
        };
        let transaction = tx_id(transaction);
        let transaction = transaction.as_str();
        refusal
            .because(format!("the authorization was mined before by another transaction, {transaction}, {what}"))
            .detail("transaction", transaction)
    }

    /// Returns the transaction that used an authorization, if a node shows it.
    pub(super) async fn transaction(
        &self,
        chain: &(impl WatchEvents + ?Sized),
        checked: &Checked,
        now: UnixSeconds,
    ) -> Option<TxId> {
        match self.fate(chain, checked, now).await {
            Ok(Fate::Used { transaction, .. }) => Some(tx_id(transaction)),
            Ok(Fate::Unseen | Fate::Canceled) | Err(_) => None,
        }
    }

    async fn fate(
        &self,
        chain: &(impl WatchEvents + ?Sized),
        checked: &Checked,
        now: UnixSeconds,
    ) -> Result<Fate, Fault> {
        let Checked { token, authorization, .. } = checked;
        let id = (*token, authorization.from, authorization.nonce);
        let holds = |when: UnixSeconds| when.plus(HOLDS) >= now;
        if let Some((fate, _)) = self.kept().get(&id).filter(|(_, when)| holds(*when)) {
            return Ok(*fate);
        }
        let fate = chain.search(watched(*token, authorization, 0), authorization.valid_after).await?;
        let mut kept = self.kept();
        kept.retain(|_, (_, when)| holds(*when));
        if kept.len() < KEPT {
            kept.insert(id, (fate, now));
        }
        Ok(fate)
    }

    fn kept(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
