//! Keccak-256, the hash function of Ethereum.

use sha3::{Digest, Keccak256};

/// Computes the Keccak-256 hash of the bytes.
pub(crate) fn keccak256(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}
