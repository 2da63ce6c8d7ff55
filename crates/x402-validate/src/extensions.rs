//! [x402 extensions](https://github.com/x402-foundation/x402/tree/main/specs/extensions): `bazaar`,
//! `payment-identifier`, and version 1's `outputSchema`; those of a payer's identity are in [`crate::identity`].

use std::ops::Range;

use x402_codec::json::Node;

use crate::Code;
use crate::entry::Fields;
use crate::identity;
use crate::lint::{Context, missing, spelt};
use crate::place::Place;
use crate::report::{Issue, quote};
use crate::schema;

pub(crate) fn check(
    cx: &mut Context<'_>,
    place: Place<'_>,
    root: &Node<'_>,
    extensions: Option<&Node<'_>>,
    entries: &[(usize, Fields<'_, '_>)],
) {
    let get = |name: &str| extensions.and_then(|node| node.get(name));
    match get("bazaar") {
        Some(node) => bazaar(cx, place, node),
        None if !entries.iter().any(|(_, entry)| entry.has_output_schema()) => {
            let span = extensions.map_or(&root.span, |node| &node.span);
            cx.push(Issue::new(Code::MissingInputSchema, place.field("extensions"), span));
        }
        None => {}
    }
    if let Some(node) = get("payment-identifier") {
        payment_identifier(cx, place, node);
    }
    if let Some(node) = get("auth-hints") {
        identity::auth_hints(cx, place, node, entries.len(), get("sign-in-with-x").is_some());
    }
    if let Some(node) = get("http-message-signatures") {
        identity::message_signatures(cx, place, node);
    }
}

/// An object below `path`. An absent member is reported at the object that lacks it, so that every reported field
/// exists in the input.
enum Part<'n, 'a> {
    Object(&'n Node<'a>),
    Other(String, Range<usize>),
}

fn part<'n, 'a>(place: Place<'_>, parent: &'n Node<'a>, path: &str, name: &str) -> Part<'n, 'a> {
    match parent.get(name) {
        Some(node) if node.as_object().is_some() => Part::Object(node),
        Some(node) => Part::Other(place.field(&format!("{path}.{name}")), node.span.clone()),
        None => Part::Other(place.field(path), parent.span.clone()),
    }
}

/// Checks `extensions.bazaar`: `{ info: { input, output }, schema, routeTemplate? }`.
fn bazaar(cx: &mut Context<'_>, place: Place<'_>, node: &Node<'_>) {
    const PATH: &str = "extensions.bazaar";
    if node.as_object().is_none() {
        return cx.push(
            Issue::new(Code::InvalidBazaarInfo, place.field(PATH), &node.span)
                .message(format!("`bazaar` must be an object, found {}", node.kind())),
        );
    }
    match part(place, node, PATH, "info") {
        Part::Object(info) => self::info(cx, place, info),
        Part::Other(field, span) => {
            cx.push(Issue::new(Code::InvalidBazaarInfo, field, &span).message("`bazaar.info` must be an object"));
        }
    }
    if let Some(template) = node.get("routeTemplate").filter(|template| !template.is_null())
        && !template.as_str().is_some_and(is_route_template)
    {
        cx.push(
            Issue::new(Code::InvalidBazaarInfo, place.field("extensions.bazaar.routeTemplate"), &template.span)
                .message(format!("{} is not a route template", spelt(template)))
                .fix("write a path such as /users/:id"),
        );
    }
    match part(place, node, PATH, "schema") {
        Part::Object(schema) => {
            let has = |name: &str| schema.get(name).is_some_and(|value| !missing(value));
            let flaw = if has("type") || has("$schema") || has("properties") {
                schema::flaw(cx, schema)
            } else {
                Some("`schema` has none of `type`, `$schema` and `properties`".to_owned())
            };
            let flaw = flaw.map(|flaw| (flaw, None)).or_else(|| {
                let flaw = described(schema, node.get("info").filter(|info| info.as_object().is_some())?)?;
                Some((
                    flaw,
                    Some("write the schema of `info`: \"properties\": { \"input\": { … }, \"output\": { … } }"),
                ))
            });
            if let Some((flaw, fix)) = flaw {
                let issue =
                    Issue::new(Code::InvalidBazaarSchema, place.field("extensions.bazaar.schema"), &schema.span)
                        .message(flaw);
                cx.push(match fix {
                    Some(fix) => issue.fix(fix),
                    None => issue,
                });
            }
        }
        Part::Other(field, span) => {
            cx.push(Issue::new(Code::InvalidBazaarSchema, field, &span).message("`bazaar.schema` must be an object"));
        }
    }
}

