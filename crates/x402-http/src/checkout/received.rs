//! A parsed payment that matches an offer: its verification, and the claim of its key.

use core::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use x402_codec::Limits;
use x402_facilitator_core::{Facilitator, PaymentRequest};
use x402_types::hooks::PaymentEvent;
use x402_types::v2::{SettleResponse, VerifyResponse};
use x402_types::{AmountRule, Blank, ErrorReason, Fault, Offer, PaymentKey, Refusal, Rejection};

use super::admitted::{Admitted, Hold};
use super::dialect::{RawPayment, ReadPayment};
use super::facilitators::{Listed, tagged, untagged};
use super::{Checkout, Claimed, Declined, Dialect, Flow, GrantState, IncidentStep, Paid, PaymentIn};
use super::{begun, named};
use crate::digest::hex;

/// A payment that was read and fits an offer. Neither the grants nor the facilitator were involved yet.
pub struct Received<'c, D: ?Sized = dyn Dialect> {
    pub(super) checkout: &'c Checkout<D>,
    pub(super) dialect: &'c Arc<D>,
    pub(super) matched: Box<Matched>,
    /// The place of the facilitator that gets the payment.
    chosen: usize,
    /// Whether the name of the request is bound to the terms.
    is_bound: bool,
    /// Whether the terms are not offered any more: the payment is refused, unless its settlement began under them.
    outdated: bool,
}

/// The result of a verification.
struct Verified {
    /// The place of the facilitator that verified.
    chosen: usize,
    payer: Option<String>,
    /// The facilitator's name for the request.
    named: Option<String>,
}

/// A payment and the offer that it matches.
pub(super) struct Matched {
    pub(super) request: PaymentRequest,
    pub(super) key: PaymentKey,
    pub(super) flow: Flow,
    /// Whether the settled amount may be below the authorized one.
    pub(super) rule: AmountRule,
    /// The digest of all that a name from an extension is bound to, if extensions are registered.
    pub(super) exact: Option<String>,
}

impl<D: Dialect + ?Sized> Checkout<D> {
    /// Parses a payment, and finds the offer that it was made for. One that accepts terms which are not offered any more
    /// is received, too: it is refused by [`Received::admit`], unless its settlement began under them.
    /// # Errors
    /// The payment cannot be parsed, or matches none of the offers.
    pub fn receive(&self, payment: PaymentIn<'_>, offers: &[Offer]) -> Result<Received<'_, D>, Rejection> {
        match read(&self.dialects, &payment.raw, &self.limits, offers) {
            Err(rejection) if rejection.reason == ErrorReason::INVALID_PAYMENT_REQUIREMENTS => {
                self.receive_outdated(payment, offers).ok_or(rejection)
            }
            read => {
                let (dialect, read) = read?;
                let received = self.received(dialect, read, payment, offers)?;
                self.compare_echo(&received, offers)?;
                Ok(received)
            }
        }
    }

    /// Receives a payment that matches none of the offers, if it accepts terms that may have been offered before.
    fn receive_outdated(&self, payment: PaymentIn<'_>, offers: &[Offer]) -> Option<Received<'_, D>> {
        let accepted = begun::accepted_offer(&payment.raw, &self.limits, offers)?;
        let accepted = core::slice::from_ref(&accepted);
        let (dialect, read) = read(&self.dialects, &payment.raw, &self.limits, accepted).ok()?;
        // The echo of a payment that began was compared when it began.
        let mut received = self.received(dialect, read, payment, accepted).ok()?;
        received.outdated = true;
        received.is_bound.then_some(received)
    }

    fn received<'c>(
        &'c self,
        dialect: &'c Arc<D>,
        read: ReadPayment,
        payment: PaymentIn<'_>,
        offers: &[Offer],
    ) -> Result<Received<'c, D>, Rejection> {
        let exact = (!self.extensions.is_empty()).then(|| named::exact(&payment));
        let PaymentIn { raw, token, resource, method, name } = payment;
        let ReadPayment { offer, mut claim, forwarded } = read;
        let unsupported = || Rejection::new(dialect.code(ErrorReason::UNSUPPORTED_SCHEME));
        let offer = offers.get(offer).ok_or_else(unsupported)?;
        let flow = Flow::of(offer).ok_or_else(unsupported)?;
        let named = dialect.request_name(&claim, name)?;
        let is_named = named.is_some();
        // Only x402's own dialects have terms that a payment accepts.
        let is_bound = !is_named && dialect.form().is_none();
        claim.identity.request = named.unwrap_or_default();
        let key = offer.key.key(&claim)?;
        if !is_named {
            let bound = if is_bound { begun::bound(&claim.terms) } else { String::new() };
            claim.identity.request = identity(&key, method, &resource.url, claim.payload.as_str(), &bound);
        }
        let raw = forwarded.unwrap_or(raw);
        let request = PaymentRequest { raw, token, claim, resource, verified_as: None, form: dialect.form() };
        let matched = Box::new(Matched { request, key, flow, rule: offer.key.amount_rule(), exact });
        Ok(Received { checkout: self, dialect, matched, chosen: 0, is_bound, outdated: false })
    }
}

