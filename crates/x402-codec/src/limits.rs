//! How much input is read before any of it is looked at.

/// Limits on what is read. They stand before any allocation, and every one of them may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest header value, in bytes as sent: 16 KiB.
    pub header: usize,
    /// The longest JSON document that is not in a header, in bytes: 64 KiB.
    pub body: usize,
    /// How deep arrays and objects may nest: 32. A document that is one flat object has depth 1.
    pub depth: u8,
    /// How many entries `accepts` may have: 32.
    pub accepts: usize,
}

impl Limits {
    /// 16 KiB, 64 KiB, 32, 32.
    pub const DEFAULT: Self = Self { header: 16 * 1024, body: 64 * 1024, depth: 32, accepts: 32 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
