//! The part of a dialect that is specific to HTTP.

use http::{HeaderMap, HeaderName};
use x402_codec::{EncodeError, Limits};
use x402_types::v2::{self, SettleResponse};
use x402_types::{Rejection, Version};

use crate::checkout::Dialect;

/// A [`Dialect`] over HTTP: where its payments come, where its receipts go, and what the body of a 402 is.
///
/// [`Seller::with_dialect`](super::Seller::with_dialect) registers one.
pub trait HttpDialect: Dialect {
    /// Returns the headers of its own in which its payments come, beside `PAYMENT-SIGNATURE` and `X-PAYMENT`.
    fn headers(&self) -> &[HeaderName] {
        &[]
    }

    /// Returns the text of a payment that came in a header of its own, for [`Dialect::read`]. `None` if there is none.
    ///
    /// The rejection describes the fault of the header.
    fn payment_text(&self, headers: &HeaderMap, limits: &Limits) -> Option<Result<String, Rejection>> {
        let _ = (headers, limits);
        None
    }

    /// Adds the receipt of a settlement to the headers of a response.
    fn write_receipt(&self, headers: &mut HeaderMap, receipt: &SettleResponse) {
        write_receipt(headers, Version::V2, receipt);
    }

    /// Returns a receipt with the codes of this dialect, as a body has it.
    fn in_own_words(&self, receipt: SettleResponse) -> SettleResponse {
        receipt
    }

    /// Returns the body of a 402, if the dialect has one of its own; `None` for the document of version 2, which
    /// `PAYMENT-REQUIRED` has either way.
    ///
    /// # Errors
    /// The document cannot be serialized.
    fn required_body(&self, document: &v2::PaymentRequired) -> Result<Option<Vec<u8>>, EncodeError> {
        let _ = document;
        Ok(None)
    }
}

/// Adds the receipt in the header of this version of x402.
pub fn write_receipt(headers: &mut HeaderMap, version: Version, receipt: &SettleResponse) {
    if let Ok((name, value)) = x402_codec::header::encode_settle_response(version, receipt) {
        headers.insert(name, value);
    }
}
