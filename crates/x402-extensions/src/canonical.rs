//! Canonical JSON: [RFC 8785](https://www.rfc-editor.org/rfc/rfc8785), the bytes over which a JWS of this crate is made.
//!
//! Signatures are verified over the received bytes and never over bytes made here. The published SDK writes control
//! characters differently (`\u000a`, where RFC 8785 has `\n`), so both spellings verify.

use core::fmt::Write;

use x402_codec::json::{Member, Node, Value, parse};
use x402_codec::{DecodeError, Limits};

/// Returns the canonical form of one JSON document.
///
/// The document is at most `limits.body` bytes long and `limits.depth` levels deep. A number is read as a
/// double, so that integers beyond 2^53 lose digits, as they do in every parser that follows RFC 8785.
///
/// # Errors
/// The text is not strict JSON, or exceeds a limit.
pub fn canonical(text: &[u8], limits: &Limits) -> Result<String, DecodeError> {
    let node = parse(text, limits)?;
    let mut written = String::with_capacity(text.len());
    write(&mut written, &node);
    Ok(written)
}

/// Writes a node. The recursion ends at the depth to which the parser has kept.
fn write(out: &mut String, node: &Node<'_>) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(text) => write_number(out, text),
        Value::String(text) => write_string(out, text),
        Value::Array(elements) => {
            out.push('[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(out, element);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // §3.2.3: "property name strings to be sorted are formatted as arrays of UTF-16 code units".
            let mut sorted: Vec<&Member<'_>> = members.iter().collect();
            sorted.sort_by(|a, b| a.key.encode_utf16().cmp(b.key.encode_utf16()));
            out.push('{');
            for (at, member) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_string(out, &member.key);
                out.push(':');
                write(out, &member.value);
            }
            out.push('}');
        }
    }
}

/// Writes a string as §3.2.2.2 defines it: seven short escapes, `\u00xx` in lower case for other control characters.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Writes a number as §3.2.2.3 defines it, by the rules of ECMAScript's `Number::toString`.
fn write_number(out: &mut String, text: &str) {
    let Ok(number) = text.parse::<f64>() else { return };
    if number == 0.0 {
        // Minus zero is written as zero.
        out.push('0');
        return;
    }
    if number.is_sign_negative() {
        out.push('-');
    }
    // Rust writes the fewest digits that are read back as the same double, as ECMAScript requires. Of two such numbers that
    // are equally close, ECMAScript takes the even one, as Rust does for a given count of digits: RFC 8785, appendix B.
    let number = number.abs();
    let fewest = format!("{number:e}");
    let count = fewest.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    let nearest = format!("{number:.*e}", count.saturating_sub(1));
    let written = if nearest.parse() == Ok(number) { nearest } else { fewest };
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // The number is 0.digits × 10^point.
    let point = exponent.saturating_add(1);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or_default());
    let (head, tail) = digits.split_at(usize::try_from(point.clamp(0, length)).unwrap_or_default());
    if (length..=21).contains(&point) {
        out.push_str(head);
        out.push_str(&zeros(point.saturating_sub(length)));
    } else if (1..=21).contains(&point) {
        let _ = write!(out, "{head}.{tail}");
    } else if (-5..=0).contains(&point) {
        let _ = write!(out, "0.{}{digits}", zeros(point.saturating_neg()));
    } else {
        let (first, rest) = digits.split_at(1);
        let sign = if exponent < 0 { '-' } else { '+' };
        let dot = if rest.is_empty() { "" } else { "." };
        let _ = write!(out, "{first}{dot}{rest}e{sign}{}", exponent.unsigned_abs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> String {
        canonical(text.as_bytes(), &Limits::DEFAULT).unwrap()
    }

    // RFC 8785, appendix B: the double's bits, and the text.
    #[test]
    fn numbers_are_those_of_appendix_b() {
        for (bits, text) in [
            (0x0000_0000_0000_0000_u64, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            let double = f64::from_bits(bits);
            assert_eq!(number(&format!("{double:e}")), text);
        }
    }

    // RFC 8785, §3.2.2 and §3.2.3: the document, and its canonical form.
    #[test]
    fn the_documents_of_the_rfc() {
        let text = r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],
            "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#;
        let expected = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(canonical(text.as_bytes(), &Limits::DEFAULT).unwrap(), expected);
        let text = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
            "1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control",
            "\u00f6":"Latin Small Letter O With Diaeresis"}"#;
        let written = canonical(text.as_bytes(), &Limits::DEFAULT).unwrap();
        let order = ["Carriage Return", "One", "Control", "Latin Small", "Euro Sign", "Emoji", "Hebrew"];
        let places: Vec<_> = order.iter().map(|word| written.find(word).unwrap()).collect();
        assert!(places.is_sorted(), "{written}");
    }
}
