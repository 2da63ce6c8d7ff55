//! Origins of URLs, as far as a domain is compared with them: RFC 6454 §4.

/// The scheme, host and port of a URL, without a default port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: &'static str,
    host: Box<str>,
}

impl Origin {
    /// Reads the origin of a URL of the schemes `http` and `https` without credentials.
    pub(super) fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (scheme, default) = match scheme.to_ascii_lowercase().as_str() {
            "http" => ("http", ":80"),
            "https" => ("https", ":443"),
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default().to_ascii_lowercase();
        let authority = authority.strip_suffix(default).unwrap_or(&authority);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        let fits = !authority.is_empty() && !authority.ends_with(':') && authority.bytes().all(plain);
        fits.then(|| Self { scheme, host: authority.into() })
    }

    /// Returns the host, with its port unless that is the default one.
    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_form() {
        let origin = |url: &str| Origin::of(url).map(|origin| format!("{}://{}", origin.scheme, origin.host));
        for (url, expected) in [
            ("https://api.example.com/data?x#y", Some("https://api.example.com")),
            ("HTTPS://API.example.com:443", Some("https://api.example.com")),
            ("http://localhost:4021/", Some("http://localhost:4021")),
            ("http://[::1]:80/", Some("http://[::1]")),
            ("https://api.example.com\\@evil.example/", Some("https://api.example.com")),
            ("https://user@api.example.com/", None),
            ("https://api.example.com:/", None),
            ("https://api.example.com%2eevil.example/", None),
            ("https:///data", None),
            ("ftp://api.example.com/", None),
            ("api.example.com", None),
            ("", None),
        ] {
            assert_eq!(origin(url).as_deref(), expected, "{url}");
        }
    }
}
