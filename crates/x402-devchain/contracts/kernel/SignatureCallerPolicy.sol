// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

import {INVALID, KernelPolicy, PackedUserOperation, VALID} from "./KernelModule.sol";

/// @title Which contracts may ask for a permission's EIP-1271 signatures. Operations pass.
contract SignatureCallerPolicy is KernelPolicy {
    mapping(bytes32 id => mapping(address caller => mapping(address account => bool))) public allowedCaller;

    function _install(bytes32 id, bytes calldata data) internal override {
        address[] memory callers = abi.decode(data, (address[]));
        for (uint256 i = 0; i < callers.length; i++) {
            allowedCaller[id][callers[i]][msg.sender] = true;
        }
    }

    function _check(bytes32, PackedUserOperation calldata) internal pure override returns (uint256) {
        return VALID;
    }

    function _checkSignature(bytes32 id, address sender) internal view override returns (uint256) {
        return allowedCaller[id][sender][msg.sender] ? VALID : INVALID;
    }
}
