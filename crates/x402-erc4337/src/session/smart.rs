//! [Smart Sessions 1.0.0](https://github.com/erc7579/smartsessions): the module in which Nexus, Safe7579 and others
//! store session keys. Permission id, digests, the three forms of an operation's signature.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256, address, keccak256};
use alloy_sol_types::{Eip712Domain, SolCall, SolStruct, SolValue, sol};

use super::zerodev::Condition;
use crate::abi::STRICT;
use crate::flz::{self, FlzError};
use crate::scope::{AllowedCall, Calls, Limit, Rule, Scope, Signatures, Test, Window};
use crate::{Call, EntryPointVersion};

/// The address of the module on every chain.
pub const SMART_SESSION: Address = address!("00000000008bDABA73cD9815d79069c247Eb4bDA");

/// The addresses of the policies on every chain.
pub mod contracts {
    use alloy_primitives::{Address, address};

    /// The policy with value and argument rules of one action.
    pub const UNIVERSAL_ACTION: Address = address!("0000000000714Cf48FcF88A0bFBa70d313415032");
    /// The policy with `validUntil ‖ validAfter`.
    pub const TIME_FRAME: Address = address!("0000000000D30f611fA3bf652ac6879428586930");
    /// The policy with a maximum number of uses.
    pub const USAGE_LIMIT: Address = address!("00000000001d4479FA2A947026204d0283ceDe4B");
    /// The policy without any limit.
    pub const SUDO: Address = address!("0000000000FEEc8D74e3143fBaBbca515358d869");
    /// The policy with a maximum native value of all uses.
    pub const VALUE_LIMIT: Address = address!("000000000021dC45451291BCDfc9f0B46d6f0278");
    /// The policy with maximum amounts of some tokens.
    pub const SPENDING_LIMITS: Address = address!("000000000033212e272655d8a22402db819477a6");
}

/// The target of an action that is allowed on any target.
const ANY_TARGET: Address = address!("0000000000000000000000000000000000000001");
/// The selector of an action that is allowed for any function.
const ANY_SELECTOR: FixedBytes<4> = FixedBytes([0, 0, 0, 1]);

pub use abi::{ActionData, ChainDigest, ERC7739Context, ERC7739Data, EnableSession, PolicyData, Session};

