//! The entry of a resource in a catalog: [bazaar](https://github.com/x402-foundation/x402/blob/main/specs/extensions/bazaar.md).
//!
//! The seller writes a declaration, the payer echoes it, and the facilitator reads it out of a payment that it has settled.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use x402_types::{Claim, Members, RawJson, Version};

use super::{NAME, is_valid_icon_url, is_valid_route_template, is_valid_service_name, sanitized_tags};

/// The maximum length of a declaration in bytes, and of its texts.
const MAX_DECLARATION: usize = 16 * 1024;
/// The maximum number of values in a declaration.
const MAX_NODES: usize = 2_000;
const MAX_TEXT: usize = 2_048;

/// Keywords by which a check could take more time than the product of schema and value: a declaration that has one is listed
/// unchecked, since a stranger writes both.
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

/// The reason why a payment's declaration is not listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotListed {
    /// The payment has no declaration, or no resource.
    #[error("no declaration")]
    None,
    /// The declaration is too long or has too many values.
    #[error("the declaration is too large")]
    TooLarge,
    /// The declaration has no `info.input` of a known kind, or a member of it is wrong.
    #[error("info.{0}")]
    Info(&'static str),
    /// The schema refers to another document.
    #[error("schema: expected references within the document alone")]
    Reference,
    /// The schema cannot be compiled, or `info` does not fit it.
    #[error("schema: {0}")]
    Schema(Box<str>),
    /// The URL of the resource is none.
    #[error("resource.url: expected an http or https URL, or mcp for a tool")]
    Url,
}

/// A resource as a catalog lists it. Its texts are sanitized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Listing {
    /// The URL without its query; with a route template the origin and the template.
    pub resource: String,
    /// The kind of the resource: `http` or `mcp`.
    pub r#type: String,
    /// The version of the payment.
    pub x402_version: u8,
    /// The method of an HTTP resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The name of an MCP tool, which is part of its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<String>,
    /// The description of the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The media type of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// The name of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// The tags, at most five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The URL of an icon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
    /// The entry that was paid, as the only element of a list.
    pub accepts: Vec<RawJson>,
    /// The declaration under its name: how to call the resource.
    pub extensions: Members,
}

impl Listing {
    /// Reads the listing out of a payment.
    ///
    /// # Errors
    /// The declaration is absent, too large, or does not describe itself.
    pub fn of_claim(claim: &Claim) -> Result<Self, NotListed> {
        let declaration = claim.extensions.get(NAME).filter(|value| value.as_str() != "null").ok_or(NotListed::None)?;
        let resource = claim.resource.as_ref().ok_or(NotListed::None)?;
        if claim.terms.version != Version::V2 {
            return Err(NotListed::None);
        }
        if declaration.as_str().len() > MAX_DECLARATION {
            return Err(NotListed::TooLarge);
        }
        let declared: Value = declaration.read().map_err(|_| NotListed::Info("input: expected an object"))?;
        if count(&declared) > MAX_NODES {
            return Err(NotListed::TooLarge);
        }
        let info =
            declared.get("info").filter(|info| info.is_object()).ok_or(NotListed::Info("input: expected an object"))?;
        let input = Input::read(info)?;
        fits(declared.get("schema"), info)?;
        let template =
            declared.get("routeTemplate").and_then(Value::as_str).filter(|text| is_valid_route_template(text));
        let text = |text: &Option<String>| {
            text.as_ref()
                .filter(|text| (1..=MAX_TEXT).contains(&text.len()) && !text.contains(char::is_control))
                .cloned()
        };
        let mut extensions = Members::new();
        extensions.insert(NAME, declaration.clone());
        let tags = resource.tags.iter().flatten().map(String::as_str);
        Ok(Self {
            resource: catalog_url(&resource.url, template, &input)?,
            r#type: input.kind.to_owned(),
            x402_version: 2,
            method: input.method,
            tool_name: input.tool,
            description: text(&resource.description),
            mime_type: text(&resource.mime_type),
            service_name: resource.service_name.clone().filter(|name| is_valid_service_name(name)),
            tags: sanitized_tags(tags),
            icon_url: resource.icon_url.clone().filter(|icon| is_valid_icon_url(icon)),
            accepts: RawJson::of(&claim.terms.to_v2()).into_iter().collect(),
            extensions,
        })
    }

