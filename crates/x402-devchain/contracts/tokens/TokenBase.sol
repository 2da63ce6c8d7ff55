// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

/// @title What the test tokens of this folder share: balances in slot 0, and EIP-3009 in steps that each token orders.
/// @notice Minting and blocking are open to everyone: these tokens exist on a devchain only.
/// @dev No constructor, no immutables: the runtime code works wherever it is put.
abstract contract TokenBase {
    bytes32 internal constant TRANSFER_TYPE = keccak256(
        "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );

    mapping(address => uint256) internal _balances;
    mapping(address => mapping(bytes32 => bool)) internal _used;
    mapping(address => bool) internal _blocked;

    mapping(address => mapping(address => uint256)) public allowance;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);
    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);

    function name() external pure virtual returns (string memory) {
        return _name();
    }

    function decimals() external pure returns (uint8) {
        return 6;
    }

    function balanceOf(address account) external view returns (uint256) {
        return _balances[account];
    }

    function mint(address to, uint256 value) external {
        _balances[to] += value;
        emit Transfer(address(0), to, value);
    }

    function setBlocked(address account, bool blocked) external {
        _blocked[account] = blocked;
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external virtual returns (bool) {
        require(value <= allowance[from][msg.sender], "allowance");
        allowance[from][msg.sender] -= value;
        _pull(from, to, value);
        return true;
    }

    function authorizationState(address authorizer, bytes32 nonce) external view virtual returns (bool) {
        return _used[authorizer][nonce];
    }

    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        bytes32 message = keccak256(abi.encode(TRANSFER_TYPE, from, to, value, validAfter, validBefore, nonce));
        bytes32 digest = keccak256(abi.encodePacked("\x19\x01", _separator(), message));
        address signer = ecrecover(digest, v, r, s);
        _authorized(from, to, value, validAfter, validBefore, nonce, signer == from && signer != address(0));
    }

    function _name() internal pure virtual returns (string memory);

    function _version() internal pure virtual returns (string memory) {
        return "1";
    }

    function _separator() internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(_name())),
                keccak256(bytes(_version())),
                block.chainid,
                address(this)
            )
        );
    }

    function _authorized(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bool signed
    ) internal virtual;

    function _check(uint256 validAfter, uint256 validBefore, bool signed) internal view {
        require(block.timestamp > validAfter, "not yet valid");
        require(block.timestamp < validBefore, "expired");
        require(signed, "invalid signature");
    }

    function _consume(address from, bytes32 nonce) internal {
        require(!_used[from][nonce], "used");
        _used[from][nonce] = true;
    }

    /// What a pull by allowance moves.
    function _pull(address from, address to, uint256 value) internal virtual {
        _move(from, to, value);
    }

    function _move(address from, address to, uint256 value) internal {
        require(value <= _balances[from], "balance");
        _balances[from] -= value;
        _balances[to] += value;
        emit Transfer(from, to, value);
    }
}
