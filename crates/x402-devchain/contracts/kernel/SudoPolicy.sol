// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

import {KernelPolicy, PackedUserOperation, VALID} from "./KernelModule.sol";

/// @title No limit.
/// @dev The deployed one counts installations and has no status; here it has that of the other policies.
contract SudoPolicy is KernelPolicy {
    function _install(bytes32, bytes calldata) internal pure override {}

    function _check(bytes32, PackedUserOperation calldata) internal pure override returns (uint256) {
        return VALID;
    }
}
