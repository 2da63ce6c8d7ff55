//! The headers that a proxy must not forward, and those that it sets:
//! [RFC 9110 §7.6](https://www.rfc-editor.org/rfc/rfc9110#section-7.6).

use std::net::SocketAddr;

use http::header::{
    CONNECTION, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use x402_http::server::Paid;

/// The beginning of the names of the headers that inform the upstream of a payment, and of no others.
const OURS: &str = "x402-";

/// Headers by which some frameworks take another path, method or sender than those of the request line.
const OVERRIDES: &[&str] = &[
    "x-original-url",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-forwarded-prefix",
    "x-forwarded-path",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-port",
    "x-real-ip",
    "x-client-ip",
    "proxy",
];

/// Headers of one connection.
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Removes the headers of one connection, among them those that `Connection` names.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove("proxy-connection");
}

/// Turns the headers of a request into those for the upstream.
pub(super) fn for_upstream(headers: &mut HeaderMap, peer: Option<SocketAddr>, scheme: &str, paid: Option<&Paid>) {
    remove_hop_by_hop(headers);
    let host = headers.remove(HOST);
    headers.remove(EXPECT);
    // A gateway between here and the upstream's code may write `_` for `-`, as CGI and WSGI do.
    let plain = |name: &HeaderName| name.as_str().replace('_', "-");
    let payments = x402_codec::header::request_headers();
    let outside: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let plain = plain(name);
            plain.starts_with(OURS)
                || OVERRIDES.contains(&plain.as_str())
                || plain.starts_with("x-forwarded-")
                || plain == FORWARDED.as_str()
                // The payment was read; an upstream could present it elsewhere.
                || payments.iter().any(|payment| payment.as_str() == plain)
        })
        .cloned()
        .collect();
    for name in &outside {
        headers.remove(name);
    }
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(peer) = peer {
        set("x-forwarded-for", &peer.ip().to_string());
    }
    set("x-forwarded-proto", scheme);
    if let Some(host) = host.as_ref().and_then(|host| host.to_str().ok()) {
        set("x-forwarded-host", host);
    }
    if let Some(paid) = paid {
        if let Some(payer) = &paid.payer {
            set("x402-payer", payer);
        }
        set("x402-amount", &paid.amount.to_string());
        set("x402-asset", &paid.asset);
        set("x402-network", paid.network.as_str());
        set("x402-payment-key", &paid.key.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn an_outsider_sets_none_of_the_proxys_headers() {
        let mut sent = headers(&[
            ("host", "shop.example"),
            ("connection", "close, x-secret, Upgrade"),
            ("x-secret", "1"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("x402-payer", "0xforged"),
            ("x402_payer", "0xforged"),
            ("X402-Anything", "1"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-original-url", "/free"),
            ("x-http-method-override", "DELETE"),
            ("payment-signature", "e30="),
            ("payment_signature", "e30="),
            ("x-payment", "e30="),
            ("accept", "text/plain"),
            ("authorization", "Bearer a"),
        ]);
        for_upstream(&mut sent, Some(SocketAddr::from(([10, 0, 0, 1], 7))), "https", None);
        let expected = headers(&[
            ("accept", "text/plain"),
            ("authorization", "Bearer a"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
        ]);
        assert_eq!(sent, expected);
    }
}
