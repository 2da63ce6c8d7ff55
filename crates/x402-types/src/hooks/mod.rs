//! Functions of an application around the verification and the settlement of payments, at a seller and at a facilitator;
//! and around the payments of a client.
//!
//! Two kinds of function run before a step, and may refuse the payment; all others only observe. None can turn a failure
//! into a success: whether money moved is not an application's to decide (`docs/adr/0072-hooks.md`).

mod purchase;

pub use purchase::{HookedPurchase, PayHooks, PurchaseEvent};

use core::fmt;
use core::future::Future;
use core::panic::AssertUnwindSafe;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::panic::catch_unwind;
use std::sync::Arc;

use crate::v2::{ResourceInfo, SettleResponse};
use crate::{Claim, Fault, Refusal};

/// A payment for which a hook is called.
#[derive(Clone)]
#[non_exhaustive]
pub struct HookedPayment {
    /// The payment. Before a settlement, the amount of its terms is the one that is to be settled.
    pub claim: Arc<Claim>,
    /// The resource: the server's own at a seller, the one that the payment names at a facilitator.
    pub resource: Option<Arc<ResourceInfo>>,
}

impl HookedPayment {
    /// Describes a payment for a resource.
    #[must_use]
    pub fn new(claim: &Claim, resource: Option<&ResourceInfo>) -> Self {
        Self { claim: Arc::new(claim.clone()), resource: resource.cloned().map(Arc::new) }
    }
}

impl fmt::Debug for HookedPayment {
    /// Omits the payload: any reader of a log could present it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedPayment")
            .field("terms", &self.claim.terms)
            .field("resource", &self.resource.as_ref().map(|resource| &resource.url))
            .finish_non_exhaustive()
    }
}

/// An event in the course of a payment.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum PaymentEvent<'a> {
    /// The payment was verified.
    Verified {
        /// The payer's account, as far as it is known.
        payer: Option<&'a str>,
    },
    /// The payment was refused, or its verification ended in a fault. Nothing moved.
    NotVerified {
        /// The refusal, or the fault.
        refusal: &'a Refusal,
    },
    /// The payment was settled. The event may occur again for the same payment, when its request is repeated.
    Settled {
        /// The receipt of the settlement.
        receipt: &'a SettleResponse,
    },
    /// The settlement failed for good, or was another request's.
    NotSettled {
        /// The answer, with `success: false`.
        receipt: &'a SettleResponse,
    },
    /// The money may have moved. The same request finds out when it is repeated.
    Unknown {
        /// The fault, if there is one.
        fault: Option<&'a Fault>,
    },
    /// The request ended without an answer that is paid for.
    Canceled {
        /// The reason of the cancellation.
        why: Cancellation,
        /// Whether the payment was settled before, as in the flow `upfront`: it waits for the same request.
        settled: bool,
    },
}

/// The reason why a verified payment was not settled, or a settled one not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cancellation {
    /// The handler answered that it failed: with 304, 4xx or 5xx in HTTP.
    HandlerFailed,
    /// The request was dropped while the handler worked: its caller went away, or the handler panicked.
    Dropped,
    /// A hook refused the settlement.
    Refused,
}

type Answer = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;
type Before = Arc<dyn Fn(HookedPayment) -> Answer + Send + Sync>;
type Observe = Arc<dyn Fn(&HookedPayment, &PaymentEvent<'_>) + Send + Sync>;

/// The hooks of a seller or a facilitator. Those of one kind are called in the order in which they were added.
///
/// ```
/// use x402_types::hooks::{Hooks, PaymentEvent};
/// use x402_types::{ErrorReason, Rejection};
///
/// let hooks = Hooks::default()
///     .with_before_verify(|payment| async move {
///         match payment.claim.terms.amount.is_zero() {
///             true => Err(Rejection::new(ErrorReason::INVALID_PAYLOAD).because("nothing is free here").into()),
///             false => Ok(()),
///         }
///     })
///     .with_observer(|payment, event| {
///         if let PaymentEvent::Settled { receipt } = event {
///             println!("{} of {}: {}", payment.claim.terms.amount, payment.claim.terms.asset, receipt.transaction);
///         }
///     });
/// # let _ = hooks;
/// ```
#[derive(Clone, Default)]
pub struct Hooks {
    before_verify: Vec<Before>,
    before_settle: Vec<Before>,
    observers: Vec<Observe>,
}

impl Hooks {
    /// Adds a function that is called before a payment is verified. A `Rejection` refuses the payment with its code; a
    /// `Fault` leaves it undecided, and so does a panic. Nothing was claimed or requested for it yet.
    #[must_use]
    pub fn with_before_verify<W>(mut self, hook: impl Fn(HookedPayment) -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        self.before_verify.push(Arc::new(move |payment| Box::pin(hook(payment))));
        self
    }

    /// Adds a function that is called before a settlement is requested, with the same meaning. It is not called for a payment whose
    /// settlement began before: that one is finished.
    #[must_use]
    pub fn with_before_settle<W>(mut self, hook: impl Fn(HookedPayment) -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        self.before_settle.push(Arc::new(move |payment| Box::pin(hook(payment))));
        self
    }

    /// Adds a function that observes. A payer waits while it runs, so it must not block; longer work belongs in a task that
    /// it spawns. A panic in it changes nothing for the payment.
    #[must_use]
    pub fn with_observer(
        mut self,
        observer: impl Fn(&HookedPayment, &PaymentEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Returns whether there is no hook.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.before_verify.is_empty() && self.before_settle.is_empty() && self.observers.is_empty()
    }

    /// Calls the hooks before verification.
    ///
    /// # Errors
    /// The refusal of the first hook that refuses, or the fault of one that panicked.
    pub async fn before_verify(&self, payment: &HookedPayment) -> Result<(), Refusal> {
        before(&self.before_verify, payment).await
    }

    /// Calls the hooks before settlement.
    ///
    /// # Errors
    /// The refusal of the first hook that refuses, or the fault of one that panicked.
    pub async fn before_settle(&self, payment: &HookedPayment) -> Result<(), Refusal> {
        before(&self.before_settle, payment).await
    }

    /// Passes an event to the observers.
    ///
    /// # Errors
    /// One of them panicked. All of them were called.
    pub fn observe(&self, payment: &HookedPayment, event: &PaymentEvent<'_>) -> Result<(), Fault> {
        let mut observed = Ok(());
        for observe in &self.observers {
            if catch_unwind(AssertUnwindSafe(|| observe(payment, event))).is_err() {
                observed = Err(Fault::broken("an observer of payments panicked"));
            }
        }
        observed
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("before_verify", &self.before_verify.len())
            .field("before_settle", &self.before_settle.len())
            .field("observers", &self.observers.len())
            .finish()
    }
}

async fn before(hooks: &[Before], payment: &HookedPayment) -> Result<(), Refusal> {
    for hook in hooks {
        let called = catch_unwind(AssertUnwindSafe(|| hook(payment.clone()))).map_err(|_| panicked())?;
        Caught(called).await?;
    }
    Ok(())
}

fn panicked() -> Refusal {
    Fault::broken("a hook panicked").into()
}

/// A hook's future whose panic is a fault.
struct Caught(Answer);

impl Future for Caught {
    type Output = Result<(), Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(panicked())))
    }
}
