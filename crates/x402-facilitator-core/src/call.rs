//! Who is being answered.
//!
//! x402 gives a payment to one request. While that request waits for its answer, the same request once more is
//! refused (`duplicate_settlement`); after it was told `settlement_pending`, the same request may wait again. So
//! the machine must know whether a request is still being answered, and that is a fact of a process: a caller that
//! hung up is not, and after a crash nobody is. It is therefore held in memory, by a guard whose end is the
//! answer, and needs no recovery.
//!
//! Which call is told the end as new is a fact of the payment: the row names it. The call that claims the payment
//! writes its name with it, a call that joins the wait replaces the name, and after the end nothing changes it.
//! Every other call is told the same end as replayed, on every replica and after every restart. Between two
//! replicas the same request joins instead of being refused, for no replica can know that another still answers;
//! the call that it displaces is then told the end as replayed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{CallId, OwnerId};

/// A request that is being answered. Dropping it says that it was: with an outcome, with `settlement_pending`, or
/// not at all because the caller hung up.
#[derive(Debug)]
pub struct Call {
    id: CallId,
    calls: Arc<Calls>,
}

impl Call {
    /// Its name in the row.
    #[must_use]
    pub const fn id(&self) -> &CallId {
        &self.id
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.open().1.remove(&self.id.number);
    }
}

/// The calls that this process is answering.
#[derive(Debug)]
pub(crate) struct Calls {
    owner: OwnerId,
    /// The last number, and the numbers of the open calls.
    open: Mutex<(u64, BTreeSet<u64>)>,
}

impl Calls {
    pub(crate) fn new(owner: OwnerId) -> Arc<Self> {
        Arc::new(Self { owner, open: Mutex::default() })
    }

    pub(crate) fn begin(self: &Arc<Self>) -> Call {
        let mut open = self.open();
        open.0 = open.0.wrapping_add(1);
        let number = open.0;
        open.1.insert(number);
        drop(open);
        Call { id: CallId { owner: self.owner.clone(), number }, calls: Arc::clone(self) }
    }

    /// Whether this process is still answering that call.
    pub(crate) fn is_open(&self, call: &CallId) -> bool {
        call.owner == self.owner && self.open().1.contains(&call.number)
    }

    fn open(&self) -> MutexGuard<'_, (u64, BTreeSet<u64>)> {
        // Both numbers are whole at every point where a panic could strike.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