/// Finds the reason why `schema` does not describe `info`: indexers check the one against the other, and pass over what
/// does not fit.
fn described(schema: &Node<'_>, info: &Node<'_>) -> Option<String> {
    if let Some(properties) = schema.get("properties").filter(|node| node.as_object().is_some())
        && properties.get("input").is_none()
        && schema.get("$ref").is_none()
    {
        return Some("`schema` does not describe `info`: its `properties` have no `input`".to_owned());
    }
    (!schema::accepts(schema, info)).then(|| "`info` does not satisfy `schema`: indexers reject it".to_owned())
}

fn info(cx: &mut Context<'_>, place: Place<'_>, info: &Node<'_>) {
    const PATH: &str = "extensions.bazaar.info";
    const CODE: Code = Code::InvalidBazaarInfoInput;
    match part(place, info, PATH, "input") {
        Part::Object(input) => {
            if let Some(flaw) = input_flaw(cx, input) {
                cx.push(Issue::new(CODE, place.field("extensions.bazaar.info.input"), &input.span).message(flaw));
            }
        }
        Part::Other(field, span) => {
            cx.push(Issue::new(CODE, field, &span).message("`bazaar.info.input` must be an object"))
        }
    }
    if let Part::Other(field, span) = part(place, info, PATH, "output") {
        cx.push(Issue::new(Code::InvalidBazaarInfo, field, &span).message("`bazaar.info.output` must be an object"));
    }
}

/// Finds the flaw of an input: it must be `{type, method}`, or `{type: "mcp", toolName, inputSchema}` for an MCP tool.
fn input_flaw(cx: &mut Context<'_>, input: &Node<'_>) -> Option<String> {
    let text = |name: &str| input.get(name).and_then(Node::as_str).filter(|text| !text.is_empty());
    let Some(kind) = text("type") else { return Some("`input.type` is missing or not a string".to_owned()) };
    if kind == "mcp" {
        if text("toolName").is_none() {
            return Some("`input.toolName` is missing or not a string".to_owned());
        }
        return match input.get("inputSchema").filter(|schema| schema.as_object().is_some()) {
            Some(schema) => schema::flaw(cx, schema),
            None => Some("`input.inputSchema` is missing or not an object".to_owned()),
        };
    }
    let Some(method) = text("method") else { return Some("`input.method` is missing or not a string".to_owned()) };
    let known = ["GET", "HEAD", "DELETE", "POST", "PUT", "PATCH"].contains(&method);
    (kind == "http" && !known).then(|| format!("{} is not a method of the bazaar extension", quote(method)))
}

/// Matches `^/[a-zA-Z0-9_/:.\-~%]+$` after percent-decoding; `..` and `://` are refused.
fn is_route_template(text: &str) -> bool {
    let decoded: Vec<u8> = percent_decoded(text.as_bytes());
    let known = |b: &u8| b.is_ascii_alphanumeric() || b"_/:.-~%".contains(b);
    let has = |what: &[u8]| decoded.windows(what.len()).any(|window| window == what);
    matches!(decoded.split_first(), Some((b'/', rest)) if !rest.is_empty() && rest.iter().all(known))
        && !has(b"..")
        && !has(b"://")
}

