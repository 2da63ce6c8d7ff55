//! The output of `x402 session inspect`: an object, or a line for each member.

use std::fmt::Write as _;

use alloy_primitives::{Address, B256};
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) provider: &'static str,
    pub(super) account: Address,
    pub(super) owner: Address,
    /// The factory; `None` for an EIP-7702 account, and for a factory that the key does not name.
    pub(super) factory: Option<Address>,
    #[serde(skip)]
    pub(super) eip7702: bool,
    /// The Kernel's version; `None` if an unknown factory creates the account and no chain names the version.
    pub(super) kernel_version: Option<&'static str>,
    pub(super) permission_id: String,
    pub(super) permission_flag: Option<String>,
    pub(super) signer: Option<Address>,
    pub(super) signer_source: Option<&'static str>,
    pub(super) chain_id: Option<u64>,
    pub(super) deployed: Option<bool>,
    pub(super) enabled: Option<bool>,
    pub(super) nonce: Option<u32>,
    pub(super) enable_signature: &'static str,
    /// Whether the key may sign operations at all; `None` if the permission is unknown.
    pub(super) operations: Option<bool>,
    pub(super) valid_after: Option<u64>,
    pub(super) valid_until: Option<u64>,
    pub(super) calls: Vec<CallLine>,
    pub(super) limits: Vec<LimitLine>,
    pub(super) hash: B256,
    pub(super) warnings: Vec<Warning>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallLine {
    pub(super) target: Option<Address>,
    pub(super) selector: Option<String>,
    pub(super) call_type: &'static str,
    pub(super) value_limit: Option<String>,
    pub(super) rules: Vec<RuleLine>,
}

#[derive(Debug, Serialize)]
pub(super) struct RuleLine {
    pub(super) offset: u64,
    pub(super) condition: &'static str,
    pub(super) params: Vec<B256>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum LimitLine {
    Calls { count: u64, interval: u64, start_at: u64 },
    CallsPerInterval { count: u64, interval: u64 },
    Gas { allowed: String, paymaster: Option<Address>, enforce_paymaster: bool },
    Other,
}

#[derive(Debug, Serialize)]
pub(super) struct Warning {
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

/// Formats the report for people: one line for each member that is known.
pub(super) fn words(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| _ = writeln!(out, "{name:<16} {value}");
    let unknown = || "unknown".to_owned();
    line("provider", report.provider.into());
    line("account", report.account.to_string());
    line("owner", report.owner.to_string());
    let none = || if report.eip7702 { "none (EIP-7702)".into() } else { unknown() };
    line("factory", report.factory.map_or_else(none, |f| f.to_string()));
    line("kernel version", report.kernel_version.map_or_else(unknown, Into::into));
    line("permission id", report.permission_id.clone());
    line("permission flag", report.permission_flag.clone().unwrap_or_else(unknown));
    line(
        "signer",
        report.signer.map_or_else(unknown, |s| format!("{s} ({})", report.signer_source.unwrap_or_default())),
    );
    line("chain", report.chain_id.map_or_else(unknown, |c| c.to_string()));
    if let (Some(deployed), Some(enabled), Some(nonce)) = (report.deployed, report.enabled, report.nonce) {
        line("deployed", deployed.to_string());
        line("enabled", enabled.to_string());
        line("nonce", nonce.to_string());
    }
    line("enable signature", report.enable_signature.into());
    line("operations", report.operations.map_or_else(unknown, |may| if may { "allowed" } else { "none" }.into()));
    line("valid after", report.valid_after.map_or_else(|| "always".into(), |t| t.to_string()));
    line("valid until", report.valid_until.map_or_else(|| "forever".into(), |t| t.to_string()));
    for call in &report.calls {
        let target = call.target.map_or_else(|| "any target".into(), |t| t.to_string());
        let selector = call.selector.as_deref().unwrap_or("any function");
        let value = call.value_limit.as_deref().unwrap_or("unlimited");
        line("call", format!("{target} {selector}, value at most {value}"));
        for rule in &call.rules {
            let params: Vec<String> = rule.params.iter().map(ToString::to_string).collect();
            line("  argument", format!("at {} {} {}", rule.offset, rule.condition, params.join(" ")));
        }
    }
    for limit in &report.limits {
        line("limit", serde_json::to_string(limit).unwrap_or_default());
    }
    line("hash", report.hash.to_string());
    for warning in &report.warnings {
        line("warning", format!("{}: {}", warning.code, warning.message));
    }
    out
}
