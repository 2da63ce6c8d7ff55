//! The client's part in extensions: the client echoes every declaration, its own extensions add to them, and read the
//! receipts.

use http::{HeaderMap, HeaderName, HeaderValue};
use x402_codec::{Limits, header};
use x402_types::extension::{Extensions, PaidRequest, echo};
use x402_types::{Members, PaymentPayload, PaymentRequired, Refusal, SigningContext, Terms, UnixSeconds};

use super::flight::Purchase;
use super::{Clock, PayError, Payer, Receipt};

/// The receipts that extensions refused or could not keep, although the payment was made. It is in the response's
/// extensions; each entry has the name of its extension.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiptRefusals(pub Vec<(Box<str>, Refusal)>);

/// The extension by which a server served a request without a payment. It is in the response's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmittedBy(pub Box<str>);

/// Returns the header of the first extension that has one for a declaration of this document. A header of the caller's own is never replaced.
pub(super) async fn presented(
    payer: &Payer,
    required: &PaymentRequired,
    purchase: &Purchase,
    headers: &HeaderMap,
) -> Result<Option<(AdmittedBy, (HeaderName, HeaderValue))>, PayError> {
    for (name, declaration) in required.extensions().iter() {
        let Some(extension) = payer.extensions.get(name) else { continue };
        let entropy = payer.clock.entropy().ok_or(PayError::Entropy)?;
        let (url, method) = (purchase.url.as_str(), purchase.method.as_str());
        let context = SigningContext { now: payer.clock.now(), entropy, url, method };
        let presented = extension.present(declaration, &context).await.map_err(|refusal| match refusal {
            Refusal::Rejection(why) => PayError::ExtensionRefused { name: name.into(), why },
            Refusal::Fault(fault) => fault.into(),
        })?;
        let Some((header, value)) = presented else { continue };
        let (Ok(header), Ok(mut value)) = (HeaderName::try_from(header), HeaderValue::try_from(value)) else {
            continue;
        };
        if headers.contains_key(&header) {
            return Ok(None);
        }
        value.set_sensitive(true);
        return Ok(Some((AdmittedBy(name.into()), (header, value))));
    }
    Ok(None)
}

/// Returns the member `extensions` of a payment that is signed at this time. The payment is made once, so each of its
/// requests carries the same ids.
pub(super) async fn echoed(
    extensions: &Extensions,
    required: &PaymentRequired,
    terms: &Terms,
    purchase: &Purchase,
    clock: &dyn Clock,
    now: UnixSeconds,
) -> Result<Members, PayError> {
    let mut echoes = Members::new();
    for (name, declaration) in required.extensions().iter() {
        let mut additions = Members::new();
        if let (Some(extension), Some(info)) = (extensions.get(name), echo::info(declaration)) {
            let entropy = clock.entropy().ok_or(PayError::Entropy)?;
            let (url, method) = (purchase.url.as_str(), purchase.method.as_str());
            let context = SigningContext { now, entropy, url, method };
            let refused = |why| PayError::ExtensionRefused { name: name.into(), why };
            extension.on_terms(&info, terms, &context).map_err(refused)?;
            additions = extension.complete(&info, terms, &context).await.map_err(|refusal| match refusal {
                Refusal::Rejection(why) => refused(why),
                Refusal::Fault(fault) => fault.into(),
            })?;
        } else if echo::is_required(declaration) {
            return Err(PayError::ExtensionRequired { name: name.into() });
        }
        echoes.insert(name, echo::echoed(declaration, &additions));
    }
    Ok(echoes)
}

/// Passes the receipt of a paid request to the extensions, with the payment as it was sent.
pub(super) async fn read_receipt(
    extensions: &Extensions,
    (name, value): &(HeaderName, HeaderValue),
    Receipt(receipt): &Receipt,
    purchase: &Purchase,
    clock: &dyn Clock,
    limits: &Limits,
) -> Option<ReceiptRefusals> {
    // The extensions of version 1 and of other forms are not echoed.
    if extensions.is_empty() || !receipt.success || *name != header::PAYMENT_SIGNATURE {
        return None;
    }
    let Ok(PaymentPayload::V2(payment)) = header::decode(value.as_bytes(), limits) else { return None };
    let paid = PaidRequest::new(&payment, receipt, purchase.url.as_str(), purchase.method.as_str(), clock.now());
    let mut refusals = Vec::new();
    for extension in extensions.iter() {
        if let Err(refusal) = extension.on_paid(&paid).await {
            refusals.push((extension.name().into(), refusal));
        }
    }
    (!refusals.is_empty()).then_some(ReceiptRefusals(refusals))
}
