//! The token: `USDC`, version `2`, 6 decimals, with the behaviour of Circle's FiatTokenV2_2 (`contracts/DevUsdc.sol`).

use alloy_primitives::{Address, B256, U256, address, keccak256};
use alloy_sol_types::{SolValue, sol};

/// The address of the token, which is that of USDC on Base Sepolia.
pub const TOKEN: Address = address!("036CbD53842c5426634e7929541eC2318f3dCF7e");

/// The atomic units of one USDC.
pub const USDC: u64 = 1_000_000;

/// The tokens of each of [`ACCOUNTS`](crate::ACCOUNTS) in genesis, in atomic units: 1,000 USDC.
pub const TOKENS_EACH: u64 = 1_000 * USDC;

sol! {
    /// The token's interface; `mint`, `blacklist`, `unBlacklist`, `pause` and `unpause` are open to everyone.
    #[allow(missing_docs, reason = "the names are those of the standards")]
    #[derive(Debug, PartialEq, Eq)]
    interface Token {
        event Transfer(address indexed from, address indexed to, uint256 value);
        event Approval(address indexed owner, address indexed spender, uint256 value);
        event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
        event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);
        event Mint(address indexed minter, address indexed to, uint256 amount);
        event Blacklisted(address indexed _account);
        event UnBlacklisted(address indexed _account);
        event Pause();
        event Unpause();

        function name() external view returns (string memory);
        function symbol() external view returns (string memory);
        function version() external view returns (string memory);
        function currency() external view returns (string memory);
        function decimals() external view returns (uint8);
        function totalSupply() external view returns (uint256);
        function balanceOf(address account) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
        function nonces(address owner) external view returns (uint256);
        function paused() external view returns (bool);
        function isBlacklisted(address account) external view returns (bool);
        function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
        function DOMAIN_SEPARATOR() external view returns (bytes32);
        function TRANSFER_WITH_AUTHORIZATION_TYPEHASH() external view returns (bytes32);
        function RECEIVE_WITH_AUTHORIZATION_TYPEHASH() external view returns (bytes32);
        function CANCEL_AUTHORIZATION_TYPEHASH() external view returns (bytes32);
        function PERMIT_TYPEHASH() external view returns (bytes32);

        function mint(address to, uint256 amount) external returns (bool);
        function blacklist(address account) external;
        function unBlacklist(address account) external;
        function pause() external;
        function unpause() external;

        function transfer(address to, uint256 value) external returns (bool);
        function transferFrom(address from, address to, uint256 value) external returns (bool);
        function approve(address spender, uint256 value) external returns (bool);
        function increaseAllowance(address spender, uint256 increment) external returns (bool);
        function decreaseAllowance(address spender, uint256 decrement) external returns (bool);
        function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;
        function permit(address owner, address spender, uint256 value, uint256 deadline, bytes memory signature) external;
        function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
        function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, bytes memory signature) external;
        function receiveWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
        function receiveWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, bytes memory signature) external;
        function cancelAuthorization(address authorizer, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
        function cancelAuthorization(address authorizer, bytes32 nonce, bytes memory signature) external;
    }
}

/// A transfer of the token, read from its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The block of the transfer.
    pub block: u64,
    /// The hash of the transaction.
    pub transaction: B256,
    /// The index of the event among the logs of the block.
    pub log_index: u64,
    /// The sender of the tokens.
    pub from: Address,
    /// The recipient of the tokens.
    pub to: Address,
    /// The amount in atomic units.
    pub value: U256,
}

/// The storage slot of `totalSupply`.
pub(crate) const SUPPLY_SLOT: U256 = U256::ONE;

/// Returns the storage slot of `_balances[account]`, the mapping at slot 0.
pub(crate) fn balance_slot(account: Address) -> U256 {
    keccak256((account, U256::ZERO).abi_encode()).into()
}
