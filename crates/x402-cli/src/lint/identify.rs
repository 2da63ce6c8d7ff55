//! The ways in which a payer can identify itself, from the extensions `auth-hints` and `http-message-signatures`, for people.
//!
//! The linter has checked their form and has warned of the first fault; what can be read of them is shown all the same.

use serde_json::Value;

/// The most displayed lines.
const MOST: usize = 20;
/// The most displayed characters of a stranger's text.
const LONGEST: usize = 120;

/// Returns a line for each method of each requirement, and one for signed messages.
pub(super) fn lines(document: &Value) -> Vec<String> {
    let info = |name: &str| document.get("extensions").and_then(|all| all.get(name)).and_then(|one| one.get("info"));
    let mut lines = Vec::new();
    let requirements = info("auth-hints").and_then(|info| info.get("authRequirements")).and_then(Value::as_array);
    for requirement in requirements.into_iter().flatten() {
        let entries: Vec<String> =
            list(requirement, "acceptIndexes").map(Value::to_string).map(|at| shown(&at)).collect();
        for method in list(requirement, "methods") {
            let mut line = format!("accepts[{}] with {}", entries.join(", "), text(method, "type"));
            for member in ["tokenType", "authorizationServer", "registrationEndpoint"] {
                if method.get(member).is_some_and(Value::is_string) {
                    line.push_str(&format!(", {member} {}", text(method, member)));
                }
            }
            lines.push(line);
        }
    }
    if let Some(info) = info("http-message-signatures") {
        let schemes: Vec<String> = list(info, "signatureSchemes").filter_map(Value::as_str).map(shown).collect();
        let tags: Vec<String> = list(info, "tags").filter_map(Value::as_str).map(shown).collect();
        let tags = if tags.is_empty() { String::new() } else { format!(" ({})", tags.join(", ")) };
        let place = text(info, "registrationUrl");
        lines.push(format!("messages signed by {}{tags}, registered at {place}", schemes.join(", ")));
    }
    lines.truncate(MOST);
    lines
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten().take(MOST)
}

fn text(value: &Value, name: &str) -> String {
    shown(value.get(name).and_then(Value::as_str).unwrap_or("?"))
}

/// Cuts a text, and escapes what could move a terminal's cursor.
fn shown(text: &str) -> String {
    text.chars().take(LONGEST).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The examples of the documents `extension-auth-hints.md` and `http-message-signatures.md`.
    #[test]
    fn what_a_payer_must_know_is_shown() {
        let document = json!({"x402Version": 2, "accepts": [{}, {}], "extensions": {
            "auth-hints": {"info": {"authRequirements": [{"acceptIndexes": [0, 1], "methods": [
                {"type": "oauth2", "tokenType": "DPoP", "authorizationServer": "https://auth.example.com",
                 "tokenEndpoint": "https://auth.example.com/token"},
                {"type": "sign-in-with-x"}]}]}},
            "http-message-signatures": {"info": {"registrationUrl": "https://network.example.com/agents",
                "signatureSchemes": ["ed25519", "ecdsa-p256-sha256"], "tags": ["web-bot-auth"]}}}});
        assert_eq!(
            lines(&document),
            [
                "accepts[0, 1] with oauth2, tokenType DPoP, authorizationServer https://auth.example.com",
                "accepts[0, 1] with sign-in-with-x",
                "messages signed by ed25519, ecdsa-p256-sha256 (web-bot-auth), registered at \
                 https://network.example.com/agents",
            ]
        );
    }

    #[test]
    fn anything_else_is_shown_without_harm() {
        assert_eq!(lines(&json!({"accepts": []})), Vec::<String>::new());
        assert_eq!(lines(&json!(null)), Vec::<String>::new());
        let hostile = json!({"extensions": {
            "auth-hints": {"info": {"authRequirements": [{"acceptIndexes": ["\u{1b}[2J"], "methods": [{"type": "\u{1b}[2J\n"}, 7]}, null]}},
            "http-message-signatures": {"info": {"registrationUrl": "x".repeat(9_000), "signatureSchemes": {"a": 1}}}}});
        let lines = lines(&hostile);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() < 400 && !line.contains(char::is_control)), "{lines:?}");
    }
}
