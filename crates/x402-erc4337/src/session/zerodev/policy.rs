//! [Kernel policies](https://docs.zerodev.app/sdk/permissions/intro): the limits of a permission, and the bytes with
//! which each policy contract is installed.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256, address};
use alloy_sol_types::{SolValue, sol};

use crate::abi::STRICT;

sol! {
    struct SolRule {
        uint8 condition;
        uint64 offset;
        bytes32[] params;
    }

    struct SolCall {
        bytes1 callType;
        address target;
        bytes4 selector;
        uint256 valueLimit;
        SolRule[] rules;
    }

    struct SolRuleV001 {
        uint8 condition;
        uint64 offset;
        bytes32 params;
    }

    struct SolCallV001 {
        bytes1 callType;
        address target;
        bytes4 selector;
        uint256 valueLimit;
        SolRuleV001[] rules;
    }
}

/// The addresses of the standard policies on every chain.
pub mod contracts {
    use alloy_primitives::{Address, address};

    /// The policy with `validAfter`, `validUntil`.
    pub const TIMESTAMP: Address = address!("B9f8f524bE6EcD8C945b1b87f9ae5C192FdCE20F");
    /// The policy with a budget of fees.
    pub const GAS: Address = address!("aeFC5AbC67FfD258abD0A3E54f65E70326F84b23");
    /// The policy with a maximum number of operations.
    pub const RATE_LIMIT: Address = address!("f63d4139B25c836334edD76641356c6b74C86873");
    /// The policy with a maximum number of operations in each interval. It reads the block's time, which public
    /// bundlers refuse (OP-011).
    pub const RATE_LIMIT_WITH_RESET: Address = address!("6a06358e6b283921deceabe7e8a3741d506cca9b");
    /// The policy with the contracts that may verify EIP-1271 signatures.
    pub const SIGNATURE_CALLER: Address = address!("F6A936c88D97E6fad13b98d2FD731Ff17eeD591d");
    /// The policy without any limit.
    pub const SUDO: Address = address!("67b436caD8a6D025DF6C82C5BB43fbF11fC5B9B7");
}

/// The flag bit "skip this policy for operations"; on a permission, "no operations".
pub const NOT_FOR_USER_OP: u16 = 1;
/// The flag bit "skip this policy for EIP-1271"; on a permission, "no EIP-1271 signatures".
pub const NOT_FOR_SIGNATURES: u16 = 2;

/// One policy of a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyItem {
    /// The purposes for which the policy is skipped: [`NOT_FOR_USER_OP`], [`NOT_FOR_SIGNATURES`].
    pub flag: u16,
    /// The address of the contract.
    pub address: Address,
    /// The limits with which it is installed.
    pub policy: Policy,
}

/// The limits of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// A limit on the calls.
    Call {
        /// The version of the contract, which determines the encoding.
        version: CallPolicyVersion,
        /// The permitted calls: each call must match one of these.
        permissions: Vec<CallPermission>,
    },
    /// A limit in time. Bounds are in seconds; an end of 0 means forever.
    Timestamp {
        /// The first second.
        valid_after: u64,
        /// The last second.
        valid_until: u64,
    },
    /// A limit on the total number of operations.
    RateLimit {
        /// The seconds between two operations.
        interval: u64,
        /// The number of operations.
        count: u64,
        /// The first second in which one is allowed.
        start_at: u64,
    },
    /// A limit on the number of operations in each interval.
    RateLimitWithReset {
        /// The length of the interval in seconds.
        interval: u64,
        /// The number of operations.
        count: u64,
    },
    /// A limit on gas, in wei: `(preVerificationGas + verification + call) * maxFeePerGas` of every operation.
    Gas {
        /// The total in wei.
        allowed: u128,
        /// Whether a paymaster must pay.
        enforce_paymaster: bool,
        /// The required paymaster; zero means any.
        allowed_paymaster: Address,
    },
    /// The contracts that may verify EIP-1271 signatures; none, if empty.
    SignatureCaller(Vec<Address>),
    /// No limit at all.
    Sudo,
}

/// A kind of call that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallPermission {
    /// The contract; zero means any, from 0.0.2.
    pub target: Address,
    /// The function; zero means a call without data.
    pub selector: FixedBytes<4>,
    /// The maximum value of each call, in wei.
    pub value_limit: U256,
    /// The rules, all of which must hold.
    pub rules: Vec<CallRule>,
}

/// A condition on one word of the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRule {
    /// The comparison to make.
    pub condition: Condition,
    /// The position of the word, counted after the selector.
    pub offset: u64,
    /// The operands: one word; several for `OneOf`; start, length and hash for `SliceEqual`.
    pub params: Vec<B256>,
}

