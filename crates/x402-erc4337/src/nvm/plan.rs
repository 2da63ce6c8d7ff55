//! A plan as a facilitator knows it: the calls with which an account orders and redeems, and the bounds of a request's
//! cost. The calls come from configuration; the defaults are Nevermined's contracts.

use core::fmt;

use alloy_primitives::{Address, B256, FixedBytes, U256, address, keccak256};
use x402_types::nvm::PlanId;

use crate::Call;

/// The content of a call's argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg {
    /// 32 bytes that make the order unique to the payment: the contract refuses a second order with the same seed.
    Seed,
    /// The id of the plan.
    PlanId,
    /// The account that pays: it receives the credits and spends them.
    Account,
    /// The credits to redeem.
    Amount,
    /// The price of the order, in the token's atomic units.
    Price,
    /// The number of times that the plan is bought.
    Purchases,
    /// A constant address.
    Address(Address),
    /// A constant number.
    Number(U256),
    /// A dynamic argument without content: empty `bytes`, `string` or array.
    Empty,
}

/// A call with arguments to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallTemplate {
    /// The contract to call.
    pub target: Address,
    /// The selector of the function.
    pub selector: FixedBytes<4>,
    /// The arguments, one head word each.
    pub args: Vec<Arg>,
}

/// The values for the arguments of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// The account that pays.
    pub account: Address,
    /// The keccak256 of the payment's key.
    pub seed: B256,
    /// The credits to redeem.
    pub amount: U256,
    /// The number of times that the plan is bought.
    pub purchases: u64,
}

impl CallTemplate {
    /// Creates a call of a function with this signature, such as `burn(address,uint256,uint256,uint256,bytes)`.
    #[must_use]
    pub fn new(target: Address, signature: &str, args: impl Into<Vec<Arg>>) -> Self {
        let [a, b, c, d, ..] = keccak256(signature.as_bytes()).0;
        Self { target, selector: FixedBytes([a, b, c, d]), args: args.into() }
    }

    /// Returns the position of an argument in the calldata, in bytes after the selector, as the rules of session keys
    /// use it.
    #[must_use]
    pub fn offset(&self, arg: Arg) -> Option<u64> {
        let at = self.args.iter().position(|other| *other == arg)?;
        u64::try_from(at).ok()?.checked_mul(32)
    }

    fn call(&self, plan: &Plan, fill: &Fill) -> Call {
        let head = U256::from(self.args.len()).saturating_mul(U256::from(32));
        let mut words: Vec<U256> = Vec::with_capacity(self.args.len());
        let mut tails = 0u64;
        for arg in &self.args {
            words.push(match *arg {
                Arg::Seed => fill.seed.into(),
                Arg::PlanId => plan.id.value(),
                Arg::Account => fill.account.into_word().into(),
                Arg::Amount => fill.amount,
                Arg::Price => plan.price(fill.purchases),
                Arg::Purchases => U256::from(fill.purchases),
                Arg::Address(address) => address.into_word().into(),
                Arg::Number(number) => number,
                Arg::Empty => {
                    let at = head.saturating_add(U256::from(tails.saturating_mul(32)));
                    tails = tails.saturating_add(1);
                    at
                }
            });
        }
        let mut data = self.selector.to_vec();
        words.extend((0..tails).map(|_| U256::ZERO));
        data.extend(words.iter().flat_map(U256::to_be_bytes::<32>));
        Call { target: self.target, value: U256::ZERO, data: data.into() }
    }
}

/// The calls of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanCalls {
    /// The calls of an order, made in one operation: for a price in a token, the approval and the purchase.
    pub order: Vec<CallTemplate>,
    /// The call of a redemption; `None` if the order itself is the payment (pay as you go).
    pub redeem: Option<CallTemplate>,
}

/// A plan that a facilitator serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The id of the plan.
    pub id: PlanId,
    /// The contract that counts the plan's credits and emits `TransferSingle` when some are redeemed.
    pub credits: Address,
    /// The calls of the plan.
    pub calls: PlanCalls,
    /// The price of one purchase, in atomic units of the token that the order approves.
    pub price: U256,
    /// The credits that one purchase adds.
    pub credits_per_order: U256,
    /// The minimum cost of one request, in credits.
    pub minimum: U256,
    /// The maximum cost of one request, in credits.
    pub maximum: U256,
}