impl<'c, D: Dialect + ?Sized> Received<'c, D> {
    /// Returns the dialect in which the payment is written.
    #[must_use]
    pub const fn dialect(&self) -> &'c Arc<D> {
        self.dialect
    }

    /// Returns the payment's flow.
    #[must_use]
    pub const fn flow(&self) -> Flow {
        self.matched.flow
    }

    /// Verifies a new payment without claiming it, for requests that deliver nothing that is paid for.
    /// # Errors
    /// The payment is refused, used, or in use, or its state is not known now.
    pub async fn look(&self) -> Result<Paid, Declined> {
        self.refuse_outdated().await?;
        self.named().await?;
        let standing = self.checkout.grants.look(&self.matched.key).await;
        match standing.map_err(|fault| self.unavailable(IncidentStep::Grants, fault))? {
            Some(standing) if standing.state == GrantState::Granted => Err(used()),
            // The request that began it has its response.
            Some(_) => Err(busy()),
            None if self.outdated => Err(unfit().into()),
            None => self.verify().await.map(|verified| self.matched.paid(verified.payer, None)),
        }
    }

    /// Verifies a payment that is new here and claims its key. A payment whose settlement began before is settled, and
    /// one of the flow `upfront`.
    ///
    /// The work may be done for the result, and sees the payment as [`Paid`].
    /// # Errors
    /// The payment is refused, used, in use or not settled, or its state is not known now.
    pub async fn admit(mut self) -> Result<(Admitted<'c, D>, Paid), Declined> {
        self.refuse_outdated().await?;
        let grants = &self.checkout.grants;
        let named = self.named().await?;
        if let Some(named) = &named {
            self.matched.request.claim.identity.request.clone_from(&named.request);
        }
        let request = &self.matched.request.claim.identity.request;
        let standing = grants.look(&self.matched.key).await;
        let standing = standing.map_err(|fault| self.unavailable(IncidentStep::Grants, fault))?;
        let (began, began_at) = standing.as_ref().map(|standing| untagged(&standing.request)).unwrap_or_default();
        let mut verified = Verified { chosen: 0, payer: None, named: None };
        match &standing {
            Some(_) if self.outdated && began != request => return Err(unfit().into()),
            Some(standing) if standing.state == GrantState::Granted || began != request => {
                return Err(match used() {
                    Declined::Refused(rejection) if named.is_some() && began == request => {
                        Declined::Repeated { request: request.clone(), rejection }
                    }
                    used => used,
                });
            }
            Some(standing) if standing.held => return Err(busy()),
            // The nonce may be used by now, so that verification would refuse what this server settled.
            Some(_) => verified.chosen = self.place_of(began_at)?,
            None if self.outdated => return Err(unfit().into()),
            // This precedes the claim: an attacker who knows a nonce but cannot sign must not block its payer.
            None if self.matched.flow == Flow::Authorization => verified = self.verify().await?,
            None => verified.chosen = self.serving().await?.first().copied().unwrap_or_default(),
        }
        let Verified { chosen, payer, named: verified_as } = verified;
        let name = self.checkout.facilitators.get(chosen).map(|listed| &*listed.name).unwrap_or_default();
        let claimed = grants.claim(&self.matched.key, &tagged(request, name)).await;
        let (lock, resumed) = match claimed.map_err(|fault| self.unavailable(IncidentStep::Grants, fault))? {
            Claimed::Open(lock) => (lock, false),
            Claimed::Pending(lock) => (lock, true),
            Claimed::Taken => return Err(busy()),
        };
        let mut hold = Hold::new(Arc::clone(grants), lock);
        // The settlement failed in the meantime, so that nothing moves under terms of the past.
        if !resumed && self.outdated {
            return Err(unfit().into());
        }
        if let Some(named) = &named {
            let claimed = grants.claim(&named.key, &named.request).await;
            match claimed.map_err(|fault| self.unavailable(IncidentStep::Grants, fault))? {
                Claimed::Open(lock) | Claimed::Pending(lock) => hold.name = Some(lock),
                // Another payment took the name first.
                Claimed::Taken => return Err(named.taken()),
            }
        }
        self.matched.request.verified_as = verified_as;
        self.chosen = chosen;
        let mut admitted = Admitted::new(self, hold);
        // A settlement that began before is finished first: it may fail, and then nothing is served.
        let paid = if resumed || admitted.received.matched.flow == Flow::Upfront {
            admitted.settle_first(resumed, payer).await?
        } else {
            admitted.received.matched.paid(payer, None)
        };
        Ok((admitted, paid))
    }

    /// Verifies the payment at the first facilitator that serves it and gives a verdict.
    async fn verify(&self) -> Result<Verified, Declined> {
        self.before_verify().await?;
        let mut failed = None;
        for chosen in self.serving().await? {
            let Some(Listed { facilitator, .. }) = self.checkout.facilitators.get(chosen) else { continue };
            match facilitator.verify(&self.matched.request).await {
                Ok(verdict) if verdict.is_valid => {
                    self.observe_verified(verdict.payer.as_deref());
                    let named = verdict.rest.text("agentRequestId");
                    return Ok(Verified { chosen, payer: verdict.payer, named });
                }
                Ok(verdict) => return Err(self.observe_rejected(self.refusal(verdict)).into()),
                Err(fault) => {
                    self.report(IncidentStep::Verify, &fault);
                    failed = Some(fault);
                }
            }
        }
        let fault = failed.unwrap_or_else(|| Fault::broken("no facilitator was asked"));
        if let Some(payment) = self.hooked() {
            let refusal = Refusal::Fault(fault.clone());
            self.observe(&payment, &PaymentEvent::NotVerified { refusal: &refusal });
        }
        Err(Declined::Unavailable(fault))
    }

    /// Returns the places of the facilitators that serve the payment, by precedence.
    async fn serving(&self) -> Result<Vec<usize>, Declined> {
        let terms = &self.matched.request.claim.terms;
        let version = self.dialect.kind_of(terms).unwrap_or(terms.version);
        let serving = self.checkout.serving(terms, version, &self.matched.request.resource.url).await;
        serving.map_err(|fault| self.unavailable(IncidentStep::Supported, fault))
    }

    /// Returns the place of the facilitator that may have begun the payment: no other one learns of it.
    fn place_of(&self, name: &str) -> Result<usize, Declined> {
        self.checkout.facilitators.place_of(name).ok_or_else(|| {
            let fault = Fault::broken(format_args!(
                "the settlement began at the facilitator {name:?}, which is not configured any more"
            ));
            self.unavailable(IncidentStep::Settle, fault)
        })
    }

    /// Returns the facilitator that gets the payment.
    pub(super) fn facilitator(&self) -> Option<&dyn Facilitator> {
        self.checkout.facilitators.get(self.chosen).map(|listed| &*listed.facilitator)
    }

    /// Refuses a payment for terms that are not offered any more, unless its key has a grant.
    async fn refuse_outdated(&self) -> Result<(), Declined> {
        if !self.outdated {
            return Ok(());
        }
        let standing = self.checkout.grants.look(&self.matched.key).await;
        match standing.map_err(|fault| self.unavailable(IncidentStep::Grants, fault))? {
            Some(_) => Ok(()),
            None => Err(unfit().into()),
        }
    }

    fn refusal(&self, verdict: VerifyResponse) -> Rejection {
        let details = self.dialect.details(&verdict.rest);
        let (code, message) = match verdict.invalid_reason {
            Some(code) => (code, verdict.invalid_message),
            // A refusal without a reason is a refusal, too.
            None => {
                let unexplained = "the facilitator refuses the payment and gives no reason";
                let message = verdict.invalid_message.unwrap_or_else(|| unexplained.to_owned());
                (self.dialect.code(ErrorReason::INVALID_PAYLOAD), Some(message))
            }
        };
        if code.row().is_some_and(|row| row.status >= 500) {
            let message = message.as_deref().unwrap_or_default();
            let fault = Fault::unreachable("facilitator", format_args!("it answered {code}: {message}"));
            self.report(IncidentStep::Verify, &fault);
        }
        let mut rejection = Rejection::new(code);
        rejection.message = message.map(String::into_boxed_str);
        rejection.details = details;
        rejection
    }

    pub(super) fn report(&self, step: IncidentStep, fault: &Fault) {
        self.checkout.report(&self.matched.request.resource.url, step, fault);
    }

    pub(super) fn unavailable(&self, step: IncidentStep, fault: Fault) -> Declined {
        self.report(step, &fault);
        Declined::Unavailable(fault)
    }
}