/// The types as the contract declares them; members keep their names.
mod abi {
    alloy_sol_types::sol! {
        #[derive(Debug, PartialEq, Eq)]
        struct PolicyData {
            address policy;
            bytes initData;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct ActionData {
            bytes4 actionTargetSelector;
            address actionTarget;
            PolicyData[] actionPolicies;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct ERC7739Context {
            bytes32 appDomainSeparator;
            string[] contentName;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct ERC7739Data {
            ERC7739Context[] allowedERC7739Content;
            PolicyData[] erc1271Policies;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct Session {
            address sessionValidator;
            bytes sessionValidatorInitData;
            bytes32 salt;
            PolicyData[] userOpPolicies;
            ERC7739Data erc7739Policies;
            ActionData[] actions;
            bool permitERC4337Paymaster;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct ChainDigest {
            uint64 chainId;
            bytes32 sessionDigest;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct EnableSession {
            uint8 chainDigestIndex;
            ChainDigest[] hashesAndChainIds;
            Session sessionToEnable;
            bytes permissionEnableSig;
        }
    }
}

/// The types as the owner signs them.
mod typed {
    alloy_sol_types::sol! {
        struct PolicyData {
            address policy;
            bytes initData;
        }

        struct ActionData {
            bytes4 actionTargetSelector;
            address actionTarget;
            PolicyData[] actionPolicies;
        }

        struct ERC7739Context {
            bytes32 appDomainSeparator;
            string[] contentName;
        }

        struct ERC7739Data {
            ERC7739Context[] allowedERC7739Content;
            PolicyData[] erc1271Policies;
        }

        struct SignedPermissions {
            bool permitGenericPolicy;
            bool permitAdminAccess;
            bool ignoreSecurityAttestations;
            bool permitERC4337Paymaster;
            PolicyData[] userOpPolicies;
            ERC7739Data erc7739Policies;
            ActionData[] actions;
        }

        struct SignedSession {
            address account;
            SignedPermissions permissions;
            address sessionValidator;
            bytes sessionValidatorInitData;
            bytes32 salt;
            address smartSession;
            uint256 nonce;
        }

        struct ChainSession {
            uint64 chainId;
            SignedSession session;
        }

        struct MultiChainSession {
            ChainSession[] sessionsAndChainIds;
        }
    }
}

sol! {
    struct ParamRule {
        uint8 condition;
        uint64 offset;
        bool isLimited;
        bytes32 ref;
        uint256 limit;
        uint256 used;
    }

    struct ActionConfig {
        uint256 valueLimitPerUse;
        uint256 length;
        ParamRule[16] rules;
    }

    function removeSession(bytes32 permissionId) external;
}

/// The way in which a session is enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EnableMode {
    /// The modules are checked with the ERC-7484 registry.
    Enable = 1,
    /// The modules are not checked; Biconomy uses this mode.
    UnsafeEnable = 2,
}

/// The signature of an operation.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionSignature {
    /// `0x00 ‖ permissionId ‖ signature`: the session is already enabled.
    Use {
        /// The id of the enabled session.
        permission_id: B256,
        /// The signature of the session key.
        signature: Bytes,
    },
    /// `mode ‖ FastLZ(abi.encode(EnableSession, signature))`: the operation enables the session.
    Enable {
        /// The mode: with the registry or without.
        mode: EnableMode,
        /// The session to enable, and the owner's approval.
        enable: Box<EnableSession>,
        /// The signature of the session key.
        signature: Bytes,
    },
}

/// The error for bytes that are not such a signature, or for a session that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SmartSessionError {
    /// The first byte is not a known mode.
    #[error("unknown mode {0}")]
    Mode(u8),
    /// The bytes are too short, or not canonical ABI.
    #[error("malformed session signature")]
    Malformed,
    /// The compressed data are not FastLZ.
    #[error(transparent)]
    Flz(#[from] FlzError),
    /// The index refers to no digest, or to one of another chain.
    #[error("no digest for this chain")]
    ChainDigest,
    /// The digest is not that of this session, account and nonce.
    #[error("the digest is not the one of this session")]
    Digest,
    /// The signature is not `validator ‖ 65 bytes`, or not the owner's.
    #[error("the enable signature is not the owner's")]
    EnableSignature,
}

/// Computes `keccak(abi.encode(sessionValidator, initData, salt))`.
#[must_use]
pub fn permission_id(session: &Session) -> B256 {
    let parts = (session.sessionValidator, session.sessionValidatorInitData.clone(), session.salt);
    keccak256(parts.abi_encode_params())
}

/// Computes the digest of a session for one account: `hashStruct(SignedSession)`. `nonce` is the module's `getNonce` of
/// the permission.
#[must_use]
pub fn session_digest(session: &Session, account: Address, nonce: U256, mode: EnableMode) -> B256 {
    let policies = |list: &[PolicyData]| -> Vec<typed::PolicyData> {
        list.iter().map(|p| typed::PolicyData { policy: p.policy, initData: p.initData.clone() }).collect()
    };
    let contexts = session.erc7739Policies.allowedERC7739Content.iter().map(|c| typed::ERC7739Context {
        appDomainSeparator: c.appDomainSeparator,
        contentName: c.contentName.clone(),
    });
    let actions = session.actions.iter().map(|a| typed::ActionData {
        actionTargetSelector: a.actionTargetSelector,
        actionTarget: a.actionTarget,
        actionPolicies: policies(&a.actionPolicies),
    });
    let signed = typed::SignedSession {
        account,
        permissions: typed::SignedPermissions {
            permitGenericPolicy: false,
            permitAdminAccess: false,
            ignoreSecurityAttestations: mode == EnableMode::UnsafeEnable,
            permitERC4337Paymaster: session.permitERC4337Paymaster,
            userOpPolicies: policies(&session.userOpPolicies),
            erc7739Policies: typed::ERC7739Data {
                allowedERC7739Content: contexts.collect(),
                erc1271Policies: policies(&session.erc7739Policies.erc1271Policies),
            },
            actions: actions.collect(),
        },
        sessionValidator: session.sessionValidator,
        sessionValidatorInitData: session.sessionValidatorInitData.clone(),
        salt: session.salt,
        smartSession: SMART_SESSION,
        nonce,
    };
    signed.eip712_hash_struct()
}

/// Computes the hash that the owner signs: one signature covers the sessions of several chains. Its domain contains no
/// chain and no contract.
#[must_use]
pub fn multi_chain_hash(digests: &[ChainDigest]) -> B256 {
    // ChainSession contains the whole session; the session's hash takes its place.
    let chain_type = keccak256(typed::ChainSession::eip712_encode_type().as_bytes());
    let multi_type = keccak256(typed::MultiChainSession::eip712_encode_type().as_bytes());
    let sessions: Vec<u8> = digests
        .iter()
        .flat_map(|d| keccak256((chain_type, U256::from(d.chainId), d.sessionDigest).abi_encode()).0)
        .collect();
    let domain =
        Eip712Domain { name: Some("SmartSession".into()), version: Some("1".into()), ..Eip712Domain::default() };
    crate::hash::typed_data_hash(domain.separator(), keccak256((multi_type, keccak256(sessions)).abi_encode()))
}

impl SessionSignature {
    /// Encodes the signature. Compression uses only literal runs.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Use { permission_id, signature } => [&[0][..], permission_id.as_slice(), signature].concat().into(),
            Self::Enable { mode, enable, signature } => {
                let payload = (enable.as_ref().clone(), signature.clone()).abi_encode_params();
                [&[*mode as u8][..], &flz::literals(&payload)].concat().into()
            }
        }
    }

    /// Decodes a signature. Any FastLZ form is accepted, but inside it only canonical ABI.
    /// # Errors
    /// The mode, the compression or the ABI is not as expected.
    pub fn decode(bytes: &[u8]) -> Result<Self, SmartSessionError> {
        let (&mode, rest) = bytes.split_first().ok_or(SmartSessionError::Malformed)?;
        let mode = match mode {
            0 => {
                let (id, signature) = rest.split_first_chunk::<32>().ok_or(SmartSessionError::Malformed)?;
                let signature = Bytes::copy_from_slice(signature);
                return Ok(Self::Use { permission_id: id.into(), signature });
            }
            1 => EnableMode::Enable,
            2 => EnableMode::UnsafeEnable,
            other => return Err(SmartSessionError::Mode(other)),
        };
        let payload = flz::decompress(rest)?;
        let (enable, signature) = <(EnableSession, Bytes)>::abi_decode_params_with_config(&payload, STRICT)
            .map_err(|_| SmartSessionError::Malformed)?;
        if (enable.clone(), signature.clone()).abi_encode_params() != payload {
            return Err(SmartSessionError::Malformed);
        }
        Ok(Self::Enable { mode, enable: Box::new(enable), signature })
    }
}

/// Checks that the owner approved the session that an operation enables: the digest of this chain is the session's, and
/// the signature over all digests is the owner's. `validator` is the account's module that verifies the owner.
/// # Errors
/// The chain, session, account, nonce, validator or owner is another.
pub fn check_enable(
    enable: &EnableSession,
    mode: EnableMode,
    account: Address,
    nonce: U256,
    chain_id: u64,
    validator: Address,
    owner: Address,
) -> Result<(), SmartSessionError> {
    let own = enable.hashesAndChainIds.get(usize::from(enable.chainDigestIndex));
    let own = own.filter(|d| d.chainId == chain_id).ok_or(SmartSessionError::ChainDigest)?;
    if own.sessionDigest != session_digest(&enable.sessionToEnable, account, nonce, mode) {
        return Err(SmartSessionError::Digest);
    }
    let signature =
        enable.permissionEnableSig.strip_prefix(validator.as_slice()).ok_or(SmartSessionError::EnableSignature)?;
    let hash = multi_chain_hash(&enable.hashesAndChainIds);
    let signed = |digest| super::zerodev::recover(digest, signature) == Some(owner);
    // K1Validator accepts the digest and its EIP-191 form.
    if signed(hash) || signed(alloy_primitives::eip191_hash_message(hash)) {
        Ok(())
    } else {
        Err(SmartSessionError::EnableSignature)
    }
}

/// Creates the account's call to the module that ends a session.
#[must_use]
pub fn remove_session(permission_id: B256) -> Call {
    let data = removeSessionCall { permissionId: permission_id }.abi_encode().into();
    Call { target: SMART_SESSION, value: U256::ZERO, data }
}

/// Returns the scope of a session for an account, in the common form.
#[must_use]
pub fn scope(session: &Session, account: Address) -> Scope {
    let mut unknown = Vec::new();
    let mut whole = Limits::default();
    for policy in &session.userOpPolicies {
        whole.add(policy, &mut unknown);
    }
    // A rule or value limit is meaningful only for an action.
    if !whole.rules.is_empty() || whole.value_limit.is_some() {
        unknown.push(contracts::UNIVERSAL_ACTION);
    }
    let kinds = session.actions.iter().map(|action| {
        let mut limits = Limits::default();
        if action.actionPolicies.is_empty() {
            // "NoPoliciesSet": the chain refuses such an action.
            limits.limits.push(Limit::Uses(0));
        }
        for policy in &action.actionPolicies {
            limits.add(policy, &mut unknown);
        }
        AllowedCall {
            target: (action.actionTarget != ANY_TARGET).then_some(action.actionTarget),
            selector: (action.actionTargetSelector != ANY_SELECTOR).then_some(action.actionTargetSelector),
            value_limit: limits.value_limit,
            rules: limits.rules,
            window: limits.window,
            limits: limits.limits,
        }
    });
    let kinds = kinds.collect();
    let signatures = &session.erc7739Policies;
    Scope {
        account,
        entry_point: EntryPointVersion::V07.address(),
        modules: vec![SMART_SESSION, session.sessionValidator],
        operations: true,
        calls: Calls::Only(kinds),
        window: whole.window,
        limits: whole.limits,
        // ERC-7739 content is signed only if a domain is listed.
        signatures: if signatures.allowedERC7739Content.is_empty() { Signatures::Closed } else { Signatures::Open },
        unknown,
    }
}

#[derive(Default)]
struct Limits {
    value_limit: Option<U256>,
    rules: Vec<Rule>,
    window: Window,
    limits: Vec<Limit>,
}

impl Limits {
    fn add(&mut self, policy: &PolicyData, unknown: &mut Vec<Address>) {
        if self.read(policy.policy, &policy.initData).is_none() {
            unknown.push(policy.policy);
        }
    }

    fn read(&mut self, policy: Address, data: &[u8]) -> Option<()> {
        match policy {
            contracts::SUDO => {}
            contracts::TIME_FRAME => {
                let until = six(data.get(..6)?);
                let after = six(data.get(6..).filter(|d| d.len() == 6)?);
                self.window = self.window.intersect(Window::new(after, until));
            }
            contracts::USAGE_LIMIT => self.limits.push(Limit::Uses(u128::from_be_bytes(data.try_into().ok()?))),
            contracts::VALUE_LIMIT => self.limits.push(Limit::Value(U256::abi_decode(data).ok()?)),
            contracts::SPENDING_LIMITS => {
                let (tokens, amounts) = <(Vec<Address>, Vec<U256>)>::abi_decode_params(data).ok()?;
                if tokens.len() != amounts.len() {
                    return None;
                }
                let limits = tokens.into_iter().zip(amounts);
                self.limits.extend(limits.map(|(token, amount)| Limit::Spending { token, amount }));
            }
            contracts::UNIVERSAL_ACTION => {
                let config = ActionConfig::abi_decode(data).ok()?;
                if config.abi_encode() != data {
                    return None;
                }
                let limit = config.valueLimitPerUse;
                self.value_limit = Some(self.value_limit.map_or(limit, |other| other.min(limit)));
                let length = usize::try_from(config.length).ok().filter(|n| *n <= config.rules.len())?;
                for rule in config.rules.iter().take(length) {
                    self.rule(rule)?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn rule(&mut self, rule: &ParamRule) -> Option<()> {
        let test = match rule.condition {
            // IN_RANGE: two numbers of 128 bits.
            6 => {
                let bounds = U256::from_be_bytes(rule.r#ref.0);
                let low = bounds & U256::from(u128::MAX);
                Test::InRange((bounds >> 128_usize).saturating_to(), low.saturating_to())
            }
            code @ 0..=5 => Test::Compare(Condition::from_code(code.into())?, vec![rule.r#ref]),
            _ => return None,
        };
        self.rules.push(Rule { offset: rule.offset, test });
        if rule.isLimited {
            let left = rule.limit.checked_sub(rule.used)?;
            self.rules.push(Rule { offset: rule.offset, test: Test::SumAtMost(left) });
        }
        Some(())
    }
}

fn six(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}
