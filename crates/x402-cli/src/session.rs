//! `x402 session inspect`: what a session key may do, and whether its owner said so.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use alloy_primitives::{Address, B256, U256};
use serde::Serialize;
use x402_erc4337::scope::{AllowedCall, Calls, Limit, Rule, Scope, Signatures, Test};
use x402_erc4337::session::zerodev::{Approval, ApprovalError, EnableStatus, Findings, MAX_APPROVAL, Policy, Root};
use zeroize::Zeroizing;

/// Looks at session keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Session {
    /// Shows what a serialized session key may do.
    Inspect(Inspect),
}

/// Shows what a serialized session key may do.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// An address that may be the session key; may be given several times.
    #[arg(long, value_name = "ADDR")]
    signer: Vec<Address>,
    /// A chain that it may be for; may be given several times.
    #[arg(long, value_name = "N")]
    chain_id: Vec<u64>,
    /// Prints a JSON object.
    #[arg(long)]
    json: bool,
    /// The serialized key; `-` or nothing reads standard input.
    file: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    provider: &'static str,
    account: Address,
    owner: Address,
    factory: Option<Address>,
    kernel_version: &'static str,
    permission_id: String,
    permission_flag: Option<String>,
    signer: Option<Address>,
    signer_source: Option<&'static str>,
    chain_id: Option<u64>,
    enable_signature: &'static str,
    valid_after: Option<u64>,
    valid_until: Option<u64>,
    calls: Vec<CallLine>,
    limits: Vec<LimitLine>,
    hash: B256,
    warnings: Vec<Warning>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CallLine {
    target: Option<Address>,
    selector: Option<String>,
    call_type: &'static str,
    value_limit: Option<String>,
    rules: Vec<RuleLine>,
}

