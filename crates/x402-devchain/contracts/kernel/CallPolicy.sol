// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.28;

import {KernelPolicy, PackedUserOperation, VALID} from "./KernelModule.sol";

/// @title Which calls a permission may make: the call policy 0.0.4.
contract CallPolicy is KernelPolicy {
    enum Condition {
        Equal,
        GreaterThan,
        LessThan,
        GreaterOrEqual,
        LessOrEqual,
        NotEqual,
        OneOf
    }

    /// A comparison with the word at `offset`, counted after the selector.
    struct Rule {
        Condition condition;
        uint64 offset;
        bytes32[] params;
    }

    /// One kind of call. The zero address is any target, selector zero a call without data.
    struct Permission {
        bytes1 callType;
        address target;
        bytes4 selector;
        uint256 valueLimit;
        Rule[] rules;
    }

    struct Execution {
        address target;
        uint256 value;
        bytes data;
    }

    bytes1 private constant SINGLE = 0x00;
    bytes1 private constant BATCH = 0x01;
    bytes1 private constant DELEGATECALL = 0xff;
    /// `execute(bytes32,bytes)`: what the account may do by other functions, no policy sees.
    bytes4 private constant EXECUTE = 0xe9ae5c53;

    /// By the hash of call type, target and selector: `abi.encode(valueLimit, rules)`.
    mapping(bytes32 id => mapping(bytes32 permissionHash => mapping(address account => bytes)))
        public encodedPermissions;

    error InvalidCallType();
    error InvalidCallData();
    error CallViolatesParamRule();
    error CallViolatesValueRule();

    function _install(bytes32 id, bytes calldata data) internal override {
        Permission[] memory permissions = abi.decode(data, (Permission[]));
        for (uint256 i = 0; i < permissions.length; i++) {
            Permission memory permission = permissions[i];
            bytes32 hash = _hash(permission.callType, permission.target, permission.selector);
            require(encodedPermissions[id][hash][msg.sender].length == 0, "duplicate permissionHash");
            for (uint256 j = 0; j < permission.rules.length; j++) {
                Rule memory rule = permission.rules[j];
                require(
                    rule.condition == Condition.OneOf || rule.params.length == 1,
                    "only OneOf condition can have multiple params"
                );
            }
            encodedPermissions[id][hash][msg.sender] = abi.encode(permission.valueLimit, permission.rules);
        }
    }

    function _check(bytes32 id, PackedUserOperation calldata op) internal view override returns (uint256) {
        bytes calldata callData = op.callData;
        require(bytes4(callData) == EXECUTE);
        bytes1 callType = callData[4];
        bytes calldata execution = _execution(callData[4:]);
        if (callType == SINGLE) {
            address target = address(bytes20(execution[:20]));
            _checkCall(id, SINGLE, Execution(target, uint256(bytes32(execution[20:52])), execution[52:]));
        } else if (callType == BATCH) {
            Execution[] memory calls = abi.decode(execution, (Execution[]));
            for (uint256 i = 0; i < calls.length; i++) {
                _checkCall(id, SINGLE, calls[i]);
            }
        } else if (callType == DELEGATECALL) {
            _checkCall(id, DELEGATECALL, Execution(address(bytes20(execution[:20])), 0, execution[20:]));
        } else {
            revert InvalidCallType();
        }
        return VALID;
    }

    /// The second argument of `execute`, where the account itself reads it.
    function _execution(bytes calldata arguments) private pure returns (bytes calldata) {
        uint256 at = uint256(bytes32(arguments[32:64]));
        uint256 length = uint256(bytes32(arguments[at:at + 32]));
        return arguments[at + 32:at + 32 + length];
    }

    function _checkCall(bytes32 id, bytes1 callType, Execution memory call) private view {
        // One to three bytes would be padded to another call's selector.
        require(call.data.length == 0 || call.data.length >= 4);
        bytes4 selector = bytes4(call.data);
        bytes memory encoded = encodedPermissions[id][_hash(callType, call.target, selector)][msg.sender];
        if (encoded.length == 0) encoded = encodedPermissions[id][_hash(callType, address(0), selector)][msg.sender];
        if (encoded.length == 0) revert InvalidCallData();
        (uint256 valueLimit, Rule[] memory rules) = abi.decode(encoded, (uint256, Rule[]));
        if (call.value > valueLimit) revert CallViolatesValueRule();
        for (uint256 i = 0; i < rules.length; i++) {
            if (!_holds(rules[i], _word(call.data, 4 + uint256(rules[i].offset)))) revert CallViolatesParamRule();
        }
    }

    function _holds(Rule memory rule, bytes32 word) private pure returns (bool) {
        if (rule.condition == Condition.OneOf) {
            for (uint256 i = 0; i < rule.params.length; i++) {
                if (word == rule.params[i]) return true;
            }
            return false;
        }
        bytes32 param = rule.params[0];
        if (rule.condition == Condition.Equal) return word == param;
        if (rule.condition == Condition.GreaterThan) return word > param;
        if (rule.condition == Condition.LessThan) return word < param;
        if (rule.condition == Condition.GreaterOrEqual) return word >= param;
        if (rule.condition == Condition.LessOrEqual) return word <= param;
        return word != param;
    }

    function _word(bytes memory data, uint256 at) private pure returns (bytes32 word) {
        require(at + 32 <= data.length);
        assembly ("memory-safe") {
            word := mload(add(add(data, 32), at))
        }
    }

    function _hash(bytes1 callType, address target, bytes4 selector) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(callType, target, selector));
    }
}
