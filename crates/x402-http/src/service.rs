//! What clients of a service over HTTP share: its address, a TLS provider, and an answer of bounded length.

use url::Url;

/// The address of a service: http or https, without user, query and fragment. `None` for any other.
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

/// One of its endpoints.
#[must_use]
pub fn below(base: &Url, end: &str) -> Url {
    let path = format!("{}/{end}", base.path().trim_end_matches('/'));
    let mut url = base.clone();
    url.set_path(&path);
    url
}

/// Has the process have a provider of cryptography, which rustls needs even where no TLS is spoken. Where the program
/// chose none, it is ring.
pub fn install_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Lost only to another thread that installs one at the same time.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// The first bytes of an answer, so many at most; the rest is not waited for. Whoever asks for one more than it takes
/// knows by that one that the answer is too long.
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
