//! The buyer's half: [offer and receipt
//! extension](https://github.com/x402-foundation/x402/blob/main/specs/extensions/extension-offer-and-receipt.md) §4.5, §4.5.1, §5.5.

use core::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use x402_codec::{Limits, json};
use x402_types::extension::{PaidRequest, echo};
use x402_types::{Extension, Fault, Members, RawJson, Refusal, Rejection, SigningContext, Terms, UnixSeconds};

use super::{
    ArtifactError, ArtifactSigner, Attested, INVALID_OFFER, INVALID_RECEIPT, KnownKeys, MAX_ARTIFACT, NAME,
    OfferPayload, ReceiptPayload, SignedArtifact, UNTRUSTED_SIGNER, offers, receipt, without_query,
};

/// The greatest age of a receipt when it comes, in seconds, as in the TypeScript SDK.
const OLDEST: u64 = 3_600;
/// The number of seconds by which the seller's clock may be ahead.
const AHEAD: u64 = 300;

/// The reason why a receipt does not prove a payment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptFault {
    /// The receipt or its offer is malformed, or its signature does not hold.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The receipt is of another payment.
    #[error("{member}: expected {expected}")]
    Other {
        /// The member of the payload that differs.
        member: &'static str,
        /// The expected value.
        expected: Box<str>,
    },
    /// The receipt is not signed by the signer of the offer.
    #[error("signed by {receipt}, and the offer by {offer}")]
    OtherSigner {
        /// The signer of the receipt.
        receipt: Box<str>,
        /// The signer of the offer.
        offer: Box<str>,
    },
}

/// The signers that a buyer accepts for a resource: §4.5.1, "Verifiers MUST distinguish between signature validity and signer
/// authorization."
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SignerTrust {
    /// Any valid signature is accepted, and the signer is kept with the receipt, for the reader to judge.
    #[default]
    Anyone,
    /// The account `payTo` of the terms, or one of these: accounts, or key identifiers that are bound to their keys.
    PayeeOr(Vec<Box<str>>),
}

impl SignerTrust {
    fn accepts(&self, signer: &ArtifactSigner, pay_to: &str) -> bool {
        match self {
            Self::Anyone => true,
            Self::PayeeOr(names) => signer.is(pay_to) || names.iter().any(|name| signer.is(name)),
        }
    }
}

/// A receipt as a buyer keeps it: the artifacts as they were received, and what no signature covers. It is also the document
/// that a third party verifies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct KeptReceipt {
    /// The signed receipt.
    pub receipt: RawJson,
    /// The signed offer under which the buyer paid, if the seller made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<RawJson>,
    /// The URL of the request.
    pub url: String,
    /// The HTTP method of the request.
    pub method: String,
    /// The transaction that the seller named beside the receipt.
    pub transaction: String,
    /// The time at which the receipt came.
    pub kept_at: UnixSeconds,
}

/// The statement of a receipt, with the offer under which the buyer paid. Both have the same signer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiptProof {
    /// The receipt and its signer.
    pub receipt: Attested<ReceiptPayload>,
    /// The offer under which the buyer paid.
    pub offer: Option<OfferPayload>,
}

impl ReceiptProof {
    /// Returns whether the signer is the recipient of the offer, which needs no other source that it may sign.
    #[must_use]
    pub fn is_signed_by_payee(&self) -> bool {
        self.offer.as_ref().is_some_and(|offer| self.receipt.signer.is(&offer.pay_to))
    }
}

impl KeptReceipt {
    /// Reads a kept receipt, or a bare signed receipt.
    ///
    /// # Errors
    /// The text is neither.
    pub fn parse(text: &[u8]) -> Result<Self, ArtifactError> {
        let limits = Limits { body: 3 * MAX_ARTIFACT, depth: 10, ..Limits::DEFAULT };
        let node = json::parse(text, &limits)?;
        if node.get("receipt").is_some() {
            return Ok(json::from_slice(text, &limits)?);
        }
        // The artifact is parsed by the one that verifies it.
        SignedArtifact::<ReceiptPayload>::of_node(&node)?;
        Ok(Self {
            receipt: json::from_slice(text, &limits)?,
            offer: None,
            url: String::new(),
            method: String::new(),
            transaction: String::new(),
            kept_at: UnixSeconds(0),
        })
    }