/// The error for a plan that cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The minimum is above the maximum, or the maximum is 0.
    #[error("plan {0}: the most that a request costs must be at least 1 and at least the minimum")]
    Range(PlanId),
    /// The order has no call.
    #[error("plan {0}: expected at least one call in an order, found none")]
    NoOrder(PlanId),
    /// No argument of the order is the seed: the chain could not refuse a second order.
    #[error("plan {0}: an argument of the order must be the seed")]
    NoSeed(PlanId),
    /// Two plans have the same id.
    #[error("plan {0}: expected one plan with this id, found two")]
    Twice(PlanId),
}

/// Nevermined's contracts, v1.5.0: the same addresses on Base, Base Sepolia and Tempo.
pub mod nevermined {
    use super::{Address, address};

    /// `NFT1155Credits`: credits that do not expire.
    pub const CREDITS: Address = address!("b2F9bB43F768E0D4ADCa49CE708acbE577bC2d64");
    /// `NFT1155ExpirableCredits`: credits that expire.
    pub const EXPIRABLE_CREDITS: Address = address!("6de675a697f9131D061F265fAf88E26158f4FfA2");
    /// `FixedPaymentTemplate`: orders at a fixed price.
    pub const FIXED_PAYMENT: Address = address!("32037D176558Eb02f6980eFA14bde14B0C61d059");
    /// `PayAsYouGoTemplate`: each order pays for one request.
    pub const PAY_AS_YOU_GO: Address = address!("5e852077b30099106Aa65B4d329FFF9b5C9a8e7C");
    /// `PaymentsVault`: the spender of the price, which the account therefore approves.
    pub const VAULT: Address = address!("47A72d7094c4c5B0566E159579DBD79220A0EA24");
}

impl PlanCalls {
    /// Creates the calls of a plan with a fixed price: `approve`, then
    /// `order(bytes32,uint256,address,uint256,bytes[])`; redeemed by `burn(address,uint256,uint256,uint256,bytes)`.
    #[must_use]
    pub fn fixed(template: Address, credits: Address, token: Address, spender: Address) -> Self {
        let order = CallTemplate::new(
            template,
            "order(bytes32,uint256,address,uint256,bytes[])",
            [Arg::Seed, Arg::PlanId, Arg::Account, Arg::Purchases, Arg::Empty],
        );
        Self { order: vec![Self::approve(token, spender), order], redeem: Some(Self::burn(credits)) }
    }

    /// Creates the calls of pay as you go: `approve`, then `order(bytes32,uint256,bytes[])`. The order is the payment;
    /// nothing is minted or burned.
    #[must_use]
    pub fn pay_as_you_go(template: Address, token: Address, spender: Address) -> Self {
        let order = CallTemplate::new(template, "order(bytes32,uint256,bytes[])", [Arg::Seed, Arg::PlanId, Arg::Empty]);
        Self { order: vec![Self::approve(token, spender), order], redeem: None }
    }

    /// Creates the calls to Nevermined's contracts with a price in this token.
    #[must_use]
    pub fn nevermined(token: Address) -> Self {
        Self::fixed(nevermined::FIXED_PAYMENT, nevermined::CREDITS, token, nevermined::VAULT)
    }

    fn approve(token: Address, spender: Address) -> CallTemplate {
        CallTemplate::new(token, "approve(address,uint256)", [Arg::Address(spender), Arg::Price])
    }

    fn burn(credits: Address) -> CallTemplate {
        CallTemplate::new(
            credits,
            "burn(address,uint256,uint256,uint256,bytes)",
            // The contracts have ignored the last two since v1.5.
            [Arg::Account, Arg::PlanId, Arg::Amount, Arg::Number(U256::ZERO), Arg::Empty],
        )
    }
}

impl Plan {
    /// Returns whether an order alone is the payment.
    #[must_use]
    pub const fn is_pay_as_you_go(&self) -> bool {
        self.calls.redeem.is_none()
    }