    /// Returns the identity of the listing: a later payment for it replaces the listing.
    #[must_use]
    pub fn identity(&self) -> String {
        let name = self.tool_name.as_deref().or(self.method.as_deref()).unwrap_or_default();
        format!("{} {name} {}", self.r#type, self.resource)
    }

    /// Returns the words by which the listing is found.
    #[must_use]
    pub fn words(&self) -> String {
        let parts = [
            Some(self.resource.as_str()),
            self.service_name.as_deref(),
            self.description.as_deref(),
            self.tool_name.as_deref(),
        ];
        let mut words: Vec<&str> = parts.into_iter().flatten().collect();
        words.extend(self.tags.iter().map(String::as_str));
        words.join(" ")
    }
}

/// The members of `info.input` by which a resource is called.
struct Input {
    kind: &'static str,
    method: Option<String>,
    tool: Option<String>,
}

impl Input {
    fn read(info: &Value) -> Result<Self, NotListed> {
        let input =
            info.get("input").filter(|input| input.is_object()).ok_or(NotListed::Info("input: expected an object"))?;
        let text = |name: &str| input.get(name).and_then(Value::as_str);
        match text("type") {
            Some("http") => {
                let method = text("method").ok_or(NotListed::Info("input.method: expected an HTTP method"))?;
                let has_body = input.get("bodyType").is_some();
                let fits = match method {
                    "GET" | "HEAD" | "DELETE" => !has_body,
                    "POST" | "PUT" | "PATCH" => true,
                    _ => false,
                };
                let body = !has_body || matches!(text("bodyType"), Some("json" | "form-data" | "text"));
                if !fits || !body {
                    return Err(NotListed::Info("input.method: expected one that fits bodyType"));
                }
                Ok(Self { kind: "http", method: Some(method.to_owned()), tool: None })
            }
            Some("mcp") => {
                let tool =
                    text("toolName").filter(|name| (1..=256).contains(&name.len()) && !name.contains(char::is_control));
                let tool = tool.ok_or(NotListed::Info("input.toolName: expected a name"))?;
                if !input.get("inputSchema").is_some_and(Value::is_object) {
                    return Err(NotListed::Info("input.inputSchema: expected an object"));
                }
                if !input.get("transport").is_none_or(|of| of == "streamable-http" || of == "sse") {
                    return Err(NotListed::Info("input.transport: expected streamable-http or sse"));
                }
                Ok(Self { kind: "mcp", method: None, tool: Some(tool.to_owned()) })
            }
            _ => Err(NotListed::Info("input.type: expected http or mcp")),
        }
    }
}

/// Returns the URL under which a resource is listed.
fn catalog_url(url: &str, template: Option<&str>, input: &Input) -> Result<String, NotListed> {
    let parsed = Url::parse(url).ok().filter(|_| url.len() <= MAX_TEXT).ok_or(NotListed::Url)?;
    match parsed.scheme() {
        "http" | "https" if parsed.has_host() => {
            let origin = parsed.origin().ascii_serialization();
            let path = template.filter(|_| input.kind == "http").unwrap_or_else(|| parsed.path());
            Ok(format!("{origin}{path}"))
        }
        // The published SDK lists `null/…` for such a URL, whose origin is opaque.
        "mcp" if input.kind == "mcp" => Ok(parsed.as_str().split(['?', '#']).next().unwrap_or_default().to_owned()),
        _ => Err(NotListed::Url),
    }
}

/// Checks that `info` fits its own schema, which refers to no other document.
fn fits(schema: Option<&Value>, info: &Value) -> Result<(), NotListed> {
    let schema = schema.ok_or_else(|| NotListed::Schema("expected a schema".into()))?;
    if refers_outside(schema) {
        return Err(NotListed::Reference);
    }
    if has_keyword(schema, &COSTLY) {
        return Ok(());
    }
    let short = |why: &dyn core::fmt::Display| NotListed::Schema(why.to_string().chars().take(200).collect());
    let validator = jsonschema::options().offline().build(schema).map_err(|why| short(&why))?;
    validator.validate(info).map_err(|why| short(&why))
}

/// Returns whether a schema has a `$ref` or an `$id` that is not within the document. The recursion is bounded by the reader,
/// which refuses deep documents.
fn refers_outside(node: &Value) -> bool {
    match node {
        Value::Array(list) => list.iter().any(refers_outside),
        Value::Object(members) => members.iter().any(|(key, value)| {
            let is_reference = matches!(key.as_str(), "$ref" | "$id" | "$dynamicRef");
            (is_reference && !value.as_str().is_some_and(|text| text.starts_with('#'))) || refers_outside(value)
        }),
        _ => false,
    }
}

/// Returns whether any object within a schema has one of the names.
fn has_keyword(node: &Value, names: &[&str]) -> bool {
    match node {
        Value::Array(list) => list.iter().any(|node| has_keyword(node, names)),
        Value::Object(members) => {
            members.iter().any(|(key, value)| names.contains(&key.as_str()) || has_keyword(value, names))
        }
        _ => false,
    }
}

fn count(node: &Value) -> usize {
    1 + match node {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum::<usize>(),
        _ => 0,
    }
}
