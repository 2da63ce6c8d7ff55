//! Bytes as lower-case hex without a prefix, as rows and logs show them.

use core::fmt;

/// Writes bytes as hex.
pub(crate) fn write(bytes: &[u8], f: &mut impl fmt::Write) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
