//! Bodies of the fuzz targets in `fuzz/`: properties that hold for all input bytes. This module is not part of the API.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a property that does not hold has to be heard"
)]

use x402_codec::Limits;
use x402_types::v2::{DiscoveryList, DiscoverySearch};
use x402_types::{Claim, PaymentPayload, Terms};

use crate::bazaar::{Listing, is_valid_icon_url, is_valid_service_name};
use crate::builder_code::{BuilderCodes, MAX_SERVICES};
use crate::canonical::canonical;
use crate::keys::PublicKey;
use crate::offer_receipt::{ArtifactPayload, KeptReceipt, KnownKeys, OfferPayload, ReceiptPayload, SignedArtifact};
use crate::sign_in::{SignIn, SignInAccount};

/// Checks that the canonical form of a document is its own canonical form, and the same value.
pub fn canonical_json(data: &[u8]) {
    let Ok(text) = canonical(data, &Limits::DEFAULT) else { return };
    // Doubles may be written longer than they came, up to a limit.
    if text.len() <= Limits::DEFAULT.body {
        assert_eq!(canonical(text.as_bytes(), &Limits::DEFAULT).as_ref(), Ok(&text));
    }
}

/// Checks that a signed artifact is written as it was read, and that its verdict does not depend on the reading.
pub fn decode_artifact(data: &[u8]) {
    artifact::<OfferPayload>(data);
    artifact::<ReceiptPayload>(data);
    if let Ok(kept) = KeptReceipt::parse(data) {
        let proof = kept.prove(&KnownKeys::new());
        let again = KeptReceipt::parse(serde_json::to_string(&kept).unwrap().as_bytes()).unwrap();
        assert_eq!(again.prove(&KnownKeys::new()), proof);
    }
    if let Ok(text) = core::str::from_utf8(data)
        && let Ok(key) = PublicKey::of_did(text)
        && let Some(did) = key.to_did()
    {
        assert_eq!(PublicKey::of_did(&did), Ok(key));
    }
}

/// Checks that builder codes are read only where they are written, byte for byte.
pub fn decode_builder_codes(data: &[u8]) {
    if let Some(codes) = BuilderCodes::of_calldata(data) {
        assert!(data.ends_with(&codes.to_suffix()));
        assert!(codes.services.len() <= MAX_SERVICES);
    }
}

/// Checks that the answers of a catalog are written as they were read.
pub fn decode_discovery(data: &[u8]) {
    answer::<DiscoveryList>(data);
    answer::<DiscoverySearch>(data);
}

fn answer<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + core::fmt::Debug>(data: &[u8]) {
    let Ok(read) = x402_codec::json::from_slice::<T>(data, &Limits::DEFAULT) else { return };
    let text = x402_codec::body::write(&read).unwrap();
    if text.len() <= Limits::DEFAULT.body {
        assert_eq!(x402_codec::json::from_slice::<T>(&text, &Limits::DEFAULT).as_ref(), Ok(&read));
    }
}

/// Checks that a listing is written as it was read, and that its texts are those that a catalog may show.
pub fn decode_listing(data: &[u8]) {
    let Ok(payment) = x402_codec::body::payment(core::str::from_utf8(data).unwrap_or_default(), &Limits::DEFAULT)
    else {
        return;
    };
    let PaymentPayload::V2(of) = &*payment else { return };
    let Ok(listing) = Listing::of_claim(&Claim::new(Terms::from(&of.accepted), (*payment).clone())) else { return };
    let text = serde_json::to_string(&listing).unwrap();
    assert_eq!(serde_json::from_str::<Listing>(&text).unwrap(), listing);
    assert!(listing.resource.starts_with("http") != (listing.resource.starts_with("mcp:")), "{}", listing.resource);
    assert!(!listing.resource.contains(['?', '#']) && listing.tags.len() <= 5);
    assert!(listing.icon_url.as_deref().is_none_or(is_valid_icon_url));
    assert!(listing.service_name.as_deref().is_none_or(is_valid_service_name));
    assert!(!listing.words().contains(char::is_control));
}

/// Checks that a sign-in is written as it was read, and that its text has a line for each field and no other.
pub fn decode_sign_in(data: &[u8]) {
    let Ok(sign_in) = SignIn::parse(data) else { return };
    assert_eq!(SignIn::parse(sign_in.to_header().as_bytes()).as_ref(), Ok(&sign_in));
    let fields = &sign_in.fields;
    let text = fields.message(&sign_in.account);
    let optional = [&fields.expiration_time, &fields.not_before, &fields.request_id];
    let listed = fields.resources.as_ref().map_or(0, |list| {
        let heading = usize::from(!list.is_empty() || matches!(sign_in.account, SignInAccount::Evm(_)));
        heading + list.len()
    });
    let gap = match (&fields.statement, sign_in.account) {
        (Some(_), _) => 2,
        (None, SignInAccount::Evm(_)) => 1,
        (None, _) => 0,
    };
    assert_eq!(text.split('\n').count(), 8 + gap + optional.into_iter().flatten().count() + listed, "{text}");
    assert!(!text.replace('\n', "").contains(|c: char| c.is_ascii_control()));
    let _ = fields.check("https://api.example.com", x402_types::UnixSeconds(1_764_385_200));
}

fn artifact<P: ArtifactPayload + Clone + PartialEq + core::fmt::Debug>(data: &[u8]) {
    let Ok(artifact) = SignedArtifact::<P>::parse(data) else { return };
    let again = SignedArtifact::<P>::parse(artifact.to_json().as_bytes()).unwrap();
    assert_eq!(again, artifact);
    let verdict = artifact.verify(&KnownKeys::new());
    assert_eq!(again.verify(&KnownKeys::new()), verdict);
    if let Ok(attested) = verdict {
        assert_eq!(attested.payload, *artifact.unverified());
    }
}

#[cfg(test)]
mod tests {
    x402_testkit::replays!(
        canonical_json,
        decode_artifact,
        decode_builder_codes,
        decode_discovery,
        decode_listing,
        decode_sign_in,
    );
}
