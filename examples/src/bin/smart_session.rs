//! Signatures of operations of Smart Sessions. `smart_session encode SIGNATURE` reads Biconomy's session details on
//! standard input and prints what an operation carries for the first of them, the session key's signature included;
//! `smart_session decode` reads those bytes in hex and prints what they hold, as JSON.

use std::env;
use std::error::Error;
use std::io::read_to_string;

use alloy_primitives::Bytes;
use serde_json::{Value, json};
use x402_erc4337::session::biconomy::SessionDetails;
use x402_erc4337::session::smart::{EnableMode, EnableSession, PolicyData, SessionSignature, permission_id};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let input = || read_to_string(std::io::stdin());
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["encode", signature] => println!("{}", encode(&input()?, signature.parse()?)?.encode()),
        ["decode"] => println!("{}", shown(&SessionSignature::decode(&input()?.trim().parse::<Bytes>()?)?)),
        _ => return Err("usage: smart_session encode SIGNATURE | decode".into()),
    }
    Ok(())
}

fn encode(details: &str, signature: Bytes) -> Result<SessionSignature, Box<dyn Error>> {
    let session = SessionDetails::read(details.trim())?.sessions.into_iter().next().ok_or("no session")?;
    Ok(match session.mode {
        None => SessionSignature::Use { permission_id: session.permission_id, signature },
        Some(mode) => SessionSignature::Enable { mode, enable: Box::new(session.enable), signature },
    })
}

fn shown(signature: &SessionSignature) -> Value {
    match signature {
        SessionSignature::Use { permission_id, signature } => {
            json!({ "mode": "0x00", "permissionId": permission_id, "signature": signature })
        }
        SessionSignature::Enable { mode, enable, signature } => json!({
            "mode": match mode {
                EnableMode::Enable => "0x01",
                EnableMode::UnsafeEnable => "0x02",
            },
            "permissionId": permission_id(&enable.sessionToEnable),
            "signature": signature,
            "enableSession": enabled(enable),
        }),
    }
}

/// The members as the contract names them; numbers of 64 bits as text.
fn enabled(enable: &EnableSession) -> Value {
    let policies = |list: &[PolicyData]| -> Value {
        list.iter().map(|p| json!({ "policy": p.policy, "initData": p.initData })).collect()
    };
    let session = &enable.sessionToEnable;
    let contents = session.erc7739Policies.allowedERC7739Content.iter();
    let actions = session.actions.iter().map(|a| {
        json!({
            "actionTargetSelector": a.actionTargetSelector,
            "actionTarget": a.actionTarget,
            "actionPolicies": policies(&a.actionPolicies),
        })
    });
    json!({
        "chainDigestIndex": enable.chainDigestIndex,
        "hashesAndChainIds": enable.hashesAndChainIds.iter().map(|d| {
            json!({ "chainId": d.chainId.to_string(), "sessionDigest": d.sessionDigest })
        }).collect::<Value>(),
        "sessionToEnable": {
            "sessionValidator": session.sessionValidator,
            "sessionValidatorInitData": session.sessionValidatorInitData,
            "salt": session.salt,
            "userOpPolicies": policies(&session.userOpPolicies),
            "erc7739Policies": {
                "allowedERC7739Content": contents.map(|c| {
                    json!({ "appDomainSeparator": c.appDomainSeparator, "contentName": c.contentName })
                }).collect::<Value>(),
                "erc1271Policies": policies(&session.erc7739Policies.erc1271Policies),
            },
            "actions": actions.collect::<Value>(),
            "permitERC4337Paymaster": session.permitERC4337Paymaster,
        },
        "permissionEnableSig": enable.permissionEnableSig,
    })
}
