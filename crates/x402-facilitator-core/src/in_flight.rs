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

    pub(crate) const fn is_named(&self) -> bool {
        self.named
    }

    /// Records that the row may from now on name this request as the recipient of the success.
    pub(crate) fn begin_telling(&self) {
        self.others.begin_telling(&self.id);
    }

    /// Records that the request received the success.
    pub(crate) fn end_telling(&self) {
        self.others.open().numbers.insert(self.id.number, 0);
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        let mut open = self.others.open();
        if open.numbers.remove(&self.id.number).is_some_and(|tellings| tellings > 0) {
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

#[derive(Debug, Default)]
struct Open {
    /// The last number that was assigned.
    last: u64,
    /// The numbers of the open requests, each with the number of writes that mark, or may have marked, a row with the
    /// request as the recipient of a success that it has not received yet.
    numbers: BTreeMap<u64, u32>,
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
        open.numbers.insert(number, 0);
        drop(open);
        InFlightRequest { id: RequestId { owner: self.owner.clone(), number }, named: false, others: Arc::clone(self) }
    }

    /// Returns whether this process is still answering the request.
    pub(crate) fn is_open(&self, request: &RequestId) -> bool {
        request.owner == self.owner && self.open().numbers.contains_key(&request.number)
    }

    /// Records that a row may from now on name this request as the recipient of the success, if this process is still
    /// answering it. Returns whether it is.
    pub(crate) fn begin_telling(&self, request: &RequestId) -> bool {
        if request.owner != self.owner {
            return false;
        }
        match self.open().numbers.get_mut(&request.number) {
            Some(tellings) => {
                *tellings = tellings.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// Records that one write did not name this request after all.
    pub(crate) fn withdraw(&self, request: &RequestId) {
        if request.owner == self.owner
            && let Some(tellings) = self.open().numbers.get_mut(&request.number)
        {
            *tellings = tellings.saturating_sub(1);
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
