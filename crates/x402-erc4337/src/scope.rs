//! What a session key may do, in one form for every provider.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use x402_types::UnixSeconds;

use crate::session::zerodev::Condition;
use crate::{Call, ExecutionError};

/// What a session key may do from one account. Counters stand as they were issued: what is left of them, the chain
/// knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The account that it acts for. Calls to it are never in scope.
    pub account: Address,
    /// The EntryPoint. Calls to it are never in scope.
    pub entry_point: Address,
    /// Contracts that keep the account's keys and limits: the account's call to one of them may change those. Calls
    /// to them are never in scope.
    pub modules: Vec<Address>,
    /// Whether it may sign operations at all.
    pub operations: bool,
    /// Which calls.
    pub calls: Calls,
    /// When.
    pub window: Window,
    /// How much in all.
    pub limits: Vec<Limit>,
    /// What it may sign in the account's name beside operations.
    pub signatures: Signatures,
    /// Policies that this crate does not know: nothing is in scope while there are any.
    pub unknown: Vec<Address>,
}

/// Which calls are in scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Calls {
    /// Any: no policy looks at calls, or it is sudo.
    Any,
    /// Calls of one of these kinds.
    Only(Vec<AllowedCall>),
}

/// A kind of call that is in scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedCall {
    /// The contract; `None` is any.
    pub target: Option<Address>,
    /// The function; `None` is any. Zero stands for a call without data as well.
    pub selector: Option<FixedBytes<4>>,
    /// Wei with each call, at most; `None` is any amount.
    pub value_limit: Option<U256>,
    /// What holds of the arguments.
    pub rules: Vec<Rule>,
    /// When, beside the window of the whole key.
    pub window: Window,
    /// How much, beside the limits of the whole key.
    pub limits: Vec<Limit>,
}

/// What holds of one word of the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where the word stands, counted after the selector.
    pub offset: u64,
    /// What is asked of it.
    pub test: Test,
}

/// A condition on a word, as an unsigned number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Compared with one word or, for `OneOf`, several.
    Compare(Condition, Vec<B256>),
    /// Between two bounds, both included.
    InRange(u128, u128),
    /// All uses together, at most.
    SumAtMost(U256),
}

/// Seconds from and until which something is valid, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// First second; `None` is always.
    pub valid_after: Option<u64>,
    /// Last second; `None` is forever.
    pub valid_until: Option<u64>,
}

/// A budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// So many operations, not before `start_at`, `interval` seconds apart.
    Calls {
        /// Operations.
        count: u64,
        /// Seconds between two of them.
        interval: u64,
        /// First second.
        start_at: u64,
    },
    /// So many operations in each interval.
    CallsPerInterval {
        /// Operations.
        count: u64,
        /// Seconds.
        interval: u64,
    },
    /// So many uses.
    Uses(u128),
    /// So much gas in wei; with a paymaster that must pay, zero being any.
    Gas {
        /// Wei.
        allowed: u128,
        /// The paymaster that must pay.
        paymaster: Option<Address>,
    },
    /// So much native value in all uses.
    Value(U256),
    /// So much of a token in all uses.
    Spending {
        /// The token.
        token: Address,
        /// Its smallest units.
        amount: U256,
    },
}

/// What a key may sign in the account's name by EIP-1271.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signatures {
    /// Nothing.
    Closed,
    /// Anything that these contracts ask for.
    For(Vec<Address>),
    /// Anything: such a key moves tokens that take EIP-1271 signatures, whatever its calls are limited to.
    Open,
}

/// Why a call is not in scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// It may sign no operations.
    #[error("the key may not sign operations")]
    Operations,
    /// A policy that this crate does not know stands in the way.
    #[error("unknown policy {0}")]
    UnknownPolicy(Address),
    /// Its time is over.
    #[error("expired at {0}")]
    Expired(u64),
    /// Its time has not come.
    #[error("not valid before {0}")]
    NotYetValid(u64),
    /// The account itself is called.
    #[error("the account itself is the target")]
    SelfTarget,
    /// The EntryPoint is called.
    #[error("the EntryPoint is the target")]
    EntryPointTarget,
    /// A contract that keeps keys and limits is called.
    #[error("module {0} of the account is the target")]
    ModuleTarget(Address),
    /// No kind of call has this target.
    #[error("target {0} is not allowed")]
    Target(Address),
    /// The target is allowed, this function is not.
    #[error("function {0} is not allowed")]
    Selector(FixedBytes<4>),
    /// 1 to 3 bytes of data select no function.
    #[error("calldata too short for a selector")]
    NoSelector,
    /// More wei than allowed.
    #[error("value is more than {0}")]
    Value(U256),
    /// The arguments are too short for a rule.
    #[error("no argument at offset {0}")]
    NoArgument(u64),
    /// A rule does not hold.
    #[error("the argument at offset {0} violates its rule")]
    Argument(u64),
    /// A rule that this crate does not evaluate.
    #[error("the rule at offset {0} is not supported")]
    UnsupportedRule(u64),
    /// A budget of nothing.
    #[error("no use is left")]
    NothingLeft,
    /// A budget that this crate does not evaluate for this call.
    #[error("a spending limit is not supported")]
    UnsupportedLimit,
    /// The operation's callData is not `execute` as this crate builds it.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
}

