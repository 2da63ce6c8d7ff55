//! Tracks which `/settle` requests this process is currently answering.
//!
//! x402 gives a payment to one request. While that request waits for its response, a repetition of it is refused
//! (`duplicate_settlement`); after the response `settlement_pending`, the same request may wait again. Therefore the
//! machine must know whether a request is still being answered, and that is a fact of a process: it ends when the
//! caller disconnects, and after a crash no request is being answered. It is therefore kept in memory, by a guard that
//! ends with the response, and needs no recovery.
//!
//! Success is returned once, to the first request that is present when it is known: a server that receives it delivers
//! the resource. The fact that it was returned, and to which request ([`RequestId`]), belongs to the payment: it is
//! stored in the row, by the row's version, before the request learns it. Of two requests, in one process or in two, one
//! therefore gets the success. Every later one is refused, unless its caller named it ([`InFlightRequest::named`]): it gets
//! the same result again, marked as replayed.
//!
//! A worker that stores a success marks the row for the request that waits in its process, in the same write: the request
//! then finds it.
//!
//! A request that is dropped, or loses the store, between that write and its response received nothing. That again is a
//! fact of the process: it is kept in memory, and the next request gets the success instead. Between two replicas a
//! repetition joins instead of being refused, for no replica can know whether another one is still answering; the first
//! that reads the result gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{OwnerId, RequestId};

/// The maximum number of remembered requests that ended before they could return the success they had stored. They are
/// rare: the caller disconnects during one write, or the write fails.
const MOST_LOST: usize = 10_000;

/// A request that is being answered. Dropping it ends this: after a result, after `settlement_pending`, or without a
/// response because the caller disconnected.
#[derive(Debug)]
pub struct InFlightRequest {
    id: RequestId,
    named: bool,
    others: Arc<InFlightRequests>,
}

impl InFlightRequest {
    /// Returns the request's identifier in the row.
    #[must_use]
    pub const fn id(&self) -> &RequestId {
        &self.id
    }

    /// Declares that the caller named this request and recognises it by that name (`Idempotency-Key`): it may receive a
    /// success that was returned before.
    #[must_use]
    pub const fn named(mut self) -> Self {
        self.named = true;
        self
    }

    /// Declares that the request waits for the end of its payment: a worker of this process that stores a success may
    /// store in the same write that this request receives it.
    pub fn begin_waiting(&self) {
        self.with_state(|state| state.waits = true);
    }

    /// Declares that the request no longer waits. Returns `false`, and changes nothing, while a worker stores a success
    /// for it: the next [`look`](crate::Settlement::look) finds it, or the wait can be ended then.
    #[must_use]
    pub fn end_waiting(&self) -> bool {
        self.with_state(|state| {
            let ends = state.tellings == 0;
            state.waits &= !ends;
            ends
        })
        .unwrap_or(true)
    }

    fn with_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        self.others.open().numbers.get_mut(&self.id.number).map(change)
    }

    pub(crate) const fn is_named(&self) -> bool {
        self.named
    }

    /// Records that the row may from now on name this request as the recipient of the success.
    pub(crate) fn begin_telling(&self) {
        self.with_state(|state| state.tellings = state.tellings.saturating_add(1));
    }

    /// Records that the request received the success.
    pub(crate) fn end_telling(&self) {
        self.with_state(|state| state.tellings = 0);
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        let mut open = self.others.open();
        if open.numbers.remove(&self.id.number).is_some_and(|state| state.tellings > 0) {
            open.lost.insert(self.id.number);
            if open.lost.len() > MOST_LOST {
                open.lost.pop_first();
            }
        }
    }
}

/// The requests that this process is answering.
#[derive(Debug)]
pub(crate) struct InFlightRequests {
    owner: OwnerId,
    open: Mutex<Open>,
}

/// The state of an open request.
#[derive(Debug, Default)]
struct State {
    /// Whether the request waits for the end of its payment.
    waits: bool,
    /// The number of writes that name, or may have named, the request as the recipient of a success that it has not
    /// received yet.
    tellings: u32,
}

#[derive(Debug, Default)]
struct Open {
    /// The last number that was assigned.
    last: u64,
    /// The open requests, by number.
    numbers: BTreeMap<u64, State>,
    /// The requests that ended while the row was being marked with them as recipients.
    lost: BTreeSet<u64>,
}

impl InFlightRequests {
    pub(crate) fn new(owner: OwnerId) -> Arc<Self> {
        Arc::new(Self { owner, open: Mutex::default() })
    }

    pub(crate) fn begin(self: &Arc<Self>) -> InFlightRequest {
        let mut open = self.open();
        open.last = open.last.wrapping_add(1);
        let number = open.last;
        open.numbers.insert(number, State::default());
        drop(open);
        InFlightRequest { id: RequestId { owner: self.owner.clone(), number }, named: false, others: Arc::clone(self) }
    }

    /// Returns whether this process is still answering the request.
    pub(crate) fn is_open(&self, request: &RequestId) -> bool {
        request.owner == self.owner && self.open().numbers.contains_key(&request.number)
    }

    /// Records that a worker's write may from now on name this request as the recipient of the success, if the request
    /// waits in this process. Returns whether it does.
    pub(crate) fn begin_telling(&self, request: &RequestId) -> bool {
        if request.owner != self.owner {
            return false;
        }
        match self.open().numbers.get_mut(&request.number).filter(|state| state.waits) {
            Some(state) => {
                state.tellings = state.tellings.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// Records that one write did not name this request after all.
    pub(crate) fn withdraw(&self, request: &RequestId) {
        if request.owner == self.owner
            && let Some(state) = self.open().numbers.get_mut(&request.number)
        {
            state.tellings = state.tellings.saturating_sub(1);
        }
    }

    /// Returns whether the request ended in this process before it could return the success.
    pub(crate) fn is_lost(&self, request: &RequestId) -> bool {
        request.owner == self.owner && self.open().lost.contains(&request.number)
    }

    /// Records that another request received the success instead.
    pub(crate) fn found(&self, request: &RequestId) {
        if request.owner == self.owner {
            self.open().lost.remove(&request.number);
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // All fields are consistent at every point at which a panic could occur, so a poisoned lock is harmless.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
