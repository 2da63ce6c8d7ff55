//! `Settlement-Overrides`: the amount to settle in a header of the handler's response, as the TypeScript SDK reads it, for
//! handlers that cannot put [`Used`] into the response's extensions. The payer never sees it.
//!
//! `{"amount":"1000"}` is in atomic units, `"12.5%"` a share of the authorized amount with at most two decimals, `"$0.005"` a
//! sum in a known asset that represents dollars. Parts of an atomic unit are dropped.

use http::HeaderMap;
use x402_codec::{Limits, header, json};
use x402_types::{AmountRule, Assets, AtomicAmount, Dollars, Malformed, Members, Terms, U256};

use crate::checkout::Used;

/// A handler's header, which can be used once and goes no further.
#[derive(Debug)]
pub(super) struct Overrides(Option<Vec<Vec<u8>>>);

/// The most bytes of the header.
const LONGEST: usize = 1_024;

impl Overrides {
    /// Removes the header from a response.
    pub(super) fn take(headers: &mut HeaderMap) -> Self {
        let name = &header::SETTLEMENT_OVERRIDES;
        if !headers.contains_key(name) {
            return Self(None);
        }
        let values = headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect();
        headers.remove(name);
        Self(Some(values))
    }

    /// Returns the amount to settle of a payment that was verified for these terms; `None` where the handler names none.
    ///
    /// # Errors
    /// The header is malformed, or has an amount that the payment cannot settle: more than was authorized, or
    /// anything else where the scheme settles what was signed. Charging another amount would be a guess.
    pub(super) fn used(&self, terms: &Terms, rule: AmountRule, assets: &Assets) -> Result<Option<Used>, Malformed> {
        const FORM: Malformed = Malformed::new("one JSON object with `amount`: atomic units, a percentage, or dollars");
        let Some(values) = &self.0 else { return Ok(None) };
        let [value] = &values[..] else { return Err(FORM) };
        if value.len() > LONGEST {
            return Err(FORM);
        }
        let members: Members = json::from_slice(value, &Limits::DEFAULT).map_err(|_| FORM)?;
        let Some(amount) = members.get("amount") else { return Ok(None) };
        let text: String = amount.read().map_err(|_| FORM)?;
        let amount = resolved(&text, terms, assets).ok_or(FORM)?;
        if rule.settles(terms.amount, amount) != amount {
            return Err(Malformed::new("an amount that the payment can settle"));
        }
        Ok(Some(Used(amount)))
    }
}

fn resolved(text: &str, terms: &Terms, assets: &Assets) -> Option<AtomicAmount> {
    if let Some(percent) = text.strip_suffix('%') {
        return share(terms.amount, percent);
    }
    if text.starts_with('$') {
        let dollars: Dollars = text.parse().ok()?;
        let asset = assets.find(terms.network, &terms.asset).filter(|asset| asset.dollar)?;
        return dollars.to_atomic(asset.decimals);
    }
    text.parse().ok()
}

