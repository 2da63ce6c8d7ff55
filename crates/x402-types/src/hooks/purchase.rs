//! Functions of an application around the payments of a client.

use core::error::Error;
use core::fmt;
use core::future::Future;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;

use super::{Answer, Caught, panicked};
use crate::v2::SettleResponse;
use crate::{Fault, Refusal, Terms, UnixSeconds};

/// A purchase for which a hook is called.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HookedPurchase {
    /// The terms that are paid; `None` for a payment that an earlier process signed, or of version 1 once it is signed.
    pub terms: Option<Arc<Terms>>,
    /// The URL of the request.
    pub url: Arc<str>,
    /// The method of the request.
    pub method: Arc<str>,
}

impl HookedPurchase {
    /// Describes the payment of a request.
    #[must_use]
    pub fn new(terms: Option<Terms>, url: &str, method: &str) -> Self {
        Self { terms: terms.map(Arc::new), url: url.into(), method: method.into() }
    }
}

/// An event in the course of a purchase.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum PurchaseEvent<'a> {
    /// A payment was signed, and is sent now.
    Signed {
        /// The time until which it can be settled.
        valid_until: UnixSeconds,
    },
    /// No payment was signed for the chosen terms. Others of the same document may be paid.
    NotSigned {
        /// The reason of the failure.
        why: &'a (dyn Error + 'static),
    },
    /// The server reports that the payment was made.
    Paid {
        /// The receipt, if the server sent one.
        receipt: Option<&'a SettleResponse>,
    },
    /// The server refused the payment.
    Refused {
        /// The receipt, if the server sent one.
        receipt: Option<&'a SettleResponse>,
    },
    /// The money may have moved. The same request presents the same payment.
    Unknown {
        /// The receipt, if the server sent one.
        receipt: Option<&'a SettleResponse>,
    },
}

type Before = Arc<dyn Fn(HookedPurchase) -> Answer + Send + Sync>;
type Observe = Arc<dyn Fn(&HookedPurchase, &PurchaseEvent<'_>) + Send + Sync>;

/// The hooks of a client. Those of one kind are called in the order in which they were added.
///
/// ```
/// use x402_types::hooks::PayHooks;
/// use x402_types::{ErrorReason, Rejection};
///
/// let hooks = PayHooks::default().with_before_payment(|purchase| async move {
///     match purchase.url.starts_with("https://") {
///         true => Ok(()),
///         false => Err(Rejection::new(ErrorReason::INVALID_PAYLOAD).because("expected https").into()),
///     }
/// });
/// # let _ = hooks;
/// ```
#[derive(Clone, Default)]
pub struct PayHooks {
    before: Vec<Before>,
    observers: Vec<Observe>,
}

impl PayHooks {
    /// Adds a function that is called for the chosen terms before anything is reserved or signed for them, for example to
    /// have a person confirm it. A `Rejection` ends the purchase without a payment; a `Fault` does so too, and so does a panic. It
    /// is not called for a payment that was signed before and is presented again.
    #[must_use]
    pub fn with_before_payment<W>(mut self, hook: impl Fn(HookedPurchase) -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        self.before.push(Arc::new(move |purchase| Box::pin(hook(purchase))));
        self
    }

    /// Adds a function that observes. The request waits while it runs, so it must not block. A panic in it changes nothing.
    #[must_use]
    pub fn with_observer(
        mut self,
        observer: impl Fn(&HookedPurchase, &PurchaseEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Returns whether there is no hook.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.before.is_empty() && self.observers.is_empty()
    }

    /// Calls the hooks before a payment.
    ///
    /// # Errors
    /// The refusal of the first hook that refuses, or the fault of one that panicked.
    pub async fn before_payment(&self, purchase: &HookedPurchase) -> Result<(), Refusal> {
        for hook in &self.before {
            let called = catch_unwind(AssertUnwindSafe(|| hook(purchase.clone()))).map_err(|_| panicked())?;
            Caught(called).await?;
        }
        Ok(())
    }

    /// Passes an event to the observers.
    ///
    /// # Errors
    /// One of them panicked. All of them were called.
    pub fn observe(&self, purchase: &HookedPurchase, event: &PurchaseEvent<'_>) -> Result<(), Fault> {
        let mut observed = Ok(());
        for observe in &self.observers {
            if catch_unwind(AssertUnwindSafe(|| observe(purchase, event))).is_err() {
                observed = Err(Fault::broken("an observer of purchases panicked"));
            }
        }
        observed
    }
}

impl fmt::Debug for PayHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayHooks")
            .field("before", &self.before.len())
            .field("observers", &self.observers.len())
            .finish()
    }
}
