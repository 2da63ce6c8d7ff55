//! The configuration of `x402 sell`: a file, or the arguments of the command line in its place.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use alloy_primitives::Address;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use url::Url;
use x402_evm::exact::Price;
use x402_types::{ChainId, EvmAddress};

use super::path::Pattern;

/// The configuration of the proxy. Unknown keys are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The server that is sold: `http://127.0.0.1:3000`. Its path is put before the path of each request.
    pub(super) upstream: Url,
    /// The address to listen on.
    #[serde(default = "default_listen")]
    pub(super) listen: SocketAddr,
    /// The origin under which payers reach the proxy, `https://api.example.com`; by default the address it listens on.
    pub(super) origin: Option<String>,
    /// The URL of a facilitator, or `own` for one in this process.
    #[serde(default = "default_facilitator")]
    pub(super) facilitator: String,
    /// With `own`: the configuration file of `x402-facilitator`.
    pub(super) facilitator_config: Option<PathBuf>,
    /// The facilitators behind the first, by precedence.
    #[serde(default)]
    pub(super) further: Vec<Further>,
    /// The SQLite file of the payments that were granted.
    #[serde(default = "default_grants")]
    pub(super) grants: String,
    /// The account that is paid, unless a route names another.
    #[serde(deserialize_with = "one_address")]
    pub(super) pay_to: Address,
    /// The networks on which it is paid, the preferred one first.
    #[serde(default = "default_networks", rename = "networks")]
    pub(super) networks: Vec<ChainId>,
    /// The token; by default the dollar token of each network.
    #[serde(default, deserialize_with = "some_address")]
    pub(super) asset: Option<Address>,
    /// The seconds that the upstream may need for the head of a response, and for each further part: 1 to 3,600.
    #[serde(default = "default_seconds")]
    pub(super) upstream_seconds: u64,
    /// The paths that are forwarded without payment, compared exactly.
    #[serde(default)]
    pub(super) free: Vec<Pattern>,
    /// The paths that are paid. A path that neither a route nor `free` names is not forwarded.
    #[serde(default, rename = "route")]
    pub(super) routes: Vec<RouteConfig>,
}

/// A facilitator behind the first.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Further {
    /// The name under which `grants` remembers the payments that it began.
    pub(super) name: String,
    /// The URL of the facilitator.
    pub(super) url: String,
}

impl FromStr for Further {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, url) = text.split_once('=').ok_or("expected NAME=URL")?;
        Ok(Self { name: name.to_owned(), url: url.to_owned() })
    }
}

/// One paid route.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteConfig {
    /// The paths: `/report`, `/users/*/report`, `/api/*`.
    pub(super) path: Pattern,
    /// The method; every method without it. `GET` includes `HEAD`.
    pub(super) method: Option<String>,
    /// The price of one request, `$0.01`.
    #[serde(deserialize_with = "parsed")]
    pub(super) price: Price,
    /// The account that is paid for this route.
    #[serde(default, deserialize_with = "some_address")]
    pub(super) pay_to: Option<Address>,
    /// The description of what is sold, for people and for lists of services.
    #[serde(default)]
    pub(super) description: String,
    /// The media type of the answers.
    #[serde(default)]
    pub(super) mime_type: String,
    /// Whether the payment is settled before the request is forwarded, as streams and WebSockets need it.
    #[serde(default)]
    pub(super) upfront: bool,
}

impl Config {
    /// Reads the text of a configuration file.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        config.checked()
    }

    pub(super) fn checked(self) -> Result<Self, String> {
        let fault = |field: &str, expected: &str| Err(format!("{field}: expected {expected}"));
        let url = &self.upstream;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !plain {
            return fault("upstream", "an http or https URL without user, query and fragment");
        }
        if !(1..=3_600).contains(&self.upstream_seconds) {
            return fault("upstream_seconds", "1 to 3600");
        }
        if self.networks.is_empty() {
            return fault("networks", "at least one network");
        }
        if self.routes.is_empty() {
            return fault("route", "at least one paid route, or --price for all paths");
        }
        if (self.facilitator == "own") != self.facilitator_config.is_some() {
            return fault("facilitator_config", "the file of x402-facilitator, with `facilitator = \"own\"` alone");
        }
        for route in &self.routes {
            let method = route.method.as_deref().unwrap_or("GET");
            if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return fault("route.method", "a method in capital letters");
            }
        }
        Ok(self)
    }
}

/// A route of the command line: `[METHOD ]PATH[=PRICE]`.
#[derive(Debug, Clone)]
pub(crate) struct RouteArg {
    method: Option<String>,
    path: Pattern,
    price: Option<Price>,
}

