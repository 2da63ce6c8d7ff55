//! The seller's declaration: [bazaar](https://github.com/x402-foundation/x402/blob/main/specs/extensions/bazaar.md),
//! "PaymentRequired". Its members and their order are those of the published SDK.

use serde_json::{Map, Value, json};
use x402_types::extension::Required;
use x402_types::{Extension, RawJson};

use super::{NAME, is_valid_route_template};

/// The reason why a route cannot be described so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeclarationError {
    /// The route template is malformed.
    #[error("expected a route template such as /users/:id, without `..` and `://`")]
    Template,
    /// A type refers to itself, so that its schema needs references, which a declaration has no place for; or its example
    /// cannot be written as JSON.
    #[error("expected a type that does not contain itself, with an example that is JSON")]
    Type,
}

/// The kind of the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyType {
    /// The body is JSON.
    Json,
    /// The body is a form.
    FormData,
    /// The body is text.
    Text,
}

/// The transport of an MCP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum McpTransport {
    /// The transport by streamable HTTP, the default.
    StreamableHttp,
    /// The transport by server-sent events.
    Sse,
}

/// The order of the members of an MCP tool's input in the published SDK.
const MCP_ORDER: [&str; 6] = ["type", "toolName", "description", "transport", "inputSchema", "example"];

/// The seller's half of `bazaar`: describes how one route is called, so that a facilitator can list it. A seller with several
/// routes registers one for each: `seller.clone().with_extension(…)`.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoverableRoute {
    input: Map<String, Value>,
    properties: Map<String, Value>,
    required: Vec<&'static str>,
    output: Option<(Value, Value)>,
    template: Option<Box<str>>,
    path_schema: Option<Value>,
}

/// Adds `type: object` before the members of a schema, as the published SDK does.
fn object(schema: &Value) -> Value {
    let mut members = Map::new();
    members.insert("type".into(), json!("object"));
    if let Some(more) = schema.as_object() {
        members.extend(more.clone());
    }
    Value::Object(members)
}

impl DiscoverableRoute {
    fn http(method: &str) -> Self {
        let mut route = Self::of("http");
        route.input.insert("method".into(), json!(method));
        route.properties.insert("method".into(), json!({"type": "string", "enum": [method]}));
        route.required.push("method");
        route
    }

    fn of(kind: &str) -> Self {
        let mut input = Map::new();
        input.insert("type".into(), json!(kind));
        let mut properties = Map::new();
        properties.insert("type".into(), json!({"type": "string", "const": kind}));
        Self { input, properties, required: vec!["type"], output: None, template: None, path_schema: None }
    }

    /// Describes a route that takes its parameters from the query: `GET`, `HEAD`, `DELETE`. `example` is one query as an
    /// object, `schema` the JSON Schema of such objects.
    #[must_use]
    pub fn query(method: &str, example: &Value, schema: &Value) -> Self {
        let mut route = Self::http(method);
        route.input.insert("queryParams".into(), example.clone());
        route.properties.insert("queryParams".into(), object(schema));
        route
    }

    /// Describes a route that takes a body: `POST`, `PUT`, `PATCH`. `example` is one body, `schema` the JSON Schema of bodies.
    #[must_use]
    pub fn body(method: &str, kind: BodyType, example: &Value, schema: &Value) -> Self {
        let mut route = Self::http(method);
        let name = match kind {
            BodyType::Json => "json",
            BodyType::FormData => "form-data",
            BodyType::Text => "text",
        };
        route.input.insert("bodyType".into(), json!(name));
        route.input.insert("body".into(), example.clone());
        route.properties.insert("bodyType".into(), json!({"type": "string", "enum": ["json", "form-data", "text"]}));
        route.properties.insert("body".into(), schema.clone());
        route.required.extend(["bodyType", "body"]);
        route
    }

    /// Describes a tool of an MCP server by its name and the JSON Schema of its arguments.
    #[must_use]
    pub fn mcp(tool: &str, schema: &Value) -> Self {
        let mut route = Self::of("mcp");
        route.input.insert("toolName".into(), json!(tool));
        route.input.insert("inputSchema".into(), schema.clone());
        route.properties.insert("toolName".into(), json!({"type": "string"}));
        route.properties.insert("inputSchema".into(), json!({"type": "object"}));
        route.required.extend(["toolName", "inputSchema"]);
        route
    }

