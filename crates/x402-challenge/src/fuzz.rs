//! Bodies of the fuzz targets in `fuzz/`: properties that hold for all input bytes. This module is not part of the API.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a property that does not hold has to be heard"
)]

use lightning_invoice::Bolt11Invoice;
use x402_types::challenge::{Challenge, Proof, ProofKind};
use x402_types::{AtomicAmount, Members, UnixSeconds};

use crate::canonical::{Bind, BoundRequest, binding, body_sha256, canonical_binding, canonical_payment, host};
use crate::entitlement::EntitlementToken;
use crate::lightning::{INVOICE, check};

/// A challenge of `402kit-x402v1.md`, adapted to Lightning.
const CHALLENGE: &str = r#"{"version":"x402.v1","scheme":"exact","network":"lightning:bitcoin:mainnet",
    "asset":"0x0000000000000000000000000000000000000000","payTo":"0x0000000000000000000000000000000000000000",
    "maxAmountRequired":"1","maxTimeoutSeconds":60,"challengeId":"uuid",
    "bind":{"host":"a","method":"GET","path":"/"},"resource":"urn:res:a","meta":{}}"#;

/// Checks the canonical texts of a request whose parts are given line by line: a host has one canonical form, and no
/// part runs into the next.
pub fn canonical_texts(data: &[u8]) {
    if let Ok(payment) = x402_codec::challenge::payment_json(data) {
        let text = canonical_payment(&payment);
        assert_eq!(text.lines().count(), 8 + usize::from(payment.payer.is_some()), "{text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (method, named, path, query, authorization, cookie) = (next(), next(), next(), next(), next(), next());
    if let Ok(host) = host(named) {
        assert_eq!(crate::host(host.as_str()).as_ref(), Ok(&host), "it is in its one form");
        assert_eq!(crate::host(&named.to_ascii_uppercase()), Ok(host));
    }
    let request = BoundRequest { method, host: named, path, query: Some(query), body_sha256: Some(body_sha256(data)) };
    for bind in [(false, false), (true, false), (false, true), (true, true)].map(|(query, body)| Bind { query, body }) {
        let Ok(bound) = binding(&request, bind) else { continue };
        let text = canonical_binding(&bound);
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines.len(), 3 + usize::from(bind.body), "{text:?}");
        assert_eq!((lines[0], lines[1]), (method, bound.host.as_str()));
        let whole = if bind.query { format!("{path}?{query}") } else { path.to_owned() };
        assert_eq!(lines[2], whole);
    }
    let token = EntitlementToken::presented(Some(authorization), Some(cookie));
    if let Some(token) = token {
        assert!((authorization.contains(token.reveal())) || cookie.contains(token.reveal()));
        let again = EntitlementToken::presented(Some(&format!("Bearer {}", token.reveal())), None);
        assert_eq!(again.map(|token| token.hash()), Some(token.hash()));
        let set = token.set_cookie(60);
        assert_eq!(
            EntitlementToken::presented(None, set.split(';').next()).map(|token| token.hash()),
            Some(token.hash())
        );
    }
}

/// Checks a BOLT11 invoice and a preimage, on two lines. They must prove a payment for the challenge that names the
/// invoice's node and its text if the preimage matches the payment hash, but never a payment of less than is paid, nor
/// of a challenge that is newer than the invoice.
pub fn decode_invoice(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (invoice, preimage) = text.split_once('\n').unwrap_or((&text, ""));
    let mut challenge: Challenge = serde_json::from_str(CHALLENGE).unwrap();
    let mut proof = Proof::new(ProofKind::Lightning);
    proof.invoice = Some(invoice.into());
    proof.preimage = Some(preimage.into());
    let one = AtomicAmount::from(1);
    assert!(check(&challenge, UnixSeconds(0), one, &proof).is_err(), "the challenge is of another node");

    let Ok(read) = invoice.parse::<Bolt11Invoice>() else { return };
    let node = read.get_payee_pub_key().to_string();
    challenge.pay_to = crate::lightning::pay_to(&node).unwrap();
    challenge.meta.get_or_insert_with(Members::new).insert_text(INVOICE, invoice);
    let known = preimage.len() == 64 && body_of(preimage).is_some_and(|hash| hash == read.payment_hash().to_string());
    let sum = read.amount_milli_satoshis().filter(|sum| *sum > 0);
    let mainnet = read.currency() == lightning_invoice::Currency::Bitcoin;
    let made = read.duration_since_epoch().as_secs();
    let judged = check(&challenge, UnixSeconds(made), one, &proof);
    if judged.is_ok() {
        assert!(known && sum.is_some() && mainnet, "{judged:?}");
    } else {
        assert!(!known || sum.is_none() || !mainnet || read.expiry_time().is_zero(), "{judged:?}");
    }
    if let Some(more) = sum.and_then(|sum| sum.checked_add(1)) {
        assert!(check(&challenge, UnixSeconds(made), AtomicAmount::from(more), &proof).is_err());
    }
    assert!(check(&challenge, UnixSeconds(u64::MAX), one, &proof).is_err(), "it has expired");
    challenge.meta = None;
    assert_eq!(check(&challenge, UnixSeconds(made), one, &proof).is_ok(), judged.is_ok() && names(&read));
}

/// Computes the SHA-256 of bytes given in hex, in hex.
fn body_of(preimage: &str) -> Option<String> {
    let pairs = preimage.as_bytes().chunks(2).map(|pair| core::str::from_utf8(pair).ok());
    let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    preimage.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| body_sha256(&bytes.unwrap()).to_string())
}

/// Returns whether the description of the invoice is the challenge's id.
fn names(invoice: &Bolt11Invoice) -> bool {
    let hashed = body_sha256(b"uuid").to_string();
    match invoice.description() {
        lightning_invoice::Bolt11InvoiceDescriptionRef::Direct(description) => description.as_inner().0 == "uuid",
        lightning_invoice::Bolt11InvoiceDescriptionRef::Hash(hash) => hash.0.to_string() == hashed,
    }
}

#[cfg(test)]
mod tests {
    x402_testkit::replays!(canonical_texts, decode_invoice);
}
