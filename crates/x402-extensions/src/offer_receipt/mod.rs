//! Signed offers and receipts: the extension
//! [`offer-receipt`](https://github.com/x402-foundation/x402/blob/main/specs/extensions/extension-offer-and-receipt.md).
//!
//! A seller commits itself to its terms, and confirms what was paid. [`OfferIssuer`] is the seller's half of the extension,
//! [`ReceiptBook`] the buyer's.

mod book;
mod issuer;
mod payload;
mod signed;

pub use book::{KeepReceipt, KeptReceipt, ReceiptBook, ReceiptFault, ReceiptProof, SignerTrust, check_receipt};
pub use issuer::{IssuerKey, OfferIssuer};
pub use payload::{ArtifactPayload, MAX_URL, OfferPayload, ReceiptPayload};
pub use signed::{
    ArtifactError, ArtifactSigner, Attested, KnownKeys, MAX_ARTIFACT, SignedArtifact, digest, offers, receipt,
};

use x402_types::ErrorReason;

/// The key of the extension in `extensions`.
pub const NAME: &str = "offer-receipt";

/// The code of an offer that is malformed, not signed, expired, or for other terms than those that are to be paid.
pub const INVALID_OFFER: ErrorReason = ErrorReason::defined("invalid_signed_offer");
/// The code of a receipt that is malformed, not signed, or of another payment.
pub const INVALID_RECEIPT: ErrorReason = ErrorReason::defined("invalid_signed_receipt");
/// The code of an artifact whose signer the buyer does not trust for the resource.
pub const UNTRUSTED_SIGNER: ErrorReason = ErrorReason::defined("untrusted_artifact_signer");

/// Returns a URL up to its query and fragment.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}
