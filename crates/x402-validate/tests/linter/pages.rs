//! `docs/error-codes.md` is generated from the table of codes.

use std::path::PathBuf;

use x402_validate::Code;

const BEGIN: &str = "<!-- lint:begin -->\n";
const END: &str = "<!-- lint:end -->";

/// `UPDATE_GOLDEN=1` rewrites the linter's section; other families have theirs in the same file.
#[test]
fn the_document_has_the_pages_of_the_table() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/error-codes.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (section, after) = rest.split_once(END).unwrap();
    let want = format!("\n{}\n", Code::pages());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{want}{END}{after}")).unwrap();
    } else {
        assert_eq!(section, want, "run with UPDATE_GOLDEN=1");
    }
}

#[test]
fn a_page_says_what_when_and_how_to_fix() {
    let page = Code::InvalidAmount.page();
    assert!(page.starts_with("### `INVALID_AMOUNT`\n\nerror, at `accepts[0].amount`: "));
    assert!(page.contains("\nFix: write digits only"));
}
