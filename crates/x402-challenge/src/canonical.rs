//! Canonical texts: "Binding to request context". A challenge is valid for one request; the request and the binding are
//! compared in one canonical form.

use sha2::{Digest, Sha256};
use x402_types::challenge::{Binding, BodySha256, Code, HostName, Payment};
use x402_types::{Malformed, Members, RawJson};

use crate::refused::ChallengeRefusal;
use crate::store::PaymentDigest;

/// A request, as the server received it.
#[derive(Debug, Clone, Copy)]
pub struct BoundRequest<'r> {
    /// The HTTP method of the request.
    pub method: &'r str,
    /// `Host`, or the authority of the request's target.
    pub host: &'r str,
    /// The path as sent. `..` and `%2f` are not resolved, since the router may interpret them differently.
    pub path: &'r str,
    /// The query without `?`.
    pub query: Option<&'r str>,
    /// The hash of the body, if the server has read it.
    pub body_sha256: Option<BodySha256>,
}

/// The parts of a request that are bound in addition to method, host and path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bind {
    /// Whether the query is bound, after the path.
    pub query: bool,
    /// Whether the hash of the body is bound.
    pub body: bool,
}

/// Computes the SHA-256 of a body.
#[must_use]
pub fn body_sha256(body: &[u8]) -> BodySha256 {
    BodySha256(Sha256::digest(body).into())
}

/// Computes the binding of a request.
///
/// # Errors
/// The part that cannot be bound: its name and its expected form. A body that is bound but whose hash is missing is
/// such a part.
pub fn binding(request: &BoundRequest<'_>, bind: Bind) -> Result<Binding, (&'static str, Malformed)> {
    let path = match request.query {
        Some(query) if bind.query => &format!("{}?{query}", request.path),
        _ => request.path,
    };
    let body_sha256 = match (bind.body, request.body_sha256) {
        (false, _) => None,
        (true, Some(hash)) => Some(hash),
        (true, None) => return Err(("bodySha256", Malformed::new("the hash of the body, which is bound"))),
    };
    Ok(Binding {
        host: host(request.host).map_err(|why| ("host", why))?,
        method: request.method.parse().map_err(|why| ("method", why))?,
        path: path.parse().map_err(|why| ("path", why))?,
        body_sha256,
        rest: Members::new(),
    })
}

/// Normalises a host: lower case, without a default port (80, 443), without the dot that ends an absolute name.
///
/// # Errors
/// Nothing is left, or the text is not a host.
pub fn host(text: &str) -> Result<HostName, Malformed> {
    const BAD: Malformed = Malformed::new(HostName::EXPECTED);
    let lower = text.to_ascii_lowercase();
    // An IPv6 address is enclosed in brackets, which precede its port; no other name has a colon.
    let end = match lower.strip_prefix('[') {
        Some(inside) => inside.find(']').ok_or(BAD)? + 2,
        None => lower.find(':').unwrap_or(lower.len()),
    };
    let (name, rest) = lower.split_at(end);
    let name = name.strip_suffix('.').unwrap_or(name);
    let inside = name.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')).unwrap_or(name);
    if inside.is_empty() || inside.ends_with('.') || inside.contains(['@', '?', '#', '\\', '[', ']']) {
        return Err(BAD);
    }
    let port: Option<u16> = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        Some("") => None,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some(port.parse().map_err(|_| BAD)?),
        _ => return Err(BAD),
    };
    match port {
        None | Some(80 | 443) => name.parse(),
        Some(port) => format!("{name}:{port}").parse(),
    }
}

/// Builds the canonical binding: `METHOD\nhost\npath[\nbodySha256]`.
#[must_use]
pub fn canonical_binding(binding: &Binding) -> String {
    let host = host(binding.host.as_str()).map_or_else(|_| binding.host.to_string(), |host| host.to_string());
    let mut text = format!("{}\n{host}\n{}", binding.method, binding.path);
    if let Some(hash) = binding.body_sha256 {
        text.push_str(&format!("\n{hash}"));
    }
    text
}

/// Builds the canonical payment: `version\nscheme\nchallengeId\nnetwork\nasset\npaidAmount\nissuedAt\nnonce[\npayer]`,
/// with addresses in lower case.
///
/// No member can hold a line feed, so no two payments have the same text.
#[must_use]
pub fn canonical_payment(payment: &Payment) -> String {
    let mut text = format!(
        "{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}",
        payment.version,
        payment.scheme.as_str(),
        payment.challenge_id,
        payment.network,
        payment.asset.as_str().to_ascii_lowercase(),
        payment.paid_amount,
        payment.issued_at,
        payment.nonce,
    );
    if let Some(payer) = payment.payer {
        text.push('\n');
        text.push_str(&payer.as_str().to_ascii_lowercase());
    }
    text
}

