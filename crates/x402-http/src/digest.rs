//! Hashes as text.

use sha2::{Digest, Sha256};

/// Formats a hash in lower-case hexadecimal digits.
pub(crate) fn hex(hash: Sha256) -> String {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
    let mut text = [[0; 2]; 32];
    for (to, byte) in text.iter_mut().zip(hash.finalize()) {
        *to = [digit(byte >> 4), digit(byte & 15)];
    }
    core::str::from_utf8(text.as_flattened()).unwrap_or_default().to_owned()
}
