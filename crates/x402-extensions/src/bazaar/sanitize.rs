//! The rules for what a catalog shows of a seller's words:
//! [bazaar](https://github.com/x402-foundation/x402/blob/main/specs/extensions/bazaar.md), and the published SDK, whose rules
//! "a fourth SDK must copy exactly".

use url::{Host, Url};

/// The maximum length of a route template in bytes; the published SDK has none.
const MAX_TEMPLATE: usize = 1024;
/// The number of times that a route template is percent-decoded at most.
const DECODE_PASSES: usize = 5;
/// The names that a host file gives the machine itself.
const LOOPBACK: [&str; 4] = ["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"];

/// Returns whether a route template may be shown: `/` and at least one of `[a-zA-Z0-9_/:.-~%]`, and after every layer of
/// percent-encoding neither `..` nor `://`.
#[must_use]
pub fn is_valid_route_template(template: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_/:.-~%".contains(&byte);
    let formed =
        template.starts_with('/') && (2..=MAX_TEMPLATE).contains(&template.len()) && template.bytes().all(plain);
    formed && decoded(template).is_some_and(|text| !text.contains("..") && !text.contains("://"))
}

/// Removes every layer of percent-encoding. `None` for a malformed sequence, bytes that are not UTF-8, and more than five
/// layers.
fn decoded(text: &str) -> Option<String> {
    let mut text = text.to_owned();
    for _ in 0..DECODE_PASSES {
        let next = decoded_once(&text)?;
        if next == text {
            return Some(text);
        }
        text = next;
    }
    None
}

fn decoded_once(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).ok()
}

/// Returns whether a name of a service may be shown: 1 to 32 printable ASCII characters.
#[must_use]
pub fn is_valid_service_name(name: &str) -> bool {
    (1..=32).contains(&name.len()) && name.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

/// Returns the tags that may be shown: at most five, each once whatever its case, each of 1 to 32 printable ASCII characters.
#[must_use]
pub fn sanitized_tags<'t>(tags: impl IntoIterator<Item = &'t str>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for tag in tags.into_iter().filter(|tag| is_valid_service_name(tag)) {
        if !kept.iter().any(|known| known.eq_ignore_ascii_case(tag)) {
            kept.push(tag.to_owned());
        }
        if kept.len() == 5 {
            break;
        }
    }
    kept
}

/// Returns whether the URL of an icon may be shown: http or https, at most 2,048 UTF-16 units, without controls and
/// credentials, and with a host that is a name: no IP address in any spelling, and no name of the machine itself.
#[must_use]
pub fn is_valid_icon_url(icon: &str) -> bool {
    let length = icon.encode_utf16().count();
    if length == 0 || length > 2_048 || icon.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return false;
    }
    let Ok(url) = Url::parse(icon) else { return false };
    let plain = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    // The parser of WHATWG's URL standard has read a number in any base as an IPv4 address, and a name as its ASCII form.
    match url.host() {
        Some(Host::Domain(name)) => plain && !name.is_empty() && !LOOPBACK.contains(&name),
        _ => false,
    }
}
