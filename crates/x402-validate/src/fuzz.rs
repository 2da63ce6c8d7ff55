//! Bodies of the fuzz targets in `fuzz/`: properties that hold for all input bytes. This module is not part of the API.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a property that does not hold has to be heard"
)]

use serde_json::Value;
use x402_codec::{Limits, header};

use crate::{Code, HttpAnswer, Issue, Options, Registry, Severity, detect, extract, lint, lint_response};

/// Checks [`holds`] for a document of any kind, with both registries.
pub fn lint_document(data: &[u8]) {
    holds(data, &Options::default());
    holds(data, &Options::default().with_registry(Registry::all()));
}

/// Checks that the linter finds in a response the document that a client finds, and reports on it exactly as on the
/// document alone.
pub fn lint_answer(data: &[u8]) {
    let options = Options::default();
    for (headers, body) in [(vec![("PAYMENT-REQUIRED", data)], &[][..]), (vec![], data)] {
        let checked = lint_response(headers.clone(), body, &options);
        let Ok(found) = extract(headers.clone(), body) else {
            assert!(!checked.report.valid && checked.json.is_empty());
            continue;
        };
        assert_eq!(*found.json, *checked.json);
        assert_eq!(lint(&*found.json, &Options { header: found.header, ..options.clone() }), checked.report);
    }
    around(&HttpAnswer::new(&[("payment-required", data), ("x-payment-required", data)], data));
    around(&HttpAnswer::new(&[("www-authenticate", data)], data).with_status(200));
    // The linter must find whatever a client finds in the header, and must accept it as JSON.
    let value = data.trim_ascii();
    if header::decode_payment_required(value, &Limits::DEFAULT).is_ok() {
        let found = lint_response([("payment-required", value)], &[], &options);
        assert!(!found.report.has(Code::InvalidJson), "{:?}", found.report.errors);
    }
}

/// Checks that the issues of an answer come on top of those of its document, and that an answer without terms has the
/// code for it.
fn around(answer: &HttpAnswer<'_>) {
    let options = Options::default();
    let checked = crate::lint_answer(answer, &options);
    let report = &checked.report;
    assert_eq!(report.valid, report.errors.is_empty());
    assert!(report.errors.iter().all(|issue| issue.severity == Severity::Error));
    assert!(report.warnings.iter().all(|issue| issue.severity == Severity::Warning));
    let alone = lint(&checked.json, &Options { header: Some(0), ..options.clone() });
    if !checked.json.is_empty() {
        let documents = |report: &crate::Report| {
            let own = report.issues().filter(|issue| !issue.code.is_of_answers() && issue.code != Code::HeaderTooLarge);
            own.map(|issue| (issue.code, issue.field.clone())).collect::<Vec<_>>()
        };
        assert_eq!(documents(report), documents(&alone));
    } else {
        assert!(report.has(Code::NoTerms) || report.has(Code::InvalidJson), "{report:?}");
    }
    let strict = crate::lint_answer(answer, &options.with_warnings_as_errors());
    assert_eq!(strict.report.errors.len(), report.errors.len() + report.warnings.len());
}

/// Checks the properties of every report, whatever the document is.
pub fn holds(bytes: &[u8], options: &Options) {
    let report = lint(bytes, options);
    assert_eq!(report.valid, report.errors.is_empty());
    assert_eq!(detect(bytes), report.version);
    for issue in report.issues() {
        assert!(issue.span.start <= issue.span.end && issue.span.end <= bytes.len(), "{issue:?}");
    }
    for issues in [&report.errors, &report.warnings] {
        if !options.strict {
            assert!(issues.is_sorted_by_key(|issue| issue.span.start), "in document order");
        }
    }
    let strict = lint(bytes, &Options { strict: true, ..options.clone() });
    assert_eq!(strict.errors.len(), report.errors.len() + report.warnings.len());
    assert!(strict.warnings.is_empty());
    if report.has(Code::InvalidJson) {
        assert_eq!(report.errors.len(), 1);
        return;
    }
    let document: Value = serde_json::from_slice(bytes).unwrap();
    for issue in report.issues() {
        assert!(resolves(issue, &document), "{issue:?} in {document}");
    }
    if let Some(normalized) = &report.normalized {
        let again = lint(normalized, options);
        for code in [Code::LegacyFormat, Code::UnknownFormat, Code::MissingVersion, Code::InvalidVersion] {
            assert!(!again.has(code), "{code} after {document} became {normalized}");
        }
        assert_eq!(again.normalized.as_ref(), Some(normalized), "normalizing twice changes nothing");
    }
}

/// "Each reported field, or for `MISSING_…` its parent, resolves in the input (`.amount` of v1 resolves as
/// `.maxAmountRequired`; `INVALID_JSON` is exempt)".
fn resolves(issue: &Issue, document: &Value) -> bool {
    let field = issue.field.as_str();
    if field == "$" {
        return true;
    }
    let found = |field: &str| walk(document, field);
    if found(field) || field.strip_suffix("amount").is_some_and(|rest| found(&format!("{rest}maxAmountRequired"))) {
        return true;
    }
    let parent = field.rfind('.').map_or("", |dot| &field[..dot]);
    issue.code.as_str().starts_with("MISSING_") && (parent.is_empty() || found(parent))
}

/// Follows every member whose name is a prefix of the path, since names of endpoints and headers may hold any
/// character.
fn walk(value: &Value, rest: &str) -> bool {
    if rest.is_empty() {
        return true;
    }
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    if let (Value::Array(elements), Some((index, tail))) =
        (value, rest.strip_prefix('[').and_then(|rest| rest.split_once(']')))
    {
        return index.parse().ok().and_then(|index: usize| elements.get(index)).is_some_and(|value| walk(value, tail));
    }
    let Value::Object(members) = value else { return false };
    members.iter().any(|(name, value)| {
        let cut = |tail: &str| tail.is_empty() || tail.starts_with(['.', '[']);
        if let Some(tail) = rest.strip_prefix(name.as_str()) {
            return cut(tail) && walk(value, tail);
        }
        // A name that is longer than 128 bytes was cut.
        let shown = rest.split_once('…').filter(|(shown, _)| shown.len() > 120 && name.starts_with(shown));
        shown.is_some_and(|(_, tail)| walk(value, tail))
    })
}

#[cfg(test)]
mod tests {
    x402_testkit::replays!(lint_document, lint_answer);
}