impl Matched {
    /// Returns what the work may know of the payment.
    pub(super) fn paid(&self, payer: Option<String>, settlement: Option<&SettleResponse>) -> Paid {
        let terms = &self.request.claim.terms;
        let moved = settlement.and_then(|settlement| settlement.amount).and_then(Blank::value);
        Paid {
            payer: payer.map(Into::into),
            amount: moved.unwrap_or(terms.amount),
            asset: terms.asset.as_str().into(),
            network: terms.network,
            key: self.key.clone(),
        }
    }
}

/// Reads the payment by the first dialect that recognises it.
fn read<'d, D: Dialect + ?Sized>(
    dialects: &'d [Arc<D>],
    raw: &str,
    limits: &Limits,
    offers: &[Offer],
) -> Result<(&'d Arc<D>, ReadPayment), Rejection> {
    let mut payment = RawPayment::new(raw, limits);
    for dialect in dialects.iter().rev() {
        if let Some(read) = dialect.read(&mut payment, offers) {
            return read.map(|read| (dialect, read));
        }
    }
    Err(Rejection::new(ErrorReason::INVALID_PAYLOAD).because("the payment is of no dialect that is read here"))
}

fn unfit() -> Rejection {
    Rejection::new(ErrorReason::INVALID_PAYMENT_REQUIREMENTS)
        .because("the payment is for none of the entries of `accepts`")
}

fn used() -> Declined {
    Declined::Refused(Rejection::new(ErrorReason::DUPLICATE_SETTLEMENT).because("this payment was used"))
}

fn busy() -> Declined {
    let why = "this payment is being used by a request that is not answered yet";
    Declined::Busy(Rejection::new(ErrorReason::DUPLICATE_SETTLEMENT).because(why))
}

/// Returns the identity of a request: the same payload, byte for byte, for the same resource, method and terms. The bytes
/// count, since one who only knows the authorization must not resume what its payer began.
fn identity(key: &PaymentKey, method: &str, url: &str, payload: &str, terms: &str) -> String {
    let mut hash = Sha256::new();
    // Neither a method nor a URL contains a space or a line break, and the length of the key is known.
    for part in [method, " ", url, "\n"] {
        hash.update(part);
    }
    hash.update((key.as_bytes().len() as u64).to_be_bytes());
    hash.update(key.as_bytes());
    hash.update((payload.len() as u64).to_be_bytes());
    hash.update(payload);
    hash.update(terms);
    hex(hash)
}

impl<D: ?Sized> fmt::Debug for Received<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("request", &self.matched.request).finish_non_exhaustive()
    }
}
