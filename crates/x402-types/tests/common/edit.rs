//! Changes one member of a document.

use serde_json::Value;

/// Sets the member at a pointer, or removes it.
pub(crate) fn set(document: &mut Value, pointer: &str, value: Option<Value>) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {pointer}"));
    let object = parent.as_object_mut().unwrap_or_else(|| panic!("no object above {pointer}"));
    match value {
        Some(value) => object.insert(key.to_owned(), value),
        None => object.remove(key),
    };
}
