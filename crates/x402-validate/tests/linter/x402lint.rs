//! `tests/x402lint.json`: what the tests of [x402lint](https://github.com/rawgroundbeef/x402check) (MIT) say of documents such
//! as these. Each row names the test file; `ours` is a difference on purpose, and `why`.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;
use x402_validate::{Code, Options, lint};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    source: String,
    document: Option<Box<RawValue>>,
    text: Option<String>,
    #[serde(default)]
    strict: bool,
    says: Says,
    ours: Option<Vec<String>>,
    why: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Says {
    /// Codes that are among those reported; none: no code of the extension rules is.
    codes: Vec<String>,
    valid: Option<bool>,
    version: Option<String>,
}

/// Errors here, warnings there: the issue has them as the document does.
const ERRORS_HERE: [Code; 3] = [Code::MissingResource, Code::InvalidUrl, Code::BadEvmChecksum];

#[test]
fn the_codes_of_x402lint_are_reported_but_for_the_differences_that_are_named() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("../x402lint.json")).unwrap();
    assert_eq!(rows.len(), 36);
    for row in rows {
        assert!(row.source.contains(".test.ts") && row.ours.is_some() == row.why.is_some());
        let text = row.document.map_or_else(|| row.text.unwrap(), |raw| raw.get().to_owned());
        let report = lint(&text, &Options { strict: row.strict, ..Options::default() });
        let found: BTreeSet<&str> = report.issues().map(|issue| issue.code.as_str()).collect();
        let want = row.ours.as_ref().unwrap_or(&row.says.codes);
        for code in want {
            assert!(found.contains(code.as_str()), "{}: {code} in {found:?}", row.name);
        }
        if want.is_empty() {
            assert!(
                !found.iter().any(|code| code.contains("BAZAAR") || code.contains("SCHEMA")),
                "{}: {found:?}",
                row.name
            );
        }
        if row.ours.is_none() {
            if let Some(valid) = row.says.valid {
                assert_eq!(report.valid, valid, "{}", row.name);
            }
            if let Some(version) = &row.says.version {
                assert_eq!(report.version.as_str(), version, "{}", row.name);
            }
        }
        assert!(
            !ERRORS_HERE.iter().any(|code| report.warnings.iter().any(|issue| issue.code == *code)),
            "{}",
            row.name
        );
    }
}
