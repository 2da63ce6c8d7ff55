// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

import {INVALID, KernelPolicy, PackedUserOperation, VALID} from "./KernelModule.sol";

/// @title How much an operation's gas may cost in all, in wei. Counted by its limits, and in validation.
contract GasPolicy is KernelPolicy {
    struct Config {
        uint128 allowed;
        bool enforcePaymaster;
        address allowedPaymaster;
    }

    mapping(bytes32 id => mapping(address account => Config)) public gasPolicyConfig;

    function _install(bytes32 id, bytes calldata data) internal override {
        gasPolicyConfig[id][msg.sender] = abi.decode(data, (Config));
    }

    function _check(bytes32 id, PackedUserOperation calldata op) internal override returns (uint256) {
        Config storage config = gasPolicyConfig[id][msg.sender];
        // As deployed: without a named paymaster nothing is enforced.
        if (config.enforcePaymaster && config.allowedPaymaster != address(0)) {
            if (address(bytes20(op.paymasterAndData[:20])) != config.allowedPaymaster) return INVALID;
        }
        uint256 gas = op.preVerificationGas + (uint256(op.accountGasLimits) >> 128)
            + uint128(uint256(op.accountGasLimits));
        uint256 cost = gas * uint128(uint256(op.gasFees));
        if (cost > config.allowed) return INVALID;
        config.allowed -= uint128(cost);
        return VALID;
    }
}
