//! `--url`: one GET to a server that an untrusted person may have chosen.
//!
//! The name is resolved first, every address is checked, and the connection goes to the checked addresses: a second DNS
//! response cannot lead it elsewhere. Redirects and proxies are disabled for the same reason.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use url::{Host, Url};
use x402_http::service::{first_bytes, install_tls};

/// The longest body that is linted: 64 KiB.
pub(super) const LARGEST: usize = 64 * 1024;

/// The time limit of the whole exchange.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The server's response, with at most one byte of the body beyond [`LARGEST`].
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

pub(super) async fn get(text: &str, allow_private: bool) -> Result<Answer, String> {
    let url = Url::parse(text).map_err(|error| format!("the URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the URL: expected http or https".to_owned());
    }
    let port = url.port_or_known_default().ok_or("the URL has no port")?;
    let (name, addresses) = match url.host() {
        None => return Err("the URL has no host".to_owned()),
        Some(Host::Ipv4(ip)) => (None, vec![SocketAddr::from((ip, port))]),
        Some(Host::Ipv6(ip)) => (None, vec![SocketAddr::from((ip, port))]),
        Some(Host::Domain(name)) => {
            let found = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((name, port)));
            let found = found.await.map_err(|_| format!("{name} was not resolved in time"))?;
            (Some(name), found.map_err(|error| format!("{name}: {error}"))?.collect())
        }
    };
    if addresses.is_empty() {
        return Err("the host has no address".to_owned());
    }
    if !allow_private && let Some(address) = addresses.iter().find(|address| !is_public(address.ip())) {
        return Err(format!("{} is not a public address; --allow-private asks it all the same", address.ip()));
    }
    let unanswered =
        |error: reqwest::Error| format!("no answer from {}: {}", url.host_str().unwrap_or_default(), cause(&error));
    install_tls();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .timeout(TIMEOUT)
        .user_agent(concat!("x402-lint/", env!("CARGO_PKG_VERSION")));
    if let Some(name) = name {
        builder = builder.resolve_to_addrs(name, &addresses);
    }
    let client = builder.build().map_err(unanswered)?;
    let mut response = client.get(url.clone()).header("accept", "application/json").send().await.map_err(unanswered)?;
    let headers =
        response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    let status = response.status().as_u16();
    let body = first_bytes(&mut response, LARGEST + 1).await.map_err(unanswered)?;
    Ok(Answer { status, headers, body })
}

/// Returns the innermost cause: the outer ones only repeat the URL.
fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// Returns whether an address belongs to the public internet: [IANA's
/// registries](https://www.iana.org/assignments/iana-ipv4-special-registry) of special addresses, and IPv6 addresses
/// that contain an IPv4 address checked by them.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let special = match ip.octets() {
        [0 | 10 | 127, ..] => true,
        [100, b, ..] => (64..128).contains(&b),
        [169, 254, ..] | [192, 168, ..] | [192, 0, 0, _] | [192, 0, 2, _] | [192, 88, 99, _] => true,
        [172, b, ..] => (16..32).contains(&b),
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        [a, ..] => a >= 224,
    };
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        // Mapped, translated (NAT64) and tunnelled (6to4) IPv4.
        [0, 0, 0, 0, 0, 0xFFFF, high, low] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            v4(high, low)
        }
        [0x2001, 0..=0x1FF | 0xDB8, ..] | [0x3FFF, 0..=0xFFF, ..] => false,
        // Only 2000::/3 is assigned for use on the internet.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        for ip in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "3fff::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[tokio::test]
    async fn private_servers_are_refused_before_anything_is_sent() {
        for url in [
            "http://127.0.0.1:1/",
            "http://[::1]:1/",
            "http://localhost:1/",
            "http://0x7f.1:1/",
            "http://2130706433:1/",
            "http://[::ffff:127.0.0.1]:1/",
        ] {
            let error = get(url, false).await.err().unwrap();
            assert!(error.contains("is not a public address"), "{url}: {error}");
        }
        for url in ["ftp://a.example/", "nonsense", "file:///etc/passwd"] {
            assert!(get(url, true).await.err().unwrap().starts_with("the URL"), "{url}");
        }
    }
    /// Starts a server on a loopback port that answers every connection with the same bytes.
    fn server(answer: Vec<u8>) -> u16 {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                // A client that has read enough disconnects.
                let _ = stream.write_all(&answer);
            }
        });
        port
    }

    #[tokio::test]
    async fn headers_and_64_kib_of_the_body_are_read() {
        let answer = b"HTTP/1.1 402 Payment Required\r\nPayment-Required: e30=\r\nContent-Length: 2\r\n\r\n{}".to_vec();
        let found = get(&format!("http://localhost:{}/", server(answer)), true).await.unwrap();
        assert_eq!((found.status, &*found.body), (402, &b"{}"[..]));
        assert!(found.headers.contains(&("payment-required".to_owned(), b"e30=".to_vec())));
        let mut large = b"HTTP/1.1 402 Payment Required\r\nConnection: close\r\n\r\n".to_vec();
        large.resize(1024 * 1024, b' ');
        let found = get(&format!("http://127.0.0.1:{}/", server(large)), true).await.unwrap();
        assert_eq!(found.body.len(), LARGEST + 1);
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let answer = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n".to_vec();
        let found = get(&format!("http://127.0.0.1:{}/", server(answer)), true).await.unwrap();
        assert_eq!((found.status, found.body.len()), (302, 0));
    }
}
