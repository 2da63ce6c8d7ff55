// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

/// @title An EIP-1271 wallet that agrees wherever it takes itself to be simulated, and nowhere else.
/// @dev How it tells stands in slot 0. 0: by the gas price, which a call without one has as 0; 1: by `tx.origin`, which is
/// not the account of slot 1, that will send the transaction.
contract TwoFacedWallet {
    uint256 public how;
    address public sender;

    function isValidSignature(bytes32, bytes memory) external view returns (bytes4) {
        bool simulated = how == 0 ? tx.gasprice == 0 : tx.origin != sender;
        return simulated ? bytes4(0x1626ba7e) : bytes4(0xffffffff);
    }
}
