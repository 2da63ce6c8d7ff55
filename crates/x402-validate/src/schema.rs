//! [JSON Schema](https://json-schema.org/draft/2020-12/json-schema-core): whether one compiles, without fetching anything.

use x402_codec::json::Node;

use crate::lint::Context;
use crate::normalize;

/// Bytes of JSON Schemas that are compiled for one document: a header holds far less, and compiling costs a hundred
/// times what reading does.
pub(crate) const BUDGET: usize = 64 * 1024;

/// Why the schema cannot be used; `None` if it compiles.
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

/// The first `$ref` (or `$dynamicRef`) that does not stay inside the document.
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
