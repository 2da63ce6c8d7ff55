//! Limits on input, checked before it is decoded.

/// The limits on input. They are enforced before any allocation, and each is configurable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The maximum length of a header value, in bytes as sent: 16 KiB.
    pub header: usize,
    /// The maximum length of a JSON document outside of a header, in bytes: 64 KiB.
    pub body: usize,
    /// The maximum nesting depth of arrays and objects: 32. A flat object has depth 1.
    pub depth: u8,
    /// The maximum number of entries of `accepts`: 32.
    pub accepts: usize,
}

impl Limits {
    /// The default limits: 16 KiB, 64 KiB, 32, 32.
    pub const DEFAULT: Self = Self { header: 16 * 1024, body: 64 * 1024, depth: 32, accepts: 32 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
