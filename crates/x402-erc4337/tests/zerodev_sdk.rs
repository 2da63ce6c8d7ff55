//! Approvals that the ZeroDev SDK made: Kernel 0.3.2, every call policy, a permission flag.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use alloy_primitives::{Bytes, U256};
use common::{address, bytes, text};
use serde_json::Value;
use x402_erc4337::scope::{Calls, Signatures};
use x402_erc4337::session::zerodev::{
    Approval, CallPolicyVersion, EnableStatus, KernelAccount, KernelVersion, Permission, Policy, PolicyItem,
};

fn cases() -> Vec<Value> {
    serde_json::from_str(include_str!("../../x402-testkit/vectors/zerodev-approvals.json")).unwrap()
}

#[test]
fn every_version_is_read_checked_and_written() {
    let cases = cases();
    assert_eq!(cases.len(), 6);
    for case in &cases {
        let name = format!("{} {}", case["kernelVersion"], case["callPolicyVersion"]);
        let version = KernelVersion::ALL.into_iter().find(|v| v.as_str() == text(&case["kernelVersion"])).unwrap();
        let account = KernelAccount::new(version, address(&case["owner"]), U256::ZERO);
        assert_eq!(account.address(), address(&case["account"]), "{name}");

        let approval = Approval::read(text(&case["serialized"])).unwrap();
        assert_eq!((approval.account, approval.version()), (account.address(), version), "{name}");
        let permission = approval.check(address(&case["sessionKey"]), 84532, 1).unwrap();
        assert_eq!(format!("0x{:04x}", permission.flag), text(&case["permissionFlag"]), "{name}");
        assert_eq!(permission.id().to_string(), text(&case["permissionId"]), "{name}");
        assert_eq!(permission.enable_data(), bytes(&case["enableData"]), "{name}");
        assert_eq!(Permission::from_enable_data(&bytes(&case["enableData"])).as_ref(), Ok(&permission), "{name}");
        let items: Vec<Bytes> = permission.policies.iter().map(PolicyItem::item).collect();
        let expected: Vec<Bytes> = case["items"].as_array().unwrap().iter().map(bytes).collect();
        assert_eq!(items, expected, "{name}");
        assert_eq!(approval.write().as_str(), text(&case["serialized"]), "{name}");
        assert_eq!(approval.inspect(&[], &[84532], 1).unwrap().enable_signature, EnableStatus::Unchecked);
    }
}

#[test]
fn call_policies_are_read_in_their_versions() {
    let mut seen = Vec::new();
    for case in cases() {
        let approval = Approval::read(text(&case["serialized"])).unwrap();
        let Policy::Call { version, .. } = &approval.policies[0].policy else { panic!() };
        assert_eq!(version.as_str(), text(&case["callPolicyVersion"]));
        seen.push(*version);
        let permission = approval.permission_for(address(&case["sessionKey"])).unwrap();
        let scope = approval.scope(Some(&permission));
        let Calls::Only(kinds) = &scope.calls else { panic!() };
        assert_eq!(kinds[1].value_limit, Some(U256::from(12_345_678_901_234_567_890_u64)));
        assert_eq!(kinds[1].target.is_none(), *version != CallPolicyVersion::V001);
        // Closed by the flag of the permission or by an empty list of callers.
        let closed = permission.flag == 2 || approval.policies.len() > 2;
        assert_eq!(scope.signatures, if closed { Signatures::Closed } else { Signatures::Open });
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, CallPolicyVersion::ALL);
}
