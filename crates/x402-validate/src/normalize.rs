//! The version 2 form of a document, as x402lint builds it: version 1's names become version 2's, the first entry's
//! `resource` becomes the document's, and unknown top-level members are dropped. In addition, simple names become
//! CAIP-2 and leading zeros are removed.

use serde_json::{Map, Number, Value as Json};
use x402_codec::json::{Node, Value};

use crate::Registry;
use crate::amount;
use crate::entry::{Dialect, Fields};
use crate::lint::missing;
use crate::misplaced;

pub(crate) fn document(root: &Node<'_>, dialect: Dialect, registry: &Registry) -> Json {
    let accepts = misplaced::top(root, "accepts").filter(|node| !missing(node));
    let elements = accepts.and_then(Node::as_array).unwrap_or_default();
    let entries: Vec<Fields<'_, '_>> = match dialect {
        Dialect::Legacy => Fields::of(root).into_iter().collect(),
        Dialect::V1 | Dialect::V2 => elements.iter().filter_map(Fields::of).collect(),
    };
    let mut out = Map::new();
    out.insert("x402Version".to_owned(), 2.into());
    insert(&mut out, "error", misplaced::top(root, "error"));
    if let Some(resource) = resource(root, &entries, dialect) {
        out.insert("resource".to_owned(), resource);
    }
    let converted = |element: &Node<'_>| match (Fields::of(element), dialect) {
        (Some(fields), Dialect::V2) => newer(&fields, registry),
        (Some(fields), _) => older(&fields, dialect, registry),
        (None, _) => value(element),
    };
    let accepts = match (dialect, accepts) {
        (Dialect::Legacy, _) => Some(Json::Array(vec![converted(root)])),
        (_, Some(node)) if node.as_array().is_none() => Some(value(node)),
        (_, Some(_)) => Some(elements.iter().map(converted).collect()),
        (_, None) => None,
    };
    if let Some(accepts) = accepts {
        out.insert("accepts".to_owned(), accepts);
    }
    if let Some(extensions) = extensions(misplaced::top(root, "extensions"), &entries) {
        out.insert("extensions".to_owned(), extensions);
    }
    out.into()
}

/// Puts a list of entries, as some servers send it, into a document.
pub(crate) fn list(elements: &[Node<'_>], registry: &Registry) -> Json {
    let entry = |node: &Node<'_>| Fields::of(node).map_or_else(|| value(node), |fields| newer(&fields, registry));
    let mut out = Map::new();
    out.insert("x402Version".to_owned(), 2.into());
    out.insert("accepts".to_owned(), elements.iter().map(entry).collect());
    out.into()
}

/// Returns the extensions, with a bazaar extension that is in an entry.
fn extensions(node: Option<&Node<'_>>, entries: &[Fields<'_, '_>]) -> Option<Json> {
    let node = node.filter(|node| !node.is_null());
    let misplaced = entries.iter().find_map(misplaced::bazaar).map(|(_, node)| value(node));
    match (node.map(value), misplaced) {
        (None, Some(bazaar)) => Some(Json::Object([("bazaar".to_owned(), bazaar)].into_iter().collect())),
        (Some(Json::Object(mut members)), Some(bazaar)) => {
            members.entry("bazaar").or_insert(bazaar);
            Some(members.into())
        }
        (extensions, _) => extensions,
    }
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

fn resource(root: &Node<'_>, entries: &[Fields<'_, '_>], dialect: Dialect) -> Option<Json> {
    let lifted = || entries.iter().find_map(|entry| Some((entry.resource.filter(|node| !missing(node))?, Some(entry))));
    let own = || Some((misplaced::top(root, "resource").filter(|node| !missing(node))?, entries.first()));
    // Version 2 has it at the top level; version 1, and those who take one for the other, in the entries.
    let (node, entry) = match dialect {
        Dialect::V1 => lifted().or_else(own)?,
        Dialect::V2 => own().or_else(lifted)?,
        Dialect::Legacy => own()?,
    };
    if node.as_str().is_none() {
        return Some(value(node));
    }
    let mut out = Map::new();
    out.insert("url".to_owned(), value(node));
    if let Some(entry) = entry {
        insert(&mut out, "description", entry.description);
        insert(&mut out, "mimeType", entry.mime_type);
    }
    Some(out.into())
}

/// Converts an entry of version 2, with all its members.
fn newer(fields: &Fields<'_, '_>, registry: &Registry) -> Json {
    let members = fields.node.as_object().unwrap_or_default();
    let mut out = Map::new();
    for member in members {
        let key = misplaced::entry_name(members, &member.key);
        let value = match key {
            "network" => network(&member.value, registry),
            "amount" => price(&member.value),
            _ => value(&member.value),
        };
        // Of two spellings of one name, the first counts.
        let key = if out.contains_key(key) { &*member.key } else { key };
        out.insert(key.to_owned(), value);
    }
    out.into()
}

/// Converts an entry of version 1 or of the flat form, with the members that version 2 has.
fn older(fields: &Fields<'_, '_>, dialect: Dialect, registry: &Registry) -> Json {
    let member = |name: &str| misplaced::entry(fields.node, name);
    let mut out = Map::new();
    insert(&mut out, "scheme", member("scheme"));
    if let Some(node) = member("network").filter(|node| !node.is_null()) {
        out.insert("network".to_owned(), network(node, registry));
    }
    let (named, other) = fields.price(dialect);
    let named = named.filter(|node| !missing(node)).or(other);
    if let Some(node) =
        named.or_else(|| member("maxAmountRequired")).or_else(|| member("amount")).filter(|n| !n.is_null())
    {
        out.insert("amount".to_owned(), price(node));
    }
    insert(&mut out, "asset", member("asset"));
    insert(&mut out, "payTo", member("payTo"));
    insert(&mut out, "maxTimeoutSeconds", member("maxTimeoutSeconds"));
    if fields.is_nvm() {
        insert(&mut out, "planId", member("planId"));
    }
    insert(&mut out, "extra", member("extra"));
    out.into()
}

fn network(node: &Node<'_>, registry: &Registry) -> Json {
    let known = node.as_str().and_then(|text| registry.simple_name(text));
    known.map_or_else(|| value(node), Json::from)
}

fn price(node: &Node<'_>) -> Json {
    node.as_str().and_then(amount::digits).map_or_else(|| value(node), Json::from)
}
