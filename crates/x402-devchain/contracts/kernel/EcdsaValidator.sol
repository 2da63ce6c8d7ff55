// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

import {Ecdsa} from "./Ecdsa.sol";
import {EIP1271_INVALID, EIP1271_VALID, INVALID, PackedUserOperation, VALID, VALIDATOR} from "./KernelModule.sol";

/// @title Kernel's root validator for an owner who is an EOA. The account is the caller.
contract EcdsaValidator {
    mapping(address account => address owner) public ecdsaValidatorStorage;

    event OwnerRegistered(address indexed kernel, address indexed owner);

    error NotInitialized(address account);

    /// `data` is the owner's 20 bytes.
    function onInstall(bytes calldata data) external payable {
        address owner = address(bytes20(data[:20]));
        ecdsaValidatorStorage[msg.sender] = owner;
        emit OwnerRegistered(msg.sender, owner);
    }

    function onUninstall(bytes calldata) external payable {
        if (!isInitialized(msg.sender)) revert NotInitialized(msg.sender);
        delete ecdsaValidatorStorage[msg.sender];
    }

    function isModuleType(uint256 moduleType) external pure returns (bool) {
        return moduleType == VALIDATOR;
    }

    function isInitialized(address account) public view returns (bool) {
        return ecdsaValidatorStorage[account] != address(0);
    }

    function validateUserOp(PackedUserOperation calldata op, bytes32 opHash) external payable returns (uint256) {
        return Ecdsa.isSignedBy(ecdsaValidatorStorage[msg.sender], opHash, op.signature) ? VALID : INVALID;
    }

    function isValidSignatureWithSender(address, bytes32 hash, bytes calldata signature)
        external
        view
        returns (bytes4)
    {
        bool valid = Ecdsa.isSignedBy(ecdsaValidatorStorage[msg.sender], hash, signature);
        return valid ? EIP1271_VALID : EIP1271_INVALID;
    }
}
