//! Searching the catalog of a facilitator: [x402 v2
//! §8](https://github.com/x402-foundation/x402/blob/main/specs/x402-specification-v2.md).
//!
//! A catalog proves nothing. Its texts are a stranger's: escape them where they are shown, and pay by the 402 document of
//! the resource, never by an entry of the catalog.

use core::fmt;
use std::sync::Arc;

use http::Method;
use serde::de::DeserializeOwned;
use url::Url;
use x402_codec::{Limits, json};
use x402_types::v2::{DiscoveryList, DiscoverySearch};
use x402_types::{ChainId, Fault};

use crate::remote::{Authorize, RemoteError, SERVICE, Timeouts, authorized, client, exchange};
use crate::service::{base, below};

/// The longest answer that is read: 4 MiB, for 100 resources with declarations of 16 KiB, and their other members.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The resources that are wanted. A member that is absent does not count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DiscoveryFilter {
    /// The kind of the resource: `http` or `mcp`.
    pub r#type: Option<String>,
    /// The recipient of the payments.
    pub pay_to: Option<String>,
    /// The payment scheme.
    pub scheme: Option<String>,
    /// The network of the payments.
    pub network: Option<ChainId>,
    /// The name of an extension that the resource must declare.
    pub extensions: Option<String>,
    /// The size of the page, 1 to 100; without it the facilitator's own, which is 20 as a rule.
    pub limit: Option<u32>,
}

impl DiscoveryFilter {
    fn write(&self, url: &mut Url) {
        let network = self.network.map(|network| network.to_string());
        let limit = self.limit.map(|limit| limit.to_string());
        let parameters = [
            ("type", &self.r#type),
            ("payTo", &self.pay_to),
            ("scheme", &self.scheme),
            ("network", &network),
            ("extensions", &self.extensions),
            ("limit", &limit),
        ];
        let mut pairs = url.query_pairs_mut();
        for (name, value) in parameters {
            if let Some(value) = value {
                pairs.append_pair(name, value);
            }
        }
    }
}

/// The catalog of a facilitator.
#[derive(Clone)]
pub struct Discovery {
    http: reqwest::Client,
    resources: Url,
    search: Url,
    timeouts: Timeouts,
    authorize: Option<Arc<dyn Authorize>>,
}

impl Discovery {
    /// Returns the catalog of the facilitator at an address, for example `https://x402.org/facilitator`.
    ///
    /// # Errors
    /// The address is malformed, or there is no TLS.
    pub fn new(address: &str) -> Result<Self, RemoteError> {
        let base = base(address).ok_or(RemoteError::Address)?;
        let timeouts = Timeouts::DEFAULT;
        Ok(Self {
            resources: below(&base, "discovery/resources"),
            search: below(&base, "discovery/search"),
            http: client(timeouts)?,
            timeouts,
            authorize: None,
        })
    }

    /// Sets the headers of each request.
    #[must_use]
    pub fn with_authorize(mut self, authorize: Arc<dyn Authorize>) -> Self {
        self.authorize = Some(authorize);
        self
    }

    /// Returns a page of the list, with `offset` resources before it.
    ///
    /// # Errors
    /// The facilitator did not answer, or not with a list.
    pub async fn list(&self, filter: &DiscoveryFilter, offset: u32) -> Result<DiscoveryList, Fault> {
        let mut url = self.resources.clone();
        filter.write(&mut url);
        url.query_pairs_mut().append_pair("offset", &offset.to_string());
        self.get(url).await
    }

    /// Returns a page of the resources that match these words; the first, or the one of an earlier answer's `cursor`.
    ///
    /// # Errors
    /// The facilitator did not answer, or not with resources.
    pub async fn search(
        &self,
        words: &str,
        filter: &DiscoveryFilter,
        cursor: Option<&str>,
    ) -> Result<DiscoverySearch, Fault> {
        let mut url = self.search.clone();
        url.query_pairs_mut().append_pair("query", words);
        filter.write(&mut url);
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        self.get(url).await
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, Fault> {
        let headers = authorized(self.authorize.as_deref(), &Method::GET, &url).await?;
        let request = self.http.get(url).headers(headers).timeout(self.timeouts.verify);
        let (status, answer) = exchange(request, MAX_ANSWER).await?;
        if !(200..300).contains(&status) {
            let start: String = String::from_utf8_lossy(&answer).chars().take(200).collect();
            return Err(Fault::no_verdict(SERVICE, status, format_args!("{}", start.escape_debug())));
        }
        let limits = Limits { body: MAX_ANSWER, ..Limits::DEFAULT };
        json::from_slice(&answer, &limits).map_err(|error| Fault::no_verdict(SERVICE, status, error))
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("search", &self.search.as_str()).finish_non_exhaustive()
    }
}
