//! Declarations from the types of a handler: their JSON Schemas are made by
//! [`schemars`](https://docs.rs/schemars), their examples by `serde`.
//!
//! The schema of a type is a part of the declaration's schema, in which a reference such as `#/$defs/City` would mean another
//! place: every subschema is written out, and a type that contains itself is refused.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::Value;

use super::{BodyType, DeclarationError, DiscoverableRoute};

/// Returns the JSON Schema of a type, without references.
fn schema_of<T: JsonSchema>() -> Result<Value, DeclarationError> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if refers(&schema) { Err(DeclarationError::Type) } else { Ok(schema) }
}

/// Returns whether a schema has a reference. The recursion ends with the schema, which a type of the seller made.
fn refers(node: &Value) -> bool {
    match node {
        Value::Array(list) => list.iter().any(refers),
        Value::Object(members) => members.iter().any(|(name, value)| name == "$ref" || refers(value)),
        _ => false,
    }
}

fn example_of<T: Serialize>(example: &T) -> Result<Value, DeclarationError> {
    serde_json::to_value(example).map_err(|_| DeclarationError::Type)
}

impl DiscoverableRoute {
    /// Describes a route whose query is this type, as [`DiscoverableRoute::query`] does.
    ///
    /// # Errors
    /// [`DeclarationError::Type`].
    pub fn query_of<T: JsonSchema + Serialize>(method: &str, example: &T) -> Result<Self, DeclarationError> {
        Ok(Self::query(method, &example_of(example)?, &schema_of::<T>()?))
    }

    /// Describes a route whose body is this type in JSON, as [`DiscoverableRoute::body`] does.
    ///
    /// # Errors
    /// [`DeclarationError::Type`].
    pub fn body_of<T: JsonSchema + Serialize>(method: &str, example: &T) -> Result<Self, DeclarationError> {
        Ok(Self::body(method, BodyType::Json, &example_of(example)?, &schema_of::<T>()?))
    }

    /// Describes a tool of an MCP server whose arguments are this type, as [`DiscoverableRoute::mcp`] does, with an example of
    /// them.
    ///
    /// # Errors
    /// [`DeclarationError::Type`].
    pub fn mcp_of<T: JsonSchema + Serialize>(tool: &str, example: &T) -> Result<Self, DeclarationError> {
        Ok(Self::mcp(tool, &schema_of::<T>()?).with_tool_example(&example_of(example)?))
    }

    /// Adds an example of the response, which is this type in JSON.
    ///
    /// # Errors
    /// [`DeclarationError::Type`].
    pub fn with_output_of<T: JsonSchema + Serialize>(self, example: &T) -> Result<Self, DeclarationError> {
        Ok(self.with_output(&example_of(example)?, &schema_of::<T>()?))
    }

    /// Describes a route with parameters in its path, which are the fields of this type.
    ///
    /// # Errors
    /// [`DeclarationError::Template`], [`DeclarationError::Type`].
    pub fn with_template_of<T: JsonSchema>(self, template: &str) -> Result<Self, DeclarationError> {
        self.with_template(template, &schema_of::<T>()?)
    }
}
