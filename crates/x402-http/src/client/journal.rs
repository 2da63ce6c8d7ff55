//! Payments whose end is not known, kept where a later process finds them.

use core::fmt;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};
use x402_types::v2::SettleResponse;
use x402_types::{Fault, UnixSeconds};

use super::flight::{Purchase, Signed};
use super::{PayError, Payer, Receipt};

/// A signed payment whose end is not known. Whoever holds its `value` can have it settled.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenPayment {
    /// SHA3-256 of the header's value, in hex: one row a payment.
    pub id: String,
    /// SHA3-256 of method, URL and body, in hex: the request that it pays for.
    pub purchase: String,
    /// The request's method.
    pub method: String,
    /// The request's URL.
    pub url: String,
    /// The payment header's name.
    pub header: String,
    /// The payment header's value: a secret as long as the payment is valid.
    pub value: String,
    /// Until when it can be settled.
    pub valid_until: UnixSeconds,
    /// What the server said where it settled the payment and did not serve the request.
    #[serde(default)]
    pub settled: Option<SettleResponse>,
}

impl OpenPayment {
    pub(super) fn new(purchase: &Purchase, signed: &Signed) -> Option<Self> {
        let (name, value) = &signed.header;
        let value = value.to_str().ok()?.to_owned();
        Some(Self {
            id: hex(&Sha3_256::digest(value.as_bytes())),
            purchase: hex(&purchase.digest),
            method: purchase.method.as_str().to_owned(),
            url: purchase.url.as_str().to_owned(),
            header: name.as_str().to_owned(),
            value,
            valid_until: signed.valid_until,
            settled: signed.settled.as_ref().map(|Receipt(settlement)| settlement.clone()),
        })
    }

    /// Whether it may still be shown: it is valid, or it was settled already.
    #[must_use]
    pub fn lasts(&self, now: UnixSeconds) -> bool {
        self.settled.is_some() || now < self.valid_until
    }

    fn signed(self) -> Option<Signed> {
        let name: HeaderName = self.header.parse().ok()?;
        let mut value = HeaderValue::try_from(self.value).ok()?;
        value.set_sensitive(true);
        Some(Signed {
            header: (name, value),
            valid_until: self.valid_until,
            reservation: None,
            sent: true,
            paid: self.settled.is_some(),
            settled: self.settled.map(Receipt),
            #[cfg(feature = "challenge")]
            challenge: None,
            #[cfg(feature = "challenge")]
            challenge_receipt: None,
        })
    }
}

impl fmt::Debug for OpenPayment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenPayment")
            .field("id", &self.id)
            .field("method", &self.method)
            .field("valid_until", &self.valid_until)
            .field("settled", &self.settled.is_some())
            .finish_non_exhaustive()
    }
}

/// Where open payments outlive the process. Without one the client keeps them in memory.
///
/// A payment is written before it leaves, and removed when its end is known. One that expired with its end unknown
/// stands in the way of a new one ([`PayError::EarlierUnknown`]) until it is removed by whoever knows. The rows hold
/// signed authorizations. Payments of challenges are not journaled: theirs end with the challenge, within minutes.
#[async_trait]
pub trait PaymentJournal: Send + Sync + fmt::Debug {
    /// Writes a payment, in the place of the one with the same `id` if there is one.
    ///
    /// # Errors
    /// The store failed: then the payment is not sent.
    async fn write(&self, payment: &OpenPayment) -> Result<(), Fault>;

    /// The payments of this request ([`OpenPayment::purchase`]), the oldest first.
    ///
    /// # Errors
    /// The store failed: then nothing is paid.
    async fn find(&self, purchase: &str) -> Result<Vec<OpenPayment>, Fault>;

    /// Removes a payment by its `id`, if it is there.
    ///
    /// # Errors
    /// The store failed.
    async fn remove(&self, id: &str) -> Result<(), Fault>;
}

/// The payments that this process has under way or kept: a parallel call of the same request is a purchase of its own.
#[derive(Debug, Default)]
pub(super) struct InHand(Mutex<HashSet<String>>);

impl InHand {
    fn ids(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Payer {
    /// Writes a payment down, where there is a journal.
    pub(super) async fn note(&self, open: Option<OpenPayment>) -> Result<(), Fault> {
        let (Some(journal), Some(open)) = (&self.journal, open) else { return Ok(()) };
        journal.write(&open).await?;
        self.in_hand.ids().insert(open.id);
        Ok(())
    }

    /// Removes a payment from the journal.
    pub(super) async fn forget(&self, open: Option<OpenPayment>) -> Result<(), Fault> {
        let (Some(journal), Some(open)) = (&self.journal, open) else { return Ok(()) };
        let removed = journal.remove(&open.id).await;
        self.in_hand.ids().remove(&open.id);
        removed
    }

    /// A payment for this request that an earlier process left open.
    pub(super) async fn journaled(&self, purchase: &Purchase) -> Result<Option<Signed>, PayError> {
        let Some(journal) = &self.journal else { return Ok(None) };
        let found = journal.find(&hex(&purchase.digest)).await?;
        let now = self.clock.now();
        let mut in_hand = self.in_hand.ids();
        let mut found = found.into_iter().filter(|open| !in_hand.contains(&open.id));
        let Some(open) = found.next() else { return Ok(None) };
        if !open.lasts(now) {
            return Err(PayError::EarlierUnknown(Box::new(open)));
        }
        in_hand.insert(open.id.clone());
        Ok(open.signed())
    }

    /// A payment that is kept no longer in memory: what becomes of it is up to the journal.
    pub(super) fn let_go(&self, open: Option<OpenPayment>) {
        if let Some(open) = open {
            self.in_hand.ids().remove(&open.id);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use core::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
