//! The account at the processor: look-ups, and in memory what was answered. An answer is a hint where to look; only that
//! of a creation, which moves no money, counts by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use x402_types::{Fault, UnixSeconds};

use crate::order::{DEADLINE, Expected, MARK};
use crate::processor::{ApiError, CallProcessor, Intent, IntentStatus, Page, ProcessorCall, Refund};

/// The most answers that are remembered.
const MOST: usize = 10_000;
/// The seconds by which the processor's clock may be behind this one.
const SKEW: u64 = 300;
/// The seconds for which the processor keeps the answer to an idempotency key.
const DAY: u64 = 86_400;
/// The most pages of a list that are read.
const PAGES: usize = 20;

/// An account at the processor.
pub struct CardAccount {
    calls: Arc<dyn CallProcessor>,
    name: String,
    livemode: bool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The attempts that this process signed and has not sent.
    fresh: BTreeSet<String>,
    /// The calls that are being made.
    under_way: BTreeSet<String>,
    /// The intents that creations answered, by payment.
    opened: BTreeMap<String, Intent>,
    /// The final refusals, by idempotency key.
    refused: BTreeMap<String, ApiError>,
}

impl core::fmt::Debug for CardAccount {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CardAccount")
            .field("name", &self.name)
            .field("livemode", &self.livemode)
            .finish_non_exhaustive()
    }
}

/// The state of a list that was searched.
pub(crate) enum Found<T> {
    One(T),
    /// There is none, at this time of the processor.
    None(Option<UnixSeconds>),
}

impl CardAccount {
    /// Creates an account, by the calls that carry its secret key. `name` keeps accounts apart in stored rows and must not
    /// change; `livemode`: whether the key is a live one.
    #[must_use]
    pub fn new(calls: Arc<dyn CallProcessor>, name: impl Into<String>, livemode: bool) -> Self {
        Self { calls, name: name.into(), livemode, known: Mutex::default() }
    }

    /// Returns the account's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the account's key is a live one.
    #[must_use]
    pub const fn livemode(&self) -> bool {
        self.livemode
    }

    /// Returns the transport of its calls.
    #[must_use]
    pub fn calls(&self) -> &dyn CallProcessor {
        self.calls.as_ref()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Retrieves an intent.
    pub(crate) async fn intent(&self, id: &str) -> Result<Intent, Fault> {
        self.dated_intent(id).await.map(|(intent, _)| intent)
    }

    /// Retrieves an intent, with the processor's time.
    pub(crate) async fn dated_intent(&self, id: &str) -> Result<(Intent, Option<UnixSeconds>), Fault> {
        let answer = self.calls.call(&ProcessorCall::get(format!("/v1/payment_intents/{id}"), &[])).await?;
        let intent = answer.read()?;
        let intent =
            intent.map_err(|_| Fault::broken("the card processor does not know an intent that it has made"))?;
        Ok((intent, answer.date))
    }

    /// Finds our intent of a payment among its customer's: the oldest that is not canceled.
    pub(crate) async fn find_intent(&self, expect: &Expected) -> Result<Found<Intent>, Fault> {
        let since = expect.claimed.saturating_sub(SKEW).to_string();
        let query = [("customer", expect.customer.as_str()), ("created[gte]", &since), ("limit", "100")];
        let (intents, date) = self.list::<Intent>("/v1/payment_intents", &query, |intent| &intent.id).await?;
        let ours = |intent: &&Intent| {
            intent.metadata.get(MARK) == Some(&expect.payment) && intent.status != IntentStatus::Canceled
        };
        // The list begins with the newest.
        let oldest = intents.iter().rev().filter(ours).min_by_key(|intent| intent.created);
        Ok(oldest.map_or(Found::None(date), |intent| Found::One(intent.clone())))
    }

    /// Finds our refund of an intent.
    pub(crate) async fn find_refund(&self, intent: &str, payment: &str) -> Result<Found<Refund>, Fault> {
        let query = [("payment_intent", intent), ("limit", "100")];
        let (refunds, date) = self.list::<Refund>("/v1/refunds", &query, |refund| &refund.id).await?;
        let ours = |refund: &&Refund| refund.metadata.get(MARK).is_some_and(|mark| mark == payment);
        // A later attempt may have succeeded where the first failed.
        let mut ours: Vec<&Refund> = refunds.iter().filter(ours).collect();
        ours.sort_by_key(|refund| !matches!(refund.status.as_str(), "succeeded" | "pending"));
        Ok(ours.first().map_or(Found::None(date), |refund| Found::One((*refund).clone())))
    }

    async fn list<T: for<'de> serde::Deserialize<'de>>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        id: impl Fn(&T) -> &String,
    ) -> Result<(Vec<T>, Option<UnixSeconds>), Fault> {
        let mut all: Vec<T> = Vec::new();
        for _ in 0..PAGES {
            let mut query = query.to_vec();
            let last = all.last().map(|last| id(last).clone());
            if let Some(last) = &last {
                query.push(("starting_after", last));
            }
            let answer = self.calls.call(&ProcessorCall::get(path, &query)).await?;
            let page: Page<T> = answer.read()?.map_err(|_| Fault::broken("the card processor refuses a look-up"))?;
            let is_last = !page.has_more || page.data.is_empty();
            all.extend(page.data);
            if is_last {
                return Ok((all, answer.date));
            }
        }
        Err(Fault::broken("a list of the card processor does not end"))
    }

