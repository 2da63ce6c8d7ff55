//! `docs/error-codes.md` says of the protocol's codes what the table says. `UPDATE_GOLDEN=1` rewrites it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write;

use x402_types::nvm::Code;
use x402_types::{ALIASES, ErrorReason, Origin, Version};

const BEGIN: &str = "<!-- reasons:begin -->\n";
const END: &str = "<!-- reasons:end -->";

fn section() -> String {
    let mut text =
        "\n| Code | Defined by | Status | Text | In v1 | Elsewhere |\n| --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    for row in ErrorReason::TABLE {
        let origin = match row.origin {
            Origin::Spec => "x402 v2 §9",
            Origin::TypeScript => "TypeScript SDK",
            Origin::Ours => "this project",
        };
        let aliases = ALIASES.iter().filter(|(ours, ..)| ours.as_str() == row.code);
        let elsewhere: Vec<String> = aliases.map(|(_, peer, theirs)| format!("`{theirs}` ({peer})")).collect();
        let v1 = ErrorReason::from_wire(row.code).in_version(Version::V1);
        let v1 = if v1.as_str() == row.code { "the same".to_owned() } else { format!("`{v1}`") };
        let elsewhere = elsewhere.join(", ");
        writeln!(text, "| `{}` | {origin} | {} | {} | {v1} | {elsewhere} |", row.code, row.status, row.text).unwrap();
    }
    text.push('\n');
    text
}

fn smart_accounts() -> String {
    let mut text = "\n| Code | Status | Text | When |\n| --- | --- | --- | --- |\n".to_owned();
    for row in Code::TABLE {
        writeln!(text, "| `{}` | {} | {} | {} |", row.code.as_str(), row.status, row.text, row.when).unwrap();
    }
    text.push('\n');
    text
}

#[test]
fn the_document_equals_the_table() {
    document_equals(BEGIN, END, &section());
}

/// Checks the codes against the list of the published SDK of version 1, which refuses every other word.
#[test]
fn version_1_has_a_closed_list() {
    let recorded = include_str!("../../x402-testkit/vectors/reasons-v1.json");
    let recorded: serde_json::Value = serde_json::from_str(recorded).unwrap();
    let list: Vec<&str> = recorded["codes"].as_array().unwrap().iter().filter_map(|code| code.as_str()).collect();
    let all = ErrorReason::TABLE.iter().map(|row| row.code).chain(ALIASES.iter().map(|(.., theirs)| *theirs));
    for code in all.chain(["rate_limited", "a text that is no code"]) {
        let v1 = ErrorReason::from_wire(code).in_version(Version::V1);
        assert!(list.contains(&v1.as_str()), "{code} is {v1} in version 1");
        // A server that reads the answer writes the same one.
        assert_eq!(ErrorReason::of_peer(v1.clone()).in_version(Version::V1), v1, "{code}");
        assert_eq!(v1.clone().in_version(Version::V1), v1, "{code}");
        // Unknown is never told as failed, in whichever version.
        let reason = ErrorReason::from_wire(code);
        assert!(!reason.is_undecided() || ErrorReason::of_peer(v1).is_undecided(), "{code}");
        assert_eq!(reason.clone().in_version(Version::V2), reason);
    }
}

#[test]
fn the_document_equals_the_table_of_smart_accounts() {
    document_equals("<!-- nvm:begin -->\n", "<!-- nvm:end -->", &smart_accounts());
}

fn document_equals(begin: &str, end: &str, section: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/error-codes.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (before, rest) = document.split_once(begin).unwrap();
    let (written, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, format!("{before}{begin}{section}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(written, section);
}