#[derive(Debug, Serialize)]
struct RuleLine {
    offset: u64,
    condition: &'static str,
    params: Vec<B256>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum LimitLine {
    Calls { count: u64, interval: u64, start_at: u64 },
    CallsPerInterval { count: u64, interval: u64 },
    Gas { allowed: String, paymaster: Option<Address>, enforce_paymaster: bool },
    Other,
}

#[derive(Debug, Serialize)]
struct Warning {
    code: &'static str,
    message: &'static str,
}

/// Why there is no report.
#[derive(Debug)]
enum Failure {
    Unreadable(String),
    Refused(String),
}

impl From<ApprovalError> for Failure {
    fn from(e: ApprovalError) -> Self {
        match e {
            ApprovalError::TooLong | ApprovalError::Base64 | ApprovalError::Json(_) => Self::Unreadable(e.to_string()),
            e => Self::Refused(e.to_string()),
        }
    }
}

pub(crate) fn run(command: Session) -> ExitCode {
    let Session::Inspect(args) = command;
    let report = input(args.file.as_ref()).and_then(|text| report(&text, &args.signer, &args.chain_id));
    let shown = report.and_then(|report| {
        let text = if args.json {
            serde_json::to_string(&report).map_err(|e| Failure::Unreadable(e.to_string()))?
        } else {
            words(&report)
        };
        writeln!(std::io::stdout(), "{}", text.trim_end()).map_err(|e| Failure::Unreadable(e.to_string()))?;
        if report.enable_signature == EnableStatus::Invalid.as_str() {
            return Err(Failure::Refused("enableSignature: not the owner's".into()));
        }
        Ok(())
    });
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(message)) => {
            eprintln!("{message}");
            ExitCode::from(1)
        }
        Err(Failure::Unreadable(message)) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn input(file: Option<&PathBuf>) -> Result<Zeroizing<String>, Failure> {
    let most = u64::try_from(MAX_APPROVAL).unwrap_or(u64::MAX).saturating_add(64);
    let mut text = Zeroizing::new(String::with_capacity(MAX_APPROVAL + 64));
    let read = match file.filter(|f| f.as_os_str() != "-") {
        Some(file) => std::fs::File::open(file).and_then(|f| f.take(most).read_to_string(&mut text)),
        None => std::io::stdin().take(most).read_to_string(&mut text),
    };
    read.map(|_| text).map_err(|e| Failure::Unreadable(e.to_string()))
}

fn report(text: &str, signers: &[Address], chains: &[u64]) -> Result<Report, Failure> {
    let approval = Approval::read(text.trim())?;
    // The nonce of an account that has revoked nothing.
    let found = approval.inspect(signers, chains, 1).map_err(|e| Failure::Refused(e.to_string()))?;
    let scope = approval.scope(found.permission.as_ref());
    let signer = found.permission.as_ref().and_then(|p| p.signer.address());
    let window = scope.widest_window();
    let factory = match &approval.root {
        Root::Factory(account) => Some(account.factory()),
        Root::Eip7702 => None,
    };
    Ok(Report {
        provider: "zerodev",
        account: approval.account,
        owner: approval.owner(),
        factory,
        kernel_version: approval.version().as_str(),
        permission_id: approval.permission_id.to_string(),
        permission_flag: found.permission.as_ref().map(|p| format!("0x{:04x}", p.flag)),
        signer,
        signer_source: signer.map(|_| if found.signer_embedded { "embedded" } else { "given" }),
        chain_id: found.chain_id,
        enable_signature: found.enable_signature.as_str(),
        valid_after: window.valid_after,
        valid_until: window.valid_until,
        calls: calls(&scope),
        limits: scope.limits.iter().map(limit).collect(),
        hash: approval.hash(),
        warnings: warnings(&approval, &found, &scope),
    })
}

fn calls(scope: &Scope) -> Vec<CallLine> {
    match &scope.calls {
        Calls::Any => {
            vec![CallLine { target: None, selector: None, call_type: "0x00", value_limit: None, rules: Vec::new() }]
        }
        Calls::Only(kinds) => kinds.iter().map(call).collect(),
    }
}

fn call(kind: &AllowedCall) -> CallLine {
    CallLine {
        target: kind.target,
        selector: kind.selector.map(|s| s.to_string()),
        call_type: "0x00",
        value_limit: kind.value_limit.map(|v| v.to_string()),
        rules: kind.rules.iter().map(rule).collect(),
    }
}

fn rule(rule: &Rule) -> RuleLine {
    let (condition, params) = match &rule.test {
        Test::Compare(condition, params) => (condition.as_str(), params.clone()),
        Test::InRange(low, high) => ("in_range", vec![U256::from(*low).into(), U256::from(*high).into()]),
        Test::SumAtMost(sum) => ("sum_at_most", vec![(*sum).into()]),
    };
    RuleLine { offset: rule.offset, condition, params }
}

fn limit(limit: &Limit) -> LimitLine {
    match limit {
        Limit::Calls { count, interval, start_at } => {
            LimitLine::Calls { count: *count, interval: *interval, start_at: *start_at }
        }
        Limit::CallsPerInterval { count, interval } => {
            LimitLine::CallsPerInterval { count: *count, interval: *interval }
        }
        Limit::Gas { allowed, paymaster } => LimitLine::Gas {
            allowed: allowed.to_string(),
            paymaster: paymaster.filter(|p| !p.is_zero()),
            enforce_paymaster: paymaster.is_some(),
        },
        _ => LimitLine::Other,
    }
}

fn warnings(approval: &Approval, found: &Findings, scope: &Scope) -> Vec<Warning> {
    let any_target = match &scope.calls {
        Calls::Any => true,
        Calls::Only(kinds) => kinds.iter().any(|k| k.target.is_none()),
    };
    let sudo = approval.policies.iter().any(|p| p.policy == Policy::Sudo) || scope.calls == Calls::Any;
    let checks = [
        (approval.private_key.is_some(), "embedded_key", "the private key of the session stands in the text"),
        (
            scope.signatures == Signatures::Open,
            "erc1271_open",
            "the key signs anything in the account's name by EIP-1271, whatever its calls are limited to",
        ),
        (scope.widest_window().valid_until.is_none(), "no_expiry", "the key does not expire"),
        (sudo, "sudo", "no policy limits the calls, or one is sudo"),
        (any_target, "any_target", "calls to any contract are allowed"),
        (!scope.unknown.is_empty(), "unknown_policy", "a policy contract is unknown: what it allows is not known"),
        (found.permission.is_none(), "signer_unknown", "the session key is unknown, and with it the permission's flag"),
    ];
    checks.into_iter().filter(|(holds, ..)| *holds).map(|(_, code, message)| Warning { code, message }).collect()
}

/// The report for people: one line for each member that is known.
fn words(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| _ = writeln!(out, "{name:<16} {value}");
    let unknown = || "unknown".to_owned();
    line("provider", report.provider.into());
    line("account", report.account.to_string());
    line("owner", report.owner.to_string());
    line("factory", report.factory.map_or_else(|| "none (EIP-7702)".into(), |f| f.to_string()));
    line("kernel version", report.kernel_version.into());
    line("permission id", report.permission_id.clone());
    line("permission flag", report.permission_flag.clone().unwrap_or_else(unknown));
    line(
        "signer",
        report.signer.map_or_else(unknown, |s| format!("{s} ({})", report.signer_source.unwrap_or_default())),
    );
    line("chain", report.chain_id.map_or_else(unknown, |c| c.to_string()));
    line("enable signature", report.enable_signature.into());
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn cases() -> Vec<Value> {
        let all: Value = serde_json::from_str(include_str!("../../x402-testkit/vectors/erc4337.json")).unwrap();
        all["kernelPermissions"].as_array().unwrap().clone()
    }

    fn json(report: &Report) -> Value {
        serde_json::to_value(report).unwrap()
    }

    fn codes(report: &Value) -> Vec<&str> {
        report["warnings"].as_array().unwrap().iter().map(|w| w["code"].as_str().unwrap()).collect()
    }

    fn lower(v: &Value) -> String {
        v.to_string().to_lowercase()
    }

    #[test]
    fn a_key_with_its_signer_and_chain() {
        let case = &cases()[1];
        let signer: Address = case["sessionKey"].as_str().unwrap().parse().unwrap();
        let report = report(case["serialized"].as_str().unwrap(), &[signer], &[1, 84532]).unwrap();
        let report = json(&report);
        for (key, expected) in [
            ("account", &case["account"]),
            ("owner", &case["owner"]),
            ("factory", &case["factory"]),
            ("kernelVersion", &case["kernelVersion"]),
            ("permissionId", &case["permissionId"]),
            ("signer", &case["sessionKey"]),
            ("chainId", &case["chainId"]),
            ("hash", &case["serializedKeccak256OfBase64Ascii"]),
        ] {
            assert_eq!(lower(&report[key]), lower(expected), "{key}");
        }
        assert_eq!(report["permissionFlag"], "0x0000");
        assert_eq!(report["signerSource"], "given");
        assert_eq!(report["enableSignature"], "valid");
        assert_eq!((&report["validAfter"], &report["validUntil"]), (&1_780_000_000.into(), &1_900_000_000.into()));
        let calls = &case["policies"][0]["params"]["permissions"];
        assert_eq!(lower(&report["calls"][0]["target"]), lower(&calls[0]["target"]));
        assert_eq!(report["calls"][0]["selector"], calls[0]["selector"]);
        assert_eq!(report["calls"][0]["callType"], "0x00");
        assert_eq!(report["calls"][0]["rules"][1]["params"], calls[0]["rules"][1]["params"]);
        assert_eq!(report["limits"][0]["type"], "calls");
        assert_eq!(report["limits"][0]["startAt"], 0);
        assert_eq!(codes(&report), ["erc1271_open"]);
    }

    #[test]
    fn what_is_not_known_is_null() {
        let report = json(&report(cases()[0]["serialized"].as_str().unwrap(), &[], &[84532]).unwrap());
        for key in ["signer", "signerSource", "permissionFlag", "chainId"] {
            assert_eq!(report[key], Value::Null, "{key}");
        }
        assert_eq!(report["enableSignature"], "unchecked");
        assert_eq!(codes(&report), ["erc1271_open", "signer_unknown"]);
    }

    #[test]
    fn a_private_key_is_reported_and_never_shown() {
        let case = &cases()[2];
        let secret = case["sessionPrivateKey"].as_str().unwrap().trim_start_matches("0x");
        let report = report(case["serialized"].as_str().unwrap(), &[], &[84532]).unwrap();
        assert_eq!(report.enable_signature, "valid");
        assert_eq!(report.signer_source, Some("embedded"));
        for text in [words(&report), json(&report).to_string(), format!("{report:?}")] {
            assert!(text.contains("embedded_key") && !text.contains(secret));
        }
    }

    #[test]
    fn refused_and_unreadable() {
        let case = &cases()[0];
        let text = case["serialized"].as_str().unwrap();
        let stranger = [Address::repeat_byte(1)];
        assert!(matches!(report(text, &stranger, &[]), Err(Failure::Refused(_))));
        assert!(matches!(report(&text[..40], &[], &[]), Err(Failure::Unreadable(_))));
        assert!(matches!(report(&case["hash"].to_string(), &[], &[]), Err(Failure::Unreadable(_))));
        assert!(matches!(report("e30=", &[], &[]), Err(Failure::Refused(_))));
        let signer = [case["sessionKey"].as_str().unwrap().parse().unwrap()];
        assert_eq!(report(text, &signer, &[1]).unwrap().enable_signature, "invalid");
    }
}
