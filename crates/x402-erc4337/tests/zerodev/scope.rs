//! What a permission allows, and what it does not.

use alloy_primitives::{Address, Bytes, U256};
use serde_json::json;
use x402_erc4337::scope::{Calls, Limit, ScopeViolation, Signatures, Window};
use x402_erc4337::session::zerodev::{Approval, ApprovalCheckError, ECDSA_VALIDATOR, Policy};
use x402_erc4337::{Call, EntryPointVersion};
use x402_types::UnixSeconds;

use crate::cases::{CHAIN, approval, cases, serialize};
use crate::common::{address, bytes};

#[test]
fn the_scope_of_the_vectors() {
    let case = &cases()[1];
    let approval = approval(case);
    let permission = approval.permission_for(address(&case["sessionKey"])).unwrap();
    let scope = approval.scope(Some(&permission));
    assert_eq!(scope.signatures, Signatures::Open);
    assert_eq!(scope.window, Window { valid_after: Some(1_780_000_000), valid_until: Some(1_900_000_000) });
    assert!(scope.limits.contains(&Limit::Calls { count: 10, interval: 0, start_at: 0 }));
    let Calls::Only(kinds) = &scope.calls else { panic!() };
    assert_eq!(kinds.len(), 1);

    let call_data = bytes(&case["executeCallData"]);
    let call = Call::read(&call_data).unwrap().remove(0);
    let at = UnixSeconds(1_800_000_000);
    assert_eq!(scope.permits(&call, at), Ok(()));
    assert_eq!(scope.permits_call_data(&call_data, at), Ok(()));
    assert_eq!(scope.permits(&call, UnixSeconds(1_780_000_000)), Ok(()));
    assert_eq!(scope.permits(&call, UnixSeconds(1_900_000_000)), Ok(()));
    assert_eq!(scope.permits(&call, UnixSeconds(1_779_999_999)), Err(ScopeViolation::NotYetValid(1_780_000_000)));
    assert_eq!(scope.permits(&call, UnixSeconds(1_900_000_001)), Err(ScopeViolation::Expired(1_900_000_000)));

    let with = |change: &dyn Fn(&mut Call)| {
        let mut other = call.clone();
        change(&mut other);
        scope.permits(&other, at)
    };
    let entry_point = EntryPointVersion::V07.address();
    assert_eq!(with(&|c| c.target = scope.account), Err(ScopeViolation::SelfTarget));
    assert_eq!(with(&|c| c.target = entry_point), Err(ScopeViolation::EntryPointTarget));
    let other = Address::repeat_byte(9);
    assert_eq!(with(&|c| c.target = other), Err(ScopeViolation::Target(other)));
    assert_eq!(with(&|c| c.value = U256::from(1)), Err(ScopeViolation::Value(U256::ZERO)));
    assert!(matches!(with(&|c| c.data = Bytes::from_static(&[1, 2, 3, 4])), Err(ScopeViolation::Selector(_))));
    assert_eq!(with(&|c| c.data = Bytes::from_static(&[1, 2, 3])), Err(ScopeViolation::NoSelector));
    assert!(matches!(with(&|c| c.data = Bytes::new()), Err(ScopeViolation::Selector(_))));
    assert_eq!(with(&|c| c.data = c.data.slice(..4)), Err(ScopeViolation::NoArgument(0)));
    // planId, then amount: the vectors' key redeems one plan, and at most so much.
    let changed = |at: usize, to: u8| {
        with(&|c| {
            let mut data = c.data.to_vec();
            data[at] = to;
            c.data = data.into();
        })
    };
    assert_eq!(changed(4, 0), Err(ScopeViolation::Argument(0)));
    assert_eq!(changed(4 + 32, 0xff), Err(ScopeViolation::Argument(32)));

    let hidden = [call.clone(), Call { target: scope.account, ..call.clone() }];
    assert_eq!(scope.permits_call_data(&Call::execute_batch(&hidden), at), Err(ScopeViolation::SelfTarget));
}

#[test]
fn flags_take_policies_away() {
    let case = &cases()[0];
    let approval = approval(case);
    let mut permission = approval.permission_for(address(&case["sessionKey"])).unwrap();
    permission.flag = 2;
    assert_eq!(permission.scope(approval.account).signatures, Signatures::Closed);
    permission.flag = 1;
    let call = Call { target: Address::repeat_byte(3), ..Call::default() };
    let at = UnixSeconds(1_800_000_000);
    assert_eq!(permission.scope(approval.account).permits(&call, at), Err(ScopeViolation::Operations));
    permission.flag = 0;
    permission.policies[0].flag = 1;
    assert_eq!(permission.scope(approval.account).calls, Calls::Any);
    permission.policies[1].address = Address::repeat_byte(8);
    let unknown = Err(ScopeViolation::UnknownPolicy(Address::repeat_byte(8)));
    assert_eq!(permission.scope(approval.account).permits(&call, at), unknown);
}

#[test]
fn offsets_past_the_end() {
    let approval = approval(&cases()[0]);
    let call = Call::read(&bytes(&cases()[0]["executeCallData"])).unwrap().remove(0);
    for offset in [32, 1 << 32, u64::MAX - 3, u64::MAX] {
        let mut permission = approval.permission_for(address(&cases()[0]["sessionKey"])).unwrap();
        let Policy::Call { permissions, .. } = &mut permission.policies[0].policy else { panic!() };
        permissions[0].rules[0].offset = offset;
        let scope = permission.scope(approval.account);
        assert_eq!(scope.permits(&call, UnixSeconds(1_800_000_000)), Err(ScopeViolation::NoArgument(offset)));
    }
}

#[test]
fn modules_are_no_targets() {
    let case = &cases()[0];
    let mut permission = approval(case).permission_for(address(&case["sessionKey"])).unwrap();
    permission.policies.remove(0);
    let scope = permission.scope(address(&case["account"]));
    assert_eq!(scope.calls, Calls::Any);
    let at = UnixSeconds(1_800_000_000);
    for module in [ECDSA_VALIDATOR, permission.signer.contract, permission.policies[0].address] {
        let call = Call { target: module, ..Call::default() };
        assert_eq!(scope.permits(&call, at), Err(ScopeViolation::ModuleTarget(module)));
    }
    assert_eq!(scope.permits(&Call { target: Address::repeat_byte(2), ..Call::default() }, at), Ok(()));
}

#[test]
fn any_target_and_unknown_contracts() {
    let mut json = cases()[0]["serializedJson"].clone();
    let policies = &mut json["permissionParams"]["policies"];
    policies[0]["policyParams"]["permissions"][0]["target"] = json!(Address::ZERO.to_string());
    let read = Approval::read(&serialize(&json)).unwrap();
    let Calls::Only(kinds) = read.scope(None).calls else { panic!() };
    assert_eq!(kinds[0].target, None);
    assert_eq!(read.inspect(&[address(&cases()[0]["sessionKey"])], &[CHAIN], 1), Err(ApprovalCheckError::PermissionId));

    json["permissionParams"]["policies"][1]["policyParams"]["policyAddress"] =
        json!(Address::repeat_byte(9).to_string());
    let read = Approval::read(&serialize(&json)).unwrap();
    assert!(matches!(read.policies[1].policy, Policy::Timestamp { .. }));
    assert_eq!(read.scope(None).unknown, [Address::repeat_byte(9)]);
}
