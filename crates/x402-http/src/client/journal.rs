//! Payments with an unknown result, stored so that a later process finds them.

use core::fmt;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};
use x402_types::v2::SettleResponse;
use x402_types::{AmountRule, Fault, UnixSeconds};

#[cfg(feature = "challenge")]
use super::OpenChallenge;
use super::flight::{Purchase, Signed};
use super::{PayError, Payer, Receipt};

/// A signed payment with an unknown result. Anyone who has its `value` can have it settled.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenPayment {
    /// The SHA3-256 of the header's value, in hex: one row per payment.
    pub id: String,
    /// The SHA3-256 of method, URL and body, in hex: the request that is paid for.
    pub purchase: String,
    /// The method of the request.
    pub method: String,
    /// The URL of the request.
    pub url: String,
    /// The name of the payment header.
    pub header: String,
    /// The value of the payment header: a secret as long as the payment is valid.
    pub value: String,
    /// The time until which the payment can be settled.
    pub valid_until: UnixSeconds,
    /// The server's receipt, if it settled the payment and did not serve the request.
    #[serde(default)]
    pub settled: Option<SettleResponse>,
    /// The challenge that the payment answers, if it is of the `x402.v1` dialect.
    #[cfg(feature = "challenge")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<OpenChallenge>,
    /// The same, kept for a process that has the dialect.
    #[cfg(not(feature = "challenge"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    challenge: Option<x402_types::RawJson>,
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
            #[cfg(feature = "challenge")]
            challenge: signed.challenge.clone(),
            #[cfg(not(feature = "challenge"))]
            challenge: None,
        })
    }

    /// Returns whether the payment is for this request.
    pub(super) fn is_of(&self, purchase: &Purchase) -> bool {
        self.purchase == hex(&purchase.digest)
    }

    /// Returns whether the payment may still be presented: it is valid, or it was settled already.
    #[must_use]
    pub fn lasts(&self, now: UnixSeconds) -> bool {
        self.is_paid() || now < self.valid_until
    }

    #[cfg(feature = "challenge")]
    fn is_paid(&self) -> bool {
        self.settled.is_some() || self.challenge.as_ref().is_some_and(|challenge| challenge.receipt.is_some())
    }

    #[cfg(not(feature = "challenge"))]
    const fn is_paid(&self) -> bool {
        self.settled.is_some()
    }

    /// Returns whether a process with these features presents the payment at this time.
    fn is_shown(&self, now: UnixSeconds) -> bool {
        // A server takes up a challenge's payment that was begun in time, also long after the challenge is over.
        if self.challenge.is_some() { cfg!(feature = "challenge") } else { self.lasts(now) }
    }

    fn signed(&self) -> Option<Signed> {
        let name: HeaderName = self.header.parse().ok()?;
        let mut value = HeaderValue::try_from(self.value.as_str()).ok()?;
        value.set_sensitive(true);
        Some(Signed {
            header: (name, value),
            valid_until: self.valid_until,
            reservation: None,
            rule: AmountRule::Equal,
            sent: true,
            paid: self.is_paid(),
            settled: self.settled.clone().map(Receipt),
            #[cfg(feature = "challenge")]
            challenge: self.challenge.clone(),
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

/// Stores open payments beyond the life of the process. Without a journal the client keeps them in memory.
///
/// A payment is written before it is sent, and removed when its result is known. A payment that expired with an unknown
/// result blocks a new one ([`PayError::EarlierUnknown`]) until its row is removed by a person who knows the result
/// ([`Payer::pay_anew`]). A
/// payment of a challenge is presented also then, since a server that has begun it goes on with it; it blocks a new one
/// where the server refuses it. The rows contain signed authorizations and bought entitlements.
#[async_trait]
pub trait PaymentJournal: Send + Sync + fmt::Debug {
    /// Writes a payment; replaces the one with the same `id` if there is one.
    /// # Errors
    /// The store failed: then the payment is not sent.
    async fn write(&self, payment: &OpenPayment) -> Result<(), Fault>;

    /// Returns the payments of this request ([`OpenPayment::purchase`]), the oldest first.
    /// # Errors
    /// The store failed: then nothing is paid.
    async fn find(&self, purchase: &str) -> Result<Vec<OpenPayment>, Fault>;

    /// Removes a payment by its `id`, if it exists.
    /// # Errors
    /// The store failed.
    async fn remove(&self, id: &str) -> Result<(), Fault>;
}

/// The payments that this process is making or keeps: a parallel call of the same request is a purchase of its own.
#[derive(Debug, Default)]
pub(super) struct InHand(Mutex<HashSet<String>>);

impl InHand {
    fn ids(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Payer {
    /// Writes a payment, if there is a journal.
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

    /// Returns a payment for this request that an earlier process left open.
    pub(super) async fn journaled(&self, purchase: &Purchase) -> Result<Option<Signed>, PayError> {
        let Some(journal) = &self.journal else { return Ok(None) };
        let found = journal.find(&hex(&purchase.digest)).await?;
        let now = self.clock.now();
        let mut in_hand = self.in_hand.ids();
        let mut found = found.into_iter().filter(|open| !in_hand.contains(&open.id));
        let Some(open) = found.next() else { return Ok(None) };
        // A row that cannot be presented is a payment all the same.
        let Some(signed) = open.signed().filter(|_| open.is_shown(now)) else {
            return Err(PayError::EarlierUnknown(Box::new(open)));
        };
        in_hand.insert(open.id);
        Ok(Some(signed))
    }

    /// Drops a payment from memory; only the journal keeps it from then on.
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