/// Computes the identity of a payment: SHA-256 of the canonical payment, a line feed, and the SHA-256 of its proof's
/// JSON in hex.
///
/// The same proof in another spelling gives another digest.
///
/// # Errors
/// `invalid_schema`, if the proof cannot be serialized as JSON.
pub fn payment_digest(payment: &Payment) -> Result<PaymentDigest, ChallengeRefusal> {
    let proof =
        RawJson::of(&payment.proof).map_err(|error| ChallengeRefusal::new(Code::InvalidSchema, error.to_string()))?;
    let text = format!("{}\n{}", canonical_payment(payment), body_sha256(proof.as_str().as_bytes()));
    Ok(PaymentDigest(Sha256::digest(text.as_bytes()).into()))
}

/// Computes the nonce that an `exact` payment's EIP-3009 authorization must have: the SHA-256 of the canonical payment.
/// The authorization therefore pays only this challenge by this payment, whoever learns it, and only the payer can sign
/// another.
#[must_use]
pub fn exact_nonce(payment: &Payment) -> [u8; 32] {
    body_sha256(canonical_payment(payment).as_bytes()).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &'static str, path: &'static str, query: Option<&'static str>) -> BoundRequest<'static> {
        BoundRequest { method: "GET", host, path, query, body_sha256: None }
    }

    fn text(request: &BoundRequest<'_>, bind: Bind) -> String {
        canonical_binding(&binding(request, bind).unwrap())
    }

    #[test]
    fn hosts_that_are_one() {
        let plain = text(&request("api.example.com", "/a", None), Bind::default());
        assert_eq!(plain, "GET\napi.example.com\n/a");
        for same in
            ["API.Example.COM", "api.example.com.", "api.example.com:443", "api.example.com.:080", "api.example.com:"]
        {
            assert_eq!(text(&request(same, "/a", None), Bind::default()), plain, "{same}");
        }
        for other in ["api.example.com:8080", "example.com", "api.example.com.evil.org", "[::1]:8080"] {
            assert_ne!(text(&request(other, "/a", None), Bind::default()), plain, "{other}");
        }
        assert_eq!(host("[::1]:443").unwrap().as_str(), "[::1]");
        assert_eq!(host("[2001:DB8::1]").unwrap().as_str(), "[2001:db8::1]");
        for bad in [
            "", ".", ":443", "a b", "a/b", "user@a", "a:+80", "a:65536", "a:x", "a\nb", "a\r\nb", "é", "a:b:443",
            "a:80:443", "a..", "[::1", "[::1]80", "[]", "a]",
        ] {
            assert!(host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_stay_as_sent() {
        let base = text(&request("h", "/a/b", None), Bind::default());
        for other in ["/a/x/../b", "/a%2fb", "/a%2Fb", "/a//b", "/a/b/", "/A/b"] {
            assert_ne!(text(&request("h", other, None), Bind::default()), base, "{other}");
        }
        assert_ne!(
            text(&request("h", "/a%2fb", None), Bind::default()),
            text(&request("h", "/a%2Fb", None), Bind::default())
        );
    }

    #[test]
    fn the_query_is_bound_by_a_switch() {
        let with = Bind { query: true, body: false };
        let (a, b) = (request("h", "/a", Some("x=1")), request("h", "/a", Some("x=2")));
        assert_eq!(text(&a, Bind::default()), text(&b, Bind::default()));
        assert_ne!(text(&a, with), text(&b, with));
        assert_eq!(text(&a, with), "GET\nh\n/a?x=1");
    }

    #[test]
    fn the_body_is_bound_by_a_switch() {
        let with = Bind { query: false, body: true };
        let mut asked = request("h", "/a", None);
        assert_eq!(binding(&asked, with).unwrap_err().0, "bodySha256");
        // FIPS 180-4, "abc".
        asked.body_sha256 = Some(body_sha256(b"abc"));
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(text(&asked, with), format!("GET\nh\n/a\n{hash}"));
        assert_eq!(text(&asked, Bind::default()), "GET\nh\n/a");
    }
}
