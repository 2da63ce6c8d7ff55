//! The catalog of resources that were paid: [x402 v2
//! §8](https://github.com/x402-foundation/x402/blob/main/specs/x402-specification-v2.md), discovery.
//!
//! The catalog is written after a settlement and proves nothing: without it, payments go on.

mod query;

use async_trait::async_trait;
use serde::Serialize;
use x402_extensions::bazaar::{Listing, NAME};
use x402_types::challenge::IsoTime;
use x402_types::{ChainId, Fault, UnixSeconds};

pub use self::query::{ListQuery, SearchQuery, WrongParameter};

/// The most listings of one page.
pub const MAX_PAGE: u32 = 100;
/// The most listings that a search or a list reaches by pages.
pub const MAX_OFFSET: u32 = 10_000;
/// The most listings of one resource: one for each account that was paid for it on a network.
pub const MAX_ACCOUNTS: u32 = 16;
/// The most words of a search; the others are not read.
const MAX_WORDS: usize = 16;
/// The number of matches that are ordered among themselves by how well they match: the newest ones, then the next.
pub(crate) const RANKED: u32 = 500;

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
    /// The names of the extensions that the listing must show, all of them.
    pub extensions: Vec<String>,
}

impl CatalogFilter {
    /// Returns whether no listing can pass: each shows the declaration by which it is listed, and no other extension.
    pub(crate) fn excludes_all(&self) -> bool {
        self.extensions.iter().any(|name| name != NAME)
    }
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

    /// Returns the number of the newest matches in which this page of a search is, and one match more: whole blocks of
    /// those that are ordered among themselves.
    pub(crate) fn newest(self) -> u32 {
        self.offset.saturating_add(self.limit).saturating_add(1).next_multiple_of(RANKED)
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
    /// Stores a listing; it takes the place of the one with the same identity, network and recipient. Of more than
    /// [`MAX_ACCOUNTS`] listings of one identity, those that were paid longest ago are forgotten.
    ///
    /// # Errors
    /// The store failed.
    async fn put(&self, listing: &Listing, now: UnixSeconds) -> Result<(), Fault>;

    /// Returns a part of the listings, the last paid first, and the number of all that the filter lets pass.
    ///
    /// # Errors
    /// The store failed.
    async fn list(&self, filter: &CatalogFilter, page: Page) -> Result<(Vec<Listed>, u64), Fault>;

    /// Returns a part of the listings that have all of these words, or words that begin so, and whether there are more. Of the
    /// five hundred matches that were paid last, the best comes first, then the best of the next five hundred. A text
    /// without a word finds nothing.
    ///
    /// # Errors
    /// The store failed.
    async fn search(&self, words: &str, filter: &CatalogFilter, page: Page) -> Result<(Vec<Listed>, bool), Fault>;
}

/// Cuts one listing more than a page off, and returns whether it was there.
pub(crate) fn cut(mut found: Vec<Listed>, page: Page) -> (Vec<Listed>, bool) {
    let size = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let has_more = found.len() > size;
    found.truncate(size);
    (found, has_more)
}

/// The members of a listing by which it is looked up, and its JSON.
pub(crate) struct Columns {
    pub(crate) network: String,
    pub(crate) scheme: String,
    /// The recipient in lower case.
    pub(crate) pay_to: String,
    pub(crate) text: String,
}

impl Columns {
    pub(crate) fn of(listing: &Listing) -> Result<Self, Fault> {
        let entry =
            listing.accepts.first().and_then(|entry| entry.read::<serde_json::Value>().ok()).unwrap_or_default();
        let member = |name: &str| entry.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        Ok(Self {
            network: member("network"),
            scheme: member("scheme"),
            pay_to: member("payTo").to_lowercase(),
            text: serde_json::to_string(listing).map_err(Fault::store)?,
        })
    }
}

/// Splits a text into words of letters and digits in lower case, at most 16 of at most 64 characters.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    split(text).take(MAX_WORDS).map(|word| word.chars().take(64).collect())
}

/// Returns all words of a text, in lower case, with spaces between them.
#[cfg(feature = "postgres")]
pub(crate) fn all_words(text: &str) -> String {
    split(text).collect::<Vec<_>>().join(" ")
}

fn split(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_letters_and_digits() {
        let found = |text: &str| words(text).collect::<Vec<_>>();
        assert_eq!(found("weather, Köln! 24h"), ["weather", "köln", "24h"]);
        assert_eq!(found("\" OR 1=1 -- NEAR(*"), ["or", "1", "1", "near"]);
        assert_eq!(found("  \t"), Vec::<String>::new());
        assert_eq!(found(&"a ".repeat(40)).len(), 16);
        assert_eq!(found(&"x".repeat(100))[0].len(), 64);
    }
}