    /// Computes the cost of a request: the requested credits, clamped to the plan's minimum and maximum. The contract
    /// clamps in the same way, so balances are compared with this value.
    #[must_use]
    pub fn need(&self, asked: U256) -> U256 {
        asked.clamp(self.minimum, self.maximum.max(self.minimum))
    }

    /// Computes how many purchases add at least this many credits; 1 if a purchase is not counted in credits.
    #[must_use]
    pub fn purchases(&self, missing: U256) -> u64 {
        if self.credits_per_order.is_zero() {
            return 1;
        }
        let count = missing.div_ceil(self.credits_per_order);
        u64::try_from(count).unwrap_or(u64::MAX).max(1)
    }

    /// Computes the price of this many purchases, in the token's atomic units.
    #[must_use]
    pub fn price(&self, purchases: u64) -> U256 {
        self.price.saturating_mul(U256::from(purchases))
    }

    /// Builds the calls of an order, for one operation.
    #[must_use]
    pub fn order(&self, fill: &Fill) -> Vec<Call> {
        self.calls.order.iter().map(|template| template.call(self, fill)).collect()
    }

    /// Builds the call of a redemption; returns `None` if the order is the payment.
    #[must_use]
    pub fn redeem(&self, fill: &Fill) -> Option<Call> {
        self.calls.redeem.as_ref().map(|template| template.call(self, fill))
    }

    fn check(&self) -> Result<(), PlanError> {
        if self.maximum.is_zero() || self.minimum > self.maximum {
            return Err(PlanError::Range(self.id));
        }
        if self.calls.order.is_empty() {
            return Err(PlanError::NoOrder(self.id));
        }
        if self.calls.order.iter().any(|template| template.args.contains(&Arg::Seed)) {
            Ok(())
        } else {
            Err(PlanError::NoSeed(self.id))
        }
    }
}

/// The plans of a network.
#[derive(Clone, Default)]
pub struct Plans(Vec<Plan>);

impl Plans {
    /// Creates the set of plans.
    /// # Errors
    /// A plan cannot be served, or two have the same id.
    pub fn new(plans: impl IntoIterator<Item = Plan>) -> Result<Self, PlanError> {
        let mut known = Self::default();
        for plan in plans {
            plan.check()?;
            if known.find(plan.id).is_some() {
                return Err(PlanError::Twice(plan.id));
            }
            known.0.push(plan);
        }
        Ok(known)
    }

    /// Finds the plan with this id.
    #[must_use]
    pub fn find(&self, id: PlanId) -> Option<&Plan> {
        self.0.iter().find(|plan| plan.id == id)
    }

    /// Iterates over all plans.
    pub fn iter(&self) -> impl Iterator<Item = &Plan> {
        self.0.iter()
    }
}

