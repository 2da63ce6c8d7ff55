//! Writes a serialized permission account as the SDK does: same members, same order, same spelling.

use alloy_primitives::{Address, hex};
use serde_json::Value;
use zeroize::Zeroizing;

use super::Approval;
use super::approval::{Root, SessionPrivateKey};
use super::policy::{CallPermission, CallPolicyVersion, CallRule, Policy, PolicyItem, contracts};
use crate::Eip7702Authorization;

/// Formats the JSON. A private key is copied once, into memory that is zeroized.
pub(super) fn approval(approval: &Approval) -> Zeroizing<String> {
    let policies = list(approval.policies.iter().map(|p| object(&[("policyParams", policy(p))])));
    let init_code = match &approval.root {
        Root::Factory(account) => account.data().text(),
        Root::Eip7702 => "0x".into(),
    };
    let zero = Address::ZERO.to_string();
    let id = text(&approval.permission_id.to_string());
    let account = text(&approval.account.to_string());
    let mut head = members(&[
        ("permissionParams", object(&[("policies", policies), ("permissionId", id)])),
        ("action", object(&[("selector", text("0xe9ae5c53")), ("address", text(&zero))])),
        ("validityData", object(&[("validAfter", "0".into()), ("validUntil", "0".into())])),
        ("accountParams", object(&[("initCode", text(&init_code)), ("accountAddress", account)])),
    ]);
    if let Some(signature) = &approval.enable_signature {
        head.push(',');
        head.push_str(&members(&[("enableSignature", text(&signature.to_string()))]));
    }
    let mut tail = Vec::new();
    if let Some(auth) = &approval.eip7702_auth {
        tail.push(("eip7702Auth", authorization(auth)));
    }
    tail.push(("isPreInstalled", approval.is_pre_installed().to_string()));
    let tail = members(&tail);

    let key = approval.private_key.as_ref().map(SessionPrivateKey::expose_hex);
    let mut json = Zeroizing::new(String::with_capacity(head.len() + tail.len() + 128));
    json.push('{');
    json.push_str(&head);
    if let Some(key) = &key {
        json.push_str(",\"privateKey\":\"");
        json.push_str(key);
        json.push('"');
    }
    json.push(',');
    json.push_str(&tail);
    json.push('}');
    json
}

fn policy(item: &PolicyItem) -> String {
    let kind = match &item.policy {
        Policy::Call { .. } => "call",
        Policy::Timestamp { .. } => "timestamp",
        Policy::RateLimit { .. } | Policy::RateLimitWithReset { .. } => "rate-limit",
        Policy::Gas { .. } => "gas",
        Policy::SignatureCaller(_) => "signature-caller",
        Policy::Sudo => "sudo",
    };
    let mut members = vec![("type", text(kind))];
    if let Policy::Call { version, .. } = &item.policy {
        members.push(("policyVersion", text(version.as_str())));
    }
    // The SDK omits the address of a call policy if it follows from the version.
    if !matches!(item.policy, Policy::Call { .. }) || !item.is_known() {
        let address = match item.address {
            // The SDK compares this one as a text, and its constant is in lower case.
            contracts::RATE_LIMIT_WITH_RESET => hex::encode_prefixed(item.address),
            address => address.to_string(),
        };
        members.push(("policyAddress", text(&address)));
    }
    members.push(("policyFlag", text(&hex::encode_prefixed(item.flag.to_be_bytes()))));
    members.extend(params(&item.policy));
    object(&members)
}

fn params(policy: &Policy) -> Vec<(&'static str, String)> {
    match policy {
        Policy::Call { version, permissions } => {
            vec![("permissions", list(permissions.iter().map(|p| permission(p, *version))))]
        }
        Policy::Timestamp { valid_after, valid_until } => {
            vec![("validAfter", valid_after.to_string()), ("validUntil", valid_until.to_string())]
        }
        Policy::RateLimit { interval, count, start_at } => {
            vec![("interval", interval.to_string()), ("count", count.to_string()), ("startAt", start_at.to_string())]
        }
        Policy::RateLimitWithReset { interval, count } => {
            vec![("interval", interval.to_string()), ("count", count.to_string()), ("startAt", "0".into())]
        }
        Policy::Gas { allowed, enforce_paymaster, allowed_paymaster } => vec![
            ("allowed", text(&allowed.to_string())),
            ("enforcePaymaster", enforce_paymaster.to_string()),
            ("allowedPaymaster", text(&allowed_paymaster.to_string())),
        ],
        Policy::SignatureCaller(callers) => {
            vec![("allowedCallers", list(callers.iter().map(|c| text(&c.to_string()))))]
        }
        Policy::Sudo => Vec::new(),
    }
}

fn permission(permission: &CallPermission, version: CallPolicyVersion) -> String {
    object(&[
        ("target", text(&permission.target.to_string())),
        ("selector", text(&permission.selector.to_string())),
        ("valueLimit", text(&permission.value_limit.to_string())),
        ("rules", list(permission.rules.iter().map(|r| rule(r, version)))),
        ("callType", text("0x00")),
    ])
}

fn rule(rule: &CallRule, version: CallPolicyVersion) -> String {
    let params = rule.params.iter().map(|p| text(&p.to_string()));
    let params = if version == CallPolicyVersion::V001 { params.collect() } else { list(params) };
    object(&[
        ("condition", (rule.condition as u8).to_string()),
        ("offset", rule.offset.to_string()),
        ("params", params),
    ])
}

fn authorization(auth: &Eip7702Authorization) -> String {
    let mut members = vec![
        ("address", text(&auth.address.to_string())),
        ("chainId", auth.chain_id.to_string()),
        ("nonce", auth.nonce.to_string()),
    ];
    if let Some((r, s, odd)) = auth.signature {
        members.push(("r", text(&r.to_string())));
        members.push(("s", text(&s.to_string())));
        members.push(("v", text(&(27 + u8::from(odd)).to_string())));
        members.push(("yParity", u8::from(odd).to_string()));
    }
    object(&members)
}

/// Formats a JSON string.
fn text(value: &str) -> String {
    Value::from(value).to_string()
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn object(entries: &[(&str, String)]) -> String {
    format!("{{{}}}", members(entries))
}

fn members(entries: &[(&str, String)]) -> String {
    entries.iter().map(|(key, value)| format!("{}:{value}", text(key))).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_json_strings() {
        assert_eq!(object(&[("a\"", text("b\\"))]), r#"{"a\"":"b\\"}"#);
    }
}
