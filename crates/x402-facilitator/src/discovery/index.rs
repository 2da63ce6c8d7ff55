//! The index of what was settled: the facilitator's part of the extension
//! [`bazaar`](https://github.com/x402-foundation/x402/blob/main/specs/extensions/bazaar.md).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::json;
use x402_extensions::bazaar::{Listing, NAME, NotListed};
use x402_store::catalog::Catalog;
use x402_types::extension::SettledClaim;
use x402_types::{Claim, Extension, Fault, RawJson, UnixSeconds};

/// The seconds for which an unchanged declaration is not looked at again.
const FRESH_SECONDS: u64 = 60;
/// The most declarations that are remembered. When it is reached, all are forgotten.
const MOST_KNOWN: usize = 10_000;

/// Lists each settled payment whose seller described its resource.
///
/// A declaration that comes with every payment of a route is read, checked and written once in 60 seconds; in between a
/// payment costs a hash.
#[derive(Debug)]
pub struct CatalogIndex {
    catalog: Arc<dyn Catalog>,
    known: Mutex<HashMap<u64, Known>>,
    hasher: RandomState,
}

/// A declaration that was looked at.
#[derive(Debug, Clone)]
struct Known {
    at: UnixSeconds,
    /// The reason why it is not listed.
    refused: Option<NotListed>,
}

impl CatalogIndex {
    /// Creates the index that writes to this catalog.
    #[must_use]
    pub fn new(catalog: Arc<dyn Catalog>) -> Self {
        Self { catalog, known: Mutex::default(), hasher: RandomState::new() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashes what a listing is made of; `None` without a declaration. The hash is keyed, so that a stranger cannot find two
    /// declarations with the same one.
    fn digest(&self, claim: &Claim) -> Option<u64> {
        let declaration = claim.extensions.get(NAME)?;
        let resource = claim.resource.as_ref()?;
        let terms = &claim.terms;
        Some(self.hasher.hash_one((
            (declaration.as_str(), &resource.url, &resource.description, &resource.mime_type),
            (&resource.service_name, &resource.tags, &resource.icon_url),
            (terms.scheme.as_str(), terms.network, &terms.asset, &terms.pay_to, terms.amount.to_string()),
        )))
    }

    fn note(&self, digest: u64, at: UnixSeconds, refused: Option<NotListed>) {
        let mut known = self.known();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(digest, Known { at, refused });
    }
}

#[async_trait]
impl Extension for CatalogIndex {
    fn name(&self) -> &str {
        NAME
    }

    async fn on_settled(&self, settled: &SettledClaim<'_>) -> Result<(), Fault> {
        let Some(digest) = self.digest(settled.claim) else { return Ok(()) };
        let is_fresh = |known: &Known| settled.now.0 < known.at.plus(FRESH_SECONDS).0;
        if self.known().get(&digest).is_some_and(is_fresh) {
            return Ok(());
        }
        match Listing::of_claim(settled.claim) {
            Ok(listing) => {
                self.catalog.put(&listing, settled.now).await?;
                self.note(digest, settled.now, None);
            }
            Err(why) => self.note(digest, settled.now, Some(why)),
        }
        Ok(())
    }

    /// Reports `success` for what is listed, `rejected` with the reason for what is not, and `processing` for what was not
    /// looked at yet.
    fn report(&self, claim: &Claim) -> Option<RawJson> {
        let digest = self.digest(claim)?;
        let known = self.known().get(&digest).cloned();
        let report = match known {
            None => json!({ "status": "processing" }),
            Some(Known { refused: None, .. }) => json!({ "status": "success" }),
            Some(Known { refused: Some(NotListed::None), .. }) => return None,
            Some(Known { refused: Some(why), .. }) => {
                json!({ "status": "rejected", "rejectedReason": why.to_string() })
            }
        };
        RawJson::of(&report).ok()
    }
}
