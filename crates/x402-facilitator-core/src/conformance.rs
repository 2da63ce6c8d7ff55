//! The rules that every ledger keeps, written once and run on each.
//!
//! A ledger's tests implement [`Subject`] and drive [`run`] on any executor:
//!
//! ```
//! # use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
//! # use x402_facilitator_core::{Ledger, MemoryLedger, conformance};
//! # use x402_types::UnixSeconds;
//! struct InMemory(Arc<AtomicU64>);
//!
//! #[async_trait::async_trait]
//! impl conformance::Subject for InMemory {
//!     async fn empty(&self) -> Arc<dyn Ledger> {
//!         let clock = Arc::clone(&self.0);
//!         Arc::new(MemoryLedger::new(move || UnixSeconds(clock.load(Ordering::Relaxed))))
//!     }
//!     async fn reopened(&self, ledger: Arc<dyn Ledger>) -> Arc<dyn Ledger> {
//!         ledger
//!     }
//!     async fn pass(&self, seconds: u64) {
//!         self.0.fetch_add(seconds, Ordering::Relaxed);
//!     }
//! }
//!
//! # let mut future = Box::pin(async {
//! conformance::run(&InMemory(Arc::default())).await
//! # });
//! # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
//! # assert_eq!(future.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(())));
//! ```

mod claims;
mod commits;
mod counted;
mod forgetting;
mod leases;
mod once_keys;
mod rows;
mod samples;
mod views;

use core::future::Future;
use core::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use x402_types::Fault;

use crate::{CommitError, Ledger, Payment, Slot};

pub use counted::{Counted, Counts};
pub use forgetting::forgets_by_the_row;

/// A kind of ledger under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Creates a ledger without rows.
    async fn empty(&self) -> Arc<dyn Ledger>;

    /// Simulates that the process was killed and restarted: the returned ledger has the same rows. A ledger in memory
    /// returns itself.
    async fn reopened(&self, ledger: Arc<dyn Ledger>) -> Arc<dyn Ledger>;

    /// Advances the ledger's clock by this many seconds.
    async fn pass(&self, seconds: u64);

    /// Stores these rows in the newest empty ledger unchanged, including once keys, in any fast way. It is for
    /// [`forgets_by_the_row`]; by default the rows are claimed and committed.
    /// # Errors
    /// The store failed.
    async fn fill(&self, ledger: &Arc<dyn Ledger>, payments: Vec<Payment>, slots: Vec<Slot>) -> Result<(), Fault> {
        forgetting::fill(ledger, payments, slots).await
    }
}

/// A rule that a ledger violates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{rule}: {what}")]
pub struct Violation {
    /// The name of the rule.
    pub rule: &'static str,
    /// The expectation that was not met.
    pub what: Box<str>,
}

/// Runs every rule, each on an empty ledger.
/// # Errors
/// The first rule that the ledger violates.
pub async fn run(subject: &dyn Subject) -> Result<(), Violation> {
    for (rule, test) in RULES {
        test(subject).await.map_err(|Broken(what)| Violation { rule, what })?;
    }
    Ok(())
}

type Verdict<'a> = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send + 'a>>;
type Rule = for<'a> fn(&'a dyn Subject) -> Verdict<'a>;

/// The rules by name, in the order in which [`run`] checks them.
const RULES: &[(&str, Rule)] = &[
    ("a claim is inserted once", |s| Box::pin(claims::inserted_once(s))),
    ("many claims at once have one winner", |s| Box::pin(claims::one_winner(s))),
    ("a row is read as it was written", |s| Box::pin(rows::read_as_written(s))),
    ("a commit counts the version up", |s| Box::pin(commits::version_counts(s))),
    ("an old version changes nothing", |s| Box::pin(commits::old_version(s))),
    ("many commits at once have one winner", |s| Box::pin(commits::one_winner(s))),
    ("a payment that is not there cannot be changed", |s| Box::pin(commits::unknown_payment(s))),
    ("a slot is taken once", |s| Box::pin(commits::slot_once(s))),
    ("the next nonce moves from what it is", |s| Box::pin(commits::next_nonce(s))),
    ("a write is all or nothing", |s| Box::pin(commits::all_or_nothing(s))),
    ("a row stands in a write once", |s| Box::pin(commits::row_once(s))),
    ("a caller writes payments only", |s| Box::pin(commits::caller_writes(s))),
    ("a lease is for one owner", |s| Box::pin(leases::one_owner(s))),
    ("many leases at once have one winner", |s| Box::pin(leases::one_winner(s))),
    ("a lease ends by the ledger's clock", |s| Box::pin(leases::expiry(s))),
    ("a lease is given back", |s| Box::pin(leases::given_back(s))),
    ("owners share the lanes", |s| Box::pin(leases::shares(s))),
    ("a worker that lost its lane writes nothing", |s| Box::pin(leases::fence(s))),
    ("a lease is for one lane", |s| Box::pin(leases::one_lane(s))),
    ("one live step per once key", |s| Box::pin(once_keys::one_live_step(s))),
    ("a dead step gives its once key back", |s| Box::pin(once_keys::dead_gives_back(s))),
    ("a proven step keeps its once key", |s| Box::pin(once_keys::proven_keeps(s))),
    ("a once key passes over within one write", |s| Box::pin(once_keys::passes_over(s))),
    ("what a step needs for itself is held while it is open", |s| Box::pin(once_keys::exclusive_while_open(s))),
    ("due payments come in order and up to a limit", |s| Box::pin(views::due_order(s))),
    ("an answered payment is never due", |s| Box::pin(views::answered_is_not_due(s))),
    ("a lane shows what is open and ready", |s| Box::pin(views::lane_shows(s))),
    ("what has no answer is found by the beginning of its key", |s| Box::pin(views::unanswered_by_prefix(s))),
    ("payments come in the order asked", |s| Box::pin(views::payments_in_order(s))),
    ("slots come in the order asked", |s| Box::pin(views::slots_in_order(s))),
    ("what is over is forgotten, and nothing else", |s| Box::pin(rows::forget(s))),
];

/// The reason why a rule is violated.
struct Broken(Box<str>);

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self(fault.to_string().into())
    }
}

impl From<CommitError> for Broken {
    fn from(error: CommitError) -> Self {
        Self(error.to_string().into())
    }
}

/// Checks that a condition holds.
fn ensure(holds: bool, what: &str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(what.into())) }
}

/// Checks that two values are equal.
fn same<T: PartialEq + core::fmt::Debug>(found: &T, expected: &T, what: &str) -> Result<(), Broken> {
    if found == expected {
        Ok(())
    } else {
        Err(Broken(format!("{what}: found {found:?}, expected {expected:?}").into()))
    }
}
