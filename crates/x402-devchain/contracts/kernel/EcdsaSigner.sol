// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

import {Ecdsa} from "./Ecdsa.sol";
import {EIP1271_INVALID, EIP1271_VALID, INVALID, PackedUserOperation, SIGNER, VALID} from "./KernelModule.sol";

/// @title The signer of a Kernel v3 permission whose session key is an EOA. The account is the caller.
contract EcdsaSigner {
    mapping(address account => uint256) public usedIds;
    mapping(bytes32 id => mapping(address account => address)) public signer;

    /// `data` is the permission's id and the session key's 20 bytes.
    function onInstall(bytes calldata data) external payable {
        bytes32 id = bytes32(data[:32]);
        require(signer[id][msg.sender] == address(0));
        usedIds[msg.sender]++;
        signer[id][msg.sender] = address(bytes20(data[32:52]));
    }

    /// The key stays behind, so the permission cannot be installed a second time.
    function onUninstall(bytes calldata data) external payable {
        require(signer[bytes32(data[:32])][msg.sender] != address(0));
        usedIds[msg.sender]--;
    }

    function isModuleType(uint256 moduleType) external pure returns (bool) {
        return moduleType == SIGNER;
    }

    function isInitialized(address account) external view returns (bool) {
        return usedIds[account] > 0;
    }

    function checkUserOpSignature(bytes32 id, PackedUserOperation calldata op, bytes32 opHash)
        external
        payable
        returns (uint256)
    {
        return Ecdsa.isSignedBy(signer[id][msg.sender], opHash, op.signature) ? VALID : INVALID;
    }

    function checkSignature(bytes32 id, address, bytes32 hash, bytes calldata signature)
        external
        view
        returns (bytes4)
    {
        return Ecdsa.isSignedBy(signer[id][msg.sender], hash, signature) ? EIP1271_VALID : EIP1271_INVALID;
    }
}
