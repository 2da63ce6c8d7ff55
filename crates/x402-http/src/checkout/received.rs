//! A payment that was read and fits an offer: whether it is good, and the claim of its key.

use core::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use x402_codec::Limits;
use x402_facilitator_core::PaymentRequest;
use x402_types::v2::{SettleResponse, VerifyResponse};
use x402_types::{AmountRule, Blank, ErrorReason, Fault, Offer, PaymentKey, Rejection};

use super::admitted::{Admitted, Hold};
use super::dialect::{RawPayment, ReadPayment};
use super::named;
use super::{Checkout, Claimed, Declined, Dialect, Flow, GrantState, Paid, PaymentIn, Step};
use crate::digest::hex;

/// A payment that was read and fits an offer. Nothing was asked of anybody yet.
pub struct Received<'c, D: ?Sized = dyn Dialect> {
    pub(super) checkout: &'c Checkout<D>,
    pub(super) dialect: &'c Arc<D>,
    pub(super) matched: Box<Matched>,
}

/// A payment that was matched with an offer.
pub(super) struct Matched {
    pub(super) request: PaymentRequest,
    pub(super) key: PaymentKey,
    pub(super) flow: Flow,
    /// Whether what is settled may be less than what was authorized.
    pub(super) rule: AmountRule,
    /// The digest of all that a name from an extension is bound to, if extensions are registered.
    pub(super) exact: Option<String>,
}

impl<D: Dialect + ?Sized> Checkout<D> {
    /// Reads a payment, and finds the offer that it was made for.
    ///
    /// # Errors
    /// The payment cannot be read, or it is for none of the offers.
    pub fn receive(&self, payment: PaymentIn<'_>, offers: &[Offer]) -> Result<Received<'_, D>, Rejection> {
        let exact = (!self.extensions.is_empty()).then(|| named::exact(&payment));
        let PaymentIn { raw, token, resource, method, name } = payment;
        let (dialect, read) = read(&self.dialects, &raw, &self.limits, offers)?;
        let ReadPayment { offer, mut claim, forwarded } = read;
        let unsupported = || Rejection::new(dialect.code(ErrorReason::UNSUPPORTED_SCHEME));
        let offer = offers.get(offer).ok_or_else(unsupported)?;
        let flow = Flow::of(offer).ok_or_else(unsupported)?;
        let named = dialect.request_name(&claim, name)?;
        let is_named = named.is_some();
        claim.identity.request = named.unwrap_or_default();
        let key = offer.key.key(&claim)?;
        if !is_named {
            claim.identity.request = identity(&key, method, &resource.url, claim.payload.as_str());
        }
        let raw = forwarded.unwrap_or(raw);
        let request = PaymentRequest { raw, token, claim, resource, verified_as: None, form: dialect.form() };
        let matched = Matched { request, key, flow, rule: offer.key.amount_rule(), exact };
        let received = Received { checkout: self, dialect, matched: Box::new(matched) };
        self.compare_echo(&received, offers)?;
        Ok(received)
    }
}

impl<'c, D: Dialect + ?Sized> Received<'c, D> {
    /// The dialect in which the payment is written.
    #[must_use]
    pub const fn dialect(&self) -> &'c Arc<D> {
        self.dialect
    }

    /// When the payment's money moves.
    #[must_use]
    pub const fn flow(&self) -> Flow {
        self.matched.flow
    }

    /// Verifies a payment that is new here, and claims nothing: for requests that are given nothing that is paid for.
    ///
    /// # Errors
    /// The payment is refused, used, or in use, or nobody can say now.
    pub async fn look(&self) -> Result<Paid, Declined> {
        self.named().await?;
        let standing = self.checkout.grants.look(&self.matched.key).await;
        match standing.map_err(|fault| self.unavailable(Step::Grants, fault))? {
            Some(standing) if standing.state == GrantState::Granted => Err(used()),
            // The request that began it has its answer.
            Some(_) => Err(busy()),
            None => self.verify().await.map(|(payer, _)| self.matched.paid(payer, None)),
        }
    }

