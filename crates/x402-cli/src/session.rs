//! `x402 session`: what a session key may do and whether its owner said so; giving one, and taking it back.

mod register;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_provider::Provider;
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use serde::Serialize;
use x402_erc4337::Call;
use x402_erc4337::scope::{AllowedCall, Calls, Limit, Rule, Scope, Signatures, Test};
use x402_erc4337::session::zerodev::{
    Approval, ApprovalError, Draft, EnableStatus, Findings, Grant, KernelAccount, KernelState, KernelVersion,
    MAX_APPROVAL, PermissionState, Policy, Root, invalidate_nonce,
};
use x402_evm::chain::{At, RpcChain, node_fault};
use x402_evm::signature::Signature;
use x402_types::{ChainId, Fault};
use zeroize::Zeroizing;

/// Looks at session keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Session {
    /// Shows what a serialized session key may do.
    Inspect(Inspect),
    /// Gives an address the right to make some calls; prints the serialized session key.
    Issue(Issue),
    /// Leaves a session key with a facilitator, or takes it away.
    Register(register::Register),
    /// Prints the calls by which the owner takes a session key back.
    Revoke(Revoke),
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
    /// A node of the chain that it is for: whether the key is enabled there, the account's nonce and owner.
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// Prints a JSON object.
    #[arg(long)]
    json: bool,
    /// The serialized key; `-` or nothing reads standard input.
    file: Option<PathBuf>,
}

/// Gives an address the right to make some calls; prints the serialized session key. The owner's private key comes
/// from the environment variable `X402_PRIVATE_KEY` or from a file.
#[derive(Debug, clap::Args)]
pub(crate) struct Issue {
    /// The session key's address.
    #[arg(long, value_name = "ADDR")]
    signer: Address,
    /// The chain.
    #[arg(long, value_name = "N")]
    chain_id: u64,
    /// A call, as TARGET:SELECTOR with rules on its arguments: OFFSET=NUMBER, OFFSET<=NUMBER, value<=WEI. Offsets
    /// are bytes after the selector. May be given several times.
    #[arg(long, value_name = "CALL", required = true)]
    call: Vec<String>,
    /// The last second, since 1970.
    #[arg(long, value_name = "SECONDS")]
    valid_until: u64,
    /// The first second, since 1970.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    valid_after: u64,
    /// How many operations in all.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// The account's Kernel: 0.3.1, 0.3.2 or 0.3.3.
    #[arg(long, value_name = "VERSION", default_value = "0.3.1")]
    kernel: String,
    /// Which of the owner's accounts.
    #[arg(long, value_name = "N", default_value_t = U256::ZERO)]
    index: U256,
    /// The account's `currentNonce()`; 1 where nothing was ever revoked.
    #[arg(long, value_name = "N", default_value_t = 1)]
    nonce: u32,
    /// A file with the owner's key.
    #[arg(long)]
    key_file: Option<PathBuf>,
}

/// Prints the calls by which the owner takes a session key back.
#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// Also ends every permission that was enabled below this nonce.
    #[arg(long, value_name = "N")]
    invalidate_below: Option<u32>,
    /// Prints JSON objects.
    #[arg(long)]
    json: bool,
    /// The serialized key; `-` or nothing reads standard input.
    file: Option<PathBuf>,
}

/// A call that the account makes to itself: the callData of an operation of the owner.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnerCall {
    name: &'static str,
    account: Address,
    call_data: Bytes,
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
    deployed: Option<bool>,
    enabled: Option<bool>,
    nonce: Option<u32>,
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

