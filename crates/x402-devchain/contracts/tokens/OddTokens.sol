// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

import {TokenBase} from "./TokenBase.sol";

/// @title A token that answers as those of Paxos (PYUSD, USDG): an authorization that was used is no error. The call returns,
/// says so in an event, and looks neither at the signature nor at the balance.
/// @dev Our own code, from the published interface and behaviour.
contract PaxosToken is TokenBase {
    event AuthorizationAlreadyUsed(address indexed authorizer, bytes32 indexed nonce);

    error AddressFrozen();
    error AuthorizationInvalid();
    error AuthorizationExpired();
    error InsufficientFunds();
    error InvalidSignature();

    function version() external pure returns (string memory) {
        return _version();
    }

    function _name() internal pure override returns (string memory) {
        return "Paxos Dollar";
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
        if (_blocked[from] || _blocked[to]) revert AddressFrozen();
        if (block.timestamp <= validAfter) revert AuthorizationInvalid();
        if (block.timestamp >= validBefore) revert AuthorizationExpired();
        if (_used[from][nonce]) {
            emit AuthorizationAlreadyUsed(from, nonce);
            return;
        }
        if (!signed) revert InvalidSignature();
        _consume(from, nonce);
        emit AuthorizationUsed(from, nonce);
        if (value > _balances[from]) revert InsufficientFunds();
        _move(from, to, value);
    }
}

/// @title Moves first, and says what it used last.
contract TransferFirstToken is TokenBase {
    function version() external pure returns (string memory) {
        return _version();
    }

    function _name() internal pure override returns (string memory) {
        return "First Dollar";
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
        _check(validAfter, validBefore, signed);
        _consume(from, nonce);
        _move(from, to, value);
        emit AuthorizationUsed(from, nonce);
    }
}

/// @title Keeps one percent of what it moves.
contract FeeToken is TokenBase {
    function version() external pure returns (string memory) {
        return _version();
    }

    function _name() internal pure override returns (string memory) {
        return "Fee Dollar";
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
        _check(validAfter, validBefore, signed);
        _consume(from, nonce);
        emit AuthorizationUsed(from, nonce);
        _pull(from, to, value);
    }

    function _pull(address from, address to, uint256 value) internal override {
        uint256 fee = value / 100;
        _move(from, to, value - fee);
        _move(from, address(0xFee), fee);
    }
}

/// @title Moves and emits no Transfer.
contract SilentToken is TokenBase {
    function version() external pure returns (string memory) {
        return _version();
    }

    function _name() internal pure override returns (string memory) {
        return "Silent Dollar";
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
        _check(validAfter, validBefore, signed);
        _consume(from, nonce);
        emit AuthorizationUsed(from, nonce);
        _pull(from, to, value);
    }

    function _pull(address from, address to, uint256 value) internal override {
        require(value <= _balances[from], "balance");
        _balances[from] -= value;
        _balances[to] += value;
    }
}

/// @title Refuses a pull by allowance with `false`, as ERC-20 permits, and says nothing else.
contract FalseToken is TokenBase {
    function version() external pure returns (string memory) {
        return _version();
    }

    function _name() internal pure override returns (string memory) {
        return "False Dollar";
    }

    function transferFrom(address, address, uint256) external pure override returns (bool) {
        return false;
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
        _check(validAfter, validBefore, signed);
        _consume(from, nonce);
        emit AuthorizationUsed(from, nonce);
        _move(from, to, value);
    }
}