    /// Verifies a payment that is new here and claims its key. What was begun before is settled, and what is paid
    /// upfront.
    ///
    /// The work may be done for what comes back, and is told of the payment by [`Paid`].
    ///
    /// # Errors
    /// The payment is refused, used, in use or not settled, or nobody can say now.
    pub async fn admit(mut self) -> Result<(Admitted<'c, D>, Paid), Declined> {
        let grants = &self.checkout.grants;
        let named = self.named().await?;
        if let Some(named) = &named {
            self.matched.request.claim.identity.request.clone_from(&named.request);
        }
        let request = &self.matched.request.claim.identity.request;
        let standing = grants.look(&self.matched.key).await;
        let (mut payer, mut verified_as) = (None, None);
        match standing.map_err(|fault| self.unavailable(Step::Grants, fault))? {
            Some(standing) if standing.state == GrantState::Granted || standing.request != *request => {
                return Err(match used() {
                    Declined::Refused(rejection) if named.is_some() && standing.request == *request => {
                        Declined::Repeated { request: standing.request, rejection }
                    }
                    used => used,
                });
            }
            Some(standing) if standing.held => return Err(busy()),
            // Its nonce may be used by now, so that verification would refuse what this server settled.
            Some(_) => {}
            // Before the claim: whoever knows a nonce but cannot sign must not keep the payer out.
            None if self.matched.flow == Flow::Authorization => (payer, verified_as) = self.verify().await?,
            None => {}
        }
        let claimed = grants.claim(&self.matched.key, request).await;
        let (lock, resumed) = match claimed.map_err(|fault| self.unavailable(Step::Grants, fault))? {
            Claimed::Open(lock) => (lock, false),
            Claimed::Pending(lock) => (lock, true),
            Claimed::Taken => return Err(busy()),
        };
        let mut hold = Hold::new(Arc::clone(grants), lock);
        if let Some(named) = &named {
            let claimed = grants.claim(&named.key, &named.request).await;
            match claimed.map_err(|fault| self.unavailable(Step::Grants, fault))? {
                Claimed::Open(lock) | Claimed::Pending(lock) => hold.name = Some(lock),
                // Another payment took the name first.
                Claimed::Taken => return Err(named.taken()),
            }
        }
        self.matched.request.verified_as = verified_as;
        let mut admitted = Admitted::new(self, hold);
        // What was begun before is settled first: its outcome may be that nothing is to be served.
        let paid = if resumed || admitted.received.matched.flow == Flow::Upfront {
            admitted.settle_first(resumed, payer).await?
        } else {
            admitted.received.matched.paid(payer, None)
        };
        Ok((admitted, paid))
    }

    /// Asks the facilitator whether the payment is good. Who pays comes back, and what the facilitator calls the request.
    async fn verify(&self) -> Result<(Option<String>, Option<String>), Declined> {
        let verdict = self.checkout.facilitator.verify(&self.matched.request).await;
        let verdict = verdict.map_err(|fault| self.unavailable(Step::Verify, fault))?;
        if verdict.is_valid {
            return Ok((verdict.payer, verdict.rest.text("agentRequestId")));
        }
        Err(self.refusal(verdict).into())
    }

    fn refusal(&self, verdict: VerifyResponse) -> Rejection {
        let details = self.dialect.details(&verdict.rest);
        let (code, message) = match verdict.invalid_reason {
            Some(code) => (code, verdict.invalid_message),
            // A no is a no, also without a reason.
            None => {
                let unexplained = "the facilitator refuses the payment and gives no reason";
                let message = verdict.invalid_message.unwrap_or_else(|| unexplained.to_owned());
                (self.dialect.code(ErrorReason::INVALID_PAYLOAD), Some(message))
            }
        };
        if code.row().is_some_and(|row| row.status >= 500) {
            let message = message.as_deref().unwrap_or_default();
            let fault = Fault::unreachable("facilitator", format_args!("it answered {code}: {message}"));
            self.report(Step::Verify, &fault);
        }
        let mut rejection = Rejection::new(code);
        rejection.message = message.map(String::into_boxed_str);
        rejection.details = details;
        rejection
    }

    pub(super) fn report(&self, step: Step, fault: &Fault) {
        self.checkout.report(&self.matched.request.resource.url, step, fault);
    }

    pub(super) fn unavailable(&self, step: Step, fault: Fault) -> Declined {
        self.report(step, &fault);
        Declined::Unavailable(fault)
    }
}

impl Matched {
    /// What the work is told of the payment.
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

/// Has the payment read by the first dialect that knows it.
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

fn used() -> Declined {
    Declined::Refused(Rejection::new(ErrorReason::DUPLICATE_SETTLEMENT).because("this payment was used"))
}

fn busy() -> Declined {
    let why = "this payment is being used by a request that is not answered yet";
    Declined::Busy(Rejection::new(ErrorReason::DUPLICATE_SETTLEMENT).because(why))
}

/// The same payload, byte for byte, for the same resource and method is the same request. The bytes count: one who
/// only knows the authorization must not take up what its payer began.
fn identity(key: &PaymentKey, method: &str, url: &str, payload: &str) -> String {
    let mut hash = Sha256::new();
    // Neither a method nor a URL holds a space or a line's end, and the key is of known length.
    for part in [method, " ", url, "\n"] {
        hash.update(part);
    }
    hash.update((key.as_bytes().len() as u64).to_be_bytes());
    hash.update(key.as_bytes());
    hash.update(payload);
    hex(hash)
}

impl<D: ?Sized> fmt::Debug for Received<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("request", &self.matched.request).finish_non_exhaustive()
    }
}
