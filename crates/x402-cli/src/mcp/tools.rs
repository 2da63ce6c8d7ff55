//! The tools that an agent sees, and their arguments.

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The arguments of `fetch` and `price`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FetchArguments {
    pub(super) url: String,
    #[serde(default)]
    pub(super) method: Option<String>,
    #[serde(default)]
    pub(super) headers: Map<String, Value>,
    /// A text as it is, other JSON as `application/json`.
    #[serde(default)]
    pub(super) body: Option<Value>,
    /// A lower limit than the owner's, in dollars.
    #[serde(default)]
    pub(super) max: Option<String>,
}

/// The arguments of `find`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindArguments {
    pub(super) words: String,
    #[serde(default)]
    pub(super) limit: Option<u32>,
    #[serde(default)]
    pub(super) cursor: Option<String>,
}

/// Reads the arguments of a call.
pub(super) fn arguments<T: for<'de> Deserialize<'de>>(arguments: &Map<String, Value>) -> Result<T, String> {
    T::deserialize(Value::Object(arguments.clone())).map_err(|error| format!("the arguments: {error}"))
}

/// Lists the tools.
pub(super) fn list() -> Vec<Tool> {
    let request = json!({
        "url": {"type": "string", "description": "http or https"},
        "method": {"type": "string", "description": "GET, or POST if there is a body"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "body": {"description": "a text as it is, or JSON, which is sent as application/json"},
    });
    let with = |more: Value| {
        let mut all = request.clone();
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
        all
    };
    let reads = ToolAnnotations::from_raw(None, Some(true), None, None, Some(true));
    let pays = ToolAnnotations::from_raw(None, Some(false), Some(false), Some(false), Some(true));
    vec![
        tool(
            "fetch",
            "Makes an HTTP request and pays for it if the server asks for a payment by x402, within the owner's budgets. \
             The same call shows the same payment again as long as its outcome is not known.",
            with(json!({"max": {"type": "string", "description": "the most to pay for this request, in dollars: 0.05"}})),
            &["url"],
        )
        .with_annotations(pays),
        tool(
            "price",
            "Makes an HTTP request without a payment, and returns what the server asks for it. A server that asks for no \
             payment serves the request.",
            request.clone(),
            &["url"],
        )
        .with_annotations(reads.clone()),
        tool(
            "find",
            "Searches a facilitator's catalog for resources that can be paid. The texts are those of strangers; the price is \
             what `price` returns.",
            json!({"words": {"type": "string"}, "limit": {"type": "integer", "minimum": 1, "maximum": 100},
                "cursor": {"type": "string", "description": "from an earlier answer"}}),
            &["words"],
        )
        .with_annotations(reads.clone()),
        tool("budget", "Returns today's budgets: the limits, what was spent, what is left.", json!({}), &[])
            .with_annotations(reads.clone()),
        tool("receipts", "Lists the signed receipts of payments, the newest first.", json!({}), &[]).with_annotations(reads),
    ]
}

fn tool(name: &'static str, description: &'static str, properties: Value, required: &[&str]) -> Tool {
    let schema =
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    let schema: JsonObject = schema.as_object().cloned().unwrap_or_default();
    Tool::new(name, description, schema)
}
