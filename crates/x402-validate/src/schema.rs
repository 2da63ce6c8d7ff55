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