    /// Verifies the receipt and its offer by their signatures alone, as a third party does. The result does not contain what
    /// no signature covers.
    ///
    /// # Errors
    /// A signature does not hold, or receipt and offer do not belong together.
    pub fn prove(&self, known: &KnownKeys) -> Result<ReceiptProof, ReceiptFault> {
        let receipt = SignedArtifact::<ReceiptPayload>::parse(self.receipt.as_str().as_bytes())?.verify(known)?;
        let offer = match &self.offer {
            None => None,
            Some(offer) => {
                let offer = SignedArtifact::<OfferPayload>::parse(offer.as_str().as_bytes())?.verify(known)?;
                belongs(&receipt, &offer)?;
                Some(offer.payload)
            }
        };
        Ok(ReceiptProof { receipt, offer })
    }
}

/// Checks that a receipt is for the resource and the network of an offer, by the same signer.
fn belongs(receipt: &Attested<ReceiptPayload>, offer: &Attested<OfferPayload>) -> Result<(), ReceiptFault> {
    let (paid, offered) = (&receipt.payload, &offer.payload);
    if paid.resource_url != offered.resource_url {
        return Err(ReceiptFault::Other { member: "resourceUrl", expected: offered.resource_url.clone() });
    }
    if paid.network != offered.network {
        return Err(ReceiptFault::Other { member: "network", expected: offered.network.as_str().into() });
    }
    if receipt.signer != offer.signer {
        let (receipt, offer) = (receipt.signer.to_string().into(), offer.signer.to_string().into());
        return Err(ReceiptFault::OtherSigner { receipt, offer });
    }
    Ok(())
}

/// Checks that a receipt is one of this paid request: signature, network, resource, payer, time and transaction.
///
/// # Errors
/// The receipt is malformed, not signed, or of another payment.
pub fn check_receipt(
    receipt: &SignedArtifact<ReceiptPayload>,
    paid: &PaidRequest<'_>,
    known: &KnownKeys,
) -> Result<Attested<ReceiptPayload>, ReceiptFault> {
    let attested = receipt.verify(known)?;
    let payload = &attested.payload;
    let other = |member: &'static str, expected: &str| Err(ReceiptFault::Other { member, expected: expected.into() });
    let network = paid.payment.accepted.network;
    if payload.network != network {
        return other("network", network.as_str());
    }
    if without_query(&payload.resource_url) != without_query(paid.url) {
        return other("resourceUrl", paid.url);
    }
    if let Some(payer) = paid.receipt.payer.as_deref().filter(|payer| !network.same_account(payer, &payload.payer)) {
        return other("payer", payer);
    }
    let since = paid.now.0.saturating_sub(OLDEST);
    if payload.issued_at.0 < since || payload.issued_at.0 > paid.now.0.saturating_add(AHEAD) {
        return other("issuedAt", "a time at most an hour ago");
    }
    let named = paid.receipt.transaction.as_str();
    if let Some(transaction) = payload.transaction.as_deref().filter(|transaction| *transaction != named) {
        return other("transaction", &format!("{named}, not {transaction}"));
    }
    Ok(attested)
}

/// Keeps the receipts of a buyer.
#[async_trait]
pub trait KeepReceipt: Send + Sync {
    /// Keeps a receipt that was checked. The same receipt may come again.
    ///
    /// # Errors
    /// The store failed.
    async fn keep(&self, receipt: &KeptReceipt) -> Result<(), Fault>;
}

/// The buyer's half of `offer-receipt`: pays under valid offers only, checks receipts, and keeps them.
///
/// Where a seller declares the extension, the terms that are paid must be among its signed offers.
#[derive(Clone)]
pub struct ReceiptBook {
    keeper: Arc<dyn KeepReceipt>,
    trust: SignerTrust,
    known: KnownKeys,
}

impl ReceiptBook {
    /// Creates the extension for a buyer that keeps its receipts here.
    #[must_use]
    pub fn new(keeper: Arc<dyn KeepReceipt>) -> Self {
        Self { keeper, trust: SignerTrust::default(), known: KnownKeys::new() }
    }