impl fmt::Debug for Plans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|plan| plan.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{b256, hex};
    use alloy_sol_types::{SolCall, sol};

    use super::*;

    sol! {
        interface Templates {
            function burn(address from, uint256 planId, uint256 amount, uint256 keyspace, bytes sig) external;
            function order(bytes32 seed, uint256 planId, address creditsReceiver, uint256 numberOfPurchases, bytes[] params) external;
            function approve(address spender, uint256 value) external;
        }
        interface PayAsYouGo {
            function order(bytes32 seed, uint256 planId, bytes[] params) external;
        }
    }

    const TOKEN: Address = address!("036CbD53842c5426634e7929541eC2318f3dCF7e");

    fn plan(calls: PlanCalls) -> Plan {
        Plan {
            id: "44742763076047497640080230236781474129970992727896593861997347135613135571071".parse().unwrap(),
            credits: nevermined::CREDITS,
            calls,
            price: U256::from(1_000_000),
            credits_per_order: U256::from(100),
            minimum: U256::from(2),
            maximum: U256::from(10),
        }
    }

    fn fill() -> Fill {
        Fill {
            account: address!("D4f58B60330bC59cB0A07eE6A1A66ad64244eC8c"),
            seed: b256!("abababababababababababababababababababababababababababababababab"),
            amount: U256::from(5),
            purchases: 3,
        }
    }

    /// Checks the selectors against those of the deployed contracts, and the encoding against `sol!` of the same
    /// functions.
    #[test]
    fn the_default_calls_are_those_of_the_contracts() {
        let (plan, fill) = (plan(PlanCalls::nevermined(TOKEN)), fill());
        let [approve, order] = <[Call; 2]>::try_from(plan.order(&fill)).unwrap();
        assert_eq!((approve.target, order.target), (TOKEN, nevermined::FIXED_PAYMENT));
        assert_eq!(approve.data[..4], hex!("095ea7b3"));
        let value = U256::from(3_000_000);
        assert_eq!(approve.data, Templates::approveCall { spender: nevermined::VAULT, value }.abi_encode());
        assert_eq!(order.data[..4], hex!("f9314107"));
        let expected = Templates::orderCall {
            seed: fill.seed,
            planId: plan.id.value(),
            creditsReceiver: fill.account,
            numberOfPurchases: U256::from(3),
            params: Vec::new(),
        };
        assert_eq!(order.data, expected.abi_encode());
        let redeem = plan.redeem(&fill).unwrap();
        assert_eq!((redeem.target, &redeem.data[..4]), (nevermined::CREDITS, &hex!("69cd5d3b")[..]));
        let expected = Templates::burnCall {
            from: fill.account,
            planId: plan.id.value(),
            amount: U256::from(5),
            keyspace: U256::ZERO,
            sig: Default::default(),
        };
        assert_eq!(redeem.data, expected.abi_encode());
        assert_eq!(plan.calls.redeem.as_ref().unwrap().offset(Arg::Amount), Some(64));
        assert_eq!(plan.calls.order[1].offset(Arg::PlanId), Some(32));
    }

    #[test]
    fn pay_as_you_go_orders_and_burns_nothing() {
        let plan = plan(PlanCalls::pay_as_you_go(nevermined::PAY_AS_YOU_GO, TOKEN, nevermined::VAULT));
        let fill = fill();
        let order = plan.order(&fill).pop().unwrap();
        assert_eq!(order.data[..4], hex!("2c83443e"));
        let expected = PayAsYouGo::orderCall { seed: fill.seed, planId: plan.id.value(), params: Vec::new() };
        assert_eq!(order.data, expected.abi_encode());
        assert!(plan.is_pay_as_you_go());
        assert_eq!(plan.redeem(&fill), None);
    }

    #[test]
    fn a_request_costs_at_least_the_minimum_and_at_most_the_maximum() {
        let plan = plan(PlanCalls::nevermined(TOKEN));
        for (asked, need) in [(1u64, 2u64), (2, 2), (5, 5), (10, 10), (11, 10)] {
            assert_eq!(plan.need(U256::from(asked)), U256::from(need), "{asked}");
        }
        for (missing, purchases) in [(0u64, 1), (1, 1), (100, 1), (101, 2)] {
            assert_eq!(plan.purchases(U256::from(missing)), purchases, "{missing}");
        }
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        let good = plan(PlanCalls::nevermined(TOKEN));
        let id = good.id;
        assert!(Plans::new([good.clone()]).unwrap().find(id).is_some());
        assert_eq!(Plans::new([good.clone(), good.clone()]).unwrap_err(), PlanError::Twice(id));
        let none = Plan { maximum: U256::ZERO, minimum: U256::ZERO, ..good.clone() };
        assert_eq!(Plans::new([none]).unwrap_err(), PlanError::Range(id));
        let upside_down = Plan { minimum: U256::from(11), ..good.clone() };
        assert_eq!(Plans::new([upside_down]).unwrap_err(), PlanError::Range(id));
        let mut seedless = good.clone();
        seedless.calls.order.truncate(1);
        assert_eq!(Plans::new([seedless]).unwrap_err(), PlanError::NoSeed(id));
        let mut empty = good;
        empty.calls.order.clear();
        assert_eq!(Plans::new([empty]).unwrap_err(), PlanError::NoOrder(id));
    }
}
