//! The catalog of resources that were paid: [x402 v2
//! §8](https://github.com/x402-foundation/x402/blob/main/specs/x402-specification-v2.md), discovery.
//!
//! The catalog is written after a settlement and proves nothing: without it, payments go on.

use async_trait::async_trait;
use serde::Serialize;
use x402_extensions::bazaar::Listing;
use x402_types::challenge::IsoTime;
use x402_types::{ChainId, Fault, UnixSeconds};

/// The most listings of one page.
pub const MAX_PAGE: u32 = 100;
/// The most listings that a search or a list reaches by pages.
pub const MAX_OFFSET: u32 = 10_000;
/// The most words of a search; the others are not read.
const MAX_WORDS: usize = 16;

/// The listings that are wanted. A member that is absent does not count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CatalogFilter {
    /// The kind of the resource: `http` or `mcp`.
    pub r#type: Option<String>,
    /// The recipient, as the entry writes it.
    pub pay_to: Option<String>,
    /// The payment scheme.
    pub scheme: Option<String>,
    /// The network of the entry.
    pub network: Option<ChainId>,
}

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The number of listings before it, at most [`MAX_OFFSET`].
    pub offset: u32,
    /// The number of its listings, at most [`MAX_PAGE`].
    pub limit: u32,
}

impl Page {
    /// Creates a part of a list within the bounds of a catalog.
    #[must_use]
    pub fn new(offset: u32, limit: u32) -> Self {
        Self { offset: offset.min(MAX_OFFSET), limit: limit.clamp(1, MAX_PAGE) }
    }
}

/// A listing with the time of its last payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Listed {
    /// The resource that was paid.
    #[serde(flatten)]
    pub listing: Listing,
    /// The time at which it was paid last, ISO 8601.
    pub last_updated: String,
}

impl Listed {
    pub(crate) fn new(listing: Listing, at: UnixSeconds) -> Self {
        Self { listing, last_updated: IsoTime::from(at).to_string() }
    }
}

/// Stores listings and finds them.
#[async_trait]
pub trait Catalog: Send + Sync + std::fmt::Debug {
    /// Stores a listing; it takes the place of the one with the same identity.
    ///
    /// # Errors
    /// The store failed.
    async fn put(&self, listing: &Listing, now: UnixSeconds) -> Result<(), Fault>;

    /// Returns a part of the listings, the last paid first, and the number of all that the filter lets pass.
    ///
    /// # Errors
    /// The store failed.
    async fn list(&self, filter: &CatalogFilter, page: Page) -> Result<(Vec<Listed>, u64), Fault>;

    /// Returns a part of the listings that have all of these words, or words that begin so, the best match first. A text
    /// without a word finds nothing.
    ///
    /// # Errors
    /// The store failed.
    async fn search(&self, words: &str, filter: &CatalogFilter, page: Page) -> Result<Vec<Listed>, Fault>;
}

/// Splits a text into words of letters and digits, at most 16 of at most 64 characters.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.take(MAX_WORDS).map(|word| word.chars().take(64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_letters_and_digits() {
        let found = |text: &str| words(text).collect::<Vec<_>>();
        assert_eq!(found("weather, Köln! 24h"), ["weather", "Köln", "24h"]);
        assert_eq!(found("\" OR 1=1 -- NEAR(*"), ["OR", "1", "1", "NEAR"]);
        assert_eq!(found("  \t"), Vec::<String>::new());
        assert_eq!(found(&"a ".repeat(40)).len(), 16);
        assert_eq!(found(&"x".repeat(100))[0].len(), 64);
    }
}
