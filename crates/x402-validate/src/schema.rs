//! [JSON Schema](https://json-schema.org/draft/2020-12/json-schema-core): checks whether a schema compiles, without
//! fetching anything.

use x402_codec::json::Node;

use crate::lint::Context;
use crate::normalize;

/// The number of bytes of JSON Schemas that are compiled for one document: a header holds far less, and compiling costs
/// a hundred times as much as parsing.
pub(crate) const BUDGET: usize = 64 * 1024;

/// Finds the reason why the schema cannot be used; returns `None` if it compiles.
pub(crate) fn flaw(cx: &mut Context<'_>, schema: &Node<'_>) -> Option<String> {
    let Some(left) = cx.schemas.checked_sub(schema.span.len()) else {
        return Some(format!("the schemas of the document are larger than the {BUDGET} bytes that are compiled"));
    };
    cx.schemas = left;
    if let Some(reference) = outside(schema) {
        return Some(format!("the schema refers to another document: {}", crate::report::quote(reference)));
    }
    let built = jsonschema::options().offline().build(&normalize::value(schema));
    built.err().map(|error| {
        let text: String = error.to_string().chars().take(200).collect();
        format!("the schema does not compile: {}", text.escape_debug())
    })
}

/// The longest value that is checked against a schema, in bytes.
const VALUE: usize = 16 * 1024;

/// Keywords by which a check could take more time than the product of schema and value.
const COSTLY: [&str; 10] = [
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "pattern",
    "patternProperties",
    "uniqueItems",
    "unevaluatedProperties",
    "unevaluatedItems",
    "contains",
    "format",
];

/// Returns whether the value satisfies a schema that compiles. Values beyond 16 KiB, and all values of schemas with
/// references, patterns and the like, count as satisfying it: a check of them could take long.
pub(crate) fn accepts(schema: &Node<'_>, value: &Node<'_>) -> bool {
    if value.span.len() > VALUE || keyword(schema, &COSTLY) {
        return true;
    }
    let built = jsonschema::options().offline().build(&normalize::value(schema));
    built.is_ok_and(|validator| validator.is_valid(&normalize::value(value)))
}

/// Returns whether any object within the node has one of the names.
fn keyword(node: &Node<'_>, names: &[&str]) -> bool {
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        open.extend(node.as_array().unwrap_or_default());
        for member in node.as_object().unwrap_or_default() {
            if names.contains(&&*member.key) {
                return true;
            }
            open.push(&member.value);
        }
    }
    false
}

/// Finds the first `$ref` (or `$dynamicRef`) that leaves the document.
fn outside<'n>(schema: &'n Node<'_>) -> Option<&'n str> {
    let mut open = vec![schema];
    while let Some(node) = open.pop() {
        if let Some(elements) = node.as_array() {
            open.extend(elements);
        }
        for member in node.as_object().unwrap_or_default() {
            let reference = matches!(&*member.key, "$ref" | "$dynamicRef" | "$recursiveRef");
            match member.value.as_str() {
                Some(text) if reference && !text.starts_with('#') => return Some(text),
                _ => open.push(&member.value),
            }
        }
    }
    None
}