pub(crate) async fn run(command: Session) -> ExitCode {
    let done = match command {
        Session::Inspect(args) => inspect(&args).await,
        Session::Issue(args) => key(args.key_file.as_ref()).and_then(|owner| show(&issue(&args, &owner)?)),
        Session::Register(args) => register::run(&args).await,
        Session::Revoke(args) => revoke(&args),
    };
    match done {
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

fn show(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{}", text.trim_end()).map_err(|e| Failure::Unreadable(e.to_string()))
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::Unreadable(e.to_string()))
}

async fn inspect(args: &Inspect) -> Result<(), Failure> {
    let text = input(args.file.as_ref())?;
    let approval = Approval::read(text.trim())?;
    let chain = match &args.rpc {
        Some(url) => Some(OnChain::read(url, &approval).await?),
        None => None,
    };
    let report = report(&approval, &args.signer, &args.chain_id, chain.as_ref())?;
    show(&if args.json { json(&report)? } else { words(&report) })?;
    if report.enable_signature == EnableStatus::Invalid.as_str() {
        return Err(Failure::Refused("enableSignature: not the owner's".into()));
    }
    Ok(())
}

fn revoke(args: &Revoke) -> Result<(), Failure> {
    let approval = Approval::read(input(args.file.as_ref())?.trim())?;
    for call in owner_calls(&approval, args.invalidate_below) {
        show(&if args.json { json(&call)? } else { format!("{} {} {}", call.name, call.account, call.call_data) })?;
    }
    Ok(())
}

fn owner_calls(approval: &Approval, below: Option<u32>) -> Vec<OwnerCall> {
    let call = |name, call: Call| OwnerCall { name, account: call.target, call_data: call.data };
    let invalidate = below.map(|nonce| call("invalidateNonce", invalidate_nonce(approval.account, nonce)));
    [call("uninstallValidation", approval.uninstall())].into_iter().chain(invalidate).collect()
}

fn key(file: Option<&PathBuf>) -> Result<PrivateKeySigner, Failure> {
    let text = match file {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|e| Failure::Unreadable(format!("{}: {e}", path.display())))?
        }
        None => std::env::var("X402_PRIVATE_KEY")
            .map_err(|_| Failure::Unreadable("X402_PRIVATE_KEY is not set; set it or give --key-file".into()))?,
    };
    let text = Zeroizing::new(text);
    // What a parser says of a bad key may quote it.
    text.trim().parse().map_err(|_| Failure::Unreadable("the private key: expected `0x` and 64 hex digits".into()))
}

fn issue(args: &Issue, owner: &PrivateKeySigner) -> Result<Zeroizing<String>, Failure> {
    let refused = |message: String| Failure::Refused(message);
    let version = KernelVersion::ALL
        .into_iter()
        .find(|v| v.as_str() == args.kernel)
        .ok_or_else(|| refused("kernel: expected 0.3.1, 0.3.2 or 0.3.3".into()))?;
    let mut grant = Grant::new(args.valid_after, args.valid_until);
    if let Some(count) = args.count {
        grant = grant.times(count);
    }
    for call in &args.call {
        grant = granted(grant, call)
            .ok_or_else(|| refused(format!("call: expected TARGET:SELECTOR and rules, found {call}")))?;
    }
    let account = KernelAccount::new(version, owner.address(), args.index);
    let approval = Draft::new(&account, args.signer, &grant, args.chain_id, args.nonce).and_then(|draft| {
        let signature = Signature::try_from(owner.sign_hash_sync(&draft.digest())?)?;
        draft.approved(&signature)
    });
    Ok(approval.map_err(|e| refused(e.to_string()))?.write())
}

