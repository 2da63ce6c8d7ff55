// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

/// An operation as EntryPoint 0.7 and later pass it on.
struct PackedUserOperation {
    address sender;
    uint256 nonce;
    bytes initCode;
    bytes callData;
    bytes32 accountGasLimits;
    uint256 preVerificationGas;
    bytes32 gasFees;
    bytes paymasterAndData;
    bytes signature;
}

// Module types of ERC-7579 and of Kernel v3.
uint256 constant VALIDATOR = 1;
uint256 constant POLICY = 5;
uint256 constant SIGNER = 6;

// What a validator, a signer or a policy answers. Times may stand above, as ERC-4337 packs them.
uint256 constant VALID = 0;
uint256 constant INVALID = 1;
bytes4 constant EIP1271_VALID = 0x1626ba7e;
bytes4 constant EIP1271_INVALID = 0xffffffff;

/// @title A policy of a Kernel v3 permission. The account is the caller; `id` is the permission's 4 bytes, padded right.
abstract contract KernelPolicy {
    enum Status {
        NA,
        Live,
        Deprecated
    }

    mapping(address account => uint256) public usedIds;
    mapping(bytes32 id => mapping(address account => Status)) public status;

    modifier live(bytes32 id) {
        require(status[id][msg.sender] == Status.Live);
        _;
    }

    /// `data` is the id and what the policy limits. From NA only: an identical permission is never installed again.
    function onInstall(bytes calldata data) external payable {
        bytes32 id = bytes32(data[:32]);
        require(status[id][msg.sender] == Status.NA);
        status[id][msg.sender] = Status.Live;
        usedIds[msg.sender]++;
        _install(id, data[32:]);
    }

    function onUninstall(bytes calldata data) external payable live(bytes32(data[:32])) {
        status[bytes32(data[:32])][msg.sender] = Status.Deprecated;
        usedIds[msg.sender]--;
    }

    function checkUserOpPolicy(bytes32 id, PackedUserOperation calldata op)
        external
        payable
        live(id)
        returns (uint256 validationData)
    {
        return _check(id, op);
    }

    function checkSignaturePolicy(bytes32 id, address sender, bytes32, bytes calldata)
        external
        view
        live(id)
        returns (uint256)
    {
        return _checkSignature(id, sender);
    }

    function isModuleType(uint256 moduleType) external pure returns (bool) {
        return moduleType == POLICY;
    }

    function isInitialized(address account) external view returns (bool) {
        return usedIds[account] > 0;
    }

    function _install(bytes32 id, bytes calldata data) internal virtual;

    function _check(bytes32 id, PackedUserOperation calldata op) internal virtual returns (uint256 validationData);

    /// Most policies limit operations and let every EIP-1271 signature pass.
    function _checkSignature(bytes32, address) internal view virtual returns (uint256) {
        return VALID;
    }

    function _times(uint48 validAfter, uint48 validUntil) internal pure returns (uint256 validationData) {
        return uint256(validAfter) << 208 | uint256(validUntil) << 160;
    }
}