impl FromStr for RouteArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, price) = match text.rsplit_once('=') {
            Some((rest, price)) => (rest, Some(price.parse::<Price>().map_err(|error| error.to_string())?)),
            None => (text, None),
        };
        let (method, path) = match rest.split_once(' ') {
            Some((method, path)) => (Some(method.to_owned()), path),
            None => (None, rest),
        };
        Ok(Self { method, path: path.parse()?, price })
    }
}

impl RouteArg {
    /// Returns the route, with the price of all routes if it has none of its own.
    pub(super) fn into_route(self, price: Option<Price>, upfront: bool) -> Result<RouteConfig, String> {
        let price = self.price.or(price).ok_or("--price is missing, or `=PRICE` behind each --route")?;
        let Self { method, path, .. } = self;
        let (description, mime_type) = Default::default();
        Ok(RouteConfig { path, method, price, pay_to: None, description, mime_type, upfront })
    }
}

/// Returns the address without an argument.
pub(super) fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8402))
}

/// Returns the public facilitator of test networks.
pub(super) fn default_facilitator() -> String {
    "https://x402.org/facilitator".into()
}

/// Returns the file in the working directory.
pub(super) fn default_grants() -> String {
    "grants.sqlite".into()
}

/// Returns Base Sepolia, on which nothing is worth anything.
pub(super) fn default_networks() -> Vec<ChainId> {
    vec![ChainId::eip155(84_532)]
}

/// Returns the default of one minute.
pub(super) const fn default_seconds() -> u64 {
    60
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

/// Parses an address. One with capital and small letters must have the right checksum: money that is sent to a mistyped
/// address is lost.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    let expected =
        || "expected an address of 20 bytes in hex, in one case or with the right EIP-55 checksum".to_owned();
    let address: EvmAddress = text.parse().map_err(|_| expected())?;
    Address::try_from(address).map_err(|_| expected())
}

fn one_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
    address(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

fn some_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
    one_address(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
upstream = "http://127.0.0.1:3000"
pay_to = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
free = ["/health"]

[[route]]
path = "/api/*"
price = "$0.01"
"#;

    #[test]
    fn a_file_has_defaults_and_refuses_what_it_does_not_know() {
        let config = Config::read(FILE).unwrap();
        assert_eq!((config.listen.port(), config.networks.len(), config.upstream_seconds), (8402, 1, 60));
        for (from, to, named) in [
            ("http://", "ftp://", "upstream"),
            ("3000\"", "3000/?q\"", "upstream"),
            ("$0.01", "0.01", "price"),
            ("$0.01", "$0.00", "price"),
            ("/api/*", "api", "path"),
            ("/health", "/%41", "path"),
            ("free", "fre", "fre"),
            ("path", "paths", "paths"),
            ("0x90F7", "0x90f7", "pay_to"),
        ] {
            // A price of zero is refused where the offer is made: the token's decimals count.
            let error = Config::read(&FILE.replacen(from, to, 1)).err();
            assert_eq!(error.is_some(), to != "$0.00", "{to}: {error:?} {named}");
        }
        for more in [
            "facilitator = \"own\"\n",
            "facilitator_config = \"f.toml\"\n",
            "upstream_seconds = 0\n",
            "networks = []\n",
        ] {
            assert!(Config::read(&format!("{more}{FILE}")).is_err(), "{more}");
        }
    }

    #[test]
    fn further_facilitators_have_a_name() {
        let further = "[[further]]\nname = \"hosted\"\nurl = \"https://facilitator.example\"\n";
        let config = Config::read(&FILE.replacen("[[route]]", &format!("{further}[[route]]"), 1)).unwrap();
        assert_eq!((config.further.len(), &*config.further[0].name), (1, "hosted"));
        let argument: Further = "hosted=https://facilitator.example/?a=b".parse().unwrap();
        assert_eq!((&*argument.name, &*argument.url), ("hosted", "https://facilitator.example/?a=b"));
        assert!("https://facilitator.example".parse::<Further>().is_err());
    }

    #[test]
    fn a_route_of_the_command_line_has_method_path_and_price() {
        let price = "$0.02".parse().unwrap();
        let route: RouteArg = "GET /a/*=$0.01".parse().unwrap();
        let route = route.into_route(Some(price), true).unwrap();
        assert_eq!(
            (route.method.as_deref(), route.price, route.upfront),
            (Some("GET"), "$0.01".parse().unwrap(), true)
        );
        assert_eq!("/a".parse::<RouteArg>().unwrap().into_route(Some(price), false).unwrap().price, price);
        assert!("/a".parse::<RouteArg>().unwrap().into_route(None, false).is_err());
        assert!("/a=0.01".parse::<RouteArg>().is_err());
        assert!("GET a".parse::<RouteArg>().is_err());
    }
}