    /// Sets the signers that are accepted.
    #[must_use]
    pub fn with_trust(mut self, trust: SignerTrust) -> Self {
        self.trust = trust;
        self
    }

    /// Sets the keys of identifiers that do not contain them.
    #[must_use]
    pub fn with_known_keys(mut self, known: KnownKeys) -> Self {
        self.known = known;
        self
    }

    /// Returns the offer for these terms at this URL, verified.
    fn offer_for(
        &self,
        info: &Members,
        terms: &Terms,
        url: &str,
    ) -> Result<Option<(RawJson, Attested<OfferPayload>)>, Rejection> {
        let invalid = |why: &dyn fmt::Display| {
            Rejection::new(INVALID_OFFER).because(format!("extensions.{NAME}.info.offers: {why}"))
        };
        let Some(list) = info.get("offers") else { return Ok(None) };
        let listed = offers(list, Limits::DEFAULT.accepts).map_err(|why| invalid(&why))?;
        let texts: Vec<RawJson> = list.read().map_err(|why| invalid(&why))?;
        let same_resource = |offer: &SignedArtifact<OfferPayload>| {
            without_query(&offer.unverified().resource_url) == without_query(url)
        };
        let mine = listed.iter().zip(texts).find(|(offer, _)| offer.is_for(terms) && same_resource(offer));
        let Some((offer, text)) = mine else {
            return Err(invalid(&"expected an offer for the resource and the terms that are to be paid"));
        };
        let offer = offer.verify(&self.known).map_err(|why| invalid(&why))?;
        if !self.trust.accepts(&offer.signer, &terms.pay_to) {
            let why = format!("extensions.{NAME}.info.offers: {} is no accepted signer", offer.signer);
            return Err(Rejection::new(UNTRUSTED_SIGNER).because(why));
        }
        Ok(Some((text, offer)))
    }
}

#[async_trait]
impl Extension for ReceiptBook {
    fn name(&self) -> &str {
        NAME
    }

    fn on_terms(&self, info: &Members, terms: &Terms, context: &SigningContext<'_>) -> Result<(), Rejection> {
        let Some((_, offer)) = self.offer_for(info, terms, context.url)? else { return Ok(()) };
        match offer.payload.valid_until {
            // §4.6: "Clients SHOULD check expiration before paying".
            Some(until) if context.now > until => {
                let why = format!("extensions.{NAME}.info.offers: the offer ended at {until}");
                Err(Rejection::new(INVALID_OFFER).because(why))
            }
            _ => Ok(()),
        }
    }

    async fn on_paid(&self, paid: &PaidRequest<'_>) -> Result<(), Refusal> {
        let Some(value) = paid.receipt.extensions.get(NAME).filter(|value| value.as_str() != "null") else {
            return Ok(());
        };
        let invalid = |why: &dyn fmt::Display| {
            Rejection::new(INVALID_RECEIPT).because(format!("extensions.{NAME}.info.receipt: {why}"))
        };
        let signed = receipt(value).map_err(|why| invalid(&why))?;
        let attested = check_receipt(&signed, paid, &self.known).map_err(|why| invalid(&why))?;
        let terms = Terms::from(&paid.payment.accepted);
        let info = paid.payment.extensions.get(NAME).and_then(echo::info).unwrap_or_default();
        let offer = self.offer_for(&info, &terms, paid.url)?;
        if let Some((_, offer)) = &offer {
            belongs(&attested, offer).map_err(|why| invalid(&why))?;
        } else if !self.trust.accepts(&attested.signer, &terms.pay_to) {
            let why = format!("extensions.{NAME}.info.receipt: {} is no accepted signer", attested.signer);
            return Err(Rejection::new(UNTRUSTED_SIGNER).because(why).into());
        }
        let text = RawJson::parse(signed.to_json()).map_err(|why| invalid(&why))?;
        self.keeper
            .keep(&KeptReceipt {
                receipt: text,
                offer: offer.map(|(text, _)| text),
                url: paid.url.to_owned(),
                method: paid.method.to_owned(),
                transaction: paid.receipt.transaction.clone(),
                kept_at: paid.now,
            })
            .await?;
        Ok(())
    }
}

impl fmt::Debug for ReceiptBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiptBook").field("trust", &self.trust).finish_non_exhaustive()
    }
}
