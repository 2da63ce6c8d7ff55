//! The answers of a facilitator's catalog: [x402 version
//! 2](https://github.com/x402-foundation/x402/blob/main/specs/x402-specification-v2.md) §8.
//!
//! A catalog proves nothing: its texts are a stranger's, and what a resource costs is in the 402 document that answers it.

use crate::v2::PaymentRequirements;
use crate::wire::wire;
use crate::{Entry, Members, RawJson, Version};

wire! {
    /// A resource that a facilitator lists, §8.
    pub struct DiscoveredResource {
        /// The URL of the resource; of a route with parameters in its path, the origin and the template.
        resource: String => "resource" required;
        /// The transport: `http`, `mcp`, …
        r#type: String => "type" required;
        /// The protocol version.
        x402_version: Version => "x402Version" required;
        /// The ways to pay.
        accepts: Vec<Entry<PaymentRequirements>> => "accepts" required;
        /// The time of the last update. §8 has the seconds since 1970, the published SDKs have a text of ISO 8601.
        last_updated: Option<RawJson> => "lastUpdated" optional;
        /// The description of the resource, for people.
        description: Option<String> => "description" optional;
        /// The media type of the response.
        mime_type: Option<String> => "mimeType" optional;
        /// The name of the service.
        service_name: Option<String> => "serviceName" optional;
        /// The tags of the resource.
        tags: Option<Vec<String>> => "tags" optional;
        /// The URL of an icon.
        icon_url: Option<String> => "iconUrl" optional;
        /// The extensions by name.
        extensions: Members => "extensions" unless_empty;
        /// Free members for display.
        metadata: Members => "metadata" unless_empty;
    }
}

wire! {
    /// The position of a page within a list.
    pub struct Pagination {
        /// The number of items on a page.
        limit: u64 => "limit" required;
        /// The number of items before this page.
        offset: u64 => "offset" or 0;
        /// The total number of items.
        total: Option<u64> => "total" optional;
    }
}

wire! {
    /// The response of `GET /discovery/resources`, §8.
    pub struct DiscoveryList {
        /// The protocol version.
        x402_version: Version => "x402Version" required;
        /// The resources of this page.
        items: Vec<Entry<DiscoveredResource>> => "items" required;
        /// The position of this page.
        pagination: Pagination => "pagination" required;
    }
}

wire! {
    /// The size of a page of matches, and the way to the next one.
    pub struct CursorPagination {
        /// The number of matches on a page.
        limit: u64 => "limit" required;
        /// The text by which the next page is requested; `None` after the last one.
        cursor: Option<String> => "cursor" optional;
    }
}

wire! {
    /// The response of `GET /discovery/search`, §8.
    pub struct DiscoverySearch {
        /// The protocol version.
        x402_version: Version => "x402Version" or Version::V2;
        /// The matches of this page, the best first.
        resources: Vec<Entry<DiscoveredResource>> => "resources" required;
        /// Whether there are matches that no page has.
        partial_results: Option<bool> => "partialResults" optional;
        /// The position of this page.
        pagination: Option<CursorPagination> => "pagination" optional;
    }
}