/// Returns a share of an amount: `12`, `12.5` or `12.50` percent, at most 100.
fn share(of: AtomicAmount, percent: &str) -> Option<AtomicAmount> {
    let (whole, fraction) = percent.split_once('.').unwrap_or((percent, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || fraction.len() > 2 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let hundredths: u64 = format!("{whole}{fraction:0<2}").parse().ok().filter(|part| *part <= WHOLE)?;
    let (part, whole) = (U256::from(hundredths), U256::from(WHOLE));
    // The amount is divided first, so that no product exceeds 256 bits.
    let (quotient, rest) = of.value().div_rem(whole);
    let rest = rest.checked_mul(part)?.checked_div(whole)?;
    Some(quotient.checked_mul(part)?.checked_add(rest)?.into())
}

/// One hundred percent, in hundredths of a percent.
const WHOLE: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use x402_types::v2::PaymentRequirements;

    /// The maximum is 20,001 units of USDC on Base Sepolia.
    fn terms() -> Terms {
        let entry = r#"{"scheme":"upto","network":"eip155:84532","amount":"20001",
            "asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","payTo":"0x90F79bf6EB2c4f870365E785982E1f101E93b906",
            "maxTimeoutSeconds":300,"extra":{}}"#;
        serde_json::from_str::<PaymentRequirements>(entry).unwrap().into()
    }

    fn used(values: &[&str], rule: AmountRule) -> Result<Option<String>, Malformed> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("settlement-overrides", HeaderValue::from_str(value).unwrap());
        }
        let overrides = Overrides::take(&mut headers);
        assert!(headers.is_empty());
        let used = overrides.used(&terms(), rule, &Assets::default())?;
        Ok(used.map(|Used(amount)| amount.to_string()))
    }

    fn amount(text: &str) -> Result<Option<String>, Malformed> {
        used(&[&format!(r#"{{"amount":"{text}"}}"#)], AmountRule::AtMost)
    }

    /// The results are those of `resolveSettlementOverrideAmount` of `@x402/core` 2.27.0 for the same maximum.
    #[test]
    fn amounts_are_those_of_the_sdk() {
        for (text, expected) in [
            ("0", "0"),
            ("1000", "1000"),
            ("20001", "20001"),
            ("0%", "0"),
            ("50%", "10000"),
            ("50.%", "10000"),
            ("33.33%", "6666"),
            ("0.01%", "2"),
            ("100%", "20001"),
            ("099.9%", "19980"),
            ("$0.005", "5000"),
            ("$0", "0"),
            ("$0.0200019", "20001"),
        ] {
            assert_eq!(amount(text), Ok(Some(expected.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_of_the_payment_is_refused() {
        for text in [
            "",
            "abc",
            "-1",
            "12.5",
            "0x10",
            "1e3",
            " 1",
            "20002",
            "33.333%",
            "%",
            ".5%",
            "-1%",
            "100.01%",
            "1000%",
            "50 %",
            "$",
            "$-1",
            "$.5",
            "$1.",
            "$0.02001",
            "$1000000000000000000000000000000000000000000000000000000000000000000000000000000",
            "5$",
            "€1",
        ] {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_bytes(format!(r#"{{"amount":"{text}"}}"#).as_bytes()).unwrap();
            headers.append("settlement-overrides", value);
            let used = Overrides::take(&mut headers).used(&terms(), AmountRule::AtMost, &Assets::default());
            assert!(used.is_err(), "{text}");
        }
        // A sum in dollars needs an asset that is known to represent them.
        let mut other = terms();
        other.asset = "0x1111111111111111111111111111111111111111".into();
        let mut headers = HeaderMap::new();
        headers.append("settlement-overrides", HeaderValue::from_static(r#"{"amount":"$0.001"}"#));
        assert!(Overrides::take(&mut headers).used(&other, AmountRule::AtMost, &Assets::default()).is_err());
    }

    #[test]
    fn other_documents_are_refused_and_none_is_no_override() {
        assert_eq!(used(&[], AmountRule::AtMost), Ok(None));
        assert_eq!(used(&["{}"], AmountRule::AtMost), Ok(None));
        assert_eq!(used(&[r#"{"other":1}"#], AmountRule::Equal), Ok(None));
        let long = format!(r#"{{"amount":"1","note":"{}"}}"#, "x".repeat(LONGEST));
        for bad in
            ["", "1", "[]", "null", r#"{"amount":1}"#, r#"{"amount":null}"#, r#"{"amount":"1","amount":"2"}"#, &long]
        {
            assert!(used(&[bad], AmountRule::AtMost).is_err(), "{bad}");
        }
        // Two headers contradict each other, even where they are equal.
        assert!(used(&[r#"{"amount":"1"}"#; 2], AmountRule::AtMost).is_err());
    }

    #[test]
    fn what_was_signed_is_settled_whole_or_not_at_all() {
        let whole = r#"{"amount":"20001"}"#;
        assert_eq!(used(&[whole], AmountRule::Equal), Ok(Some("20001".into())));
        assert_eq!(used(&[r#"{"amount":"100%"}"#], AmountRule::Equal), Ok(Some("20001".into())));
        for other in ["20000", "0", "50%"] {
            assert!(used(&[&format!(r#"{{"amount":"{other}"}}"#)], AmountRule::Equal).is_err());
        }
    }

    #[test]
    fn a_share_of_the_largest_amount_does_not_overflow() {
        let most = AtomicAmount::from(U256::MAX);
        assert_eq!(share(most, "100"), Some(most));
        assert_eq!(share(most, "50"), Some((U256::MAX / U256::from(2)).into()));
        assert_eq!(share(AtomicAmount::ZERO, "99.99"), Some(AtomicAmount::ZERO));
    }
}
