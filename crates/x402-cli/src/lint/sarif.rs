//! [SARIF 2.1.0](https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html): the format that code hosts display
//! with a file.

use serde_json::{Value, json};
use x402_validate::{Code, Issue, Severity};

use super::Outcome;

pub(super) fn log(outcome: &Outcome) -> String {
    let rules: Vec<Value> = Code::TABLE
        .iter()
        .map(|row| {
            json!({
                "id": row.name,
                "shortDescription": { "text": row.text },
                "fullDescription": { "text": row.page },
                "help": { "text": format!("Fix: {}.", row.fix), "markdown": row.code.page() },
                "defaultConfiguration": { "level": level(row.severity) }
            })
        })
        .collect();
    let lines = Lines::of(outcome);
    let results: Vec<Value> = outcome.report.issues().map(|issue| result(issue, outcome, &lines)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "x402 lint", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results
        }]
    });
    serde_json::to_string_pretty(&log).map(|text| text + "\n").unwrap_or_default()
}

fn result(issue: &Issue, outcome: &Outcome, lines: &Lines<'_>) -> Value {
    let fix = issue.fix.as_deref().map(|fix| format!(" Fix: {fix}.")).unwrap_or_default();
    let mut physical = serde_json::Map::new();
    physical.insert("artifactLocation".to_owned(), json!({ "uri": uri(&outcome.name) }));
    // The bytes of a document within a response are not those of the file or the URL.
    if outcome.found.is_none()
        && let Some(region) = lines.region(issue)
    {
        physical.insert("region".to_owned(), region);
    }
    json!({
        "ruleId": issue.code.as_str(),
        "ruleIndex": Code::TABLE.iter().position(|row| row.code == issue.code),
        "level": level(issue.severity),
        "message": { "text": format!("{}: {}.{fix}", issue.field, issue.message) },
        "locations": [{ "physicalLocation": physical, "logicalLocations": [{ "fullyQualifiedName": issue.field }] }]
    })
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// Formats a path or URL as a URI reference: characters that are not allowed are percent-encoded.
fn uri(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:?#[]@!$&'()*+,;=%".contains(&b);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The positions at which the lines of the text begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(outcome: &'t Outcome) -> Self {
        let text = std::str::from_utf8(&outcome.json).unwrap_or_default();
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    fn region(&self, issue: &Issue) -> Option<Value> {
        let (start_line, start_column) = self.place(issue.span.start)?;
        let (end_line, end_column) = self.place(issue.span.end)?;
        Some(json!({
            "startLine": start_line, "startColumn": start_column, "endLine": end_line, "endColumn": end_column,
            "byteOffset": issue.span.start, "byteLength": issue.span.len()
        }))
    }

    /// Returns line and column, from 1. A line without breaks is counted only up to 64 KiB, so that the report stays
    /// linear.
    fn place(&self, at: usize) -> Option<(usize, usize)> {
        let line = self.starts.partition_point(|start| *start <= at);
        let start = *self.starts.get(line.checked_sub(1)?)?;
        let before = self.text.get(start..at)?;
        (before.len() <= 64 * 1024).then(|| (line, before.chars().count() + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_validate::{Options, lint};

    #[test]
    fn each_issue_is_a_result_with_its_place() {
        let json = "{\n  \"x402Version\": 3,\n  \"accepts\": []\n}";
        let report = lint(json, &Options::default());
        let outcome =
            Outcome { name: "a b/402.json".into(), json: json.into(), report, summary: Vec::new(), found: None };
        let log: Value = serde_json::from_str(&log(&outcome)).unwrap();
        assert_eq!(log["version"], "2.1.0");
        let run = &log["runs"][0];
        assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), Code::TABLE.len());
        let result = run["results"].as_array().unwrap().iter().find(|r| r["ruleId"] == "INVALID_VERSION").unwrap();
        assert_eq!(result["level"], "error");
        let location = &result["locations"][0];
        assert_eq!(location["logicalLocations"][0]["fullyQualifiedName"], "x402Version");
        assert_eq!(location["physicalLocation"]["artifactLocation"]["uri"], "a%20b/402.json");
        let region = &location["physicalLocation"]["region"];
        assert_eq!(
            (&region["startLine"], &region["startColumn"], &region["endColumn"]),
            (&json!(2), &json!(18), &json!(19))
        );
        assert_eq!(
            run["tool"]["driver"]["rules"][usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()]["id"],
            "INVALID_VERSION"
        );
    }
}
