//! Which requests this process is answering.
//!
//! x402 gives a payment to one request. While that request waits for its answer, the same request once more is
//! refused (`duplicate_settlement`); after it was told `settlement_pending`, the same request may wait again. So
//! the machine must know whether a request is still being answered, and that is a fact of a process: a caller that
//! hung up is not, and after a crash nobody is. It is therefore held in memory, by a guard whose end is the
//! answer, and needs no recovery.
//!
//! Success is told once, to the first that asks when it is known: a server that is told it serves what was paid for.
//! That it was told, and to which request ([`RequestId`]), is a fact of the payment: it is stored in the row, by the
//! row's version, before the request hears of it. So of two requests, in one process or in two, one is told it. Every
//! later one is refused, unless its caller named it ([`InFlightRequest::named`]): it gets the same end again, marked as
//! replayed.
//!
//! A request that is dropped, or loses the store, after it asked for that write and before it could pass the answer on
//! was told nothing. That again is a fact of the process: it is kept in memory, and the next request is told in its
//! place. Between two replicas the same request joins instead of being refused, for no replica can know that another
//! still answers; the first to look is told the end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{OwnerId, RequestId};

/// How many requests are remembered that ended so. They are rare: a caller goes away during one write, or the write
/// fails.
const MOST_LOST: usize = 10_000;

/// A request that is being answered. Dropping it says that it was: with an outcome, with `settlement_pending`, or
/// not at all because the caller hung up.
#[derive(Debug)]
pub struct InFlightRequest {
    id: RequestId,
    named: bool,
    /// That it is told a success is being stored, and it has not heard of it.
    telling: AtomicBool,
    others: Arc<InFlightRequests>,
}

impl InFlightRequest {
    /// Its name in the row.
    #[must_use]
    pub const fn id(&self) -> &RequestId {
        &self.id
    }

    /// The caller named this request, and knows its own request again by that name (`Idempotency-Key`): it may be told
    /// a success that was told before.
    #[must_use]
    pub const fn named(mut self) -> Self {
        self.named = true;
        self
    }

    pub(crate) const fn is_named(&self) -> bool {
        self.named
    }

    /// From now on the row may say that this request was told a success.
    pub(crate) fn begin_telling(&self) {
        self.telling.store(true, Ordering::Relaxed);
    }

    /// It was told, or something else was stored.
    pub(crate) fn end_telling(&self) {
        self.telling.store(false, Ordering::Relaxed);
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        let mut open = self.others.open();
        open.numbers.remove(&self.id.number);
        if self.telling.load(Ordering::Relaxed) {
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
    /// The last number.
    last: u64,
    /// The open requests.
    numbers: BTreeSet<u64>,
    /// Requests that ended while it was stored that they are told a success.
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
        open.numbers.insert(number);
        drop(open);
        InFlightRequest {
            id: RequestId { owner: self.owner.clone(), number },
            named: false,
            telling: AtomicBool::new(false),
            others: Arc::clone(self),
        }
    }

    /// Whether this process is still answering that request.
    pub(crate) fn is_open(&self, request: &RequestId) -> bool {
        request.owner == self.owner && self.open().numbers.contains(&request.number)
    }

    /// Whether that request ended here before it could pass on what it was told.
    pub(crate) fn is_lost(&self, request: &RequestId) -> bool {
        request.owner == self.owner && self.open().lost.contains(&request.number)
    }

    /// Another request was told in its place.
    pub(crate) fn found(&self, request: &RequestId) {
        if request.owner == self.owner {
            self.open().lost.remove(&request.number);
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // All is whole at every point where a panic could strike.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
