//! `tests/corpus/CODE.json`: documents that have a code, and near misses that do not, each with its whole report.

use std::collections::BTreeSet;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use x402_validate::{Code, Issue, Options, Registry, Report, Severity, lint};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    code: String,
    has: Vec<Case>,
    lacks: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    name: String,
    /// Kept as text: the order of its members is the order of its issues.
    document: Option<Box<RawValue>>,
    text: Option<String>,
    base64: Option<String>,
    #[serde(default)]
    options: Switches,
    expected: Expected,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Switches {
    strict: bool,
    all: bool,
    header: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    valid: bool,
    version: String,
    /// `CODE field`, in order.
    errors: Vec<String>,
    warnings: Vec<String>,
    /// The fix of the first issue with the code of the file.
    fix: Option<String>,
    #[serde(default, deserialize_with = "present")]
    normalized: Option<Value>,
}

/// Tells `"normalized": null` from no expectation.
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(d).map(Some)
}

impl Case {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match (&self.document, &self.text, &self.base64) {
            (Some(raw), None, None) => raw.get().as_bytes().to_vec(),
            (None, Some(text), None) => text.as_bytes().to_vec(),
            (None, None, Some(base64)) => STANDARD.decode(base64).unwrap(),
            _ => panic!("{}: one of document, text, base64", self.name),
        }
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            strict: self.options.strict,
            header: self.options.header,
            registry: if self.options.all { Registry::all() } else { Registry::document() },
            ..Options::default()
        }
    }
}

fn files() -> Vec<File> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let file: File = serde_json::from_slice(&std::fs::read(path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(path.file_stem().unwrap().to_str().unwrap(), file.code);
        file
    };
    paths.iter().map(read).collect()
}

pub(crate) fn cases() -> Vec<Case> {
    files().into_iter().flat_map(|file| file.has.into_iter().chain(file.lacks)).collect()
}

fn line(issue: &Issue) -> String {
    format!("{} {}", issue.code, issue.field)
}

fn differences(code: Code, case: &Case, report: &Report) -> Vec<String> {
    let mut out = Vec::new();
    let mut same = |what: &str, got: String, want: String| {
        if got != want {
            out.push(format!("{code} / {}: {what}\n  got  {got}\n  want {want}", case.name));
        }
    };
    let lines = |issues: &[Issue]| issues.iter().map(line).collect::<Vec<_>>().join(", ");
    let want = &case.expected;
    same("valid", report.valid.to_string(), want.valid.to_string());
    same("version", report.version.to_string(), want.version.clone());
    same("errors", lines(&report.errors), want.errors.join(", "));
    same("warnings", lines(&report.warnings), want.warnings.join(", "));
    if let Some(fix) = &want.fix {
        let got = report.issues().find(|issue| issue.code == code).and_then(|issue| issue.fix.as_deref());
        same("fix", got.unwrap_or_default().to_owned(), fix.clone());
    }
    if let Some(normalized) = &want.normalized {
        let got = report.normalized.clone().unwrap_or(Value::Null);
        same("normalized", got.to_string(), normalized.to_string());
    }
    let severities = report.errors.iter().all(|issue| issue.severity == Severity::Error)
        && report.warnings.iter().all(|issue| issue.severity == Severity::Warning);
    same("severities", severities.to_string(), "true".to_owned());
    out
}

#[test]
fn every_case_has_exactly_its_report() {
    let mut wrong = Vec::new();
    for file in files() {
        let code: Code = file.code.parse().unwrap();
        for (cases, has) in [(&file.has, true), (&file.lacks, false)] {
            for case in cases {
                let report = lint(&case.bytes(), &case.options());
                wrong.extend(differences(code, case, &report));
                if report.has(code) != has {
                    wrong.push(format!("{code} / {}: has the code: {}", case.name, !has));
                }
                assert_eq!(lint(&case.bytes(), &case.options()), report, "the same from run to run");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_code_has_five_documents_and_five_near_misses() {
    let files = files();
    let found: BTreeSet<Code> = files.iter().map(|file| file.code.parse().unwrap()).collect();
    // Codes of whole answers have their cases in `answers`.
    let documents = Code::TABLE.iter().map(|row| row.code).filter(|code| !code.is_of_answers());
    assert_eq!(found, documents.collect());
    for file in &files {
        assert!(file.has.len() >= 5 && file.lacks.len() >= 5, "{}", file.code);
    }
}

#[test]
fn text_bytes_and_value_are_linted_alike() {
    for case in cases() {
        let bytes = case.bytes();
        let options = case.options();
        let report = lint(&bytes, &options);
        if let Ok(text) = std::str::from_utf8(&bytes) {
            assert_eq!(lint(text, &options), report);
        }
        // A value has lost duplicate keys and the order of its members.
        if let (Ok(value), false) = (serde_json::from_slice::<Value>(&bytes), report.has(Code::InvalidJson)) {
            let sorted = |report: &Report| {
                let mut lines: Vec<_> = report.issues().map(|issue| (line(issue), issue.severity.as_str())).collect();
                lines.sort();
                lines
            };
            assert_eq!(sorted(&lint(&value, &options)), sorted(&report), "{}", case.name);
        }
    }
}
