//! A payment whose key is claimed: its settlement, and the grant of the response.

use core::fmt;
use std::sync::Arc;

use x402_types::extension::SettledClaim;
use x402_types::hooks::Cancellation;
use x402_types::v2::SettleResponse;
use x402_types::{AmountRule, ErrorReason, Fault, Rejection, Terms};

use super::hooked::Watch;
use super::verdict::{Settlement, for_the_payer, judge, unknown_response};
use super::{Declined, Dialect, GrantLock, Grants, IncidentStep, Paid, Received, Used};

/// The hold on a claim, which ends when it is dropped, wherever that happens.
pub(super) struct Hold {
    grants: Arc<dyn Grants>,
    lock: GrantLock,
    /// The lock on the request's name, if an extension named it.
    pub(super) name: Option<GrantLock>,
    /// Whether the key is granted or freed, so that there is nothing left to release.
    over: bool,
}

impl Hold {
    pub(super) fn new(grants: Arc<dyn Grants>, lock: GrantLock) -> Self {
        Self { grants, lock, name: None, over: false }
    }

    async fn pend(&self) -> Result<(), Fault> {
        // The name comes first, so that a pending payment always has its name.
        if let Some(name) = &self.name {
            self.grants.pend(name).await?;
        }
        self.grants.pend(&self.lock).await
    }

    async fn free(&mut self) -> Result<(), Fault> {
        self.grants.free(&self.lock).await?;
        self.over = true;
        match self.name.take() {
            Some(name) => self.grants.free(&name).await,
            None => Ok(()),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.over {
            self.grants.release(&self.lock);
        }
        // The name stays pending for its payment: the same request may use it again, and no other.
        if let Some(name) = &self.name {
            self.grants.release(name);
        }
    }
}

/// A payment whose key is claimed for one request: the work may be done.
///
/// Dropping it, because the caller disconnected, loses nothing: a payment that was not sent for settlement is free
/// again, and one that was waits for the same request.
pub struct Admitted<'c, D: ?Sized = dyn Dialect> {
    pub(super) received: Received<'c, D>,
    hold: Hold,
    watch: Watch,
    /// The settlement, if it was made before the work.
    settled: Option<SettleResponse>,
}

impl<'c, D: Dialect + ?Sized> Admitted<'c, D> {
    pub(super) fn new(received: Received<'c, D>, hold: Hold) -> Self {
        Self { watch: Watch::begin(&received), received, hold, settled: None }
    }

    /// Returns the identifier of the request, if an extension named it. A transport may keep the answer under it, for
    /// [`Declined::Repeated`].
    #[must_use]
    pub fn named(&self) -> Option<&str> {
        self.hold.name.as_ref().map(|_| &*self.received.matched.request.claim.identity.request)
    }

    /// Returns the verified terms, and the rule for what is settled of their amount; `None` if the payment was settled before
    /// the work.
    #[must_use]
    pub fn unsettled(&self) -> Option<(&Terms, AmountRule)> {
        let matched = &self.received.matched;
        self.settled.is_none().then_some((&matched.request.claim.terms, matched.rule))
    }

    /// Settles a request whose work is done, unless that was done before, and grants nothing yet: a transport may store the
    /// answer, and [`finish`](Self::finish) grants it.
    ///
    /// # Errors
    /// Settlement failed, or its result is unknown: the answer must not be sent.
    pub async fn settle_now(&mut self, used: Option<Used>) -> Result<&SettleResponse, Declined> {
        let settlement = match self.settled.take() {
            Some(settlement) => settlement,
            None => {
                if let Some(Used(amount)) = used {
                    let matched = &mut self.received.matched;
                    let terms = &mut matched.request.claim.terms;
                    terms.amount = matched.rule.settles(terms.amount, amount);
                }
                self.settle(false).await?
            }
        };
        Ok(self.settled.insert(settlement))
    }

    /// Ends a request whose work is done: settles, unless that was done before, and grants the answer. The receipt is
    /// for the payer, and the answer may leave with it.
    ///
    /// `used` is the amount that the work used, if it reports one; it counts for schemes that settle less than was
    /// authorized.
    ///
    /// # Errors
    /// Settlement failed, or the result of the settlement or of the grant is unknown: the answer must not be sent.
    pub async fn finish(mut self, used: Option<Used>) -> Result<SettleResponse, Declined> {
        self.settle_now(used).await?;
        match self.settled.take() {
            Some(settlement) => self.grant(settlement).await,
            None => Err(self.received.unavailable(IncidentStep::Settle, Fault::broken("a settlement is missing"))),
        }
    }