/// `TARGET:SELECTOR[:OFFSET=NUMBER][:OFFSET<=NUMBER][:value<=WEI]…`
fn granted(grant: Grant, call: &str) -> Option<Grant> {
    let mut parts = call.split(':');
    let grant = grant.call(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.try_fold(grant, |grant, rule| {
        if let Some(limit) = rule.strip_prefix("value<=") {
            return Some(grant.value(limit.parse().ok()?));
        }
        match rule.split_once("<=") {
            Some((offset, number)) => Some(grant.at_most(offset.parse().ok()?, number.parse().ok()?)),
            None => {
                let (offset, number) = rule.split_once('=')?;
                Some(grant.equal(offset.parse().ok()?, number.parse().ok()?))
            }
        }
    })
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

/// What the chain says of the account and the key.
struct OnChain {
    chain_id: u64,
    state: KernelState,
}

impl OnChain {
    async fn read(url: &str, approval: &Approval) -> Result<Self, Failure> {
        // A node's URL may hold a key: it is never repeated.
        let fault = |error: Fault| Failure::Unreadable(error.to_string());
        let provider = crate::node::provider(url).map_err(Failure::Unreadable)?;
        let chain_id = provider.get_chain_id().await.map_err(|error| fault(node_fault(error)))?;
        let chain = RpcChain::new(provider, ChainId::eip155(chain_id), 0);
        let state = KernelState::read(&chain, approval.account, approval.permission_id, At::Latest).await;
        Ok(Self { chain_id, state: state.map_err(fault)? })
    }
}

fn report(
    approval: &Approval,
    signers: &[Address],
    chains: &[u64],
    chain: Option<&OnChain>,
) -> Result<Report, Failure> {
    let chains: Vec<u64> = chain.map(|c| c.chain_id).into_iter().chain(chains.iter().copied()).collect();
    let state = chain.map(|c| &c.state);
    // Unless the chain says otherwise, an account has revoked nothing.
    let nonce = state.map_or(1, |state| state.current_nonce);
    let mut found = approval.inspect(signers, &chains, nonce).map_err(|e| Failure::Refused(e.to_string()))?;
    let owner = state.and_then(|state| state.owner).unwrap_or_else(|| approval.owner());
    if owner != approval.owner() && found.enable_signature == EnableStatus::Valid {
        found.enable_signature = EnableStatus::Invalid;
    }
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
        owner,
        factory,
        kernel_version: approval.version().as_str(),
        permission_id: approval.permission_id.to_string(),
        permission_flag: found.permission.as_ref().map(|p| format!("0x{:04x}", p.flag)),
        signer,
        signer_source: signer.map(|_| if found.signer_embedded { "embedded" } else { "given" }),
        chain_id: found.chain_id.or_else(|| chain.map(|c| c.chain_id)),
        deployed: state.map(|state| state.deployed),
        enabled: state.map(KernelState::is_enabled),
        nonce: state.map(|state| state.current_nonce),
        enable_signature: found.enable_signature.as_str(),
        valid_after: window.valid_after,
        valid_until: window.valid_until,
        calls: calls(&scope),
        limits: scope.limits.iter().map(limit).collect(),
        hash: approval.hash(),
        warnings: warnings(approval, &found, &scope, state),
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

fn warnings(approval: &Approval, found: &Findings, scope: &Scope, state: Option<&KernelState>) -> Vec<Warning> {
    let signer = found.permission.as_ref().and_then(|p| p.signer.address());
    let other = match (signer, state) {
        (Some(signer), Some(state)) => state.is_enabled() && approval.check_installed(signer, state).is_err(),
        _ => false,
    };
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
        (
            state.is_some_and(|state| state.permission == PermissionState::Revoked),
            "revoked",
            "the owner took the key back: it can never be enabled again",
        ),
        (other, "other_installed", "what the account has installed under this id is another permission"),
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
    if let (Some(deployed), Some(enabled), Some(nonce)) = (report.deployed, report.enabled, report.nonce) {
        line("deployed", deployed.to_string());
        line("enabled", enabled.to_string());
        line("nonce", nonce.to_string());
    }
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

    fn value(report: &Report) -> Value {
        serde_json::to_value(report).unwrap()
    }

    fn read(text: &str, signers: &[Address], chains: &[u64]) -> Result<Report, Failure> {
        report(&Approval::read(text.trim())?, signers, chains, None)
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
        let report = read(case["serialized"].as_str().unwrap(), &[signer], &[1, 84532]).unwrap();
        let report = value(&report);
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
        let report = value(&read(cases()[0]["serialized"].as_str().unwrap(), &[], &[84532]).unwrap());
        for key in ["signer", "signerSource", "permissionFlag", "chainId", "deployed", "enabled", "nonce"] {
            assert_eq!(report[key], Value::Null, "{key}");
        }
        assert_eq!(report["enableSignature"], "unchecked");
        assert_eq!(codes(&report), ["erc1271_open", "signer_unknown"]);
    }

    #[test]
    fn a_private_key_is_reported_and_never_shown() {
        let case = &cases()[2];
        let secret = case["sessionPrivateKey"].as_str().unwrap().trim_start_matches("0x");
        let report = read(case["serialized"].as_str().unwrap(), &[], &[84532]).unwrap();
        assert_eq!(report.enable_signature, "valid");
        assert_eq!(report.signer_source, Some("embedded"));
        for text in [words(&report), value(&report).to_string(), format!("{report:?}")] {
            assert!(text.contains("embedded_key") && !text.contains(secret));
        }
    }

    #[test]
    fn refused_and_unreadable() {
        let case = &cases()[0];
        let text = case["serialized"].as_str().unwrap();
        let stranger = [Address::repeat_byte(1)];
        assert!(matches!(read(text, &stranger, &[]), Err(Failure::Refused(_))));
        assert!(matches!(read(&text[..40], &[], &[]), Err(Failure::Unreadable(_))));
        assert!(matches!(read(&case["hash"].to_string(), &[], &[]), Err(Failure::Unreadable(_))));
        assert!(matches!(read("e30=", &[], &[]), Err(Failure::Refused(_))));
        let signer = [case["sessionKey"].as_str().unwrap().parse().unwrap()];
        assert_eq!(read(text, &signer, &[1]).unwrap().enable_signature, "invalid");
    }

    fn issue_args(call: &str) -> Issue {
        Issue {
            signer: cases()[0]["sessionKey"].as_str().unwrap().parse().unwrap(),
            chain_id: 84532,
            call: vec![call.to_owned()],
            valid_until: 1_900_000_000,
            valid_after: 0,
            count: Some(3),
            kernel: "0.3.1".to_owned(),
            index: U256::ZERO,
            nonce: 1,
            key_file: None,
        }
    }

    #[test]
    fn an_issued_key_is_valid_closed_and_can_be_taken_back() {
        let case = &cases()[0];
        let owner: PrivateKeySigner = case["ownerPrivateKey"].as_str().unwrap().parse().unwrap();
        let plans = case["plansContract"].as_str().unwrap();
        let args = issue_args(&format!("{plans}:0x7cbc2373:0=42:32<=5"));
        let text = issue(&args, &owner).unwrap();
        let report = value(&read(&text, &[args.signer], &[84532]).unwrap());
        assert_eq!(lower(&report["account"]), lower(&case["account"]));
        assert_eq!(report["enableSignature"], "valid");
        assert_eq!(report["calls"][0]["rules"][1]["condition"], "less_or_equal");
        assert_eq!(codes(&report), <[&str; 0]>::default());

        let calls = owner_calls(&Approval::read(&text).unwrap(), Some(2));
        assert_eq!(calls.iter().map(|c| c.name).collect::<Vec<_>>(), ["uninstallValidation", "invalidateNonce"]);
        assert!(calls[0].call_data.starts_with(&[0xe6, 0xf3, 0xd5, 0x0a]));

        for bad in ["", plans, "0x12:0x7cbc2373", &format!("{plans}:7"), &format!("{plans}:0x7cbc2373:0>5")] {
            assert!(matches!(issue(&issue_args(bad), &owner), Err(Failure::Refused(_))), "{bad}");
        }
        let itself = issue_args(&format!("{}:0x7cbc2373", case["account"].as_str().unwrap()));
        assert!(matches!(issue(&itself, &owner), Err(Failure::Refused(_))));
    }

    /// A key in use on a chain, over HTTP; then taken back by its owner.
    #[tokio::test]
    async fn the_chain_says_whether_it_is_enabled() {
        use x402_devchain::{ACCOUNTS, DevChain, TOKEN, signer};
        use x402_erc4337::{
            Builder, EntryPoint, EntryPointVersion, Gas, Init, KernelMode, KernelValidation, NonceKey, SelfBundler,
            SendUserOp,
        };
        let chain = DevChain::new().unwrap();
        let node = chain.serve("127.0.0.1:0").await.unwrap();
        let owner = signer(1).unwrap();
        let args = Issue { signer: ACCOUNTS[2].address, ..issue_args(&format!("{TOKEN}:0xa9059cbb:32<=5")) };
        let text = issue(&args, &owner).unwrap();
        let approval = Approval::read(&text).unwrap();
        let inspect = async || {
            let found = OnChain::read(&node.url, &approval).await.unwrap();
            value(&report(&approval, &[args.signer], &[], Some(&found)).unwrap())
        };
        let before = inspect().await;
        assert_eq!(
            (&before["deployed"], &before["enabled"], &before["nonce"]),
            (&false.into(), &false.into(), &1.into())
        );
        assert_eq!((&before["chainId"], &before["enableSignature"]), (&84532.into(), &"valid".into()));

        let entry_point = EntryPoint::canonical(EntryPointVersion::V07, 84532);
        let bundler = SelfBundler::new(chain.wallet(signer(0).unwrap()), entry_point, ACCOUNTS[0].address);
        let gas = Gas { call_gas_limit: 200_000, verification_gas_limit: 2_000_000, ..Gas::default() };
        let session = signer(2).unwrap();
        let permission = approval.check(args.signer, 84532, 1).unwrap();
        let data = [&[0xa9, 0x05, 0x9c, 0xbb][..], &[0; 12], ACCOUNTS[3].address.as_slice(), &[0; 32]].concat();
        let transfer = Call { target: TOKEN, value: U256::ZERO, data: data.into() };
        let ready = Builder::new(entry_point, approval.account)
            .init(approval.init())
            .nonce(permission.nonce_key(KernelMode::Enable, 0), 0)
            .call(&transfer)
            .unwrap()
            .gas(gas)
            .unsponsored()
            .unwrap();
        let signature = session.sign_message_sync(ready.hash().as_slice()).unwrap().as_bytes();
        let signature = x402_erc4337::session::zerodev::user_op_signature(&signature);
        let signature = permission.enable_signature(approval.enable_signature.as_ref().unwrap(), &signature);
        bundler.send_user_op(&ready.signed(signature)).await.unwrap();
        let during = inspect().await;
        assert_eq!(
            (&during["deployed"], &during["enabled"], &during["nonce"]),
            (&true.into(), &true.into(), &1.into())
        );
        assert_eq!(lower(&during["owner"]), lower(&owner.address().to_string().into()));

        let taken = Builder::new(entry_point, approval.account)
            .init(Init::None)
            .nonce(NonceKey::kernel(KernelMode::Default, KernelValidation::Root, 0), 0)
            .call_data(invalidate_nonce(approval.account, 2).data)
            .gas(gas)
            .unsponsored()
            .unwrap();
        let signature = owner.sign_message_sync(taken.hash().as_slice()).unwrap().as_bytes();
        bundler.send_user_op(&taken.signed(signature.to_vec().into())).await.unwrap();
        let after = inspect().await;
        assert_eq!(
            (&after["enabled"], &after["nonce"], &after["enableSignature"]),
            (&false.into(), &2.into(), &"invalid".into())
        );
        assert_eq!(codes(&after), ["revoked"]);

        assert!(matches!(OnChain::read("ftp://127.0.0.1", &approval).await, Err(Failure::Unreadable(_))));
        drop(node);
        assert!(matches!(OnChain::read("http://127.0.0.1:1", &approval).await, Err(Failure::Unreadable(_))));
    }
}
