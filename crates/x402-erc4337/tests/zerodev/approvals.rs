//! Approvals inspected, issued, and taken back.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use serde_json::{Value, json};
use x402_erc4337::scope::{ScopeViolation, Signatures};
use x402_erc4337::session::zerodev::{
    Approval, ApprovalCheckError, ApprovalError, Draft, EnableStatus, Grant, IssueError, KernelAccount, KernelVersion,
    Root, invalidate_nonce, issue, uninstall,
};
use x402_erc4337::{Call, Init};
use x402_evm::signature::Signature;
use x402_types::UnixSeconds;

use crate::cases::{CHAIN, approval, cases, serialize};
use crate::common::{address, bytes, now, text, vectors};

#[test]
fn inspection_says_only_what_is_known() {
    let cases = cases();
    let plain = approval(&cases[0]);
    let session = address(&cases[0]["sessionKey"]);
    let other = Address::repeat_byte(7);

    let nothing = plain.inspect(&[], &[CHAIN], 1).unwrap();
    assert_eq!((nothing.permission, nothing.chain_id), (None, None));
    assert_eq!(nothing.enable_signature, EnableStatus::Unchecked);

    let found = plain.inspect(&[other, session], &[1, CHAIN], 1).unwrap();
    assert_eq!((found.chain_id, found.enable_signature), (Some(CHAIN), EnableStatus::Valid));
    assert!(!found.signer_embedded);
    let wrong_chain = plain.inspect(&[session], &[1], 1).unwrap();
    assert_eq!((wrong_chain.chain_id, wrong_chain.enable_signature), (None, EnableStatus::Invalid));
    assert_eq!(plain.inspect(&[session], &[], 1).unwrap().enable_signature, EnableStatus::Unchecked);
    assert_eq!(plain.inspect(&[other], &[CHAIN], 1), Err(ApprovalCheckError::PermissionId));
    assert_eq!(plain.check(session, 1, 1), Err(ApprovalCheckError::EnableSignature));
    assert_eq!(plain.check(session, CHAIN, 2), Err(ApprovalCheckError::EnableSignature));

    let embedded = approval(&cases[2]).inspect(&[], &[CHAIN], 1).unwrap();
    assert!(embedded.signer_embedded);
    assert_eq!(embedded.enable_signature, EnableStatus::Valid);
}

#[test]
fn pre_installed_permissions_have_no_signature() {
    let case = &cases()[0];
    let mut json = case["serializedJson"].clone();
    json["isPreInstalled"] = json!(true);
    let Err(ApprovalError::Field(e)) = Approval::read(&serialize(&json)) else { panic!() };
    assert_eq!(e.field, "enableSignature");
    json.as_object_mut().unwrap().remove("enableSignature");
    let approval = Approval::read(&serialize(&json)).unwrap();
    let session = address(&case["sessionKey"]);
    assert_eq!(approval.check(session, CHAIN, 1), Err(ApprovalCheckError::PreInstalled));
    assert_eq!(approval.inspect(&[session], &[CHAIN], 1).unwrap().enable_signature, EnableStatus::Absent);
}

#[test]
fn eip7702_accounts_are_their_owner() {
    let mut json = cases()[0]["serializedJson"].clone();
    json["accountParams"]["initCode"] = json!("0x");
    let approval = Approval::read(&serialize(&json)).unwrap();
    assert_eq!((approval.root, approval.owner()), (Root::Eip7702, approval.account));
    assert_eq!((approval.version(), approval.init()), (KernelVersion::V033, Init::None));
    json["eip7702Auth"] = json!({"address": Address::repeat_byte(1).to_string(), "chainId": 1, "nonce": 0});
    let Err(ApprovalError::Field(e)) = Approval::read(&serialize(&json)) else { panic!() };
    assert_eq!(e.field, "eip7702Auth.address");
}

