//! Whether two texts name one resource: what was offered, what the payer echoes, what the account signed.

use url::Url;

/// Whether two texts name one resource.
///
/// "Both absolute http(s): scheme, host, port and path as WHATWG URLs, query and fragment ignored, userinfo refused, no
/// percent-decoding; else byte equality." A server that advertises a path alone signs up to that very text.
#[must_use]
pub fn same_resource(a: &str, b: &str) -> bool {
    match (absolute(a), absolute(b)) {
        (Some(a), Some(b)) => {
            let place =
                |url: &Url| (url.scheme() == "http", url.host_str().map(str::to_owned), url.port_or_known_default());
            let open = |url: &Url| url.username().is_empty() && url.password().is_none();
            open(&a) && open(&b) && place(&a) == place(&b) && a.path() == b.path()
        }
        (None, None) => a == b,
        _ => false,
    }
}

fn absolute(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_urls_compare_by_place_and_path() {
        let base = "https://shop.example/a/b";
        for same in [
            base,
            "https://SHOP.example/a/b",
            "https://shop.example:443/a/b",
            "https://shop.example/a/b?q=1#f",
            "https://shop.example/a/./b",
            "https://shop.example/x/../a/b",
        ] {
            assert!(same_resource(base, same) && same_resource(same, base), "{same}");
        }
        for other in [
            "http://shop.example/a/b",
            "https://shop.example:444/a/b",
            "https://shop.example/a/b/",
            "https://shop.example/A/b",
            "https://shop.example/a%2Fb",
            "https://shop.example/%61/b",
            "https://user@shop.example/a/b",
            "https://:pw@shop.example/a/b",
            "https://shop.example.evil/a/b",
            "/a/b",
            "shop.example/a/b",
            "",
        ] {
            assert!(!same_resource(base, other) && !same_resource(other, base), "{other}");
        }
        assert!(!same_resource("https://u@shop.example/", "https://u@shop.example/"), "userinfo");
    }

    #[test]
    fn everything_else_compares_by_its_bytes() {
        for text in ["/api/v1", "mcp://tool/x", "", "tool"] {
            assert!(same_resource(text, text), "{text}");
        }
        for (a, b) in [("/api/v1", "/api/v1/"), ("/api/v1", "/api/v1?q"), ("/%61", "/a"), ("mcp://t/x", "mcp://T/x")] {
            assert!(!same_resource(a, b), "{a} {b}");
        }
    }
}
