//! `x402 session inspect`: the scope of a key, and its state on its chain.

use std::path::PathBuf;

use alloy_primitives::{Address, B256, FixedBytes, U64, U256};
use x402_erc4337::scope::{AllowedCall, Calls, Limit, Rule, Scope, Signatures, Test};
use x402_erc4337::session::zerodev::{
    AccountError, Approval, ApprovalError, EnableStatus, Findings, KernelState, KernelVersion, PermissionState, Policy,
    PolicyItem, Root, UnverifiedApproval,
};
use x402_evm::chain::{At, RpcChain, node_fault};
use x402_types::{ChainId, Fault};

use super::report::{CallLine, LimitLine, Report, RuleLine, Warning, words};
use super::{Failure, input, json, show};

/// Shows the scope of a serialized session key.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// An address that may be the session key; may be repeated.
    #[arg(long, value_name = "ADDR")]
    signer: Vec<Address>,
    /// A chain for which the key may be; may be repeated.
    #[arg(long, value_name = "N")]
    chain_id: Vec<u64>,
    /// A node of the key's chain, from which the account's nonce, owner and the state of the key are read.
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// Prints a JSON object.
    #[arg(long)]
    json: bool,
    /// The serialized key; `-` or nothing reads standard input.
    file: Option<PathBuf>,
}

pub(super) async fn run(args: &Inspect) -> Result<(), Failure> {
    let text = input(args.file.as_ref())?;
    let key = Key::read(text.trim())?;
    let chain = match &args.rpc {
        Some(url) => Some(key.on_chain(url).await?),
        None => None,
    };
    let report = key.report(&args.signer, &args.chain_id, chain.as_ref())?;
    show(&if args.json { json(&report)? } else { words(&report) })?;
    if report.enable_signature == EnableStatus::Invalid.as_str() {
        return Err(Failure::Refused("enableSignature: not the owner's".into()));
    }
    Ok(())
}

/// A key to inspect.
pub(super) enum Key {
    /// A key whose account is the one that a known factory, or an EIP-7702 authorization, creates.
    Verified(Box<Approval>),
    /// A key whose account an unknown factory creates: it is displayed, and used for nothing else.
    Unverified(Box<UnverifiedApproval>),
}

impl Key {
    pub(super) fn read(text: &str) -> Result<Self, ApprovalError> {
        match Approval::read(text) {
            // Calldata for the factory itself do not name it: then the address is not one of a known factory.
            Err(ApprovalError::Account(AccountError::Factory(_) | AccountError::Address)) => {
                UnverifiedApproval::read(text).map(|key| Self::Unverified(Box::new(key)))
            }
            read => read.map(|key| Self::Verified(Box::new(key))),
        }
    }

    async fn on_chain(&self, url: &str) -> Result<OnChain, Failure> {
        match self {
            Self::Verified(key) => OnChain::read(url, key.account, key.permission_id).await,
            Self::Unverified(key) => OnChain::read(url, key.account, key.permission_id).await,
        }
    }

    pub(super) fn report(
        &self,
        signers: &[Address],
        chains: &[u64],
        chain: Option<&OnChain>,
    ) -> Result<Report, Failure> {
        match self {
            Self::Verified(key) => report(key, signers, chains, chain),
            Self::Unverified(key) => unverified(key, signers, chain),
        }
    }
}

/// The state of the account and the key on the chain.
pub(super) struct OnChain {
    chain_id: u64,
    state: KernelState,
}

impl OnChain {
    pub(super) async fn read(url: &str, account: Address, permission_id: FixedBytes<4>) -> Result<Self, Failure> {
        // A node's URL may contain a key, so it is never repeated.
        let fault = |error: Fault| Failure::Unreadable(error.to_string());
        let client = crate::node::client(url).map_err(Failure::Unreadable)?;
        let chain_id: U64 = client.request_noparams("eth_chainId").await.map_err(|error| fault(node_fault(error)))?;
        let chain_id = chain_id.to();
        let chain = RpcChain::new(client, ChainId::eip155(chain_id), 0);
        let state = KernelState::read(&chain, account, permission_id, At::Latest).await;
        Ok(Self { chain_id, state: state.map_err(fault)? })
    }
}