/// The comparison of a word, as an unsigned number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Condition {
    /// The word is equal to the operand.
    Equal = 0,
    /// The word is greater than the operand.
    GreaterThan = 1,
    /// The word is less than the operand.
    LessThan = 2,
    /// The word is at least the operand.
    GreaterOrEqual = 3,
    /// The word is at most the operand.
    LessOrEqual = 4,
    /// The word is not equal to the operand.
    NotEqual = 5,
    /// The word is one of several operands; from 0.0.2.
    OneOf = 6,
    /// A slice of `bytes` has this hash; from 0.0.5.
    SliceEqual = 7,
}

impl Condition {
    const ALL: [Self; 8] = [
        Self::Equal,
        Self::GreaterThan,
        Self::LessThan,
        Self::GreaterOrEqual,
        Self::LessOrEqual,
        Self::NotEqual,
        Self::OneOf,
        Self::SliceEqual,
    ];

    pub(crate) fn from_code(code: u64) -> Option<Self> {
        usize::try_from(code).ok().and_then(|i| Self::ALL.get(i)).copied()
    }

    /// Returns the name in texts: `equal`, `less_or_equal`, …
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::GreaterThan => "greater_than",
            Self::LessThan => "less_than",
            Self::GreaterOrEqual => "greater_or_equal",
            Self::LessOrEqual => "less_or_equal",
            Self::NotEqual => "not_equal",
            Self::OneOf => "one_of",
            Self::SliceEqual => "slice_equal",
        }
    }
}

/// The versions of the call policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallPolicyVersion {
    /// 0.0.1: one parameter for each rule.
    V001,
    /// 0.0.2: several parameters, any target, calls without data.
    V002,
    /// 0.0.3: a fix for delegatecall.
    V003,
    /// 0.0.4: a fix for ERC-7562 storage. This crate issues this version.
    V004,
    /// 0.0.5: rules for slices.
    V005,
}

impl CallPolicyVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 5] = [Self::V001, Self::V002, Self::V003, Self::V004, Self::V005];

    /// Returns the address of the contract on every chain.
    #[must_use]
    pub const fn address(self) -> Address {
        match self {
            Self::V001 => address!("e4Fec84B7B002273ecC86baa65a831ddB92d30a8"),
            Self::V002 => address!("67Fa43ca2D689beA4d10b9F2C96828828A2Ab275"),
            Self::V003 => address!("B3CB5f502250360335614df1421f2AAbE98CE503"),
            Self::V004 => address!("9a52283276A0ec8740DF50bF01B28A80D880eaf2"),
            Self::V005 => address!("85770b902D1e503D5f5141d9eaC16d0d08eEaDd2"),
        }
    }

    /// Returns `0.0.1` to `0.0.5`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V001 => "0.0.1",
            Self::V002 => "0.0.2",
            Self::V003 => "0.0.3",
            Self::V004 => "0.0.4",
            Self::V005 => "0.0.5",
        }
    }
}

/// The error for a policy that this crate does not accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The address is not that of a known policy.
    #[error("unknown policy {0}")]
    Unknown(Address),
    /// The SDK does not encode such bytes for this policy.
    #[error("malformed data of policy {0}")]
    Malformed(Address),
    /// Calls of this type run another contract's code in the account, or hide calls.
    #[error("expected a plain call, found call type {0}")]
    CallType(FixedBytes<1>),
    /// This version of the call policy does not have the comparison.
    #[error("expected a comparison of this call policy's version, found condition {0}")]
    Condition(u8),
    /// The number of parameters does not match the condition.
    #[error("expected as many parameters as the condition takes, found {0}")]
    Parameters(usize),
    /// A version before 0.0.2 does not support any target, or a call without data.
    #[error("expected call policy 0.0.2 or later for any target or a call without data, found an earlier one")]
    AnyTarget,
    /// Two permissions have the same target and selector; the chain would keep only one of them.
    #[error("two permissions for the same target and selector")]
    Twice,
    /// A number exceeds 48 bits.
    #[error("expected a number of at most 48 bits, found a larger one")]
    Range,
}

impl PolicyItem {
    /// Creates a policy at its standard address, with all flags clear.
    #[must_use]
    pub fn standard(policy: Policy) -> Self {
        Self { flag: 0, address: policy.address(), policy }
    }

