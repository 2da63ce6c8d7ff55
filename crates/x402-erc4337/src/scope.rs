//! The scope of a session key, in one form for every provider.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use x402_types::UnixSeconds;

use crate::session::zerodev::Condition;
use crate::{Call, ExecutionError};

/// The actions that a session key permits for one account. Counters have their initial values: only the chain knows how
/// much of them is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The account for which the key acts. Calls to it are never in scope.
    pub account: Address,
    /// The EntryPoint. Calls to it are never in scope.
    pub entry_point: Address,
    /// The contracts that store the account's keys and limits: a call by the account could change those. Calls to them
    /// are never in scope.
    pub modules: Vec<Address>,
    /// Whether the key may sign operations at all.
    pub operations: bool,
    /// The calls that are in scope.
    pub calls: Calls,
    /// The period in which the key is valid.
    pub window: Window,
    /// The total limits of the key.
    pub limits: Vec<Limit>,
    /// The messages that the key may sign in the account's name, in addition to operations.
    pub signatures: Signatures,
    /// The policies that this crate does not know: while there are any, nothing is in scope.
    pub unknown: Vec<Address>,
}

/// The calls that are in scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Calls {
    /// Every call: no policy restricts calls, or it is sudo.
    Any,
    /// The calls of one of these kinds.
    Only(Vec<AllowedCall>),
}

/// A kind of call that is in scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedCall {
    /// The contract; `None` means any.
    pub target: Option<Address>,
    /// The function; `None` means any. Zero also means a call without data.
    pub selector: Option<FixedBytes<4>>,
    /// The maximum value of each call, in wei; `None` means any.
    pub value_limit: Option<U256>,
    /// The conditions on the arguments.
    pub rules: Vec<Rule>,
    /// The period for this kind, in addition to that of the whole key.
    pub window: Window,
    /// The limits of this kind, in addition to those of the whole key.
    pub limits: Vec<Limit>,
}

/// A condition on one word of the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The position of the word, counted after the selector.
    pub offset: u64,
    /// The test that the word must pass.
    pub test: Test,
}

/// A test of a word, as an unsigned number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Comparison with one word or, for `OneOf`, several.
    Compare(Condition, Vec<B256>),
    /// The word is between two bounds, both included.
    InRange(u128, u128),
    /// The sum over all uses is at most this.
    SumAtMost(U256),
}

/// A period of validity in seconds, both bounds included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// The first second; `None` means always.
    pub valid_after: Option<u64>,
    /// The last second; `None` means forever.
    pub valid_until: Option<u64>,
}

/// A budget of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// A maximum number of operations, not before `start_at`, `interval` seconds apart.
    Calls {
        /// The number of operations.
        count: u64,
        /// The seconds between two operations.
        interval: u64,
        /// The first second in which one is allowed.
        start_at: u64,
    },
    /// A maximum number of operations in each interval.
    CallsPerInterval {
        /// The number of operations.
        count: u64,
        /// The length of the interval in seconds.
        interval: u64,
    },
    /// A maximum number of uses.
    Uses(u128),
    /// A maximum price of gas. A required paymaster may be set; zero allows any paymaster.
    Gas {
        /// The maximum price in wei.
        allowed: u128,
        /// The paymaster that must pay.
        paymaster: Option<Address>,
    },
    /// The maximum native value of all uses together.
    Value(U256),
    /// The maximum amount of a token of all uses together.
    Spending {
        /// The contract of the token.
        token: Address,
        /// The amount in atomic units.
        amount: U256,
    },
}

/// The messages that a key may sign in the account's name by EIP-1271.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signatures {
    /// The key may sign no messages.
    Closed,
    /// The key may sign any message that these contracts verify.
    For(Vec<Address>),
    /// The key may sign any message: it can move tokens that accept EIP-1271 signatures, whatever its calls are limited
    /// to.
    Open,
}

