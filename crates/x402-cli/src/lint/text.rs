//! The report for people: each issue with its line, as a compiler shows it.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource};
use x402_validate::{Issue, Options, Severity, Source, lint};

use super::{Outcome, identify};

/// The maximum number of displayed issues; the others are counted.
const MOST: usize = 100;

/// The maximum length of a line; a longer one is reformatted first, since headers carry documents in one line.
const LONGEST_LINE: usize = 160;

pub(crate) fn render(outcome: &Outcome, color: bool) -> String {
    let shown = Shown::of(outcome);
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(120);
    let source = Arc::new(NamedSource::new(&outcome.name, shown.text));
    let mut out = String::new();
    for (issue, span) in outcome.report.issues().zip(&shown.spans).take(MOST) {
        let _ = handler.render_report(&mut out, diagnostic(issue, span.as_ref(), &source).as_ref());
        out.push('\n');
    }
    let (errors, warnings) = (outcome.report.errors.len(), outcome.report.warnings.len());
    if errors + warnings > MOST {
        let _ = writeln!(out, "… and {} more; --json has them all\n", errors + warnings - MOST);
    }
    if let Some(found) = &outcome.found {
        let place = match found.source {
            Some(Source::Header) => "in a header",
            Some(Source::Body) => "in the body",
            None => "nowhere",
        };
        let _ = writeln!(out, "found {place}");
    }
    for entry in outcome.summary.iter().take(MOST) {
        let text = |text: &Option<String>| text.as_deref().unwrap_or("?").escape_debug().to_string();
        let endpoint = entry.endpoint.as_ref().map(|name| format!("{} ", name.escape_debug())).unwrap_or_default();
        let price =
            entry.human_amount.clone().unwrap_or_else(|| format!("{} of {}", text(&entry.amount), text(&entry.asset)));
        let network = entry.network_name.clone().unwrap_or_else(|| text(&entry.network));
        let _ = writeln!(
            out,
            "  {endpoint}accepts[{}]: {price} on {network} to {} ({})",
            entry.index,
            text(&entry.pay_to),
            text(&entry.scheme)
        );
    }
    for line in outcome.report.normalized.iter().flat_map(identify::lines) {
        let _ = writeln!(out, "  identify: {line}");
    }
    let verdict = if outcome.report.valid { "valid" } else { "invalid" };
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let _ = writeln!(
        out,
        "{}: {verdict} ({}), {errors} error{}, {warnings} warning{}",
        outcome.name,
        outcome.report.version,
        plural(errors),
        plural(warnings)
    );
    out
}

/// The text with the displayed issues, and their positions in it.
struct Shown {
    text: String,
    spans: Vec<Option<Range<usize>>>,
}

impl Shown {
    /// Chooses the text: the document itself, or the reformatted document if its lines are long. In the latter the
    /// issues are located again.
    fn of(outcome: &Outcome) -> Self {
        let issues = || outcome.report.issues();
        let none = || Self { text: String::new(), spans: issues().map(|_| None).collect() };
        let Ok(text) = std::str::from_utf8(&outcome.json) else { return none() };
        if text.lines().all(|line| line.len() <= LONGEST_LINE) {
            return Self { text: text.to_owned(), spans: issues().map(|issue| Some(issue.span.clone())).collect() };
        }
        if outcome.report.normalized.is_none() {
            return none();
        }
        let text = broken_up(text);
        let again = lint(&text, &Options::default());
        let find = |issue: &Issue| {
            again
                .issues()
                .find(|other| other.code == issue.code && other.field == issue.field)
                .map(|other| other.span.clone())
        };
        // Issues of other networks or of the header have no counterpart; the search stops at the number of displayed
        // issues.
        let spans = issues().take(MOST).map(find).collect();
        Self { text, spans }
    }
}

fn diagnostic(issue: &Issue, span: Option<&Range<usize>>, source: &Arc<NamedSource<String>>) -> miette::Report {
    let field = issue.field.escape_debug().to_string();
    let severity = match issue.severity {
        Severity::Error => miette::Severity::Error,
        Severity::Warning => miette::Severity::Warning,
    };
    let mut diagnostic = MietteDiagnostic::new(format!("{field}: {}", issue.message))
        .with_code(issue.code.as_str())
        .with_severity(severity);
    if let Some(fix) = &issue.fix {
        diagnostic = diagnostic.with_help(fix.clone());
    }
    // An issue of the answer has no place in the text of the document.
    let around = |span: &Range<usize>| issue.code.is_of_answers() && span.is_empty();
    let inside = |span: &&Range<usize>| !source.inner().is_empty() && !around(span);
    let Some(span) = span.filter(inside) else { return diagnostic.into() };
    // A missing member is shown at the beginning of the object that lacks it.
    let long = source.inner().get(span.clone()).is_none_or(|text| text.contains('\n'));
    let length = if long { 1 } else { span.len() };
    let label = LabeledSpan::new(Some(field), span.start, length);
    miette::Report::from(diagnostic.with_label(label)).with_source_code(Arc::clone(source))
}

/// Splits JSON into lines. Only white space between tokens changes, so equal issues are at equal tokens.
fn broken_up(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    for c in json.chars() {
        if quoted {
            out.push(c);
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            ' ' | '\t' | '\n' | '\r' => {}
            '{' | '[' => {
                out.push(c);
                depth += 1;
                line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                quoted = true;
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(json: &str) -> Outcome {
        let report = lint(json, &Options::default());
        Outcome { name: "402.json".into(), json: json.into(), report, summary: Vec::new(), found: None }
    }

    #[test]
    fn the_line_of_an_issue_is_shown_and_pointed_at() {
        let json = "{\n  \"x402Version\": 2,\n  \"resource\": { \"url\": \"https://a.example/\" },\n  \"accepts\": [\n    { \"network\": \"base\" }\n  ]\n}";
        let text = render(&outcome(json), false);
        assert!(text.contains("INVALID_NETWORK_FORMAT"), "{text}");
        assert!(text.contains("5 │     { \"network\": \"base\" }"), "{text}");
        assert!(text.contains("use 'eip155:8453' instead of 'base'"), "{text}");
        assert!(text.contains("402.json: invalid (v2), 5 errors, 2 warnings"), "{text}");
        assert!(!text.contains('\u{1b}'), "no colour without a terminal");
        assert!(render(&outcome(json), true).contains('\u{1b}'));
    }

    #[test]
    fn a_document_in_one_long_line_is_broken_up() {
        let json =
            format!(r#"{{"x402Version":2,"error":"{}\"{{","resource":{{"url":"/a"}},"accepts":[]}}"#, "x".repeat(200));
        let text = render(&outcome(&json), false);
        assert!(text.contains("\"url\": \"/a\""), "{text}");
        assert!(text.contains("\"accepts\": ["), "{text}");
        let pretty = broken_up(&json);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&pretty).unwrap(),
            serde_json::from_str::<serde_json::Value>(&json).unwrap()
        );
    }

    #[test]
    fn hostile_text_does_not_reach_the_terminal() {
        let text = render(&outcome("{\"endpoints\":{\"a\\u001b[2J\":5}}"), false);
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
