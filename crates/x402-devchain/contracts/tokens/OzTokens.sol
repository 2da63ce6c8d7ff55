// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

import {TokenBase} from "./TokenBase.sol";

/// @title A token that answers as one made of OpenZeppelin's ERC3009 (contracts 5.7.0, token/ERC20/extensions/draft-ERC3009.sol):
/// EIP-5267's eip712Domain() and no version(), custom errors, one overload of transferWithAuthorization.
/// @dev Our own code, from the published interface and behaviour.
contract OzToken is TokenBase {
    error ERC3009InvalidSignature();
    error ERC3009InvalidAuthorizationTime(uint256 validAfter, uint256 validBefore);
    error ERC3009UsedAuthorization(address authorizer, bytes32 nonce);
    error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
    error ERC20InvalidSender(address sender);
    error ERC20InvalidReceiver(address receiver);

    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory domainName,
            string memory domainVersion,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        return (hex"0f", _name(), _version(), block.chainid, address(this), bytes32(0), new uint256[](0));
    }

    function _name() internal pure virtual override returns (string memory) {
        return "Oz Dollar";
    }

    function _authorized(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bool signed
    ) internal override {
        require(signed, ERC3009InvalidSignature());
        require(
            block.timestamp > validAfter && block.timestamp < validBefore,
            ERC3009InvalidAuthorizationTime(validAfter, validBefore)
        );
        _consumeNonce(from, nonce);
        emit AuthorizationUsed(from, nonce);
        require(!_blocked[from], ERC20InvalidSender(from));
        require(!_blocked[to] && to != address(0), ERC20InvalidReceiver(to));
        require(value <= _balances[from], ERC20InsufficientBalance(from, _balances[from], value));
        _move(from, to, value);
    }

    function _consumeNonce(address from, bytes32 nonce) internal virtual {
        require(!_used[from][nonce], ERC3009UsedAuthorization(from, nonce));
        _used[from][nonce] = true;
    }
}

/// @title The same by OpenZeppelin's ERC20TransferAuthorization (5.7.0): a nonce is a key of 24 bytes and a counter of 8,
/// which must be the next of its key (NoncesKeyed).
contract OzKeyedToken is OzToken {
    mapping(address => mapping(uint192 => uint64)) private _next;

    error InvalidAccountNonce(address account, uint256 currentNonce);

    function _name() internal pure override returns (string memory) {
        return "Oz Keyed Dollar";
    }

    function nonces(address owner, uint192 key) public view returns (uint256) {
        return (uint256(key) << 64) | _next[owner][key];
    }

    function authorizationState(address authorizer, bytes32 nonce) external view override returns (bool) {
        return _next[authorizer][uint192(uint256(nonce) >> 64)] > uint64(uint256(nonce));
    }

    function _consumeNonce(address from, bytes32 nonce) internal override {
        uint192 key = uint192(uint256(nonce) >> 64);
        uint256 current = nonces(from, key);
        _next[from][key]++;
        require(uint256(nonce) == current, InvalidAccountNonce(from, current));
    }
}
