// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

interface IKernelFactory {
    function createAccount(bytes calldata data, bytes32 salt) external payable returns (address);
}

/// @title The factory of Kernel's factories. The one on public chains is staked and has an owner; here no one is needed.
contract MetaFactory {
    mapping(address factory => bool) public approved;

    error NotApprovedFactory();

    constructor(address factory) {
        approved[factory] = true;
    }

    /// Open to everyone: this contract exists on a devchain only.
    function approveFactory(address factory, bool approval) external payable {
        approved[factory] = approval;
    }

    function deployWithFactory(IKernelFactory factory, bytes calldata createData, bytes32 salt)
        external
        payable
        returns (address)
    {
        if (!approved[address(factory)]) revert NotApprovedFactory();
        return factory.createAccount(createData, salt);
    }
}