    /// Returns whether the contract is the known one of this policy.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.address == self.policy.address()
    }

    /// Encodes `flag ‖ policy ‖ data`.
    #[must_use]
    pub fn item(&self) -> Bytes {
        [&self.flag.to_be_bytes()[..], self.address.as_slice(), &self.policy.data()].concat().into()
    }

    /// Decodes `flag ‖ policy ‖ data`. Only bytes that [`item`](Self::item) produces are accepted.
    /// # Errors
    /// The policy is unknown, or the bytes are others.
    pub fn from_item(item: &[u8]) -> Result<Self, PolicyError> {
        let short = PolicyError::Malformed(Address::ZERO);
        let (flag, rest) = item.split_first_chunk::<2>().ok_or(short)?;
        let (address, data) = rest.split_first_chunk::<20>().ok_or(short)?;
        let address = Address::from(address);
        let policy = Policy::from_data(address, data)?;
        policy.check()?;
        if *policy.data() != *data {
            return Err(PolicyError::Malformed(address));
        }
        Ok(Self { flag: u16::from_be_bytes(*flag), address, policy })
    }
}

impl Policy {
    /// Returns the address of the policy's standard contract.
    #[must_use]
    pub const fn address(&self) -> Address {
        match self {
            Self::Call { version, .. } => version.address(),
            Self::Timestamp { .. } => contracts::TIMESTAMP,
            Self::RateLimit { .. } => contracts::RATE_LIMIT,
            Self::RateLimitWithReset { .. } => contracts::RATE_LIMIT_WITH_RESET,
            Self::Gas { .. } => contracts::GAS,
            Self::SignatureCaller(_) => contracts::SIGNATURE_CALLER,
            Self::Sudo => contracts::SUDO,
        }
    }

    /// Encodes the data with which the contract is installed.
    #[must_use]
    pub fn data(&self) -> Bytes {
        let bytes = match self {
            Self::Call { version: CallPolicyVersion::V001, permissions } => {
                permissions.iter().map(CallPermission::to_sol_v001).collect::<Vec<_>>().abi_encode()
            }
            Self::Call { permissions, .. } => {
                permissions.iter().map(CallPermission::to_sol).collect::<Vec<_>>().abi_encode()
            }
            Self::Timestamp { valid_after, valid_until } => {
                (U256::from(*valid_after), U256::from(*valid_until)).abi_encode()
            }
            Self::RateLimit { interval, count, start_at } => [six(*interval), six(*count), six(*start_at)].concat(),
            Self::RateLimitWithReset { interval, count } => [six(*interval), six(*count)].concat(),
            Self::Gas { allowed, enforce_paymaster, allowed_paymaster } => {
                (U256::from(*allowed), *enforce_paymaster, *allowed_paymaster).abi_encode()
            }
            Self::SignatureCaller(callers) => callers.abi_encode(),
            Self::Sudo => Vec::new(),
        };
        bytes.into()
    }

    fn from_data(address: Address, data: &[u8]) -> Result<Self, PolicyError> {
        let bad = PolicyError::Malformed(address);
        let times = |words: &[u8]| -> Option<Vec<u64>> {
            let fits = words.len().is_multiple_of(6);
            fits.then(|| words.chunks(6).map(|c| c.iter().fold(0, |n, b| n << 8 | u64::from(*b))).collect())
        };
        if let Some(version) = CallPolicyVersion::ALL.into_iter().find(|v| v.address() == address) {
            return Ok(Self::Call { version, permissions: CallPermission::decode(version, data, bad)? });
        }
        match address {
            contracts::TIMESTAMP => {
                let (after, until) = <(U256, U256)>::abi_decode(data).map_err(|_| bad)?;
                let narrow = |n: U256| u64::try_from(n).map_err(|_| bad);
                Ok(Self::Timestamp { valid_after: narrow(after)?, valid_until: narrow(until)? })
            }
            contracts::RATE_LIMIT => match times(data).as_deref() {
                Some(&[interval, count, start_at]) => Ok(Self::RateLimit { interval, count, start_at }),
                _ => Err(bad),
            },
            contracts::RATE_LIMIT_WITH_RESET => match times(data).as_deref() {
                Some(&[interval, count]) => Ok(Self::RateLimitWithReset { interval, count }),
                _ => Err(bad),
            },
            contracts::GAS => {
                let (allowed, enforce_paymaster, allowed_paymaster) =
                    <(U256, bool, Address)>::abi_decode(data).map_err(|_| bad)?;
                let allowed = u128::try_from(allowed).map_err(|_| bad)?;
                Ok(Self::Gas { allowed, enforce_paymaster, allowed_paymaster })
            }
            contracts::SIGNATURE_CALLER => <Vec<Address>>::abi_decode(data).map(Self::SignatureCaller).map_err(|_| bad),
            contracts::SUDO if data.is_empty() => Ok(Self::Sudo),
            contracts::SUDO => Err(bad),
            _ => Err(PolicyError::Unknown(address)),
        }
    }

