//! Approvals that are refused, by the member and by what it would allow.

use alloy_primitives::Address;
use base64_simd::STANDARD;
use serde_json::{Value, json};
use x402_erc4337::session::zerodev::{AccountError, Approval, ApprovalError, CallPolicyVersion, PolicyError};
use x402_erc4337::{FieldError, Problem};

use crate::cases::{CHAIN, approval, cases, serialize};
use crate::common::{address, text};

fn refused(change: impl Fn(&mut Value)) -> ApprovalError {
    let mut json = cases()[0]["serializedJson"].clone();
    change(&mut json);
    Approval::read(&serialize(&json)).unwrap_err()
}

fn field(e: &ApprovalError) -> (&str, Problem) {
    match e {
        ApprovalError::Field(FieldError { field, problem }) => (field, *problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn members_are_named() {
    const P: &str = "permissionParams.policies";
    type Edit = fn(&mut Value);
    let cases: [(Edit, &str); 12] = [
        (|j| j["permissionParams"]["policies"][0]["policyParams"]["type"] = json!("any"), ".type"),
        (|j| j["permissionParams"]["policies"][0]["policyParams"]["policyVersion"] = json!("0.0.6"), ".policyVersion"),
        (|j| j["permissionParams"]["policies"][0]["policyParams"]["policyFlag"] = json!("0x0004"), ".policyFlag"),
        (|j| j["permissionParams"]["policies"][1]["policyParams"]["validUntil"] = json!("1900000000"), ".validUntil"),
        (|j| j["permissionParams"]["policies"][1]["policyParams"]["validUntil"] = json!(1u64 << 48), ".validUntil"),
        (|j| j["permissionParams"]["policies"][1]["policyParams"]["validAfter"] = json!(1.5), ".validAfter"),
        (|j| j["permissionParams"]["policies"][1]["policyParams"]["policyAddress"] = Value::Null, ".policyAddress"),
        (|j| j["permissionParams"]["policies"][3]["policyParams"]["allowed"] = json!("01"), ".allowed"),
        (|j| j["permissionParams"]["policies"][3]["policyParams"]["allowed"] = json!("-1"), ".allowed"),
        (
            |j| {
                j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["valueLimit"] =
                    json!("9".repeat(79))
            },
            ".permissions[0].valueLimit",
        ),
        (
            |j| {
                j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["rules"][0]["condition"] =
                    json!(8)
            },
            ".permissions[0].rules[0].condition",
        ),
        (
            |j| {
                j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["rules"][0]["params"][0] =
                    json!("0x".to_owned() + &"AB".repeat(32));
            },
            ".permissions[0].rules[0].params[0]",
        ),
    ];
    for (edit, end) in cases {
        let error = refused(edit);
        let (field, _) = field(&error);
        assert!(field.starts_with(P) && field.ends_with(&format!("policyParams{end}")), "{field}");
    }
    for (edit, name) in [
        ((|j| j["action"]["selector"] = json!("0x12345678")) as Edit, "action.selector"),
        (|j| j["action"]["address"] = json!(Address::repeat_byte(1).to_string()), "action.address"),
        (|j| j["action"]["hook"] = json!({"address": "0x01"}), "action.hook"),
        (|j| _ = j.as_object_mut().unwrap().remove("enableSignature"), "enableSignature"),
        (|j| j["enableSignature"] = Value::Null, "enableSignature"),
        (|j| j["permissionParams"]["permissionId"] = json!("0x4d5974D5"), "permissionParams.permissionId"),
        (|j| j["accountParams"]["accountAddress"] = json!(""), "accountParams.accountAddress"),
        (
            |j| j["accountParams"]["accountAddress"] = twice(&j["accountParams"]["accountAddress"]),
            "accountParams.accountAddress",
        ),
        (|j| j["enableSignature"] = twice(&j["enableSignature"]), "enableSignature"),
        (|j| j["privateKey"] = json!(format!("0x0x{}", "11".repeat(32))), "privateKey"),
        (|j| j["privateKey"] = json!("0x00"), "privateKey"),
        (|j| j["privateKey"] = json!(format!("0x{}", "00".repeat(32))), "privateKey"),
        (|j| j["isPreInstalled"] = json!("false"), "isPreInstalled"),
    ] {
        assert_eq!(field(&refused(edit)).0, name);
    }
}

/// `0x` twice: `hex` alone would read it.
fn twice(value: &Value) -> Value {
    text(value).replacen("0x", "0x0x", 1).into()
}

#[test]
fn wider_keys_are_refused_by_name() {
    type Edit = fn(&mut Value);
    let policy = |edit: Edit| match refused(edit) {
        ApprovalError::Policy { error, .. } => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        policy(|j| j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["callType"] = json!("0xff")),
        PolicyError::CallType([0xff].into())
    );
    assert_eq!(
        policy(|j| j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["callType"] = json!("0x01")),
        PolicyError::CallType([1].into())
    );
    assert_eq!(
        policy(|j| j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["rules"][0]["condition"] =
            json!(7)),
        PolicyError::Condition(7)
    );
    assert_eq!(
        policy(|j| j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["rules"][0]["params"] =
            json!([])),
        PolicyError::Parameters(0)
    );
    assert_eq!(
        policy(|j| {
            let p = &mut j["permissionParams"]["policies"][0]["policyParams"]["permissions"];
            let first = p[0].clone();
            p.as_array_mut().unwrap().push(first);
        }),
        PolicyError::Twice
    );
    assert_eq!(
        policy(|j| {
            j["permissionParams"]["policies"][0]["policyParams"]["policyAddress"] =
                json!(CallPolicyVersion::V003.address().to_string());
        }),
        PolicyError::Malformed(CallPolicyVersion::V003.address())
    );
    let twice = refused(|j| {
        let p = j["permissionParams"]["policies"].as_array_mut().unwrap();
        p.push(p[1].clone());
    });
    assert!(matches!(twice, ApprovalError::PolicyTwice(_)));

    let account = |edit: Edit| match refused(edit) {
        ApprovalError::Account(error) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        account(|j| j["accountParams"]["accountAddress"] = json!(format!("0x{}", "11".repeat(20)))),
        AccountError::Address
    );
    assert_eq!(account(|j| j["accountParams"]["initCode"] = json!("0x1234")), AccountError::NotKernel);
    assert!(matches!(
        account(|j| {
            let code = j["accountParams"]["initCode"].as_str().unwrap().replace("aac5d4", "aac5d5");
            j["accountParams"]["initCode"] = json!(code);
        }),
        AccountError::Factory(_)
    ));
    assert!(matches!(
        account(|j| {
            let code = j["accountParams"]["initCode"].as_str().unwrap().to_lowercase().replace("01845adb", "01845adc");
            j["accountParams"]["initCode"] = json!(code);
        }),
        AccountError::RootValidator(_)
    ));
}

#[test]
fn garbage_is_not_an_approval() {
    assert_eq!(Approval::read(&"A".repeat(16 * 1024 + 4)), Err(ApprovalError::TooLong));
    assert_eq!(Approval::read("not base64!"), Err(ApprovalError::Base64));
    assert!(matches!(Approval::read(&STANDARD.encode_to_string(b"{\"a\":1,\"a\":2}")), Err(ApprovalError::Json(_))));
    assert!(matches!(Approval::read(&STANDARD.encode_to_string(b"[]")), Err(ApprovalError::Field(_))));
    // Padding bits that say nothing are a second spelling.
    let text = STANDARD.encode_to_string(b"{}");
    assert_eq!(text, "e30=");
    assert_eq!(Approval::read("e31="), Err(ApprovalError::Base64));
}

#[test]
fn ids_of_77_digits_stand_as_words_or_nowhere() {
    const PERMISSION: &str = "permissionParams.policies[0].policyParams.permissions[0]";
    let id = text(&cases()[0]["planId"]).to_owned();
    assert_eq!(id.len(), 77);
    let error = refused(|j| {
        j["permissionParams"]["policies"][0]["policyParams"]["permissions"][0]["rules"][0]["params"][0] = json!(id);
    });
    assert_eq!(field(&error).0, format!("{PERMISSION}.rules[0].params[0]"));
    // "abi, functionName, args: ignore them, rules is authoritative".
    let mut json = cases()[0]["serializedJson"].clone();
    let permission = &mut json["permissionParams"]["policies"][0]["policyParams"]["permissions"][0];
    permission["abi"] = json!([{"type": "function", "name": "order"}]);
    permission["functionName"] = json!("order");
    permission["args"] = json!([{"condition": 0, "value": id}]);
    let read = Approval::read(&serialize(&json)).unwrap();
    let plain = approval(&cases()[0]);
    assert_eq!(read.policies, plain.policies);
    assert_ne!(read.hash(), plain.hash());
    assert!(read.check(address(&cases()[0]["sessionKey"]), CHAIN, 1).is_ok());
}
