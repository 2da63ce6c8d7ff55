//! Authorizations that another transaction used before this facilitator first received them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use x402_facilitator_core::TxId;
use x402_types::{Fault, Rejection, UnixSeconds};

use super::authorization::{tx_id, watched};
use super::check::Checked;
use crate::chain::{Fate, Moved, Use, WatchEvents, Watched};

/// The seconds for which a result is cached: a body that is presented repeatedly is searched for once.
const HOLDS: u64 = 10;
/// The maximum number of cached results.
const KEPT: usize = 1_000;

/// The results by the effect of the use, which is unique to an authorization.
type Found = HashMap<Use, (Fate, UnixSeconds)>;

/// The recent results.
#[derive(Debug, Default)]
pub(crate) struct SpentElsewhere(Mutex<Found>);

impl SpentElsewhere {
    /// Creates the refusal of a used authorization, with the transaction that used it if a node reveals it: seller and
    /// payer have to settle the matter, and need to know what was paid by which transaction.
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
            // The node has no such log in the queried blocks, or cannot return it.
            Ok(Fate::Unseen | Fate::Set { .. }) | Err(_) => return refusal,
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
            Ok(Fate::Unseen | Fate::Set { .. } | Fate::Canceled) | Err(_) => None,
        }
    }

    async fn fate(
        &self,
        chain: &(impl WatchEvents + ?Sized),
        checked: &Checked,
        now: UnixSeconds,
    ) -> Result<Fate, Fault> {
        let Checked { token, authorization, .. } = checked;
        self.search(chain, watched(*token, authorization, 0), authorization.valid_after, now).await
    }

    /// Searches for the use of an authorization from the newest block backwards, not before the time `after`.
    pub(crate) async fn search(
        &self,
        chain: &(impl WatchEvents + ?Sized),
        watched: Watched,
        after: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<Fate, Fault> {
        let id = watched.used;
        let holds = |when: UnixSeconds| when.plus(HOLDS) >= now;
        if let Some((fate, _)) = self.kept().get(&id).filter(|(_, when)| holds(*when)) {
            return Ok(fate.clone());
        }
        let fate = chain.search(watched, after).await?;
        let mut kept = self.kept();
        kept.retain(|_, (_, when)| holds(*when));
        if kept.len() < KEPT {
            kept.insert(id, (fate.clone(), now));
        }
        Ok(fate)
    }

    fn kept(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
