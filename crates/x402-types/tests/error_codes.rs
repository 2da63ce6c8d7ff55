//! `docs/error-codes.md` says of the protocol's codes what the table says. `UPDATE_GOLDEN=1` rewrites it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write;

use x402_types::nvm::Code;
use x402_types::{ALIASES, ErrorReason, Origin};

const BEGIN: &str = "<!-- reasons:begin -->\n";
const END: &str = "<!-- reasons:end -->";

fn section() -> String {
    let mut text = "\n| Code | Defined by | Status | Text | Elsewhere |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for row in ErrorReason::TABLE {
        let origin = match row.origin {
            Origin::Spec => "x402 v2 §9",
            Origin::TypeScript => "TypeScript SDK",
            Origin::Ours => "this project",
        };
        let aliases = ALIASES.iter().filter(|(ours, ..)| ours.as_str() == row.code);
        let elsewhere: Vec<String> = aliases.map(|(_, peer, theirs)| format!("`{theirs}` ({peer})")).collect();
        writeln!(text, "| `{}` | {origin} | {} | {} | {} |", row.code, row.status, row.text, elsewhere.join(", "))
            .unwrap();
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
