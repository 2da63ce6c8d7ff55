//! The common parts of clients over HTTP: a service's address, a TLS provider, and an answer of bounded length.

use url::Url;

/// Parses the address of a service: http or https, without user, query and fragment. Returns `None` for any other.
#[must_use]
pub fn base(address: &str) -> Option<Url> {
    let base = Url::parse(address.trim_end_matches('/')).ok()?;
    let plain = base.username().is_empty()
        && base.password().is_none()
        && base.query().is_none()
        && base.fragment().is_none()
        && base.has_host()
        && matches!(base.scheme(), "http" | "https");
    plain.then_some(base)
}

/// Returns the URL of an endpoint.
#[must_use]
pub fn below(base: &Url, end: &str) -> Url {
    let path = format!("{}/{end}", base.path().trim_end_matches('/'));
    let mut url = base.clone();
    url.set_path(&path);
    url
}

/// Installs ring as the process's provider of cryptography unless the program chose one. rustls needs a provider even
/// for connections without TLS.
pub fn install_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // This fails only if another thread installs one at the same time.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// Reads at most `most` bytes of an answer and leaves the rest unread. A caller that requests one byte more than its
/// limit can recognise an answer that is too long.
///
/// # Errors
/// The connection broke.
pub async fn first_bytes(response: &mut reqwest::Response, most: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut bytes = Vec::new();
    while bytes.len() < most
        && let Some(chunk) = response.chunk().await?
    {
        let room = most.saturating_sub(bytes.len());
        bytes.extend(chunk.iter().take(room));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_plain_url() {
        let url = |address: &str, end: &str| base(address).map(|base| below(&base, end).to_string());
        assert_eq!(url("https://a.example/x402/", "verify").unwrap(), "https://a.example/x402/verify");
        assert_eq!(url("http://a.example", "verify").unwrap(), "http://a.example/verify");
        for bad in ["ftp://a.example", "https://u@a.example", "https://a.example/?q", "https://a.example/#f", "a", ""] {
            assert_eq!(url(bad, "verify"), None, "{bad}");
        }
    }
}
