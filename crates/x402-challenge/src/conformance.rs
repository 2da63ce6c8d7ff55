//! The rules of every store, written once and run on each.
//!
//! A store's tests implement [`Subject`] and drive [`run`] on any executor.

mod claims;
mod entitlements;
mod meters;
mod parallel;
mod refunds;
mod resumption;
mod samples;

use core::future::Future;
use core::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use x402_types::Fault;

use crate::Store;

/// A kind of store under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Creates a store without rows.
    async fn empty(&self) -> Arc<dyn Store>;

    /// Simulates that the process was killed and restarted: the returned store has the same rows. A store in memory
    /// returns itself.
    async fn reopened(&self, store: Arc<dyn Store>) -> Arc<dyn Store>;
}

/// A rule that a store violates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{rule}: {what}")]
pub struct Violation {
    /// The name of the rule.
    pub rule: &'static str,
    /// The expectation that was not met.
    pub what: Box<str>,
}

/// Runs every rule, each on an empty store.
///
/// # Errors
/// The first rule that the store violates.
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
    ("a challenge is issued once and read as written", |s| Box::pin(claims::issued_once(s))),
    ("a claim keeps every other out", |s| Box::pin(claims::one_claim(s))),
    ("a challenge that is not there is not claimed", |s| Box::pin(claims::unknown(s))),
    ("a paid challenge stays paid, also for a new nonce", |s| Box::pin(claims::paid_once(s))),
    ("a nonce is used once over all challenges", |s| Box::pin(claims::nonce_once(s))),
    ("what is given back is free again", |s| Box::pin(claims::given_back(s))),
    ("a payment whose hold ran out keeps others out", |s| Box::pin(resumption::runs_out(s))),
    ("a payment whose hold ran out is taken up by itself, and pays once", |s| Box::pin(resumption::taken_up(s))),
    ("a suspended payment is taken up at once, by itself alone", |s| Box::pin(resumption::suspended(s))),
    ("a payment can be taken up for its time", |s| Box::pin(resumption::ends(s))),
    ("a nonce that was taken over pays nothing", |s| Box::pin(resumption::nonce_taken_over(s))),
    ("a proof is used once, and a second use changes nothing", |s| Box::pin(claims::proof_once(s))),
    ("what is over is forgotten, and nothing else", |s| Box::pin(claims::forget(s))),
    ("an entitlement is there with the payment", |s| Box::pin(entitlements::with_payment(s))),
    ("an entitlement is counted down", |s| Box::pin(entitlements::counted(s))),
    ("an entitlement is granted once under its token", |s| Box::pin(entitlements::granted_alone(s))),
    ("an entitlement ends", |s| Box::pin(entitlements::ends(s))),
    ("an entitlement is for one resource", |s| Box::pin(entitlements::one_resource(s))),
    ("a revoked entitlement is refused", |s| Box::pin(entitlements::revoked(s))),
    ("a look at an entitlement counts nothing", |s| Box::pin(entitlements::looked_at(s))),
    ("a use is given back to an entitlement that stands", |s| Box::pin(entitlements::given_back(s))),
    ("a meter is there with the payment", |s| Box::pin(meters::with_payment(s))),
    ("a meter counts to its maximum and no further", |s| Box::pin(meters::counts(s))),
    ("a meter is closed once, and ends once", |s| Box::pin(meters::closes(s))),
    ("a meter that is waived is never settled", |s| Box::pin(meters::waived(s))),
    ("a meter that is not over is listed, and never forgotten", |s| Box::pin(meters::listed(s))),
    ("a payment is paid back once", |s| Box::pin(refunds::once(s))),
    ("a refund that was refused never stood", |s| Box::pin(refunds::refused(s))),
    ("at most what was paid is paid back", |s| Box::pin(refunds::of_what_was_paid(s))),
    ("of claims at once one wins", |s| Box::pin(parallel::claims(s))),
    ("of payments at once with one proof one is paid", |s| Box::pin(parallel::confirmations(s))),
    ("of uses at once those that fit are counted", |s| Box::pin(parallel::meters(s))),
];

/// The reason why a rule is violated.
struct Broken(Box<str>);

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self(fault.to_string().into())
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
