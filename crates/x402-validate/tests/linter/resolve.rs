//! Whether a field that was reported can be found in the input.

use serde_json::Value;
use x402_validate::Issue;

/// "Each reported field, or for `MISSING_…` its parent, resolves in the input (`.amount` of v1 resolves as
/// `.maxAmountRequired`; `INVALID_JSON` is exempt)".
pub(crate) fn resolves(issue: &Issue, document: &Value) -> bool {
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

/// Names of endpoints and headers hold any character, so every member whose name fits is followed.
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