#[test]
fn issue_reads_back_and_is_closed() {
    let case = &cases()[0];
    let owner: PrivateKeySigner = text(&case["ownerPrivateKey"]).parse().unwrap();
    let session = address(&case["sessionKey"]);
    let account = KernelAccount::new(KernelVersion::V031, owner.address(), U256::ZERO);
    let plans = address(&case["plansContract"]);
    let selector = alloy_primitives::fixed_bytes!("7cbc2373");
    let grant = Grant::new(1_780_000_000, 1_900_000_000)
        .times(3)
        .call(plans, selector)
        .equal(0, text(&case["planId"]).parse().unwrap())
        .at_most(32, U256::from(5));
    let issued = now(issue(&owner, &account, session, &grant, CHAIN, 1)).unwrap();
    let text = issued.write();
    let read = Approval::read(&text).unwrap();
    assert_eq!(read, issued);
    assert_eq!(read.hash(), keccak256(text.as_bytes()));
    let permission = read.check(session, CHAIN, 1).unwrap();
    let scope = read.scope(Some(&permission));
    assert_eq!(scope.signatures, Signatures::Closed);
    let mut data = selector.to_vec();
    data.extend_from_slice(&text_word(case));
    data.extend_from_slice(&U256::from(5).to_be_bytes::<32>());
    let call = Call { target: plans, value: U256::ZERO, data: data.clone().into() };
    let at = UnixSeconds(1_800_000_000);
    assert_eq!(scope.permits(&call, at), Ok(()));
    *data.last_mut().unwrap() = 6;
    let more = Call { data: data.into(), ..call };
    assert_eq!(scope.permits(&more, at), Err(ScopeViolation::Argument(32)));

    let stranger = PrivateKeySigner::from_bytes(&B256::repeat_byte(5)).unwrap();
    let draft = Draft::new(&account, session, &grant, CHAIN, 1).unwrap();
    let forged = Signature::try_from(stranger.sign_hash_sync(&draft.digest()).unwrap()).unwrap();
    assert!(matches!(draft.approved(&forged), Err(IssueError::Owner { .. })));
    let refused = now(issue(&stranger, &account, session, &grant, CHAIN, 1));
    assert!(matches!(refused, Err(IssueError::Owner { .. })));
    let inward = Grant::new(0, 1_900_000_000).call(account.address(), selector);
    assert!(matches!(now(issue(&owner, &account, session, &inward, CHAIN, 1)), Err(IssueError::Target(_))));
    for (grant, expected) in [
        (Grant::new(0, 0).call(plans, selector), "a session key needs an expiry"),
        (Grant::new(9, 8).call(plans, selector), "a session key ends before it begins"),
        (Grant::new(0, 9), "a session key needs a call and a count above zero"),
        (Grant::new(0, 9).call(plans, selector).times(0), "a session key needs a call and a count above zero"),
        (
            Grant::new(0, 9).call(plans, selector).call(plans, selector),
            "two permissions for the same target and selector",
        ),
    ] {
        assert_eq!(grant.policies().unwrap_err().to_string(), expected);
    }
}

fn text_word(case: &Value) -> [u8; 32] {
    text(&case["planId"]).parse::<U256>().unwrap().to_be_bytes()
}

#[test]
fn revocation_calls() {
    let case = &cases()[0];
    let approval = approval(case);
    let permission = approval.permission_for(address(&case["sessionKey"])).unwrap();
    let selectors = &vectors()["selectors"]["functions"];
    let call = invalidate_nonce(approval.account, 2);
    assert_eq!(call.target, approval.account);
    assert_eq!(call.data[..4], bytes(&selectors["invalidateNonce(uint32)"])[..]);
    assert_eq!(call.data[4..], U256::from(2).to_be_bytes::<32>());
    let call = uninstall(approval.account, permission.id(), permission.policies.len());
    assert_eq!(call, approval.uninstall());
    assert_eq!(call.data[..4], bytes(&selectors["uninstallValidation(bytes21,bytes,bytes)"])[..]);
    assert_eq!(call.data[4..25], permission.validation_id()[..]);
}