    /// Adds a member to the input of an MCP tool, and its schema, in their places.
    fn with_mcp_member(mut self, name: &str, value: Value, schema: Value) -> Self {
        for (members, value) in [(&mut self.input, value), (&mut self.properties, schema)] {
            members.insert(name.to_owned(), value);
            let mut ordered = Map::new();
            for name in MCP_ORDER {
                if let Some(value) = members.remove(name) {
                    ordered.insert(name.to_owned(), value);
                }
            }
            *members = ordered;
        }
        self
    }

    fn is_mcp(&self) -> bool {
        self.input.get("type").is_some_and(|kind| kind == "mcp")
    }

    /// Sets the description of an MCP tool. It does not apply to routes of HTTP, whose resource has a description.
    #[must_use]
    pub fn with_tool_description(self, text: &str) -> Self {
        if !self.is_mcp() {
            return self;
        }
        self.with_mcp_member("description", json!(text), json!({"type": "string"}))
    }

    /// Sets the transport of an MCP tool. It does not apply to routes of HTTP.
    #[must_use]
    pub fn with_transport(self, transport: McpTransport) -> Self {
        if !self.is_mcp() {
            return self;
        }
        let name = match transport {
            McpTransport::StreamableHttp => "streamable-http",
            McpTransport::Sse => "sse",
        };
        self.with_mcp_member("transport", json!(name), json!({"type": "string", "enum": [name]}))
    }

    /// Sets an example of the arguments of an MCP tool. It does not apply to routes of HTTP, which have one.
    #[must_use]
    pub fn with_tool_example(self, arguments: &Value) -> Self {
        if !self.is_mcp() {
            return self;
        }
        self.with_mcp_member("example", arguments.clone(), json!({"type": "object"}))
    }

    /// Adds an example of the response, as JSON, and the JSON Schema of responses.
    #[must_use]
    pub fn with_output(mut self, example: &Value, schema: &Value) -> Self {
        self.output = Some((example.clone(), schema.clone()));
        self
    }

    /// Describes a route with parameters in its path, each written as `:name`: `/users/:id`. `schema` is the JSON Schema of the
    /// parameters as an object.
    ///
    /// # Errors
    /// [`DeclarationError::Template`].
    pub fn with_template(mut self, template: &str, schema: &Value) -> Result<Self, DeclarationError> {
        if !is_valid_route_template(template) {
            return Err(DeclarationError::Template);
        }
        self.template = Some(template.into());
        self.path_schema = Some(object(schema));
        Ok(self)
    }

    /// Returns the parameters in a path that fits the template; none where it does not.
    fn path_params(&self, url: &str) -> Option<Value> {
        let template = self.template.as_deref()?;
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let (names, values): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        let mut params = Map::new();
        for (name, value) in names.iter().zip(&values) {
            match name.strip_prefix(':') {
                Some(name) if !value.is_empty() => drop(params.insert(name.to_owned(), json!(value))),
                None if name == value => {}
                _ => return Some(json!({})),
            }
        }
        Some(if names.len() == values.len() { Value::Object(params) } else { json!({}) })
    }

    /// Returns the declaration for a resource at this URL.
    #[must_use]
    pub fn declaration(&self, url: &str) -> Value {
        let (mut input, mut properties) = (self.input.clone(), self.properties.clone());
        if let (Some(params), Some(schema)) = (self.path_params(url), &self.path_schema) {
            input.insert("pathParams".into(), params);
            properties.insert("pathParams".into(), schema.clone());
        }
        let mut info = json!({ "input": input });
        let mut parts = json!({
            "input": {"type": "object", "properties": properties, "required": self.required, "additionalProperties": false},
        });
        if let Some((example, schema)) = &self.output {
            let output = json!({"type": "json", "example": example});
            let shape = json!({"type": "object", "properties": {"type": {"type": "string"}, "example": object(schema)},
                "required": ["type"]});
            if let (Some(info), Some(parts)) = (info.as_object_mut(), parts.as_object_mut()) {
                info.insert("output".into(), output);
                parts.insert("output".into(), shape);
            }
        }
        let schema = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "properties": parts, "required": ["input"]});
        match &self.template {
            Some(template) => json!({ "info": info, "schema": schema, "routeTemplate": template }),
            None => json!({ "info": info, "schema": schema }),
        }
    }
}

impl Extension for DiscoverableRoute {
    fn name(&self) -> &str {
        NAME
    }

    fn declare(&self, required: &Required<'_>) -> Option<RawJson> {
        RawJson::of(&self.declaration(&required.resource.url)).ok()
    }
}
