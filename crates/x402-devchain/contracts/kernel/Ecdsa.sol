// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

/// @title Signatures of an EOA, over a hash as it is or as `personal_sign` wraps it.
library Ecdsa {
    /// Where Solady's ECDSA, which the deployed modules use, reverts too: such a signature is not just somebody else's.
    error InvalidSignature();

    function isSignedBy(address owner, bytes32 hash, bytes calldata signature) internal pure returns (bool) {
        if (_recover(hash, signature) == owner) return true;
        return _recover(keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", hash)), signature) == owner;
    }

    /// 65 bytes, or the 64 of EIP-2098. Never the zero address.
    function _recover(bytes32 hash, bytes calldata signature) private pure returns (address signer) {
        if (signature.length == 65) {
            signer = ecrecover(hash, uint8(signature[64]), bytes32(signature[:32]), bytes32(signature[32:64]));
        } else if (signature.length == 64) {
            uint256 vs = uint256(bytes32(signature[32:]));
            signer = ecrecover(hash, uint8(27 + (vs >> 255)), bytes32(signature[:32]), bytes32(vs << 1 >> 1));
        }
        if (signer == address(0)) revert InvalidSignature();
    }
}
