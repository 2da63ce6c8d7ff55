//! The version 2 form of a document, as x402lint builds it: version 1's names become version 2's, the first entry's
//! `resource` becomes the document's, and unknown top-level members are dropped. In addition, simple names become
//! CAIP-2 and leading zeros are removed.

use serde_json::{Map, Number, Value as Json};
use x402_codec::json::{Node, Value};

use crate::Registry;
use crate::amount;
use crate::entry::{Dialect, Fields};
use crate::lint::{Top, missing};

pub(crate) fn document(
    top: &Top<'_, '_>,
    entries: &[(usize, Fields<'_, '_>)],
    dialect: Dialect,
    registry: &Registry,
) -> Json {
    let mut out = Map::new();
    out.insert("x402Version".to_owned(), 2.into());
    insert(&mut out, "error", top.error);
    if let Some(resource) = resource(top, entries, dialect) {
        out.insert("resource".to_owned(), resource);
    }
    if let Some(accepts) = accepts(top, entries, dialect, registry) {
        out.insert("accepts".to_owned(), accepts);
    }
    insert(&mut out, "extensions", top.extensions);
    out.into()
}

/// Converts a node to a value. A number that is not a 64-bit integer becomes the nearest double, as in JavaScript.
pub(crate) fn value(node: &Node<'_>) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Number(text) => number(text),
        Value::String(text) => Json::String(text.clone().into_owned()),
        Value::Array(elements) => Json::Array(elements.iter().map(value).collect()),
        Value::Object(members) => {
            members.iter().map(|m| (m.key.clone().into_owned(), value(&m.value))).collect::<Map<_, _>>().into()
        }
    }
}

fn number(text: &str) -> Json {
    if let Ok(n) = text.parse::<u64>() {
        return n.into();
    }
    if let Ok(n) = text.parse::<i64>() {
        return n.into();
    }
    text.parse().ok().and_then(Number::from_f64).map_or(Json::Null, Json::Number)
}

fn insert(out: &mut Map<String, Json>, key: &str, node: Option<&Node<'_>>) {
    if let Some(node) = node.filter(|node| !node.is_null()) {
        out.insert(key.to_owned(), value(node));
    }
}

fn resource(top: &Top<'_, '_>, entries: &[(usize, Fields<'_, '_>)], dialect: Dialect) -> Option<Json> {
    let lifted = match dialect {
        Dialect::V1 => {
            entries.iter().find_map(|(_, entry)| Some((entry.resource.filter(|node| !missing(node))?, entry)))
        }
        Dialect::V2 | Dialect::Legacy => None,
    };
    let (node, entry) = match (lifted, entries.first()) {
        (Some((node, entry)), _) => (node, Some(entry)),
        (None, first) => (top.resource.filter(|node| !missing(node))?, first.map(|(_, entry)| entry)),
    };
    if node.as_str().is_none() {
        return Some(value(node));
    }
    let mut out = Map::new();
    out.insert("url".to_owned(), value(node));
    if let Some(entry) = entry.filter(|_| dialect != Dialect::V2) {
        insert(&mut out, "description", entry.description);
        insert(&mut out, "mimeType", entry.mime_type);
    }
    Some(out.into())
}

fn accepts(
    top: &Top<'_, '_>,
    entries: &[(usize, Fields<'_, '_>)],
    dialect: Dialect,
    registry: &Registry,
) -> Option<Json> {
    if dialect == Dialect::Legacy {
        return Some(entries.iter().map(|(_, fields)| older(fields, dialect, registry)).collect());
    }
    let elements = match top.accepts.filter(|node| !missing(node)) {
        Some(node) => match node.as_array() {
            Some(elements) => elements,
            None => return Some(value(node)),
        },
        None => return None,
    };
    let mut objects = entries.iter().peekable();
    let entry = |(index, element): (usize, &Node<'_>)| match objects.next_if(|(at, _)| *at == index) {
        Some((_, fields)) if dialect == Dialect::V2 => newer(fields, registry),
        Some((_, fields)) => older(fields, dialect, registry),
        None => value(element),
    };
    Some(elements.iter().enumerate().map(entry).collect())
}

/// Converts an entry of version 2, with all its members.
fn newer(fields: &Fields<'_, '_>, registry: &Registry) -> Json {
    let members = fields.node.as_object().unwrap_or_default();
    let entry = |(key, node): (&str, &Node<'_>)| {
        let value = match key {
            "network" => network(node, registry),
            "amount" => price(node),
            _ => value(node),
        };
        (key.to_owned(), value)
    };
    members.iter().map(|m| entry((&m.key, &m.value))).collect::<Map<_, _>>().into()
}

/// Converts an entry of version 1 or of the flat form, with the members that version 2 has.
fn older(fields: &Fields<'_, '_>, dialect: Dialect, registry: &Registry) -> Json {
    let mut out = Map::new();
    insert(&mut out, "scheme", fields.scheme);
    if let Some(node) = fields.network.filter(|node| !node.is_null()) {
        out.insert("network".to_owned(), network(node, registry));
    }
    let (named, other) = fields.price(dialect);
    if let Some(node) = named.filter(|node| !missing(node)).or(other).filter(|node| !node.is_null()) {
        out.insert("amount".to_owned(), price(node));
    }
    insert(&mut out, "asset", fields.asset);
    insert(&mut out, "payTo", fields.pay_to);
    insert(&mut out, "maxTimeoutSeconds", fields.timeout);
    if fields.is_nvm() {
        insert(&mut out, "planId", fields.plan_id);
    }
    insert(&mut out, "extra", fields.extra);
    out.into()
}

fn network(node: &Node<'_>, registry: &Registry) -> Json {
    let known = node.as_str().and_then(|text| registry.simple_name(text));
    known.map_or_else(|| value(node), Json::from)
}

fn price(node: &Node<'_>) -> Json {
    node.as_str().and_then(amount::digits).map_or_else(|| value(node), Json::from)
}
