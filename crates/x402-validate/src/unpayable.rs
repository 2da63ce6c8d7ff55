//! Entries that are well-formed and cannot be paid: sums and times in another unit, a payee that keeps what it gets. The
//! rules are those by which published clients pay
//! [`exact` on EVM networks](https://github.com/x402-foundation/x402/blob/main/specs/schemes/exact/scheme_exact_evm.md).

use x402_codec::json::Node;

use crate::entry::{Fields, Net};
use crate::lint::Context;
use crate::place::Place;
use crate::report::Issue;
use crate::token::Token;
use crate::{Code, Namespace, amount};

/// The longest authorization that this project's client signs by default, in seconds.
const LONGEST: u64 = 3_600;

/// A sum, in whole dollars, from which on a price was more likely converted to atomic units twice.
const LARGE: u64 = 1_000;

/// Checks the payee of an entry on an EVM network.
pub(crate) fn check(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>, network: &Net<'_>) {
    let text = |node: Option<&Node<'_>>| node.and_then(Node::as_str).map(str::to_ascii_lowercase);
    if let (Some(node), Some(payee)) = (fields.pay_to, text(fields.pay_to))
        && network.namespace == Some(Namespace::Eip155)
    {
        let zero = payee.strip_prefix("0x").is_some_and(|hex| hex.len() == 40 && hex.bytes().all(|b| b == b'0'));
        let why = if zero {
            "`payTo` is the zero address: the token refuses the transfer"
        } else if text(fields.asset).as_deref() == Some(payee.as_str()) {
            "`payTo` is the token's own contract: what is paid to it is lost"
        } else {
            return;
        };
        cx.push(Issue::new(Code::UnpayableRecipient, place.field("payTo"), &node.span).message(why));
    }
}

/// Checks the length of an authorization: clients sign for seconds, and few of them for days.
pub(crate) fn timeout(cx: &mut Context<'_>, place: Place<'_>, node: &Node<'_>, seconds: u64) {
    if seconds <= LONGEST {
        return;
    }
    let issue = Issue::new(Code::LongTimeout, place.field("maxTimeoutSeconds"), &node.span);
    let length = span(seconds);
    cx.push(if (1_500_000_000..4_000_000_000).contains(&seconds) {
        issue
            .message(format!("{seconds} seconds are {length}: it is more likely a point in time"))
            .fix("write how long a payer's authorization lasts, in seconds, such as 60")
    } else if seconds.is_multiple_of(1_000) && seconds >= 10_000 {
        issue
            .message(format!("{seconds} seconds are {length}: they are more likely milliseconds"))
            .fix(format!("write {}", seconds / 1_000))
    } else {
        issue.message(format!("{seconds} seconds are {length}: few payers sign for so long"))
    });
}

/// Formats a time with one decimal, in its largest unit.
fn span(seconds: u64) -> String {
    const DAY: u64 = 86_400;
    let (unit, name) = match seconds {
        ..DAY => (LONGEST, "hours"),
        DAY..31_557_600 => (DAY, "days"),
        _ => (31_557_600, "years"),
    };
    let tenths = (u128::from(seconds) * 10 + u128::from(unit) / 2) / u128::from(unit);
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        tenth => format!("{}.{tenth} {name}", tenths / 10),
    }
}

/// Checks the sum in a known dollar token: a price that was converted to atomic units twice is larger by 10^6.
pub(crate) fn sum(cx: &mut Context<'_>, place: Place<'_>, node: &Node<'_>, digits: &str, token: Option<Token>) {
    let Some(token) = token else { return };
    let decimals = usize::from(token.decimals);
    // The number of whole dollars: the digits in front of the decimals.
    let (dollars, rest) = digits.split_at_checked(digits.len().saturating_sub(decimals)).unwrap_or_default();
    if dollars.len() < 4 || dollars.parse().is_ok_and(|dollars: u64| dollars < LARGE) || rest.bytes().any(|b| b != b'0')
    {
        return;
    }
    let human = amount::human(digits, token.decimals);
    let words = dollars.parse().ok().and_then(amount::in_words).map(|words| format!(", {words} dollars"));
    let issue = Issue::new(Code::LargeAmount, place.field("amount"), &node.span).message(format!(
        "the price is {human} {}{}: it was more likely converted to atomic units twice",
        token.symbol,
        words.unwrap_or_default()
    ));
    cx.push(issue.fix(format!(
        "write \"{dollars}\" if {} {} is meant",
        amount::human(dollars, token.decimals),
        token.symbol
    )));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_largest_unit() {
        for (seconds, want) in [
            (7_200, "2 hours"),
            (5_400, "1.5 hours"),
            (300_000, "3.5 days"),
            (604_800, "7 days"),
            (31_536_000, "365 days"),
            (1_790_000_000, "56.7 years"),
            (u64::MAX, "584542046090.6 years"),
        ] {
            assert_eq!(span(seconds), want);
        }
    }
}
