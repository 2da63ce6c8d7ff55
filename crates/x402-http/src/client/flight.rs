//! A payment in progress, from its signature to its result.

use core::fmt;

use http::{HeaderName, HeaderValue, Method};
use sha3::{Digest, Sha3_256};
use url::Url;
#[cfg(feature = "challenge")]
use x402_types::challenge::PaymentResponse;
use x402_types::{AmountRule, UnixSeconds};

use super::{Closed, OpenPayment, Payer, Receipt, ReceiptOutcome};
#[cfg(feature = "challenge")]
use super::{OpenChallenge, OpenEntitlement};

/// A request that may be paid for: the same request, made again, sends the same payment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Purchase {
    pub(super) method: Method,
    pub(super) url: Url,
    /// The digest of method, URL and body: kept payments must not hold megabytes, and a journal outlives the process.
    pub(super) digest: [u8; 32],
}

impl Purchase {
    /// `HEAD` is paid as `GET`: a server settles nothing for it, so that the same payment buys the answer afterwards.
    pub(super) fn new(method: &Method, url: Url, body: &[u8]) -> Self {
        let method = if *method == Method::HEAD { Method::GET } else { method.clone() };
        let mut hasher = Sha3_256::new();
        for part in [method.as_str().as_bytes(), b"\n", url.as_str().as_bytes(), b"\n", body] {
            hasher.update(part);
        }
        Self { method, url, digest: hasher.finalize().into() }
    }
}

/// A payment, signed.
#[derive(Clone)]
pub(super) struct Signed {
    pub(super) header: (HeaderName, HeaderValue),
    pub(super) valid_until: UnixSeconds,
    /// The budget reservation; `None` if another process reserved the sum.
    pub(super) reservation: Option<u64>,
    /// Whether less than the reserved sum may be settled.
    pub(super) rule: AmountRule,
    /// Whether the payment may have reached the server before.
    pub(super) sent: bool,
    /// Whether the server confirmed that the payment was made.
    pub(super) paid: bool,
    /// The receipt of a settlement whose request was not served yet.
    pub(super) settled: Option<Receipt>,
    /// The challenge that the payment answers, if there is one.
    #[cfg(feature = "challenge")]
    pub(super) challenge: Option<OpenChallenge>,
}

impl Signed {
    /// Returns whether the payment may still be presented. A settled one is not forgotten: otherwise a new one would be
    /// paid in addition.
    pub(super) fn lasts(&self, now: UnixSeconds) -> bool {
        self.paid || now < self.valid_until
    }

    /// Returns how the payment ends that was made by this receipt.
    pub(super) fn paid(&self, receipt: Option<&Receipt>) -> Closed {
        match (self.rule, receipt.and_then(|receipt| receipt.0.amount?.value())) {
            (AmountRule::AtMost, Some(part)) => Closed::PaidPart(part),
            (AmountRule::AtMost, None) | (AmountRule::Equal, _) => Closed::Paid,
        }
    }

    /// Converts to a journal entry.
    pub(super) fn open(&self, purchase: &Purchase) -> Option<OpenPayment> {
        OpenPayment::new(purchase, self)
    }

    /// Returns the entitlement that the payment bought, if the request was not served with it yet.
    #[cfg(feature = "challenge")]
    pub(super) fn entitlement(&self) -> Option<&OpenEntitlement> {
        self.challenge.as_ref()?.entitlement.as_ref()
    }
}

/// A payment in progress. If it is dropped undecided, the payment is kept and sent again with the same request.
pub(super) struct Flight<'p> {
    payer: &'p Payer,
    purchase: Purchase,
    signed: Option<Signed>,
}

impl<'p> Flight<'p> {
    pub(super) const fn new(payer: &'p Payer, purchase: Purchase, signed: Signed) -> Self {
        Self { payer, purchase, signed: Some(signed) }
    }

    /// Returns the request that is paid for.
    pub(super) const fn purchase(&self) -> &Purchase {
        &self.purchase
    }

    /// Returns the challenge that the payment answers, if there is one.
    #[cfg(feature = "challenge")]
    pub(super) fn challenge(&self) -> Option<&OpenChallenge> {
        self.signed.as_ref()?.challenge.as_ref()
    }

    /// Returns the header to send, and whether it may have been sent before.
    pub(super) fn depart(&mut self) -> Option<((HeaderName, HeaderValue), bool)> {
        let signed = self.signed.as_mut()?;
        let before = core::mem::replace(&mut signed.sent, true);
        Some((signed.header.clone(), before))
    }

