//! Plans of credits: a contract with the interface of Nevermined's (`contracts/DevPlans.sol`).

use alloy_primitives::{Address, Bytes, U256, address};
use alloy_sol_types::{SolCall, sol};
use revm::state::EvmState;

use crate::chain::{Core, DevChain};
use crate::execute::Overlay;
use crate::genesis;
use crate::token::TOKEN;

/// The address of the plans contract, which handles orders, credits and redemptions. Buyers approve the price to this
/// address.
pub const PLANS: Address = address!("504c414e53000000000000000000000000000402");

sol! {
    /// The contract's interface; `register` is open to everyone.
    #[allow(missing_docs, reason = "the names are Nevermined's")]
    #[derive(Debug, PartialEq, Eq)]
    interface Plans {
        struct Plan {
            address token;
            address seller;
            uint256 price;
            uint256 credits;
            uint256 minimum;
            uint256 maximum;
            uint256 duration;
            bool payAsYouGo;
            bool known;
        }

        event PlanRegistered(uint256 indexed planId, address indexed seller);
        event AgreementRegistered(bytes32 indexed agreementId, address indexed creator, uint256 indexed planId);
        event TransferSingle(address indexed operator, address indexed from, address indexed to, uint256 id, uint256 value);

        error InvalidSeed(bytes32 seed);
        error InvalidPlanId(uint256 planId);
        error PlanNotFound(uint256 planId);
        error PlanExists(uint256 planId);
        error InvalidAmounts(uint256 minimum, uint256 maximum);
        error OnlyFixedPrice(uint256 planId);
        error OnlyPayAsYouGo(uint256 planId);
        error AgreementAlreadyRegistered(bytes32 agreementId);
        error NativeTokenNotSupported();
        error InvalidPurchases(uint256 numberOfPurchases);
        error NotHolder(address caller, address holder);
        error NotEnoughCredits(address holder, uint256 planId, uint256 needed, uint256 balance);
        error PaymentFailed();

        function register(uint256 planId, Plan calldata plan) external;
        function order(bytes32 seed, uint256 planId, address creditsReceiver, uint256 numberOfPurchases, bytes[] calldata params) external payable;
        function order(bytes32 seed, uint256 planId, bytes[] calldata params) external payable;
        function burn(address from, uint256 planId, uint256 amount, uint256 keyspace, bytes calldata sig) external;
        function balanceOf(address account, uint256 planId) external view returns (uint256);
        function getPlan(uint256 planId) external view returns (Plan memory);
        function agreementExists(bytes32 agreementId) external view returns (bool);
        function agreementIdOf(address sender, bytes32 seed, uint256 planId) external pure returns (bytes32);
    }
}

/// A plan to register, with its price and its credits.
///
/// Credits that never expire, credits that expire, and orders that are the payment are one plan each; a subscription is
/// a plan whose redemptions take 1 of very many credits that expire together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevPlan {
    /// The recipient of the price.
    pub seller: Address,
    /// The price of one purchase, in atomic units of the token.
    pub price: u64,
    /// The credits that one purchase adds.
    pub credits: u64,
    /// The minimum of credits that a redemption takes.
    pub minimum: u64,
    /// The maximum of credits that a redemption takes.
    pub maximum: u64,
    /// The seconds after which purchased credits expire; 0 means never.
    pub duration: u64,
    /// Whether the order is the payment: nothing is minted, nothing burned.
    pub pay_as_you_go: bool,
}

impl DevPlan {
    /// Creates a package of credits that do not expire, of which a redemption takes 1 to all.
    #[must_use]
    pub const fn credits(seller: Address, price: u64, credits: u64) -> Self {
        Self { seller, price, credits, minimum: 1, maximum: credits, duration: 0, pay_as_you_go: false }
    }

    /// Makes the credits expire this many seconds after each order.
    #[must_use]
    pub const fn ending_after(mut self, seconds: u64) -> Self {
        self.duration = seconds;
        self
    }

    /// Sets the minimum and the maximum that a redemption takes.
    #[must_use]
    pub const fn taking(mut self, minimum: u64, maximum: u64) -> Self {
        self.minimum = minimum;
        self.maximum = maximum;
        self
    }

    /// Creates a plan with a price for each use.
    #[must_use]
    pub const fn pay_as_you_go(seller: Address, price: u64) -> Self {
        Self { seller, price, credits: 0, minimum: 1, maximum: 1, duration: 0, pay_as_you_go: true }
    }
}

/// The error for a plan that the contract refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plan is refused: {reason}")]
pub struct PlanRefused {
    reason: String,
}

/// The error for credits that the contract does not report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credits cannot be read: {reason}")]
pub struct CreditsUnknown {
    reason: String,
}

impl From<DevPlan> for Plans::Plan {
    fn from(plan: DevPlan) -> Self {
        Self {
            token: TOKEN,
            seller: plan.seller,
            price: U256::from(plan.price),
            credits: U256::from(plan.credits),
            minimum: U256::from(plan.minimum),
            maximum: U256::from(plan.maximum),
            duration: U256::from(plan.duration),
            payAsYouGo: plan.pay_as_you_go,
            known: true,
        }
    }
}

impl DevChain {
    /// Registers a plan at once, as [`DevChain::set_storage`] writes: without a transaction or block.
    /// # Errors
    /// The contract refuses it: the id is 0 or exists already, or the minimum is above the maximum.
    pub fn register_plan(&self, id: U256, plan: DevPlan) -> Result<(), PlanRefused> {
        let mut core = self.core();
        let head = core.world.head_number();
        let data = Plans::registerCall { planId: id, plan: plan.into() }.abi_encode();
        let (_, changes) = call(&core, data.into()).map_err(|reason| PlanRefused { reason })?;
        core.world.history.apply(head, changes);
        Ok(())
    }

    /// Reads the credits that an account can use at the head.
    /// # Errors
    /// The contract does not report them, because its code was replaced.
    pub fn credits_of(&self, account: Address, plan: U256) -> Result<U256, CreditsUnknown> {
        let data = Plans::balanceOfCall { account, planId: plan }.abi_encode();
        let (returned, _) = call(&self.core(), data.into()).map_err(|reason| CreditsUnknown { reason })?;
        let credits = Plans::balanceOfCall::abi_decode_returns(&returned);
        credits.map_err(|error| CreditsUnknown { reason: error.to_string() })
    }
}

/// Executes a call from the zero address at the head's time.
fn call(core: &Core, data: Bytes) -> Result<(Bytes, EvmState), String> {
    let mut overlay = Overlay::new(core.world.latest());
    let time = core.world.head().header.timestamp;
    genesis::call(&mut overlay, core.world.rules.chain_id, time, PLANS, data)
}