    /// Returns whether the list of a look-up is late enough that a charge may no longer begin.
    pub(crate) fn is_late(claimed: u64, date: Option<UnixSeconds>) -> bool {
        date.is_some_and(|date| date.0 >= claimed.saturating_add(DEADLINE))
    }

    /// Returns whether so long after the claim no call of its time can arrive: the day for which the processor repeats its
    /// answers is over.
    pub(crate) fn is_long_over(claimed: u64, date: Option<UnixSeconds>) -> bool {
        date.is_some_and(|date| date.0 >= claimed.saturating_add(DEADLINE).saturating_add(DAY))
    }

    /// Notes that an attempt was signed, so that its first send needs no look-up.
    pub(crate) fn signed(&self, name: &str) {
        let mut known = self.known();
        known.fresh.insert(name.to_owned());
        while known.fresh.len() > MOST {
            known.fresh.pop_first();
        }
    }

    /// Returns whether an attempt is sent for the first time, by the process that signed it.
    pub(crate) fn is_first(&self, name: &str) -> bool {
        self.known().fresh.remove(name)
    }

    /// Returns whether a call is being made now.
    pub(crate) fn is_under_way(&self, name: &str) -> bool {
        self.known().under_way.contains(name)
    }

    /// Marks a call as being made, until the result is dropped.
    pub(crate) fn begin(&self, name: &str) -> UnderWay<'_> {
        self.known().under_way.insert(name.to_owned());
        UnderWay { account: self, name: name.to_owned() }
    }

    pub(crate) fn note_opened(&self, payment: &str, intent: Intent) {
        let mut known = self.known();
        known.opened.insert(payment.to_owned(), intent);
        while known.opened.len() > MOST {
            known.opened.pop_first();
        }
    }

    pub(crate) fn opened(&self, payment: &str) -> Option<Intent> {
        self.known().opened.get(payment).cloned()
    }

    pub(crate) fn forget_opened(&self, payment: &str) {
        self.known().opened.remove(payment);
    }

    pub(crate) fn note_refused(&self, key: &str, error: ApiError) {
        let mut known = self.known();
        known.refused.insert(key.to_owned(), error);
        while known.refused.len() > MOST {
            known.refused.pop_first();
        }
    }

    pub(crate) fn refused(&self, key: &str) -> Option<ApiError> {
        self.known().refused.get(key).cloned()
    }
}

/// A call that is being made.
pub(crate) struct UnderWay<'a> {
    account: &'a CardAccount,
    name: String,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.account.known().under_way.remove(&self.name);
    }
}