    /// Records that the server refused the payment and knows nothing of it: it departs as if for the first time.
    pub(super) fn returned(&mut self) {
        if let Some(signed) = self.signed.as_mut() {
            signed.sent = false;
        }
    }

    /// Returns the time at which the payment expires.
    pub(super) fn valid_until(&self) -> UnixSeconds {
        self.signed.as_ref().map_or(UnixSeconds(0), |signed| signed.valid_until)
    }

    /// Returns the receipt of an earlier attempt that was settled and not served.
    pub(super) fn settled(&self) -> Option<&Receipt> {
        self.signed.as_ref()?.settled.as_ref()
    }

    /// Records that the money moved and nothing was served: it counts once, and is kept for the same request.
    pub(super) fn count(&mut self, receipt: Option<&Receipt>) {
        if let Some(signed) = self.signed.as_mut() {
            self.payer.close(signed, signed.paid(receipt));
            signed.paid = true;
        }
    }

    /// Does the same as [`Self::settle`], with the receipt of a challenge, and the entitlement that it granted.
    #[cfg(feature = "challenge")]
    pub(super) async fn settle_challenge(&mut self, receipt: PaymentResponse, entitlement: Option<OpenEntitlement>) {
        self.count(None);
        let Some(signed) = self.signed.as_mut() else { return };
        if let Some(challenge) = signed.challenge.as_mut() {
            (challenge.receipt, challenge.entitlement) = (Some(receipt), entitlement);
        }
        self.write().await;
    }

    /// Returns the receipt of a challenge that was paid by an earlier attempt and not served.
    #[cfg(feature = "challenge")]
    pub(super) fn challenge_receipt(&self) -> Option<&PaymentResponse> {
        self.signed.as_ref()?.challenge.as_ref()?.receipt.as_ref()
    }

    /// Does the same as [`Self::count`], with the receipt.
    pub(super) async fn settle(&mut self, receipt: Receipt) {
        self.count(Some(&receipt));
        let Some(signed) = self.signed.as_mut() else { return };
        signed.settled = Some(receipt);
        self.write().await;
    }

    async fn write(&self) {
        let open = self.signed.as_ref().and_then(|signed| signed.open(&self.purchase));
        // Without this entry the row still exists, so the next run presents the same payment.
        self.payer.note(open).await.unwrap_or_default();
    }

    /// Returns a payment that can no longer be settled and whose result is unknown: only a person may decide that
    /// another payment is made.
    pub(super) fn blocks(&self) -> Option<Box<OpenPayment>> {
        let signed = self.signed.as_ref().filter(|signed| !signed.lasts(self.payer.clock.now()))?;
        signed.open(&self.purchase).map(Box::new)
    }

    /// Ends a payment that was made and served. With a receipt of it, the payment is kept again if the body of the response
    /// breaks off.
    pub(super) async fn land_paid(self, receipt: Option<&Receipt>) -> Option<Box<UnreadBody>> {
        let how = self.signed.as_ref().map(|signed| signed.paid(receipt));
        let receipt = receipt.filter(|receipt| matches!(receipt.outcome(), ReceiptOutcome::Paid { .. })).cloned();
        let unread = self.signed.clone().zip(receipt).map(|(signed, receipt)| {
            let signed = Signed { paid: true, settled: Some(receipt), ..signed };
            Box::new(UnreadBody { payer: self.payer.clone(), purchase: self.purchase.clone(), signed })
        });
        self.land(how).await;
        unread
    }

    /// Ends the payment. `None` means that it was used, so that neither the money nor the authorization is returned.
    pub(super) async fn land(mut self, how: Option<Closed>) {
        let Some(signed) = self.signed.take() else { return };
        if let Some(how) = how {
            self.payer.close(&signed, how);
        }
        // If this fails, the next run presents a used payment, and pays nothing.
        self.payer.forget(signed.open(&self.purchase)).await.unwrap_or_default();
    }
}

/// A payment whose response began to arrive.
pub(crate) struct UnreadBody {
    payer: Payer,
    purchase: Purchase,
    signed: Signed,
}

impl UnreadBody {
    /// Keeps the payment: its answer did not arrive, and the same request presents it again.
    pub(crate) fn broke_off(self) {
        self.payer.keep(self.purchase, self.signed);
    }
}

impl fmt::Debug for UnreadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnreadBody")
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(signed) = self.signed.take() {
            self.payer.keep(self.purchase.clone(), signed);
        }
    }
}
