//! The parameters of `GET /discovery/resources` and `GET /discovery/search`: [x402 v2
//! §8](https://github.com/x402-foundation/x402/blob/main/specs/x402-specification-v2.md).
//!
//! A parameter that is out of its range is refused, not cut: a client that wants 1,000 and gets 100 takes them for all.
//! Unknown parameters are ignored.

use std::collections::BTreeMap;

use super::{CatalogFilter, MAX_OFFSET, MAX_PAGE, Page};

/// The size of a page if the request names none.
const PAGE: u32 = 20;
/// The longest query string in bytes.
const MAX_QUERY: usize = 4_096;
/// The longest text of a filter in bytes.
const MAX_FILTER: usize = 256;
/// The most extensions of a filter.
const MAX_EXTENSIONS: usize = 16;

/// A parameter of a catalog's request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: expected {expected}")]
pub struct WrongParameter {
    name: &'static str,
    expected: &'static str,
}

/// The request for a part of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListQuery {
    /// The listings that are wanted.
    pub filter: CatalogFilter,
    /// The part of the list.
    pub page: Page,
}

/// The request of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchQuery {
    /// The words that are searched.
    pub words: String,
    /// The listings that are wanted.
    pub filter: CatalogFilter,
    /// The part of the matches.
    pub page: Page,
}

impl ListQuery {
    /// Reads a query string, the part of the URL behind `?`.
    ///
    /// # Errors
    /// A parameter is out of its range, or is there twice.
    pub fn parse(text: &str) -> Result<Self, WrongParameter> {
        let parameters = Parameters::read(text)?;
        let offset = parameters.number("offset", (0, MAX_OFFSET), "0 to 10000")?.unwrap_or(0);
        let limit = parameters.number("limit", (1, MAX_PAGE), "1 to 100")?.unwrap_or(PAGE);
        Ok(Self { filter: parameters.filter()?, page: Page::new(offset, limit) })
    }
}

impl SearchQuery {
    /// Reads a query string, the part of the URL behind `?`.
    ///
    /// # Errors
    /// A parameter is out of its range, or is there twice, or there is nothing to search.
    pub fn parse(text: &str) -> Result<Self, WrongParameter> {
        let parameters = Parameters::read(text)?;
        let words = parameters.0.get("query").filter(|words| !words.is_empty()).cloned();
        let words = words.ok_or(WrongParameter { name: "query", expected: "the words that are searched" })?;
        // The cursor is the number of matches before the page; clients do not interpret it.
        let offset = parameters.number("cursor", (1, MAX_OFFSET), "the cursor of an earlier answer")?.unwrap_or(0);
        // "Advisory maximum number of results; facilitator may return fewer or ignore".
        let limit = parameters.number("limit", (1, u32::MAX), "a number from 1")?.unwrap_or(PAGE).min(MAX_PAGE);
        Ok(Self { words, filter: parameters.filter()?, page: Page::new(offset, limit) })
    }
}

/// The parameters of a request, each once.
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    fn read(text: &str) -> Result<Self, WrongParameter> {
        if text.len() > MAX_QUERY {
            return Err(WrongParameter { name: "query", expected: "a query string of at most 4096 bytes" });
        }
        let mut members = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if members.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(WrongParameter { name: "query", expected: "each parameter once" });
            }
        }
        Ok(Self(members))
    }

    fn text(&self, name: &'static str) -> Result<Option<&str>, WrongParameter> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let plain = (1..=MAX_FILTER).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain { Ok(Some(text)) } else { Err(WrongParameter { name, expected: "1 to 256 visible ASCII characters" }) }
    }

    fn number(
        &self,
        name: &'static str,
        range: (u32, u32),
        expected: &'static str,
    ) -> Result<Option<u32>, WrongParameter> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number: &u32| number.to_string() == *text);
        let number = number.filter(|number| (range.0..=range.1).contains(number));
        number.map(Some).ok_or(WrongParameter { name, expected })
    }

    fn filter(&self) -> Result<CatalogFilter, WrongParameter> {
        let network = self.text("network")?.map(str::parse).transpose();
        let extensions = self.text("extensions")?.into_iter().flat_map(|text| text.split(','));
        let filter = CatalogFilter {
            r#type: self.text("type")?.map(str::to_owned),
            pay_to: self.text("payTo")?.map(str::to_owned),
            scheme: self.text("scheme")?.map(str::to_owned),
            network: network.map_err(|_| WrongParameter { name: "network", expected: "a CAIP-2 identifier" })?,
            extensions: extensions.map(str::to_owned).collect(),
        };
        if filter.extensions.len() > MAX_EXTENSIONS {
            return Err(WrongParameter { name: "extensions", expected: "at most 16 names" });
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_has_one_form() {
        for (text, named) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=+5", "limit"),
            ("limit=05", "limit"),
            ("limit=", "limit"),
            ("limit=%00", "limit"),
            ("limit=4294967297", "limit"),
            ("offset=10001", "offset"),
            ("offset=-1", "offset"),
            ("offset=null", "offset"),
            ("limit=5&limit=6", "query"),
            ("type=", "type"),
            ("type=%0a", "type"),
            ("payTo=%C3%A9", "payTo"),
            ("network=base", "network"),
            ("network=eip155:", "network"),
            ("extensions=a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", "extensions"),
        ] {
            let error = ListQuery::parse(text).unwrap_err();
            assert_eq!(error.name, named, "{text}: {error}");
        }
        for name in ["type", "payTo", "scheme", "network", "extensions"] {
            let long = format!("{name}={}", "a".repeat(257));
            assert_eq!(ListQuery::parse(&long).unwrap_err().name, name);
        }
        assert_eq!(ListQuery::parse(&format!("x={}", "a".repeat(4_095))).unwrap_err().name, "query");
        for (text, named) in
            [("", "query"), ("query=", "query"), ("query=a&cursor=0", "cursor"), ("query=a&limit=0", "limit")]
        {
            assert_eq!(SearchQuery::parse(text).unwrap_err().name, named, "{text}");
        }
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let list = ListQuery::parse(
            "type=http&payTo=0xA&scheme=exact&network=eip155%3A1&extensions=a,b&offset=20&limit=7&x=1",
        );
        let ListQuery { filter, page } = list.unwrap();
        assert_eq!(page, Page { offset: 20, limit: 7 });
        assert_eq!((filter.r#type.as_deref(), filter.pay_to.as_deref()), (Some("http"), Some("0xA")));
        assert_eq!((filter.network.unwrap().to_string(), filter.extensions.len()), ("eip155:1".into(), 2));
        let search = SearchQuery::parse("query=a+b%20c&limit=500&cursor=20").unwrap();
        assert_eq!((&*search.words, search.page), ("a b c", Page { offset: 20, limit: 100 }));
        assert_eq!(ListQuery::parse("").unwrap().page, Page { offset: 0, limit: 20 });
    }
}