pub(super) fn report(
    approval: &Approval,
    signers: &[Address],
    chains: &[u64],
    chain: Option<&OnChain>,
) -> Result<Report, Failure> {
    let chains: Vec<u64> = chain.map(|c| c.chain_id).into_iter().chain(chains.iter().copied()).collect();
    let state = chain.map(|c| &c.state);
    // Unless the chain proves otherwise, an account has revoked nothing.
    let nonce = state.map_or(1, |state| state.current_nonce);
    let mut found = approval.inspect(signers, &chains, nonce).map_err(|e| Failure::Refused(e.to_string()))?;
    let owner = state.and_then(|state| state.owner).unwrap_or_else(|| approval.owner());
    if owner != approval.owner() && found.enable_signature == EnableStatus::Valid {
        found.enable_signature = EnableStatus::Invalid;
    }
    let scope = approval.scope(found.permission.as_ref());
    let factory = match &approval.root {
        Root::Factory(account) => Some(account.factory()),
        Root::Eip7702 => None,
    };
    let warnings = warnings(approval, &found, &scope, state);
    let facts = Facts {
        account: approval.account,
        owner,
        factory,
        eip7702: approval.root == Root::Eip7702,
        kernel_version: Some(approval.version().as_str()),
        permission_id: approval.permission_id,
        hash: approval.hash(),
    };
    Ok(filled(&facts, &found, &scope, chain, warnings))
}

/// Builds the report of a key whose account an unknown factory creates: account and owner are those that the key
/// states, unless the chain names the owner.
fn unverified(key: &UnverifiedApproval, signers: &[Address], chain: Option<&OnChain>) -> Result<Report, Failure> {
    let state = chain.map(|c| &c.state);
    let found = key.inspect(signers).map_err(|e| Failure::Refused(e.to_string()))?;
    let scope = key.scope(found.permission.as_ref());
    let unknown_factory = Warning {
        code: "unknown_factory",
        message: "no known factory makes the account: nothing ties it to this owner, and no payment with the key is taken",
    };
    let general = general(&key.policies, key.embedded_signer.is_some(), &found, &scope, state);
    let facts = Facts {
        account: key.account,
        owner: state.and_then(|state| state.owner).unwrap_or(key.owner),
        factory: key.factory,
        eip7702: false,
        kernel_version: state.and_then(|state| state.version).map(KernelVersion::as_str),
        permission_id: key.permission_id,
        hash: key.hash(),
    };
    let warnings = core::iter::once(unknown_factory).chain(general).collect();
    Ok(filled(&facts, &found, &scope, chain, warnings))
}

/// The facts of a report about the account and the key.
struct Facts {
    account: Address,
    owner: Address,
    factory: Option<Address>,
    eip7702: bool,
    kernel_version: Option<&'static str>,
    permission_id: FixedBytes<4>,
    hash: B256,
}

fn filled(facts: &Facts, found: &Findings, scope: &Scope, chain: Option<&OnChain>, warnings: Vec<Warning>) -> Report {
    let state = chain.map(|c| &c.state);
    let signer = found.permission.as_ref().and_then(|p| p.signer.address());
    let window = scope.widest_window();
    Report {
        provider: "zerodev",
        account: facts.account,
        owner: facts.owner,
        factory: facts.factory,
        eip7702: facts.eip7702,
        kernel_version: facts.kernel_version,
        permission_id: facts.permission_id.to_string(),
        permission_flag: found.permission.as_ref().map(|p| format!("0x{:04x}", p.flag)),
        signer,
        signer_source: signer.map(|_| if found.signer_embedded { "embedded" } else { "given" }),
        chain_id: found.chain_id.or_else(|| chain.map(|c| c.chain_id)),
        deployed: state.map(|state| state.deployed),
        enabled: state.map(KernelState::is_enabled),
        nonce: state.map(|state| state.current_nonce),
        enable_signature: found.enable_signature.as_str(),
        // The flag that decides this is the permission's, which is unknown without its signer.
        operations: found.permission.is_some().then_some(scope.operations),
        valid_after: window.valid_after,
        valid_until: window.valid_until,
        calls: calls(scope),
        limits: scope.limits.iter().map(limit).collect(),
        hash: facts.hash,
        warnings,
    }
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
    let mut warnings = general(&approval.policies, approval.private_key.is_some(), found, scope, state);
    if other {
        warnings.push(Warning {
            code: "other_installed",
            message: "what the account has installed under this id is another permission",
        });
    }
    warnings
}

