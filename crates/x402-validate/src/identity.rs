//! Extensions by which a payer learns how to identify itself:
//! [`auth-hints`](https://github.com/x402-foundation/x402/blob/main/specs/extensions/extension-auth-hints.md) and
//! [`http-message-signatures`](https://github.com/x402-foundation/x402/blob/main/specs/extensions/http-message-signatures.md).
//!
//! A payer that does not know them pays without, and is refused afterwards: a malformed one is a warning.

use std::ops::Range;

use url::Url;
use x402_codec::json::Node;

use crate::Code;
use crate::lint::{Context, spelt};
use crate::place::Place;
use crate::report::Issue;

/// A fault below an extension, with its place.
struct Flaw {
    /// The path within the extension, such as `.info.tags[0]`.
    path: String,
    span: Range<usize>,
    message: String,
}

impl Flaw {
    fn at(path: &str, node: &Node<'_>, expected: &str) -> Self {
        let message = format!("expected {expected}, found {}", spelt(node));
        Self { path: path.to_owned(), span: node.span.clone(), message }
    }

    /// Creates the flaw of an absent member, which is reported at the object that lacks it.
    fn absent(path: &str, node: &Node<'_>, name: &str) -> Self {
        Self { path: path.to_owned(), span: node.span.clone(), message: format!("`{name}` is missing") }
    }
}

/// Checks `auth-hints`. `entries` is the number of ways to pay, `signs_in` whether the document has `sign-in-with-x`.
pub(crate) fn auth_hints(cx: &mut Context<'_>, place: Place<'_>, node: &Node<'_>, entries: usize, signs_in: bool) {
    report(cx, place, Code::InvalidAuthHints, "extensions.auth-hints", hints(node, entries, signs_in).err());
}

/// Checks the extension `http-message-signatures`.
pub(crate) fn message_signatures(cx: &mut Context<'_>, place: Place<'_>, node: &Node<'_>) {
    let flaw = signatures(node).err();
    report(cx, place, Code::InvalidMessageSignatures, "extensions.http-message-signatures", flaw);
}

fn report(cx: &mut Context<'_>, place: Place<'_>, code: Code, extension: &str, flaw: Option<Flaw>) {
    if let Some(Flaw { path, span, message }) = flaw {
        cx.push(Issue::new(code, place.field(&format!("{extension}{path}")), &span).message(message));
    }
}

fn hints(node: &Node<'_>, entries: usize, signs_in: bool) -> Result<(), Flaw> {
    let info = object(node, "", "info")?;
    let requirements = list(info, ".info", "authRequirements")?;
    for (at, requirement) in requirements.iter().enumerate() {
        let path = format!(".info.authRequirements[{at}]");
        if requirement.as_object().is_none() {
            return Err(Flaw::at(&path, requirement, "an object"));
        }
        for (index, entry) in list(requirement, &path, "acceptIndexes")?.iter().enumerate() {
            let known = entry.as_u64().and_then(|entry| usize::try_from(entry).ok());
            if known.is_none_or(|entry| entry >= entries) {
                let expected = "the index of an entry of `accepts`: clients ignore any other";
                return Err(Flaw::at(&format!("{path}.acceptIndexes[{index}]"), entry, expected));
            }
        }
        for (index, method) in list(requirement, &path, "methods")?.iter().enumerate() {
            self::method(method, &format!("{path}.methods[{index}]"), signs_in)?;
        }
    }
    Ok(())
}

fn method(method: &Node<'_>, path: &str, signs_in: bool) -> Result<(), Flaw> {
    if method.as_object().is_none() {
        return Err(Flaw::at(path, method, "an object"));
    }
    let kind = member(method, path, "type")?;
    match kind.as_str() {
        Some("oauth2") => {
            let token = member(method, path, "tokenType")?;
            if !matches!(token.as_str(), Some("Bearer" | "DPoP")) {
                return Err(Flaw::at(&format!("{path}.tokenType"), token, "`Bearer` or `DPoP`"));
            }
            address(method, path, "authorizationServer")?;
            address(method, path, "tokenEndpoint")?;
            match method.get("registrationEndpoint").filter(|node| !node.is_null()) {
                Some(_) => address(method, path, "registrationEndpoint"),
                None => Ok(()),
            }
        }
        Some("sign-in-with-x") if !signs_in => {
            Err(Flaw::at(&format!("{path}.type"), kind, "the extension `sign-in-with-x` beside it"))
        }
        // Other types may be defined later.
        Some(text) if !text.is_empty() => Ok(()),
        _ => Err(Flaw::at(&format!("{path}.type"), kind, "the name of a method")),
    }
}

fn signatures(node: &Node<'_>) -> Result<(), Flaw> {
    let info = object(node, "", "info")?;
    address(info, ".info", "registrationUrl")?;
    texts(info, "signatureSchemes")?;
    match info.get("tags").filter(|node| !node.is_null()) {
        Some(_) => texts(info, "tags"),
        None => Ok(()),
    }
}

fn member<'n, 'a>(node: &'n Node<'a>, path: &str, name: &str) -> Result<&'n Node<'a>, Flaw> {
    node.get(name).ok_or_else(|| Flaw::absent(path, node, name))
}

fn object<'n, 'a>(node: &'n Node<'a>, path: &str, name: &str) -> Result<&'n Node<'a>, Flaw> {
    if node.as_object().is_none() {
        return Err(Flaw::at(path, node, "an object"));
    }
    let found = member(node, path, name)?;
    if found.as_object().is_some() { Ok(found) } else { Err(Flaw::at(&format!("{path}.{name}"), found, "an object")) }
}

/// Returns the elements of a list that has some.
fn list<'n, 'a>(node: &'n Node<'a>, path: &str, name: &str) -> Result<&'n [Node<'a>], Flaw> {
    let found = member(node, path, name)?;
    let elements = found.as_array().filter(|elements| !elements.is_empty());
    elements.ok_or_else(|| Flaw::at(&format!("{path}.{name}"), found, "a list with elements"))
}

fn texts(info: &Node<'_>, name: &str) -> Result<(), Flaw> {
    for (at, node) in list(info, ".info", name)?.iter().enumerate() {
        if node.as_str().is_none_or(str::is_empty) {
            return Err(Flaw::at(&format!(".info.{name}[{at}]"), node, "a text"));
        }
    }
    Ok(())
}

/// Checks a member that is the URL of a service.
fn address(node: &Node<'_>, path: &str, name: &str) -> Result<(), Flaw> {
    let found = member(node, path, name)?;
    let url = found.as_str().and_then(|text| Url::parse(text).ok());
    let fits = url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if fits { Ok(()) } else { Err(Flaw::at(&format!("{path}.{name}"), found, "an http or https URL")) }
}
