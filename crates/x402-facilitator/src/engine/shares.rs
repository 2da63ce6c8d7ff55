//! The lanes that this process works: as many as its share among the processes that use the ledger.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use x402_facilitator_core::LaneId;

/// The lanes that this process leases, and the most that it should.
#[derive(Debug)]
pub(crate) struct Shares(Mutex<State>);

#[derive(Debug)]
struct State {
    most: usize,
    held: BTreeSet<LaneId>,
}

impl Shares {
    /// Creates the shares of a process that works so many lanes until it knows of others.
    pub(crate) const fn of(lanes: usize) -> Self {
        Self(Mutex::new(State { most: lanes, held: BTreeSet::new() }))
    }

    /// Sets how many lanes this process should work. Returns whether that has changed.
    pub(crate) fn set(&self, most: usize) -> bool {
        core::mem::replace(&mut self.state().most, most) != most
    }

    /// Returns whether the process may try to lease this lane. Several lanes may be tried at once: one that is too much is
    /// given back ([`Shares::keeps`]).
    pub(crate) fn has_room(&self, lane: &LaneId) -> bool {
        let state = self.state();
        state.held.contains(lane) || state.held.len() < state.most
    }

    /// Notes that the process has leased the lane.
    pub(crate) fn takes(&self, lane: &LaneId) {
        self.state().held.insert(lane.clone());
    }

    /// Returns whether a lane that the process leases is within its share. One that is not counts no longer.
    pub(crate) fn keeps(&self, lane: &LaneId) -> bool {
        let mut state = self.state();
        let keeps = state.held.len() <= state.most;
        if !keeps {
            state.held.remove(lane);
        }
        keeps
    }

    /// Notes that another process has the lane.
    pub(crate) fn leaves(&self, lane: &LaneId) {
        self.state().held.remove(lane);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_lanes_are_taken_than_the_share_and_those_above_it_are_left() {
        let [a, b, c] = ["a", "b", "c"].map(LaneId::from);
        let shares = Shares::of(3);
        for lane in [&a, &b, &c] {
            assert!(shares.has_room(lane));
            shares.takes(lane);
        }
        assert!(shares.keeps(&a) && shares.set(2) && !shares.set(2));
        assert_eq!([&a, &b, &c].map(|lane| shares.keeps(lane)), [false, true, true]);
        assert!(!shares.has_room(&a) && shares.has_room(&b));
        shares.leaves(&b);
        assert!(shares.has_room(&a) && shares.has_room(&b));
        shares.takes(&a);
        assert!(!shares.has_room(&b));
    }
}
