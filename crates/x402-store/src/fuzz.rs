//! Bodies of the fuzz targets in `fuzz/`: properties that hold for all input bytes. This module is not part of the API.
#![allow(clippy::unwrap_used, reason = "a property that does not hold has to be heard")]

use crate::catalog::{CatalogFilter, ListQuery, MAX_OFFSET, MAX_PAGE, Page, SearchQuery};

/// Checks that a request of a catalog stays within its bounds, and is the same request when it is written again.
pub fn decode_catalog_query(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    if let Ok(list) = ListQuery::parse(text) {
        let again = written(&list.filter, list.page, "offset", None);
        assert_eq!(ListQuery::parse(&again).as_ref(), Ok(&list), "{again}");
    }
    if let Ok(search) = SearchQuery::parse(text) {
        let again = written(&search.filter, search.page, "cursor", Some(&search.words));
        // Escaped words can be longer than the words that came.
        if again.len() <= 4_096 {
            assert_eq!(SearchQuery::parse(&again).as_ref(), Ok(&search), "{again}");
        }
    }
}

fn written(filter: &CatalogFilter, page: Page, place: &str, words: Option<&str>) -> String {
    assert!(page.offset <= MAX_OFFSET && (1..=MAX_PAGE).contains(&page.limit));
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.append_pair("limit", &page.limit.to_string());
    if page.offset > 0 {
        text.append_pair(place, &page.offset.to_string());
    }
    let network = filter.network.map(|network| network.to_string());
    let extensions = (!filter.extensions.is_empty()).then(|| filter.extensions.join(","));
    for (name, value) in [
        ("query", words),
        ("type", filter.r#type.as_deref()),
        ("payTo", filter.pay_to.as_deref()),
        ("scheme", filter.scheme.as_deref()),
        ("network", network.as_deref()),
        ("extensions", extensions.as_deref()),
    ] {
        if let Some(value) = value {
            text.append_pair(name, value);
        }
    }
    text.finish()
}

#[cfg(test)]
mod tests {
    x402_testkit::replays!(decode_catalog_query);
}