/// Returns the warnings that do not depend on the account's factory.
fn general(
    policies: &[PolicyItem],
    embedded: bool,
    found: &Findings,
    scope: &Scope,
    state: Option<&KernelState>,
) -> Vec<Warning> {
    let any_target = match &scope.calls {
        Calls::Any => true,
        Calls::Only(kinds) => kinds.iter().any(|k| k.target.is_none()),
    };
    let sudo = policies.iter().any(|p| p.policy == Policy::Sudo) || scope.calls == Calls::Any;
    let checks = [
        (embedded, "embedded_key", "the private key of the session stands in the text"),
        (
            scope.signatures == Signatures::Open,
            "erc1271_open",
            "the key signs anything in the account's name by EIP-1271, whatever its calls are limited to",
        ),
        (
            !scope.operations,
            "no_operations",
            "the permission's flag forbids operations: none of the calls can be made, and nothing can be paid with the key",
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
        (found.permission.is_none(), "signer_unknown", "the session key is unknown, and with it the permission's flag"),
    ];
    checks.into_iter().filter(|(holds, ..)| *holds).map(|(_, code, message)| Warning { code, message }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use alloy_primitives::keccak256;
    use serde_json::Value;

    use super::super::tests::{cases, codes, lower, read, value};
    use super::*;

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

    /// Checks `vectors/cases/keys`: a permission whose flag is 0x0002, as public reports show it.
    #[test]
    fn a_key_that_signs_nothing_but_operations() {
        let text = include_str!("../../../x402-testkit/vectors/cases/keys/k01-permission-flag-no-signatures.txt");
        let session = x402_devchain::ACCOUNTS[2].address;
        let report = value(&read(text, &[session], &[84532]).unwrap());
        assert_eq!((&report["permissionFlag"], &report["enableSignature"]), (&"0x0002".into(), &"valid".into()));
        assert_eq!(report["operations"], true);
        assert_eq!(codes(&report), <[&str; 0]>::default());
    }

    /// Checks `vectors/cases/keys`: the report of a key whose account was created by a custom factory.
    #[test]
    fn a_key_of_an_unknown_factory_is_shown_with_a_warning() {
        let text = include_str!("../../../x402-testkit/vectors/cases/keys/k03-own-factory.txt");
        let shown = read(text, &[], &[84532]).unwrap();
        let report = value(&shown);
        for (key, expected) in [
            ("account", "0x00000000000000000000000000000000000000f1"),
            ("owner", "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"),
            ("factory", "0x00000000000000000000000000000000000000ee"),
            ("permissionId", "0xad9304ab"),
        ] {
            assert_eq!(lower(&report[key]), lower(&expected.into()), "{key}");
        }
        assert_eq!(report["hash"], keccak256(text.trim()).to_string());
        assert_eq!((&report["kernelVersion"], &report["enableSignature"]), (&Value::Null, &"unchecked".into()));
        assert_eq!(lower(&report["calls"][0]["target"]), "\"0x036cbd53842c5426634e7929541ec2318f3dcf7e\"");
        assert_eq!(
            (&report["calls"][0]["selector"], &report["validUntil"]),
            (&"0xa9059cbb".into(), &1_900_000_000.into())
        );
        assert_eq!(codes(&report), ["unknown_factory", "erc1271_open", "signer_unknown"]);
        assert!(words(&shown).contains("unknown_factory"));

        // With its signer, the flag is known, too; the signature stays unchecked.
        let with_signer = value(&read(text, &[x402_devchain::ACCOUNTS[2].address], &[84532]).unwrap());
        assert_eq!((&with_signer["permissionFlag"], &with_signer["operations"]), (&"0x0000".into(), &true.into()));
        assert_eq!(with_signer["enableSignature"], "unchecked");
        assert_eq!(codes(&with_signer), ["unknown_factory", "erc1271_open"]);
        assert!(matches!(read(text, &[Address::repeat_byte(1)], &[]), Err(Failure::Refused(_))));

        // Code that uses a key refuses it: `register` and `revoke` begin with this, and so does the facilitator.
        let refused = Failure::from(Approval::read(text.trim()).unwrap_err());
        assert!(matches!(refused, Failure::Refused(why) if why.contains("unknown factory")));
    }

    /// Checks flag 0x0001: the calls are listed, but none of them is permitted.
    #[test]
    fn a_key_that_may_sign_no_operation_is_named() {
        let case = &cases()[0];
        let signer: Address = case["sessionKey"].as_str().unwrap().parse().unwrap();
        let approval = Approval::read(case["serialized"].as_str().unwrap()).unwrap();
        let mut found = approval.inspect(&[signer], &[84532], 1).unwrap();
        let flagged = found.permission.take().map(|mut permission| {
            permission.flag = 1;
            permission
        });
        let scope = approval.scope(flagged.as_ref());
        found.permission = flagged;
        let named = warnings(&approval, &found, &scope, None);
        assert!(named.iter().any(|warning| warning.code == "no_operations"), "{named:?}");
        let allowed = approval.scope(None);
        assert!(!warnings(&approval, &found, &allowed, None).iter().any(|warning| warning.code == "no_operations"));
    }

    #[test]
    fn what_is_not_known_is_null() {
        let report = value(&read(cases()[0]["serialized"].as_str().unwrap(), &[], &[84532]).unwrap());
        for key in ["signer", "signerSource", "permissionFlag", "operations", "chainId", "deployed", "enabled", "nonce"]
        {
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
}