/// The reason why a call is not in scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeViolation {
    /// The key may not sign operations.
    #[error("the key may not sign operations")]
    Operations,
    /// The key has a policy that this crate does not know.
    #[error("unknown policy {0}")]
    UnknownPolicy(Address),
    /// The period of validity has ended.
    #[error("expired at {0}")]
    Expired(u64),
    /// The period of validity has not begun.
    #[error("not valid before {0}")]
    NotYetValid(u64),
    /// The target is the account itself.
    #[error("the account itself is the target")]
    SelfTarget,
    /// The target is the EntryPoint.
    #[error("the EntryPoint is the target")]
    EntryPointTarget,
    /// The target is a contract that stores keys and limits.
    #[error("module {0} of the account is the target")]
    ModuleTarget(Address),
    /// No kind of call has this target.
    #[error("target {0} is not allowed")]
    Target(Address),
    /// The target is allowed, but not this function.
    #[error("function {0} is not allowed")]
    Selector(FixedBytes<4>),
    /// The data have 1 to 3 bytes, which is too short for a selector.
    #[error("calldata too short for a selector")]
    NoSelector,
    /// The value exceeds the limit.
    #[error("value is more than {0}")]
    Value(U256),
    /// The arguments are too short for a rule.
    #[error("no argument at offset {0}")]
    NoArgument(u64),
    /// An argument violates its rule.
    #[error("the argument at offset {0} violates its rule")]
    Argument(u64),
    /// The rule is one that this crate does not evaluate.
    #[error("the rule at offset {0} is not supported")]
    UnsupportedRule(u64),
    /// The budget is zero.
    #[error("no use is left")]
    NothingLeft,
    /// The budget is one that this crate does not evaluate for this call.
    #[error("a spending limit is not supported")]
    UnsupportedLimit,
    /// The operation's callData is not `execute` as this crate encodes it.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
}

impl Scope {
    /// Checks whether one call is in scope at `now`. Counters have their initial values.
    /// # Errors
    /// The first violation.
    pub fn permits(&self, call: &Call, now: UnixSeconds) -> Result<(), ScopeViolation> {
        if !self.operations {
            return Err(ScopeViolation::Operations);
        }
        if let Some(unknown) = self.unknown.first() {
            return Err(ScopeViolation::UnknownPolicy(*unknown));
        }
        self.window.holds(now)?;
        if call.target == self.account {
            return Err(ScopeViolation::SelfTarget);
        }
        if call.target == self.entry_point {
            return Err(ScopeViolation::EntryPointTarget);
        }
        if self.modules.contains(&call.target) {
            return Err(ScopeViolation::ModuleTarget(call.target));
        }
        for limit in &self.limits {
            limit.allows(call, now)?;
        }
        match &self.calls {
            Calls::Any => Ok(()),
            Calls::Only(kinds) => permits_kind(kinds, call, now),
        }
    }

    /// Checks whether the callData of an operation is in scope: every call of it must be.
    /// # Errors
    /// The callData is not `execute` of single calls or a batch, or a call is not in scope.
    pub fn permits_call_data(&self, call_data: &Bytes, now: UnixSeconds) -> Result<(), ScopeViolation> {
        Call::read(call_data)?.iter().try_for_each(|call| self.permits(call, now))
    }

    /// Returns the period in which anything is in scope: the key's period, limited to the widest of its kinds of calls.
    #[must_use]
    pub fn widest_window(&self) -> Window {
        let Calls::Only(kinds) = &self.calls else { return self.window };
        let after = kinds.iter().map(|k| k.window.valid_after).min().flatten();
        let until = kinds.iter().map(|k| k.window.valid_until).reduce(|a, b| a?.max(b?).into()).flatten();
        self.window.intersect(Window { valid_after: after, valid_until: until })
    }
}

/// Checks a call against every matching kind, all of which must allow it. The chain tries the exact target first and
/// "any target" after it; requiring all of them is never wider.
fn permits_kind(kinds: &[AllowedCall], call: &Call, now: UnixSeconds) -> Result<(), ScopeViolation> {
    let selector = match (call.data.is_empty(), call.selector()) {
        (true, _) => FixedBytes::ZERO,
        (false, Some(selector)) => selector,
        (false, None) => return Err(ScopeViolation::NoSelector),
    };
    let of_target = || kinds.iter().filter(|k| k.target.is_none_or(|t| t == call.target));
    let mut fitting = of_target().filter(|k| k.selector.is_none_or(|s| s == selector)).peekable();
    if fitting.peek().is_none() {
        let known = of_target().next().is_some();
        return Err(if known { ScopeViolation::Selector(selector) } else { ScopeViolation::Target(call.target) });
    }
    fitting.try_for_each(|kind| kind.permits(call, now))
}