impl Scope {
    /// Whether one call is in scope at `now`. Counters are as issued.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn permits(&self, call: &Call, now: UnixSeconds) -> Result<(), Violation> {
        if !self.operations {
            return Err(Violation::Operations);
        }
        if let Some(unknown) = self.unknown.first() {
            return Err(Violation::UnknownPolicy(*unknown));
        }
        self.window.holds(now)?;
        if call.target == self.account {
            return Err(Violation::SelfTarget);
        }
        if call.target == self.entry_point {
            return Err(Violation::EntryPointTarget);
        }
        if self.modules.contains(&call.target) {
            return Err(Violation::ModuleTarget(call.target));
        }
        for limit in &self.limits {
            limit.allows(call, now)?;
        }
        match &self.calls {
            Calls::Any => Ok(()),
            Calls::Only(kinds) => permits_kind(kinds, call, now),
        }
    }

    /// Whether the callData of an operation is in scope: every call of it.
    ///
    /// # Errors
    /// Anything but `execute` of single calls or a batch, and the first call that is not in scope.
    pub fn permits_call_data(&self, call_data: &Bytes, now: UnixSeconds) -> Result<(), Violation> {
        Call::read(call_data)?.iter().try_for_each(|call| self.permits(call, now))
    }

    /// The time in which anything is in scope: the key's window, and the widest of its kinds of calls.
    #[must_use]
    pub fn widest_window(&self) -> Window {
        let Calls::Only(kinds) = &self.calls else { return self.window };
        let after = kinds.iter().map(|k| k.window.valid_after).min().flatten();
        let until = kinds.iter().map(|k| k.window.valid_until).reduce(|a, b| a?.max(b?).into()).flatten();
        self.window.intersect(Window { valid_after: after, valid_until: until })
    }
}

/// Every kind that fits must allow the call. The chain asks the exact target first and "any target" after it; asking
/// all of them is never wider.
fn permits_kind(kinds: &[AllowedCall], call: &Call, now: UnixSeconds) -> Result<(), Violation> {
    let selector = match (call.data.is_empty(), call.selector()) {
        (true, _) => FixedBytes::ZERO,
        (false, Some(selector)) => selector,
        (false, None) => return Err(Violation::NoSelector),
    };
    let of_target = || kinds.iter().filter(|k| k.target.is_none_or(|t| t == call.target));
    let mut fitting = of_target().filter(|k| k.selector.is_none_or(|s| s == selector)).peekable();
    if fitting.peek().is_none() {
        let known = of_target().next().is_some();
        return Err(if known { Violation::Selector(selector) } else { Violation::Target(call.target) });
    }
    fitting.try_for_each(|kind| kind.permits(call, now))
}

impl AllowedCall {
    fn permits(&self, call: &Call, now: UnixSeconds) -> Result<(), Violation> {
        self.window.holds(now)?;
        if let Some(limit) = self.value_limit.filter(|limit| call.value > *limit) {
            return Err(Violation::Value(limit));
        }
        self.limits.iter().try_for_each(|limit| limit.allows(call, now))?;
        self.rules.iter().try_for_each(|rule| rule.holds(call))
    }
}

impl Rule {
    fn holds(&self, call: &Call) -> Result<(), Violation> {
        let missing = Violation::NoArgument(self.offset);
        let start = usize::try_from(self.offset).ok().and_then(|o| o.checked_add(4)).ok_or_else(|| missing.clone())?;
        let end = start.checked_add(32).ok_or_else(|| missing.clone())?;
        let word = U256::from_be_slice(call.data.get(start..end).ok_or(missing)?);
        let holds = match &self.test {
            Test::Compare(Condition::SliceEqual, _) => return Err(Violation::UnsupportedRule(self.offset)),
            Test::Compare(Condition::OneOf, words) => words.iter().any(|w| U256::from_be_bytes(w.0) == word),
            Test::Compare(condition, words) => {
                let Some(other) = words.first().map(|w| U256::from_be_bytes(w.0)) else {
                    return Err(Violation::UnsupportedRule(self.offset));
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
        if holds { Ok(()) } else { Err(Violation::Argument(self.offset)) }
    }
}

impl Window {
    /// A window from two bounds, zero being none.
    #[must_use]
    pub const fn new(valid_after: u64, valid_until: u64) -> Self {
        Self {
            valid_after: if valid_after == 0 { None } else { Some(valid_after) },
            valid_until: if valid_until == 0 || valid_until >= crate::MAX_UINT48 { None } else { Some(valid_until) },
        }
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        let until = match (self.valid_until, other.valid_until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { valid_after: self.valid_after.max(other.valid_after), valid_until: until }
    }

    /// EntryPoint 0.7 takes an operation at both bounds.
    fn holds(self, now: UnixSeconds) -> Result<(), Violation> {
        match (self.valid_after, self.valid_until) {
            (Some(after), _) if now.0 < after => Err(Violation::NotYetValid(after)),
            (_, Some(until)) if now.0 > until => Err(Violation::Expired(until)),
            _ => Ok(()),
        }
    }
}

impl Limit {
    fn allows(&self, call: &Call, now: UnixSeconds) -> Result<(), Violation> {
        match self {
            Self::Calls { count: 0, .. } | Self::CallsPerInterval { count: 0, .. } | Self::Uses(0) => {
                Err(Violation::NothingLeft)
            }
            Self::Calls { start_at, .. } if now.0 < *start_at => Err(Violation::NotYetValid(*start_at)),
            Self::Value(limit) if call.value > *limit => Err(Violation::Value(*limit)),
            Self::Spending { .. } => Err(Violation::UnsupportedLimit),
            Self::Calls { .. } | Self::CallsPerInterval { .. } | Self::Uses(_) | Self::Gas { .. } | Self::Value(_) => {
                Ok(())
            }
        }
    }
}
