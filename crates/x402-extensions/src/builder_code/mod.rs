//! Attribution in calldata: the extension
//! [`builder-code`](https://github.com/x402-foundation/x402/blob/main/specs/extensions/builder_code.md) and
//! [ERC-8021](https://ercs.ethereum.org/ERCS/erc-8021), schema 2.
//!
//! The suffix of a call is `[CBOR map][length of the map, 2 bytes][0x02][0x8021 eight times]`. The map has the codes of the app
//! (`a`), of the wallet or facilitator (`w`), and of services (`s`). This module reads and writes it, and reads the codes that
//! a payment echoes. No contract reads the suffix.
//!
//! A seller registers [`SellerCodes`], a payer [`PayerCodes`], a facilitator [`FacilitatorCodes`], which makes the suffix of its
//! calls.

mod roles;

pub use roles::{FacilitatorCodes, PayerCodes, SellerCodes, TooManyCodes};

use serde_json::Value;
use x402_types::Members;
use x402_types::extension::echo;

/// The key of the extension in `extensions`.
pub const NAME: &str = "builder-code";
/// The most codes of services that a client or a server names.
pub const MAX_OWN: usize = 5;
/// The most codes of services that a payment may echo: 5 of the client and 5 of the server.
pub const MAX_ECHOED: usize = 10;
/// The most codes of services in a suffix, with the one of the facilitator.
pub const MAX_SERVICES: usize = 11;

/// The end of calldata that have a suffix.
const MARKER: [u8; 16] =
    [0x80, 0x21, 0x80, 0x21, 0x80, 0x21, 0x80, 0x21, 0x80, 0x21, 0x80, 0x21, 0x80, 0x21, 0x80, 0x21];
/// The schema whose map this module reads and writes.
const SCHEMA: u8 = 2;

/// The code of a builder: 1 to 32 lower-case letters, digits and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuilderCode(Box<str>);

/// The error that a text is not a builder code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a builder code: 1 to 32 lower-case letters, digits and underscores")]
pub struct BuilderCodeError;

impl BuilderCode {
    /// Returns the text of the code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::str::FromStr for BuilderCode {
    type Err = BuilderCodeError;

    fn from_str(text: &str) -> Result<Self, BuilderCodeError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let fits = (1..=32).contains(&text.len()) && text.bytes().all(plain);
        fits.then(|| Self(text.into())).ok_or(BuilderCodeError)
    }
}

impl core::fmt::Display for BuilderCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The codes in one suffix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BuilderCodes {
    /// The app that sells: `a`.
    pub app: Option<BuilderCode>,
    /// The wallet or facilitator that sends the transaction: `w`.
    pub wallet: Option<BuilderCode>,
    /// The services between them, at most 11: `s`. A code may occur twice.
    pub services: Vec<BuilderCode>,
}

impl BuilderCodes {
    /// Reads the codes that a payment of version 2 echoes. Codes that are malformed are left out, and of the services no more
    /// than ten are read.
    #[must_use]
    pub fn echoed(extensions: &Members) -> Self {
        let info = extensions.get(NAME).filter(|value| {
            // A value without `info` is ignored, as the SDKs do.
            value.read::<Members>().is_ok_and(|members| members.get("info").is_some())
        });
        let Some(info) = info.and_then(echo::info) else { return Self::default() };
        let services = texts(&info);
        let services = services.iter().filter_map(|code| code.parse().ok()).take(MAX_ECHOED).collect();
        Self { app: info.text("a").and_then(|code| code.parse().ok()), wallet: None, services }
    }

    /// Adds the facilitator's own codes: its name, and its code as a service unless the payment has it already.
    #[must_use]
    pub fn with_facilitator(mut self, wallet: Option<&BuilderCode>, service: Option<&BuilderCode>) -> Self {
        self.wallet = wallet.cloned();
        if let Some(service) = service.filter(|service| !self.services.contains(service)) {
            self.services.truncate(MAX_ECHOED);
            self.services.push(service.clone());
        }
        self
    }

