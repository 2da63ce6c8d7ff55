// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

import {KernelPolicy, PackedUserOperation} from "./KernelModule.sol";

/// @title So many operations in each interval. It reads the block's time, which ERC-7562 (OP-011) forbids in validation.
contract RateLimitResetPolicy is KernelPolicy {
    struct Config {
        uint48 interval;
        uint48 initialCount;
    }

    struct State {
        uint48 storedCount;
        uint48 resetDate;
    }

    mapping(bytes32 id => mapping(address account => Config)) public rateLimitConfigs;
    mapping(bytes32 id => mapping(address account => State)) public rateLimitState;

    error RateLimited();

    /// `data` is interval and count, 6 bytes each.
    function _install(bytes32 id, bytes calldata data) internal override {
        Config memory config = Config(uint48(bytes6(data[:6])), uint48(bytes6(data[6:12])));
        rateLimitConfigs[id][msg.sender] = config;
        rateLimitState[id][msg.sender] = State(config.initialCount, uint48(block.timestamp) + config.interval);
    }

    function _check(bytes32 id, PackedUserOperation calldata) internal override returns (uint256) {
        Config memory config = rateLimitConfigs[id][msg.sender];
        State storage state = rateLimitState[id][msg.sender];
        uint48 time = uint48(block.timestamp);
        if (time >= state.resetDate) {
            state.storedCount = config.initialCount;
            state.resetDate = time + config.interval;
        }
        if (state.storedCount == 0) revert RateLimited();
        state.storedCount--;
        return _times(time, state.resetDate);
    }
}
