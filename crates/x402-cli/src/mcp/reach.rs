//! The hosts that an agent may reach. A request to this machine or to a private network is made by the owner's hand, not by
//! the words of a page that the agent has read.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower_service::Service;
use url::{Host, Url};

/// The transport of an agent's requests.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    http: reqwest::Client,
    allow_private: bool,
}

/// The reason why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReachError {
    /// The URL names this machine or a private network.
    #[error(
        "{0} is this machine or a private network, which requests of an agent do not reach without --allow-private"
    )]
    Private(String),
    /// The URL is no http or https URL.
    #[error("the URL: expected http or https with a host")]
    Url,
    /// The connection failed.
    #[error("{}", chain(.0))]
    Transport(#[from] reqwest::Error),
}

/// The longest time of one exchange. A settlement takes a few blocks.
const LONGEST: Duration = Duration::from_secs(120);

impl Reach {
    /// Creates the transport. It resolves names itself, so that none of them leads to a private address.
    pub(super) fn new(allow_private: bool) -> Result<Self, String> {
        x402_http::service::install_tls();
        let builder =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(LONGEST).no_proxy();
        let builder = if allow_private { builder } else { builder.dns_resolver(Arc::new(Public)) };
        let http = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { http, allow_private })
    }

    /// Checks the host of a URL before a connection.
    pub(super) fn check(&self, url: &Url) -> Result<(), ReachError> {
        let host = url.host().filter(|_| matches!(url.scheme(), "http" | "https")).ok_or(ReachError::Url)?;
        let private = match host {
            Host::Ipv4(ip) => !is_public(IpAddr::V4(ip)),
            Host::Ipv6(ip) => !is_public(IpAddr::V6(ip)),
            Host::Domain(_) => false,
        };
        if private && !self.allow_private {
            return Err(ReachError::Private(url.host_str().unwrap_or_default().to_owned()));
        }
        Ok(())
    }

    /// Sends one request without a payment.
    pub(super) async fn send(&self, request: Request<Full<bytes::Bytes>>) -> Result<reqwest::Response, ReachError> {
        self.clone().call(request).await.map(reqwest::Response::from)
    }
}

impl Service<Request<Full<bytes::Bytes>>> for Reach {
    type Response = Response<reqwest::Body>;
    type Error = ReachError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ReachError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ReachError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<bytes::Bytes>>) -> Self::Future {
        let reach = self.clone();
        Box::pin(async move {
            let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap))?;
            reach.check(request.url())?;
            Ok(reach.http.execute(request).await?.into())
        })
    }
}

/// Resolves names to public addresses alone.
#[derive(Debug)]
struct Public;

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let all = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = all.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(Box::new(ReachError::Private(name.as_str().to_owned())) as _);
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Returns whether an address is of the public internet, by the registries of
/// [RFC 6890](https://www.rfc-editor.org/rfc/rfc6890). An IPv6 address that carries an IPv4 address is that one.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            let special = matches!(
                (a, b, c),
                (0 | 10 | 127, _, _)
                    | (100, 64..=127, _)
                    | (169, 254, _)
                    | (172, 16..=31, _)
                    | (192, 0, 0 | 2)
                    | (192, 88, 99)
                    | (192, 168, _)
                    | (198, 18 | 19, _)
                    | (198, 51, 100)
                    | (203, 0, 113)
                    | (224..=255, _, _)
            );
            !special
        }
        IpAddr::V6(ip) => {
            let segments = ip.segments();
            let v4 = |high: u16, low: u16| {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
            };
            match segments {
                // Mapped, translated (NAT64) and 6to4 addresses.
                [0, 0, 0, 0, 0, 0xffff, high, low]
                | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
                | [0x2002, high, low, ..] => v4(high, low),
                // Teredo, ORCHID, benchmarking and documentation.
                [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => false,
                // Global unicast is what is assigned.
                [first, ..] => (0x2000..=0x3fff).contains(&first),
            }
        }
    }
}

/// Describes an error with its causes.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_reached() {
        let reach = Reach::new(false).unwrap();
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://0/",
            "http://10.0.0.1/",
            "http://172.31.255.255/",
            "http://192.168.1.1/",
            "http://169.254.169.254/",
            "http://100.64.0.1/",
            "http://192.0.0.1/",
            "http://198.18.0.1/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[::1]/",
            "http://[::]/",
            "http://[fe80::1]/",
            "http://[fd00::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[2001:db8::1]/",
            "http://[ff02::1]/",
        ] {
            let refused = reach.check(&Url::parse(url).unwrap());
            assert!(matches!(refused, Err(ReachError::Private(_))), "{url}");
        }
        for url in
            ["http://1.1.1.1/", "https://172.32.0.1/", "https://[2606:4700:4700::1111]/", "https://[64:ff9b::101:101]/"]
        {
            assert!(reach.check(&Url::parse(url).unwrap()).is_ok(), "{url}");
        }
        assert!(matches!(reach.check(&Url::parse("file:///etc/passwd").unwrap()), Err(ReachError::Url)));
        assert!(Reach::new(true).unwrap().check(&Url::parse("http://127.0.0.1/").unwrap()).is_ok());
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_resolved() {
        let request = Request::get("http://localhost:9/").body(Full::default()).unwrap();
        let refused = Reach::new(false).unwrap().send(request).await.unwrap_err().to_string();
        assert!(refused.contains("localhost is this machine"), "{refused}");
    }
}
