//! Bodies of the fuzz targets in `fuzz/`: properties that hold for all input bytes. This module is not part of the API.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a property that does not hold has to be heard"
)]

use x402_codec::Limits;

use crate::canonical::canonical;
use crate::keys::PublicKey;
use crate::offer_receipt::{ArtifactPayload, KeptReceipt, KnownKeys, OfferPayload, ReceiptPayload, SignedArtifact};

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
    x402_testkit::replays!(canonical_json, decode_artifact);
}
