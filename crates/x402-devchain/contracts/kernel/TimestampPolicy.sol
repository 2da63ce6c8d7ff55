// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

import {KernelPolicy, PackedUserOperation} from "./KernelModule.sol";

/// @title When a permission counts. The EntryPoint compares the times, so this reads no clock.
contract TimestampPolicy is KernelPolicy {
    struct Config {
        uint48 validAfter;
        uint48 validUntil;
    }

    mapping(bytes32 id => mapping(address account => Config)) public timestampPolicyConfig;

    function _install(bytes32 id, bytes calldata data) internal override {
        timestampPolicyConfig[id][msg.sender] = abi.decode(data, (Config));
    }

    function _check(bytes32 id, PackedUserOperation calldata) internal view override returns (uint256) {
        Config memory config = timestampPolicyConfig[id][msg.sender];
        return _times(config.validAfter, config.validUntil);
    }
}