    /// Checks that the chain would accept the policy, and interpret it as written.
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let fits = |numbers: &[u64]| {
            if numbers.iter().all(|n| *n <= crate::MAX_UINT48) { Ok(()) } else { Err(PolicyError::Range) }
        };
        match self {
            Self::Call { version, permissions } => {
                for (i, permission) in permissions.iter().enumerate() {
                    permission.check(*version)?;
                    // The contract keys its storage by call type, target and selector.
                    let same = |p: &CallPermission| p.target == permission.target && p.selector == permission.selector;
                    if permissions.iter().skip(i + 1).any(same) {
                        return Err(PolicyError::Twice);
                    }
                }
                Ok(())
            }
            Self::Timestamp { valid_after, valid_until } => fits(&[*valid_after, *valid_until]),
            Self::RateLimit { interval, count, start_at } => fits(&[*interval, *count, *start_at]),
            Self::RateLimitWithReset { interval, count } => fits(&[*interval, *count]),
            _ => Ok(()),
        }
    }
}

impl CallPermission {
    fn check(&self, version: CallPolicyVersion) -> Result<(), PolicyError> {
        let v001 = version == CallPolicyVersion::V001;
        if v001 && (self.target.is_zero() || self.selector.is_zero()) {
            return Err(PolicyError::AnyTarget);
        }
        for rule in &self.rules {
            let missing = match rule.condition {
                Condition::OneOf => v001,
                Condition::SliceEqual => version < CallPolicyVersion::V005,
                _ => false,
            };
            if missing {
                return Err(PolicyError::Condition(rule.condition as u8));
            }
            let fits = match rule.condition {
                Condition::OneOf => !rule.params.is_empty(),
                Condition::SliceEqual => rule.params.len() == 3,
                _ => rule.params.len() == 1,
            };
            if !fits {
                return Err(PolicyError::Parameters(rule.params.len()));
            }
        }
        Ok(())
    }

    fn to_sol(&self) -> SolCall {
        SolCall {
            callType: FixedBytes::ZERO,
            target: self.target,
            selector: self.selector,
            valueLimit: self.value_limit,
            rules: self
                .rules
                .iter()
                .map(|r| SolRule { condition: r.condition as u8, offset: r.offset, params: r.params.clone() })
                .collect(),
        }
    }

    fn to_sol_v001(&self) -> SolCallV001 {
        let rule = |r: &CallRule| SolRuleV001 {
            condition: r.condition as u8,
            offset: r.offset,
            params: r.params.first().copied().unwrap_or_default(),
        };
        SolCallV001 {
            callType: FixedBytes::ZERO,
            target: self.target,
            selector: self.selector,
            valueLimit: self.value_limit,
            rules: self.rules.iter().map(rule).collect(),
        }
    }

    fn decode(version: CallPolicyVersion, data: &[u8], bad: PolicyError) -> Result<Vec<Self>, PolicyError> {
        if version == CallPolicyVersion::V001 {
            let calls = <Vec<SolCallV001>>::abi_decode_with_config(data, STRICT).map_err(|_| bad)?;
            return calls
                .into_iter()
                .map(|c| {
                    let rules = c.rules.into_iter().map(|r| (r.condition, r.offset, vec![r.params]));
                    Self::from_parts(c.callType, c.target, c.selector, c.valueLimit, rules)
                })
                .collect();
        }
        let calls = <Vec<SolCall>>::abi_decode_with_config(data, STRICT).map_err(|_| bad)?;
        calls
            .into_iter()
            .map(|c| {
                let rules = c.rules.into_iter().map(|r| (r.condition, r.offset, r.params));
                Self::from_parts(c.callType, c.target, c.selector, c.valueLimit, rules)
            })
            .collect()
    }

    fn from_parts(
        call_type: FixedBytes<1>,
        target: Address,
        selector: FixedBytes<4>,
        value_limit: U256,
        rules: impl Iterator<Item = (u8, u64, Vec<B256>)>,
    ) -> Result<Self, PolicyError> {
        if !call_type.is_zero() {
            return Err(PolicyError::CallType(call_type));
        }
        let rule = |(code, offset, params): (u8, u64, Vec<B256>)| {
            let condition = Condition::from_code(code.into()).ok_or(PolicyError::Condition(code))?;
            Ok(CallRule { condition, offset, params })
        };
        Ok(Self { target, selector, value_limit, rules: rules.map(rule).collect::<Result<_, _>>()? })
    }
}

/// Returns the low 48 bits, big-endian.
fn six(n: u64) -> Vec<u8> {
    n.to_be_bytes().split_at(2).1.to_vec()
}
