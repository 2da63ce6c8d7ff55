// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

import {INVALID, KernelPolicy, PackedUserOperation} from "./KernelModule.sol";

/// @title So many operations, each `interval` seconds after the one before, and then no more.
contract RateLimitPolicy is KernelPolicy {
    struct Config {
        uint48 interval;
        uint48 count;
        uint48 startAt;
    }

    mapping(bytes32 id => mapping(address account => Config)) public rateLimitConfigs;

    /// `data` is interval, count and startAt, 6 bytes each.
    function _install(bytes32 id, bytes calldata data) internal override {
        rateLimitConfigs[id][msg.sender] =
            Config(uint48(bytes6(data[:6])), uint48(bytes6(data[6:12])), uint48(bytes6(data[12:18])));
    }

    function _check(bytes32 id, PackedUserOperation calldata) internal override returns (uint256) {
        Config storage config = rateLimitConfigs[id][msg.sender];
        if (config.count == 0) return INVALID;
        uint48 startAt = config.startAt;
        config.count--;
        config.startAt = startAt + config.interval;
        return _times(startAt, 0);
    }
}
