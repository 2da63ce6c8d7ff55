//! Comparison of resources: the server's offer, the payer's echo, and the account's signed text.

use url::Url;

/// Returns whether two texts name the same resource.
///
/// "Both absolute http(s): scheme, host, port and path as WHATWG URLs, query and fragment ignored, userinfo refused, no
/// percent-decoding; else byte equality." If a server advertises only a path, payers sign exactly that text.
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

/// Returns whether a resource, as a server advertises it, is the one that a payer signed for.
///
/// Nevermined's middleware advertises only the path: it is the resource if it is the path of the signed URL. The
/// reverse is refused: a payer that signed a path signed for every host that has it.
#[must_use]
pub fn is_resource(advertised: &str, signed: &str) -> bool {
    let is_path = || {
        let path = advertised.split(['?', '#']).next().unwrap_or_default();
        let one = path.starts_with('/') && !path.starts_with("//");
        one && absolute(signed)
            .is_some_and(|url| url.username().is_empty() && url.password().is_none() && url.path() == path)
    };
    same_resource(advertised, signed) || is_path()
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
    fn a_path_is_the_resource_whose_signed_url_has_it() {
        let signed = "https://shop.example/a/b";
        for advertised in [signed, "/a/b", "/a/b?q=1", "https://shop.example/a/b?q=1"] {
            assert!(is_resource(advertised, signed), "{advertised}");
        }
        for advertised in ["/a", "/a/b/", "a/b", "/A/b", "//shop.example/a/b", "", "/", "/x/../a/b", "/a%2Fb"] {
            assert!(!is_resource(advertised, signed), "{advertised}");
        }
        assert!(!is_resource(signed, "/a/b"), "a signed path names no host");
        assert!(is_resource("/a/b", "/a/b") && is_resource("/", "https://shop.example"));
        assert!(!is_resource("/a/b", "https://user@shop.example/a/b"), "userinfo");
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
