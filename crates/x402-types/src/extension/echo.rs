//! The echo of extensions: [x402 v2 §5.1.2](https://github.com/x402-foundation/x402/blob/main/specs/x402-specification-v2.md).
//!
//! "The client must include at least the info received; it may append additional info but cannot delete or overwrite
//! existing info." A payment may omit an extension, and may contain undeclared ones. `schema` and all other members beside
//! `info` are not compared. A value without the member `info` is the info itself, because some clients send it so.

use serde_json::Value;

use crate::{ErrorReason, Members, RawJson, Rejection};

/// Returns the member `info` of a declaration or of its echo, or the value itself if it has no such member. The result is
/// `None` where the info is not an object.
#[must_use]
pub fn info(extension: &RawJson) -> Option<Members> {
    let whole: Members = extension.read().ok()?;
    match whole.get("info").map(RawJson::read::<Members>) {
        Some(info) => info.ok(),
        None => Some(whole),
    }
}

/// Returns whether `info.required` is `true`: the payment must add to the info, which a client without the extension
/// cannot do.
#[must_use]
pub fn is_required(declaration: &RawJson) -> bool {
    let required = info(declaration).and_then(|info| info.get("required")?.read().ok());
    required.unwrap_or(false)
}

/// Returns what a client sends back: the whole declaration, and its own additions in `info`. An addition takes the place of
/// a declared member only if both are lists, and it has all elements of the declared one. A declaration of another form, and one
/// without additions, is returned byte for byte.
#[must_use]
pub fn echoed(declaration: &RawJson, additions: &Members) -> RawJson {
    if additions.is_empty() {
        return declaration.clone();
    }
    let (Some(mut info), Ok(mut whole)) = (info(declaration), declaration.read::<Members>()) else {
        return declaration.clone();
    };
    for (name, value) in additions.iter() {
        if info.get(name).is_none_or(|declared| is_longer(value, declared)) {
            info.insert(name, value.clone());
        }
    }
    match RawJson::of(&info) {
        Ok(info) if whole.get("info").is_some() => whole.insert("info", info),
        Ok(info) => return info,
        Err(_) => return declaration.clone(),
    }
    RawJson::of(&whole).unwrap_or_else(|_| declaration.clone())
}

/// Compares an echo with its declaration. Every declared member of `info` must be present with its value: objects are
/// compared member by member, arrays as a whole. The members in `not_compared` are skipped.
///
/// # Errors
/// [`ErrorReason::EXTENSION_ECHO_MISMATCH`] with the path of the first member that differs.
pub fn compare(
    name: &str,
    declaration: &RawJson,
    echo: Option<&RawJson>,
    not_compared: &[&str],
) -> Result<(), Rejection> {
    let (Some(echo), Some(declared)) = (echo, info(declaration)) else { return Ok(()) };
    let differs = |member: &str| {
        let words = format!("extensions.{name}.info{member}: expected what the server declared");
        Err(Rejection::new(ErrorReason::EXTENSION_ECHO_MISMATCH).because(words))
    };
    let Some(echo) = info(echo) else { return differs("") };
    for (member, value) in declared.iter().filter(|(member, _)| !not_compared.contains(member)) {
        let kept = match (value.read::<Value>(), echo.get(member).map(RawJson::read::<Value>)) {
            (Ok(declared), Some(Ok(echoed))) => keeps(&echoed, &declared),
            _ => false,
        };
        if !kept {
            return differs(&format!(".{member}"));
        }
    }
    Ok(())
}

/// Returns whether both values are lists, and the first one has every element of the second one.
fn is_longer(list: &RawJson, declared: &RawJson) -> bool {
    match (list.read::<Vec<Value>>(), declared.read::<Vec<Value>>()) {
        (Ok(list), Ok(declared)) => declared.iter().all(|element| list.contains(element)),
        _ => false,
    }
}

fn keeps(echoed: &Value, declared: &Value) -> bool {
    match (echoed, declared) {
        (Value::Object(echoed), Value::Object(declared)) => {
            declared.iter().all(|(name, declared)| echoed.get(name).is_some_and(|echoed| keeps(echoed, declared)))
        }
        // A client in JavaScript writes 2 where the server wrote 2.0.
        (Value::Number(echoed), Value::Number(declared)) => echoed == declared || echoed.as_f64() == declared.as_f64(),
        _ => echoed == declared,
    }
}