impl AllowedCall {
    fn permits(&self, call: &Call, now: UnixSeconds) -> Result<(), ScopeViolation> {
        self.window.holds(now)?;
        if let Some(limit) = self.value_limit.filter(|limit| call.value > *limit) {
            return Err(ScopeViolation::Value(limit));
        }
        self.limits.iter().try_for_each(|limit| limit.allows(call, now))?;
        self.rules.iter().try_for_each(|rule| rule.holds(call))
    }
}

impl Rule {
    fn holds(&self, call: &Call) -> Result<(), ScopeViolation> {
        let missing = ScopeViolation::NoArgument(self.offset);
        let start = usize::try_from(self.offset).ok().and_then(|o| o.checked_add(4)).ok_or_else(|| missing.clone())?;
        let end = start.checked_add(32).ok_or_else(|| missing.clone())?;
        let word = U256::from_be_slice(call.data.get(start..end).ok_or(missing)?);
        let holds = match &self.test {
            Test::Compare(Condition::SliceEqual, _) => return Err(ScopeViolation::UnsupportedRule(self.offset)),
            Test::Compare(Condition::OneOf, words) => words.iter().any(|w| U256::from_be_bytes(w.0) == word),
            Test::Compare(condition, words) => {
                let Some(other) = words.first().map(|w| U256::from_be_bytes(w.0)) else {
                    return Err(ScopeViolation::UnsupportedRule(self.offset));
                };
                match condition {
                    Condition::Equal => word == other,
                    Condition::GreaterThan => word > other,
                    Condition::LessThan => word < other,
                    Condition::GreaterOrEqual => word >= other,
                    Condition::LessOrEqual => word <= other,
                    Condition::NotEqual => word != other,
                    Condition::OneOf | Condition::SliceEqual => false,
                }
            }
            Test::InRange(low, high) => word >= U256::from(*low) && word <= U256::from(*high),
            Test::SumAtMost(limit) => word <= *limit,
        };
        if holds { Ok(()) } else { Err(ScopeViolation::Argument(self.offset)) }
    }
}

impl Window {
    /// Creates a period from two bounds; zero means that there is no bound.
    #[must_use]
    pub const fn new(valid_after: u64, valid_until: u64) -> Self {
        Self {
            valid_after: if valid_after == 0 { None } else { Some(valid_after) },
            valid_until: if valid_until == 0 || valid_until >= crate::MAX_UINT48 { None } else { Some(valid_until) },
        }
    }

    /// Returns the intersection of both periods.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        let until = match (self.valid_until, other.valid_until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { valid_after: self.valid_after.max(other.valid_after), valid_until: until }
    }

    /// Checks the period. EntryPoint 0.7 accepts an operation at both bounds.
    fn holds(self, now: UnixSeconds) -> Result<(), ScopeViolation> {
        match (self.valid_after, self.valid_until) {
            (Some(after), _) if now.0 < after => Err(ScopeViolation::NotYetValid(after)),
            (_, Some(until)) if now.0 > until => Err(ScopeViolation::Expired(until)),
            _ => Ok(()),
        }
    }
}

impl Limit {
    fn allows(&self, call: &Call, now: UnixSeconds) -> Result<(), ScopeViolation> {
        match self {
            Self::Calls { count: 0, .. } | Self::CallsPerInterval { count: 0, .. } | Self::Uses(0) => {
                Err(ScopeViolation::NothingLeft)
            }
            Self::Calls { start_at, .. } if now.0 < *start_at => Err(ScopeViolation::NotYetValid(*start_at)),
            Self::Value(limit) if call.value > *limit => Err(ScopeViolation::Value(*limit)),
            Self::Spending { .. } => Err(ScopeViolation::UnsupportedLimit),
            Self::Calls { .. } | Self::CallsPerInterval { .. } | Self::Uses(_) | Self::Gas { .. } | Self::Value(_) => {
                Ok(())
            }
        }
    }
}
