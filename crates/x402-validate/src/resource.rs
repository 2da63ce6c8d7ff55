//! `resource`: "Object with valid `url`"; at the top level in version 2, per entry in version 1, where it may also be a
//! string.

use url::Url;
use x402_codec::json::{Node, Value};

use crate::entry::{Dialect, Fields};
use crate::lint::{Context, Top, missing, spelt};
use crate::misplaced;
use crate::place::{Place, short};
use crate::report::{Issue, quote};
use crate::{Code, Severity};

pub(crate) fn check(
    cx: &mut Context<'_>,
    place: Place<'_>,
    root: &Node<'_>,
    top: &Top<'_, '_>,
    entries: &[(usize, Fields<'_, '_>)],
    dialect: Dialect,
) {
    // Nevermined's servers send the path of the request.
    let nvm = !entries.is_empty() && entries.len() == top.entries().len() && entries.iter().all(|(_, e)| e.is_nvm());
    match top.resource.filter(|node| !missing(node)) {
        Some(node) => one(cx, place, "resource", node, nvm, dialect != Dialect::V2),
        None if dialect == Dialect::V2 => {
            let mut issue = Issue::new(
                Code::MissingResource,
                place.field("resource"),
                top.resource.map_or(&root.span, |node| &node.span),
            );
            if let Some((name, _)) = members(root).find(|(name, _)| misplaced::meant(name, &["resource"]).is_some()) {
                issue = issue
                    .message(format!("`resource` is missing: clients do not read {}", quote(name)))
                    .fix(format!("rename {} to `resource`", quote(name)));
            } else if entries.iter().any(|(_, entry)| entry.resource.is_some_and(|node| !missing(node))) {
                issue = issue.fix(
                    "version 2 has `resource` at the top level: move it there from the entry, as an object with `url`",
                );
            }
            cx.push(issue);
        }
        None => {}
    }
    if dialect == Dialect::V1 {
        for (index, entry) in entries {
            if let Some(node) = entry.resource.filter(|node| !missing(node)) {
                one(cx, place.entry(*index), "resource", node, nvm, true);
            }
        }
    }
}

fn one(cx: &mut Context<'_>, place: Place<'_>, name: &str, node: &Node<'_>, nvm: bool, text_is_fine: bool) {
    let members = match &node.value {
        Value::String(text) if text_is_fine => return address(cx, place.field(name), node, text, nvm),
        Value::Object(members) => members,
        _ => {
            let issue = Issue::new(Code::MissingResource, place.field(name), &node.span)
                .message(format!("`resource` must be an object with `url`, found {}", node.kind()));
            return cx.push(match node.as_str().filter(|text| flaw(text).is_none()) {
                Some(url) => issue.fix(format!("write \"resource\": {{\"url\": {}}}", quote(url))),
                None => issue,
            });
        }
    };
    if node.get("url").is_none_or(missing) {
        let span = node.get("url").map_or(&node.span, |url| &url.span);
        cx.push(
            Issue::new(Code::MissingResource, place.field(&format!("{name}.url")), span)
                .message("`resource.url` is missing"),
        );
    }
    for member in members {
        let value = &member.value;
        if value.is_null() {
            continue;
        }
        let field = || place.field(&format!("{name}.{}", member.key));
        match (&*member.key, &value.value) {
            ("url", Value::String(text)) if text.is_empty() => {}
            ("url", Value::String(text)) => address(cx, field(), value, text, nvm),
            ("url", _) => cx.push(
                Issue::new(Code::InvalidUrl, field(), &value.span)
                    .message(format!("`url` must be a string, found {}", value.kind())),
            ),
            ("description" | "mimeType", Value::String(_)) => {}
            ("description" | "mimeType", _) => cx.push(
                Issue::new(Code::InvalidMember, field(), &value.span)
                    .severity(Severity::Warning)
                    .message(format!("expected a string, found {}", spelt(value))),
            ),
            ("method" | "body", Value::String(_)) => {}
            ("method" | "body", _) => cx.push(mistyped(field(), value, "a string")),
            ("headers", Value::Object(headers)) => {
                for header in headers.iter().filter(|header| header.value.as_str().is_none()) {
                    cx.push(mistyped(format!("{}.{}", field(), short(&header.key)), &header.value, "a string"));
                }
            }
            ("headers", _) => cx.push(mistyped(field(), value, "an object of strings")),
            _ => {}
        }
    }
}

/// Iterates over the members of an object.
fn members<'n, 'a>(node: &'n Node<'a>) -> impl Iterator<Item = (&'n str, &'n Node<'a>)> {
    node.as_object().unwrap_or_default().iter().map(|member| (&*member.key, &member.value))
}

/// Creates the issue of a mistyped member: `method?: string`, `headers?: Record<string, string>`, `body?: string`.
fn mistyped(field: String, node: &Node<'_>, expected: &str) -> Issue {
    Issue::new(Code::MissingResource, field, &node.span)
        .message(format!("expected {expected}, found {}", spelt(node)))
        .fix(format!("write {expected}, or leave it out"))
}

fn address(cx: &mut Context<'_>, field: String, node: &Node<'_>, text: &str, nvm: bool) {
    let issue = |message: String| Issue::new(Code::InvalidUrl, field, &node.span).message(message);
    match flaw(text) {
        None => {}
        Some(_) if nvm && is_path(text) => {
            cx.push(
                issue(format!("{} is a path: clients do not know its server", quote(text))).severity(Severity::Warning),
            );
        }
        Some(flaw) => cx.push(issue(format!("{} {flaw}", quote(text)))),
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && !text.starts_with("//") && !text.bytes().any(|b| b.is_ascii_control() || b == b' ')
}

/// Finds the reason why a text is not an absolute http, https or mcp URL without userinfo.
///
/// The WHATWG parser repairs what it can (`https:\\a`, tabs, no slashes). Clients need not do so, and therefore the
/// text itself must contain `scheme://`.
fn flaw(text: &str) -> Option<&'static str> {
    let Some((scheme, rest)) = text.split_once("://") else { return Some("is not an absolute URL") };
    if !["http", "https", "mcp"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return Some("is not an http, https or mcp URL");
    }
    if text.bytes().any(|b| b.is_ascii_control() || b == b' ' || b == b'\\') {
        return Some("has spaces, control characters or backslashes");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Some("has a user name or password");
    }
    if authority.is_empty() {
        return Some("has no host");
    }
    match Url::parse(text) {
        Ok(url) if url.has_host() => None,
        _ => Some("is not a URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_absolute_and_without_userinfo() {
        for text in [
            "https://api.example.com/weather?city=Berlin#now",
            "http://localhost:3000/",
            "HTTPS://EXAMPLE.COM",
            "mcp://tool/weather",
            "https://[::1]:8080/a",
            "https://münchen.example/",
            "https://example.com/a@b",
        ] {
            assert_eq!(flaw(text), None, "{text}");
        }
        for text in [
            "not-a-url",
            "/weather",
            "//example.com/a",
            "https:example.com",
            "https:/example.com",
            "https://",
            "https:///a",
            "ftp://example.com/",
            "https://user@example.com/",
            "https://user:pw@example.com/",
            "https://@example.com/",
            "https://example.com:99999/",
            "https://exa mple.com/",
            " https://example.com",
            "https://example.com\n",
            "https://example.com\\@evil.example/",
            "javascript:alert(1)",
            "https://[::1/",
        ] {
            assert!(flaw(text).is_some(), "{text}");
        }
    }
}
