//! Keccak-256, as Ethereum hashes.

use sha3::{Digest, Keccak256};

/// The hash of some bytes.
pub(crate) fn keccak256(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}