    /// Ends a request whose work failed. Nothing is settled, and an open claim is free again.
    ///
    /// Where the money moved before the work, its receipt comes back: the claim stays pending, and the same request
    /// gets its answer when it comes again.
    #[must_use]
    pub fn fail(mut self) -> Option<SettleResponse> {
        self.watch.cancel(Cancellation::HandlerFailed);
        self.settled.take()
    }

    /// Settles before the work, and returns what the work may know of the payment. `payer` is the payer as far as it is
    /// known.
    pub(super) async fn settle_first(&mut self, resumed: bool, payer: Option<String>) -> Result<Paid, Declined> {
        let settlement = self.settle(resumed).await?;
        let payer = settlement.payer.clone().or(payer);
        let paid = self.received.matched.paid(payer, Some(&settlement));
        self.settled = Some(settlement);
        Ok(paid)
    }

    /// Settles the payment, and returns only a plain success.
    async fn settle(&mut self, resumed: bool) -> Result<SettleResponse, Declined> {
        let Self { received, hold, watch, .. } = self;
        // A settlement that began is finished: a refusal would hide what it may have moved.
        if !resumed && let Err(declined) = received.before_settle().await {
            watch.cancel(Cancellation::Refused);
            return Err(declined);
        }
        watch.settling(received);
        let facilitator = received.facilitator().ok_or_else(|| {
            received.unavailable(IncidentStep::Settle, Fault::broken("the payment has no facilitator"))
        })?;
        let request = &received.matched.request;
        let terms = &request.claim.terms;
        if let Err(fault) = hold.pend().await {
            watch.unknown(Some(&fault));
            return Err(received.unavailable(IncidentStep::Grants, fault));
        }
        let answer = facilitator.settle(request).await;
        let failed = match judge(answer, terms, resumed, facilitator.keeps_requests()) {
            Settlement::Made(response) => {
                let mut response = for_the_payer(response, terms);
                let (extensions, now) = (&received.checkout.extensions, received.checkout.clock.now());
                let settled = SettledClaim::new(&request.claim, Some(&request.resource), &response, now);
                if let Err(fault) = extensions.on_settled(&settled).await {
                    // The money moved. The claim stays pending, so that the same request is recorded when it comes again.
                    received.report(IncidentStep::Extension, &fault);
                    watch.unknown(Some(&fault));
                    let receipt = unknown_response(Some(response), terms).into();
                    return Err(Declined::Unknown { receipt, fault: Some(fault) });
                }
                extensions.on_receipt(&request.claim, Some(&request.resource), &mut response, now);
                watch.settled(&response);
                return Ok(response);
            }
            Settlement::Unknown(known, fault) => {
                if let Some(fault) = &fault {
                    received.report(IncidentStep::Settle, fault);
                }
                watch.unknown(fault.as_ref());
                return Err(Declined::Unknown { receipt: unknown_response(known, terms).into(), fault });
            }
            Settlement::Failed(response) | Settlement::Duplicate(response) => Box::new(response),
        };
        watch.not_settled(&failed);
        // If the store fails here, the claim stays pending, and the same request may come again.
        let _ = hold.free().await;
        Err(received.failed_settlement(*failed))
    }

    async fn grant(mut self, settlement: SettleResponse) -> Result<SettleResponse, Declined> {
        self.watch.over();
        let granted = self.hold.grants.grant(&self.hold.lock).await;
        self.hold.over = granted.is_ok();
        match granted {
            Ok(()) => Ok(settlement),
            Err(fault) => {
                self.received.report(IncidentStep::Grants, &fault);
                // The payment is settled, but the grant cannot be stored. The same request gets the response later.
                let receipt = unknown_response(Some(settlement), &self.received.matched.request.claim.terms);
                Err(Declined::Unknown { receipt: receipt.into(), fault: Some(fault) })
            }
        }
    }
}

impl<D: Dialect + ?Sized> Received<'_, D> {
    fn failed_settlement(&self, response: SettleResponse) -> Declined {
        let code = match response.error_reason.clone() {
            Some(code) => code,
            None if response.success => ErrorReason::DUPLICATE_SETTLEMENT,
            None => ErrorReason::UNEXPECTED_SETTLE_ERROR,
        };
        let mut rejection = Rejection::new(code.clone());
        rejection.message = response.error_message.clone().map(String::into_boxed_str);
        rejection.details = self.dialect.details(&response.rest);
        let response = SettleResponse { success: false, error_reason: Some(code), ..response };
        let receipt = for_the_payer(response, &self.matched.request.claim.terms).into();
        Declined::NotSettled { rejection, receipt }
    }
}

impl<D: ?Sized> fmt::Debug for Admitted<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("received", &self.received).finish_non_exhaustive()
    }
}