    /// Returns whether there is no code.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.app.is_none() && self.wallet.is_none() && self.services.is_empty()
    }

    /// Writes the suffix, with the keys in the order `a`, `w`, `s`.
    #[must_use]
    pub fn to_suffix(&self) -> Vec<u8> {
        let mut map = Vec::new();
        let entries =
            u8::from(self.app.is_some()) + u8::from(self.wallet.is_some()) + u8::from(!self.services.is_empty());
        head(&mut map, 5, entries);
        for (key, code) in [("a", &self.app), ("w", &self.wallet)] {
            if let Some(code) = code {
                text(&mut map, key);
                text(&mut map, code.as_str());
            }
        }
        let services = self.services.iter().take(MAX_SERVICES);
        if let Ok(count @ 1..) = u8::try_from(services.len()) {
            text(&mut map, "s");
            head(&mut map, 4, count);
            services.for_each(|code| text(&mut map, code.as_str()));
        }
        // At most 11 + 2 codes of 34 bytes fit into two bytes of length.
        let length = u16::try_from(map.len()).unwrap_or_default();
        map.extend(length.to_be_bytes());
        map.push(SCHEMA);
        map.extend(MARKER);
        map
    }

    /// Reads the suffix of calldata; `None` if there is none of schema 2, or one that is not written as
    /// [`BuilderCodes::to_suffix`] writes it.
    #[must_use]
    pub fn of_calldata(calldata: &[u8]) -> Option<Self> {
        let rest = calldata.strip_suffix(&MARKER)?;
        let (schema, rest) = rest.split_last()?;
        let (rest, length) = rest.split_last_chunk::<2>()?;
        let start = rest.len().checked_sub(usize::from(u16::from_be_bytes(*length)))?;
        let map = rest.get(start..)?;
        let codes = (*schema == SCHEMA).then(|| Self::of_map(map)).flatten()?;
        // One spelling: another order of keys, a longer form of a length, or bytes behind the map are refused.
        calldata.ends_with(&codes.to_suffix()).then_some(codes)
    }

    fn of_map(map: &[u8]) -> Option<Self> {
        let (entries, mut rest) = of_head(map, 5)?;
        let mut codes = Self::default();
        for _ in 0..entries {
            let (key, after) = of_text(rest)?;
            rest = match key {
                "a" | "w" => {
                    let (code, after) = of_text(after)?;
                    let place = if key == "a" { &mut codes.app } else { &mut codes.wallet };
                    *place = Some(code.parse().ok()?);
                    after
                }
                "s" => {
                    let (count, mut after) =
                        of_head(after, 4).filter(|(count, _)| usize::from(*count) <= MAX_SERVICES)?;
                    for _ in 0..count {
                        let (code, behind) = of_text(after)?;
                        codes.services.push(code.parse().ok()?);
                        after = behind;
                    }
                    after
                }
                _ => return None,
            };
        }
        rest.is_empty().then_some(codes)
    }
}

/// Returns the texts of the member `s` of an info: a list, or one text.
fn texts(info: &Members) -> Vec<String> {
    match info.get("s").and_then(|value| value.read::<Value>().ok()) {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => list.iter().filter_map(|code| code.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// Writes the head of a CBOR item, RFC 8949 §3: lengths up to 23 in the first byte, up to 255 behind it.
fn head(out: &mut Vec<u8>, major: u8, length: u8) {
    if length < 24 {
        out.push(major << 5 | length);
    } else {
        out.extend([major << 5 | 24, length]);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    // A key has one byte, and a code at most 32.
    head(out, 3, u8::try_from(text.len()).unwrap_or_default());
    out.extend(text.as_bytes());
}

/// Reads the head of an item of this major type, and returns its length with the bytes behind it.
fn of_head(bytes: &[u8], major: u8) -> Option<(u8, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if first >> 5 != major {
        return None;
    }
    match first & 31 {
        short @ 0..24 => Some((short, rest)),
        24 => rest.split_first().map(|(length, rest)| (*length, rest)),
        _ => None,
    }
}

fn of_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = of_head(bytes, 3)?;
    let (text, rest) = rest.split_at_checked(usize::from(length))?;
    Some((core::str::from_utf8(text).ok()?, rest))
}