pub(crate) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        match (first, hex(tail.first()), hex(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4) | low);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// Checks `payment-identifier`: the server's `info` is `{required: bool}`; an `id` is 16 to 128 of `[A-Za-z0-9_-]`.
fn payment_identifier(cx: &mut Context<'_>, place: Place<'_>, node: &Node<'_>) {
    const PATH: &str = "extensions.payment-identifier";
    const CODE: Code = Code::InvalidPaymentIdentifier;
    if node.as_object().is_none() {
        return cx.push(
            Issue::new(CODE, place.field(PATH), &node.span)
                .message(format!("`payment-identifier` must be an object, found {}", node.kind())),
        );
    }
    match part(place, node, PATH, "info") {
        Part::Object(info) => {
            let field = |name: &str| place.field(&format!("{PATH}.info.{name}"));
            match info.get("required") {
                Some(required) if required.as_bool().is_some() => {}
                Some(required) => cx.push(
                    Issue::new(CODE, field("required"), &required.span)
                        .message(format!("`info.required` must be true or false, found {}", spelt(required))),
                ),
                None => cx.push(
                    Issue::new(CODE, place.field("extensions.payment-identifier.info"), &info.span)
                        .message("`info.required` is missing"),
                ),
            }
            if let Some(id) = info.get("id").filter(|id| !id.is_null())
                && !id.as_str().is_some_and(is_payment_id)
            {
                cx.push(
                    Issue::new(CODE, field("id"), &id.span)
                        .message(format!("{} is not 16 to 128 letters, digits, `_` and `-`", spelt(id)))
                        .fix("leave `id` to the client, or write 16 to 128 letters, digits, `_` and `-`"),
                );
            }
        }
        Part::Other(field, span) => {
            cx.push(Issue::new(CODE, field, &span).message("`payment-identifier.info` must be an object"));
        }
    }
    if let Some(schema) = node.get("schema").filter(|schema| !schema.is_null()) {
        let flaw = match schema.as_object() {
            Some(_) => schema::flaw(cx, schema),
            None => Some(format!("`schema` must be an object, found {}", schema.kind())),
        };
        if let Some(flaw) = flaw {
            cx.push(Issue::new(CODE, place.field("extensions.payment-identifier.schema"), &schema.span).message(flaw));
        }
    }
}

fn is_payment_id(text: &str) -> bool {
    (16..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Checks `accepts[].outputSchema`: `{ input: { type, method }, output }`.
pub(crate) fn output_schema(cx: &mut Context<'_>, place: Place<'_>, fields: &Fields<'_, '_>) {
    const PATH: &str = "outputSchema";
    let Some(node) = fields.output_schema.filter(|node| !node.is_null()) else { return };
    if node.as_object().is_none() {
        return cx.push(
            Issue::new(Code::InvalidOutputSchema, place.field(PATH), &node.span)
                .message(format!("`outputSchema` must be an object, found {}", node.kind())),
        );
    }
    let text =
        |input: &Node<'_>, name: &str| input.get(name).and_then(Node::as_str).is_some_and(|text| !text.is_empty());
    match part(place, node, PATH, "input") {
        Part::Object(input) if text(input, "type") && text(input, "method") => {}
        Part::Object(input) => cx.push(
            Issue::new(Code::InvalidOutputSchemaInput, place.field("outputSchema.input"), &input.span)
                .message("`outputSchema.input` lacks `type` or `method`"),
        ),
        Part::Other(field, span) => {
            cx.push(
                Issue::new(Code::InvalidOutputSchemaInput, field, &span)
                    .message("`outputSchema.input` must be an object"),
            );
        }
    }
    match part(place, node, PATH, "output") {
        Part::Object(output) => {
            // Examples and media types are allowed here too; only an object that has the keywords of a schema is
            // compiled as one.
            let is_schema = output.get("$schema").is_some() || output.get("properties").is_some();
            if let Some(flaw) = is_schema.then(|| schema::flaw(cx, output)).flatten() {
                cx.push(
                    Issue::new(Code::InvalidOutputSchema, place.field("outputSchema.output"), &output.span)
                        .message(flaw),
                );
            }
        }
        Part::Other(field, span) => {
            cx.push(
                Issue::new(Code::InvalidOutputSchema, field, &span).message("`outputSchema.output` must be an object"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_templates() {
        for text in ["/a", "/users/:id", "/a/%41~b.c-d_e"] {
            assert!(is_route_template(text), "{text}");
        }
        for text in ["", "/", "a", "/a/../b", "/a/%2e%2e/b", "/a://b", "/a b", "/a?b", "/%E4", "https://a/b"] {
            assert!(!is_route_template(text), "{text}");
        }
    }
}
