//! The open payments of a lane, and when each is worked on next.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use x402_types::PaymentKey;

/// The current work on a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// None: the payment rests until this time.
    Rests(Instant),
    /// The next call of the payment.
    Drafts,
    /// The commit of the call's result.
    Stores,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    work: Work,
    /// The number of consecutive failures.
    failures: u32,
}

/// The open payments that a lane knows. Each step costs the same however many there are.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    turns: BTreeMap<PaymentKey, Turn>,
    /// The resting payments, by the end of their rest.
    rests: BTreeSet<(Instant, PaymentKey)>,
    drafting: usize,
}

impl Agenda {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Returns the number of payments whose call is being made.
    pub(super) const fn drafting(&self) -> usize {
        self.drafting
    }

    pub(super) fn knows(&self, key: &PaymentKey) -> bool {
        self.turns.contains_key(key)
    }

    /// Returns the number of the payment's consecutive failures, the next one included.
    pub(super) fn failures_after(&self, key: &PaymentKey) -> u32 {
        self.turns.get(key).map_or(0, |turn| turn.failures).saturating_add(1)
    }

    /// Adds a payment that has something to do at once. One that is known rests no longer, unless it failed.
    pub(super) fn add(&mut self, key: PaymentKey, at: Instant) {
        match self.turns.get(&key) {
            None => self.set(key, Work::Rests(at), 0),
            Some(Turn { work: Work::Rests(until), failures: 0 }) if *until > at => self.set(key, Work::Rests(at), 0),
            Some(_) => {}
        }
    }

    /// Ends the rests that would end by the horizon, but for payments that failed: a block hurries none of them.
    pub(super) fn hurry(&mut self, at: Instant, horizon: Instant) {
        let soon = self.rests.iter().filter(|(until, _)| *until > at).take_while(|(until, _)| *until <= horizon);
        let unfailed = |key: &&PaymentKey| self.turns.get(*key).is_some_and(|turn| turn.failures == 0);
        let keys: Vec<PaymentKey> = soon.map(|(_, key)| key).filter(unfailed).cloned().collect();
        for key in keys {
            self.set(key, Work::Rests(at), 0);
        }
    }

    /// Takes the payment whose rest has been over for the longest.
    pub(super) fn take(&mut self, at: Instant) -> Option<PaymentKey> {
        let (until, key) = self.rests.first()?.clone();
        if until > at {
            return None;
        }
        let failures = self.turns.get(&key).map_or(0, |turn| turn.failures);
        self.set(key.clone(), Work::Drafts, failures);
        Some(key)
    }

    /// Returns the end of the first rest.
    pub(super) fn next(&self) -> Option<Instant> {
        self.rests.first().map(|(until, _)| *until)
    }

    /// Notes that the call was made, and its result is to be stored.
    pub(super) fn drafted(&mut self, key: &PaymentKey) {
        if let Some(turn) = self.turns.get(key) {
            self.set(key.clone(), Work::Stores, turn.failures);
        }
    }

    /// Notes that a payment has nothing to do before that time. A payment whose call is being made is left alone.
    pub(super) fn rest(&mut self, key: PaymentKey, until: Instant, failures: u32) {
        if self.turns.get(&key).is_some_and(|turn| turn.work != Work::Drafts) {
            self.set(key, Work::Rests(until), failures);
        }
    }

    /// Notes that the call that was made needs nothing stored.
    pub(super) fn rest_undrafted(&mut self, key: PaymentKey, until: Instant, failures: u32) {
        self.drafted(&key);
        self.rest(key, until, failures);
    }

    /// Removes a payment that has its answer.
    pub(super) fn remove(&mut self, key: &PaymentKey) {
        if let Some(turn) = self.turns.remove(key) {
            self.leave(key, turn.work);
        }
    }

    fn set(&mut self, key: PaymentKey, work: Work, failures: u32) {
        if let Some(old) = self.turns.insert(key.clone(), Turn { work, failures }) {
            self.leave(&key, old.work);
        }
        match work {
            Work::Rests(until) => drop(self.rests.insert((until, key))),
            Work::Drafts => self.drafting = self.drafting.saturating_add(1),
            Work::Stores => {}
        }
    }

    fn leave(&mut self, key: &PaymentKey, work: Work) {
        match work {
            Work::Rests(until) => drop(self.rests.remove(&(until, key.clone()))),
            Work::Drafts => self.drafting = self.drafting.saturating_sub(1),
            Work::Stores => {}
        }
    }
}
