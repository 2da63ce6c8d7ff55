// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

/// @title The smallest EIP-1271 wallet: the owner in slot 0 signs for it with ECDSA.
/// @dev No constructor: tests set slot 0. `misbehave` picks a wrong way to answer, to see what a caller makes of it.
contract TestWallet {
    address public owner;
    uint8 public misbehave;

    function setOwner(address newOwner) external {
        owner = newOwner;
    }

    /// 0: right; 1: wrong magic; 2: reverts; 3: returns 4 bytes only; 4: the magic with dirt behind it.
    function setMisbehave(uint8 how) external {
        misbehave = how;
    }

    function isValidSignature(bytes32 digest, bytes memory signature) external view returns (bytes4) {
        if (misbehave == 2) revert("TestWallet: refused");
        if (misbehave == 3) {
            assembly {
                mstore(0, shl(224, 0x1626ba7e))
                return(0, 4)
            }
        }
        if (misbehave == 4) {
            assembly {
                mstore(0, or(shl(224, 0x1626ba7e), 1))
                return(0, 32)
            }
        }
        if (misbehave == 1 || signature.length != 65) return 0xffffffff;
        bytes32 r;
        bytes32 s;
        uint8 v;
        assembly ("memory-safe") {
            r := mload(add(signature, 0x20))
            s := mload(add(signature, 0x40))
            v := byte(0, mload(add(signature, 0x60)))
        }
        return ecrecover(digest, v, r, s) == owner && owner != address(0) ? bytes4(0x1626ba7e) : bytes4(0xffffffff);
    }

    receive() external payable {}
}
