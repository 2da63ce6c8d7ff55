//! Bodies of the fuzz targets in `fuzz/`: properties that hold for all input bytes. This module is not part of the API.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a property that does not hold has to be heard")]

use core::fmt::{Debug, Display};
use core::str::FromStr;

use alloy_primitives::{Address, U256};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::challenge::{
    BodySha256, ChallengeId, DialectVersion, HostName, HttpMethod, IsoTime, Network, Networks, Nonce, ProofKind,
    ResourceName, UrlPath,
};
use crate::nvm::{AgentId, PlanId};
use crate::{
    AtomicAmount, ChainId, ErrorReason, EvmAddress, Malformed, Members, RawJson, SchemeName, UnixSeconds, networks,
};

/// Checks that a text parsed as one of the newtypes is written back unchanged, and that JSON uses the same grammar.
/// Numbers, networks and addresses are compared with the result of other parsers.
pub fn roundtrip_scalars(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let number = U256::from_str_radix(text, 10).ok().filter(|number| number.to_string() == text);
    assert_eq!(same::<AtomicAmount>(text).map(AtomicAmount::value), number);
    assert_eq!(same::<PlanId>(text).map(PlanId::value), number);
    assert_eq!(same::<AgentId>(text).map(AgentId::value), number);
    let seconds = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
    assert_eq!(same::<UnixSeconds>(text).map(|at| at.0), seconds);

    if let Some(chain) = same::<ChainId>(text) {
        assert_eq!(format!("{}:{}", chain.namespace(), chain.reference()), text);
        let number = text.strip_prefix("eip155:").map(|number| number.parse::<u64>().unwrap());
        assert_eq!(chain.eip155_chain(), number);
        assert!(number.is_none_or(|number| ChainId::eip155(number) == chain));
        assert!(networks::legacy_name(chain).is_none_or(|name| networks::by_name(name) == Some(chain)));
    }
    address(text);
    time(text);
    if let Some(network) = same::<Network>(text) {
        let known = Networks::default();
        assert!(known.caip2(&network).is_none_or(|chain| known.name(chain).as_ref() == Some(&network)));
    }
    if let Ok(hash) = text.parse::<BodySha256>() {
        assert_eq!(hash.to_string(), text.to_ascii_lowercase());
    }
    same::<SchemeName>(text);
    same::<ProofKind>(text);
    same::<DialectVersion>(text);
    same::<HttpMethod>(text);
    let texts = [
        same::<ChallengeId>(text).map(|text| text.to_string()),
        same::<Nonce>(text).map(|text| text.to_string()),
        same::<ResourceName>(text).map(|text| text.to_string()),
        same::<HostName>(text).map(|text| text.to_string()),
        same::<UrlPath>(text).map(|text| text.to_string()),
    ];
    assert!(texts.iter().flatten().all(|text| !text.contains(char::is_control)), "{texts:?}");
    assert_eq!(ErrorReason::from_wire(text).as_str(), text);
}

/// Compares the members of an object with `serde_json`'s map of them. Members are forwarded unchanged until one of them
/// is modified.
pub fn diff_members(data: &[u8]) {
    let map = serde_json::from_slice::<Map<String, Value>>(data);
    let Ok(members) = serde_json::from_slice::<Members>(data) else {
        assert!(map.is_err(), "{map:?} is refused here alone");
        return;
    };
    let written = serde_json::to_vec(&members).unwrap();
    assert!(members.is_empty() || written == data.trim_ascii());
    assert_eq!(serde_json::from_slice::<Members>(&written).unwrap(), members);
    // Half a surrogate pair in a value is detected when the value is parsed, a duplicate key by the strict parser.
    let Ok(map) = map else { return };
    if map.len() != members.len() {
        assert!(members.len() > map.len());
        return;
    }
    for (key, value) in &map {
        assert_eq!(&members.get(key).unwrap().read::<Value>().unwrap(), value);
    }
    assert!(members.contains(&members) && members.contains(&Members::new()));
    let mut changed = members.clone();
    changed.insert_text("x402", "added");
    assert_eq!(changed.text("x402").as_deref(), Some("added"));
    if let Some((key, _)) = members.iter().next() {
        changed.insert_text(key, "replaced");
        assert_eq!(changed.text(key).as_deref(), Some("replaced"));
        assert_eq!(changed.len(), members.len() + usize::from(!map.contains_key("x402")));
    }
    assert_eq!(serde_json::to_vec(&members).unwrap(), written);
    let text = serde_json::to_string(&changed).unwrap();
    assert_eq!(serde_json::from_str::<Members>(&text).unwrap(), changed);
    assert_eq!(RawJson::parse(text).unwrap().read::<Members>().unwrap(), changed);
}

/// Parses text as one of the newtypes, and checks that `Display` and JSON write it back unchanged.
fn same<T>(text: &str) -> Option<T>
where
    T: FromStr<Err = Malformed> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let json = Value::from(text).to_string();
    let Ok(value) = text.parse::<T>() else {
        assert!(serde_json::from_str::<T>(&json).is_err(), "{text:?}");
        return None;
    };
    assert_eq!(value.to_string(), text);
    assert_eq!(serde_json::to_string(&value).unwrap(), json);
    assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value);
    Some(value)
}

/// Compares with alloy, which also accepts addresses without `0x`, and any case.
fn address(text: &str) {
    let theirs = text.strip_prefix("0x").filter(|digits| digits.len() == 40).and_then(|digits| digits.parse().ok());
    let ours = same::<EvmAddress>(text);
    assert_eq!(ours.map(|address| address.unchecked()), theirs);
    let Some(address) = ours else { return };
    let digits = text.get(2..).unwrap();
    let one_case = digits == digits.to_lowercase() || digits == digits.to_uppercase();
    let checked = Address::parse_checksummed(text, None).is_ok();
    assert_eq!(Address::try_from(address).is_ok(), one_case || checked, "{text}");
    assert_eq!(EvmAddress::from(address.unchecked()).as_str(), address.unchecked().to_checksum(None));
}

/// Compares with Howard Hinnant's `days_from_civil`, which counts in eras of 400 years.
fn time(text: &str) {
    let Ok(time) = text.parse::<IsoTime>() else { return };
    assert_eq!(time.as_str(), text);
    let at = |from: usize, to: usize| text.get(from..to).unwrap().parse::<i64>().unwrap();
    let (year, month, day) = (at(0, 4), at(5, 7), at(8, 10));
    let year = if month <= 2 { year - 1 } else { year };
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let local = days * 86_400 + at(11, 13) * 3600 + at(14, 16) * 60 + at(17, 19);
    let zone = if text.ends_with('Z') {
        0
    } else {
        let end = text.len();
        let sign = if text.as_bytes().get(end - 6) == Some(&b'-') { -60 } else { 60 };
        sign * (at(end - 5, end - 3) * 60 + at(end - 2, end))
    };
    let floor = time.floor();
    assert_eq!(i64::try_from(floor.0).unwrap(), local - zone, "{text}");
    assert!(time.ceil() == floor || time.ceil() == floor.plus(1) && text.contains('.'));
    let written = IsoTime::from(floor);
    assert_eq!(written.as_str().parse::<IsoTime>().unwrap(), written);
    assert_eq!(written.floor(), floor);
}

#[cfg(test)]
mod tests {
    x402_testkit::replays!(roundtrip_scalars, diff_members);
}
