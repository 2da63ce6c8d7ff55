//! [Kernel policies](https://docs.zerodev.app/sdk/permissions/intro): what a permission is limited by, and the bytes
//! that each policy contract is installed with.

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

/// Where the standard policies stand on every chain.
pub mod contracts {
    use alloy_primitives::{Address, address};

    /// `validAfter`, `validUntil`.
    pub const TIMESTAMP: Address = address!("B9f8f524bE6EcD8C945b1b87f9ae5C192FdCE20F");
    /// A budget of fees.
    pub const GAS: Address = address!("aeFC5AbC67FfD258abD0A3E54f65E70326F84b23");
    /// So many operations, and no more.
    pub const RATE_LIMIT: Address = address!("f63d4139B25c836334edD76641356c6b74C86873");
    /// So many operations in each interval. It reads the block's time, which public bundlers refuse (OP-011).
    pub const RATE_LIMIT_WITH_RESET: Address = address!("6a06358e6b283921deceabe7e8a3741d506cca9b");
    /// Who may ask for EIP-1271 signatures.
    pub const SIGNATURE_CALLER: Address = address!("F6A936c88D97E6fad13b98d2FD731Ff17eeD591d");
    /// No limit.
    pub const SUDO: Address = address!("67b436caD8a6D025DF6C82C5BB43fbF11fC5B9B7");
}

/// The flag bit "skip this policy for operations"; on a permission, "no operations".
pub const NOT_FOR_USER_OP: u16 = 1;
/// The flag bit "skip this policy for EIP-1271"; on a permission, "no EIP-1271 signatures".
pub const NOT_FOR_SIGNATURES: u16 = 2;

/// One policy as it stands in a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyItem {
    /// Where it does not count: [`NOT_FOR_USER_OP`], [`NOT_FOR_SIGNATURES`].
    pub flag: u16,
    /// The contract.
    pub address: Address,
    /// What it is installed with.
    pub policy: Policy,
}

/// What a policy limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// Which calls.
    Call {
        /// Which contract, and with it the encoding.
        version: CallPolicyVersion,
        /// Any of these.
        permissions: Vec<CallPermission>,
    },
    /// When. Seconds; 0 as end is forever.
    Timestamp {
        /// First second.
        valid_after: u64,
        /// Last second.
        valid_until: u64,
    },
    /// How often in all.
    RateLimit {
        /// Seconds between two operations.
        interval: u64,
        /// Operations.
        count: u64,
        /// First second.
        start_at: u64,
    },
    /// How often in each interval.
    RateLimitWithReset {
        /// Seconds.
        interval: u64,
        /// Operations.
        count: u64,
    },
    /// How much gas, in wei: `(preVerificationGas + verification + call) * maxFeePerGas` of every operation.
    Gas {
        /// Wei in all.
        allowed: u128,
        /// Whether a paymaster must pay.
        enforce_paymaster: bool,
        /// Which one; zero is any.
        allowed_paymaster: Address,
    },
    /// Which contracts may ask for EIP-1271 signatures; none, if empty.
    SignatureCaller(Vec<Address>),
    /// No limit.
    Sudo,
}

/// A kind of call that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallPermission {
    /// The contract; zero is any, from 0.0.2.
    pub target: Address,
    /// The function; zero is a call without data.
    pub selector: FixedBytes<4>,
    /// Wei, at most, for each call.
    pub value_limit: U256,
    /// All of these must hold.
    pub rules: Vec<CallRule>,
}

/// A condition on one word of the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRule {
    /// How it is compared.
    pub condition: Condition,
    /// Where it stands, counted after the selector.
    pub offset: u64,
    /// What it is compared with: one word; several for `OneOf`; start, length and hash for `SliceEqual`.
    pub params: Vec<B256>,
}

/// How a word is compared, as an unsigned number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Condition {
    /// The same.
    Equal = 0,
    /// More.
    GreaterThan = 1,
    /// Less.
    LessThan = 2,
    /// At least.
    GreaterOrEqual = 3,
    /// At most.
    LessOrEqual = 4,
    /// Anything else.
    NotEqual = 5,
    /// One of several; from 0.0.2.
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

    /// The name in texts: `equal`, `less_or_equal`, …
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
    /// One parameter for each rule.
    V001,
    /// Several parameters, any target, calls without data.
    V002,
    /// A fix for delegatecall.
    V003,
    /// A fix for ERC-7562 storage. What is issued.
    V004,
    /// Slices.
    V005,
}

impl CallPolicyVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 5] = [Self::V001, Self::V002, Self::V003, Self::V004, Self::V005];

    /// Where it stands on every chain.
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

    /// `0.0.1` to `0.0.5`.
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

/// A policy that this crate does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No policy that this crate knows stands at this address.
    #[error("unknown policy {0}")]
    Unknown(Address),
    /// Bytes that the SDK does not write for this policy.
    #[error("malformed data of policy {0}")]
    Malformed(Address),
    /// Calls of this type run other code in the account, or hide calls.
    #[error("call type {0}")]
    CallType(FixedBytes<1>),
    /// A comparison that this version of the call policy does not have.
    #[error("condition {0} of a call policy")]
    Condition(u8),
    /// A rule with another number of parameters than its condition takes.
    #[error("a rule with {0} parameters")]
    Parameters(usize),
    /// Any target, or a call without data, before 0.0.2.
    #[error("a permission for any target needs call policy 0.0.2")]
    AnyTarget,
    /// The chain would keep one of them only.
    #[error("two permissions for the same target and selector")]
    Twice,
    /// A number of more than 48 bits.
    #[error("a number that does not fit in 48 bits")]
    Range,
}

impl PolicyItem {
    /// A policy at its standard address that counts everywhere.
    #[must_use]
    pub fn standard(policy: Policy) -> Self {
        Self { flag: 0, address: policy.address(), policy }
    }

    /// Whether the contract is the one that this crate knows for this policy.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.address == self.policy.address()
    }

    /// `flag ‖ policy ‖ data`.
    #[must_use]
    pub fn item(&self) -> Bytes {
        [&self.flag.to_be_bytes()[..], self.address.as_slice(), &self.policy.data()].concat().into()
    }

    /// Reads `flag ‖ policy ‖ data`. Only bytes that [`item`](Self::item) writes are read.
    ///
    /// # Errors
    /// An unknown policy, or other bytes.
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
    /// Where the standard contract of this policy stands.
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

    /// What the contract is installed with.
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

    /// What the chain would not take, or would take in another sense than it is written.
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

/// The low 48 bits, big-endian.
fn six(n: u64) -> Vec<u8> {
    n.to_be_bytes().split_at(2).1.to_vec()
}
