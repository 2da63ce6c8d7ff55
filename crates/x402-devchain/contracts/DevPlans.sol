// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

interface IERC20 {
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// @title A test contract of plans: what a payer orders and redeems is called as Nevermined's contracts are (v1.5.0).
/// @notice Registering plans is open to everyone: this contract exists on a devchain only. Templates, vault and credits
/// are one contract here, so the price is approved to this address.
/// @dev No constructor, no immutables: the runtime code works wherever genesis puts it.
contract DevPlans {
    struct Plan {
        address token; // what the price is paid in; zero: an order costs nothing
        address seller;
        uint256 price; // atomic units of the token for one purchase
        uint256 credits; // what one purchase brings
        uint256 minimum; // what one redemption takes at least
        uint256 maximum; // and at most
        uint256 duration; // seconds after which what was bought ends; 0: never
        bool payAsYouGo; // the order is the payment: nothing is minted, nothing burned
        bool known;
    }

    /// What one order brought, and what is left of it.
    struct Lot {
        uint256 left;
        uint256 end; // the last second; 0: never
    }

    mapping(uint256 => Plan) private _plans;
    mapping(address => mapping(uint256 => Lot[])) private _lots;
    /// Agreements that exist, by sender, seed and plan.
    mapping(bytes32 => bool) public agreementExists;

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

    // Setup, open to everyone.

    function register(uint256 planId, Plan calldata plan) external {
        if (planId == 0) revert InvalidPlanId(planId);
        if (_plans[planId].known) revert PlanExists(planId);
        if (plan.maximum == 0 || plan.minimum > plan.maximum) revert InvalidAmounts(plan.minimum, plan.maximum);
        _plans[planId] = plan;
        _plans[planId].known = true;
        emit PlanRegistered(planId, plan.seller);
    }

    // Orders.

    /// Buys a plan of a fixed price, some times over. The credits go to `creditsReceiver`.
    function order(
        bytes32 seed,
        uint256 planId,
        address creditsReceiver,
        uint256 numberOfPurchases,
        bytes[] calldata
    ) external payable {
        Plan storage plan = _agree(seed, planId);
        if (plan.payAsYouGo) revert OnlyFixedPrice(planId);
        if (numberOfPurchases == 0) revert InvalidPurchases(numberOfPurchases);
        _pay(plan, plan.price * numberOfPurchases);
        uint256 credits = plan.credits * numberOfPurchases;
        uint256 end = plan.duration == 0 ? 0 : block.timestamp + plan.duration;
        _lots[creditsReceiver][planId].push(Lot(credits, end));
        emit TransferSingle(msg.sender, address(0), creditsReceiver, planId, credits);
    }

    /// Pays for one use of a plan that is paid as it is used.
    function order(bytes32 seed, uint256 planId, bytes[] calldata) external payable {
        Plan storage plan = _agree(seed, planId);
        if (!plan.payAsYouGo) revert OnlyPayAsYouGo(planId);
        _pay(plan, plan.price);
    }

    function _agree(bytes32 seed, uint256 planId) private returns (Plan storage plan) {
        if (seed == 0) revert InvalidSeed(seed);
        if (planId == 0) revert InvalidPlanId(planId);
        plan = _plans[planId];
        if (!plan.known) revert PlanNotFound(planId);
        if (msg.value != 0) revert NativeTokenNotSupported();
        bytes32 agreementId = agreementIdOf(msg.sender, seed, planId);
        if (agreementExists[agreementId]) revert AgreementAlreadyRegistered(agreementId);
        agreementExists[agreementId] = true;
        emit AgreementRegistered(agreementId, msg.sender, planId);
    }

    function _pay(Plan storage plan, uint256 price) private {
        if (plan.token == address(0) || price == 0) return;
        if (!IERC20(plan.token).transferFrom(msg.sender, plan.seller, price)) revert PaymentFailed();
    }

    // Redemption.

    /// Takes credits of the caller's own, within the plan's minimum and maximum; those that end first go first.
    function burn(address from, uint256 planId, uint256 amount, uint256, bytes calldata) external {
        if (msg.sender != from) revert NotHolder(msg.sender, from);
        Plan storage plan = _plans[planId];
        if (!plan.known) revert PlanNotFound(planId);
        uint256 taken = amount < plan.minimum ? plan.minimum : amount > plan.maximum ? plan.maximum : amount;
        uint256 balance = balanceOf(from, planId);
        if (balance < taken) revert NotEnoughCredits(from, planId, taken, balance);
        Lot[] storage lots = _lots[from][planId];
        uint256 missing = taken;
        for (uint256 i = 0; missing > 0; i++) {
            Lot storage lot = lots[i];
            if (lot.end != 0 && lot.end < block.timestamp) continue;
            uint256 part = lot.left < missing ? lot.left : missing;
            lot.left -= part;
            missing -= part;
        }
        emit TransferSingle(msg.sender, from, address(0), planId, taken);
    }

    // Views.

    function balanceOf(address account, uint256 planId) public view returns (uint256 balance) {
        Lot[] storage lots = _lots[account][planId];
        for (uint256 i = 0; i < lots.length; i++) {
            if (lots[i].end == 0 || lots[i].end >= block.timestamp) balance += lots[i].left;
        }
    }

    function getPlan(uint256 planId) external view returns (Plan memory) {
        return _plans[planId];
    }

    function agreementIdOf(address sender, bytes32 seed, uint256 planId) public pure returns (bytes32) {
        return keccak256(abi.encode(sender, seed, planId));
    }
}
