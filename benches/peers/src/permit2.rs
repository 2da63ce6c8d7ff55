//! Permit2: the digest that a payer signs, and the body of `/verify` for `upto`.

use alloy_sol_types::{SolStruct, eip712_domain, sol};
use ours_codec::{Limits, body};
use ours_evm::permit2::{PERMIT2, Permit, PermitPayload, UncheckedPermit, domain};
use ours_types::{Claim, Terms};

use crate::sample;
use crate::table::Row;
use crate::timing::plain;

/// The case `upto_ok_settle_max` of `crates/x402-testkit/vectors/permit2.json`, as TypeScript 2.27 signed it.
const ACCEPTED: &str = r#"{"scheme":"upto","network":"eip155:84532","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","amount":"10000","payTo":"0x90F79bf6EB2c4f870365E785982E1f101E93b906","maxTimeoutSeconds":300,"extra":{"name":"USDC","version":"2","assetTransferMethod":"permit2","facilitatorAddress":"0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"}}"#;
const PAYLOAD: &str = r#"{"signature":"0xaeed71f000fe1935bd6df70612ace4a4e0bd2ad561621a4032c11ad252bef58b2136740df2d9cf55ffd89520f6feb879d44e78d5e96a45d5a470661a93bf34801c","permit2Authorization":{"permitted":{"token":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","amount":"10000"},"from":"0x70997970C51812dc3A010C7d01b50e0d17dc79C8","spender":"0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002","nonce":"1094","deadline":"4102444800","witness":{"to":"0x90F79bf6EB2c4f870365E785982E1f101E93b906","facilitator":"0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC","validAfter":"0"}}}"#;

// Both peers hash a struct of this form with `eip712_signing_hash`; those of r402 are private.
sol! {
    struct TokenPermissions { address token; uint256 amount; }
    struct Witness { address to; address facilitator; uint256 validAfter; }
    struct PermitWitnessTransferFrom { TokenPermissions permitted; address spender; uint256 nonce; uint256 deadline; Witness witness; }
}

fn verify_body() -> String {
    let resource = sample::RESOURCE;
    format!(
        r#"{{"x402Version":2,"paymentPayload":{{"x402Version":2,"payload":{PAYLOAD},"resource":{{"url":"{resource}","description":"","mimeType":""}},"accepted":{ACCEPTED}}},"paymentRequirements":{ACCEPTED}}}"#
    )
}

/// As the facilitator's route does, and on to the scheme's own type.
fn ours_verify(text: &[u8]) -> (Claim, UncheckedPermit) {
    let request = body::verify_request(text, &Limits::DEFAULT).unwrap();
    let terms = Terms::try_from(request.payment_requirements).unwrap();
    let claim = Claim::new(terms, request.payment_payload);
    let payload = UncheckedPermit::read(&claim.payload).unwrap();
    (claim, payload)
}

/// As `V2Eip155UptoFacilitator` reads it.
fn rs_verify(text: &[u8]) -> rs_evm::v2_eip155_upto::VerifyRequest {
    let request: rs_types::proto::VerifyRequest = serde_json::from_slice(text).unwrap();
    assert!(request.scheme_handler_slug().is_some());
    rs_evm::v2_eip155_upto::VerifyRequest::try_from(&request).unwrap()
}

/// As `Eip155UptoFacilitator` reads it.
fn r402_verify(text: &[u8]) -> r402_evm::upto::v2::VerifyRequest {
    let request: r402_protocol::payment::VerifyRequest = serde_json::from_slice(text).unwrap();
    assert!(request.scheme_slug().is_some());
    r402_evm::upto::v2::VerifyRequest::from_verify(request).unwrap()
}

fn theirs(permit: &Permit) -> PermitWitnessTransferFrom {
    PermitWitnessTransferFrom {
        permitted: TokenPermissions { token: permit.token, amount: permit.amount.value() },
        spender: permit.spender,
        nonce: permit.nonce,
        deadline: permit.deadline,
        witness: Witness {
            to: permit.witness.to,
            facilitator: permit.witness.facilitator.unwrap(),
            validAfter: permit.witness.valid_after,
        },
    }
}

pub fn rows() -> Vec<Row> {
    let text = verify_body();
    let (claim, _) = ours_verify(text.as_bytes());
    let PermitPayload { authorization: permit, .. } = PermitPayload::read(&claim.payload).unwrap();
    let their_domain = || eip712_domain! { name: "Permit2", chain_id: sample::CHAIN, verifying_contract: PERMIT2, };
    let separator = domain(sample::CHAIN);
    assert_eq!(permit.digest(separator), theirs(&permit).eip712_signing_hash(&their_domain()));

    let (rs, r402) = (theirs(&permit), theirs(&permit));
    let (rs_domain, r402_domain) = (their_domain(), their_domain());
    let digest = Row::new("Permit2 digest of `upto`", Some(0.35))
        .ours(plain(move || permit.digest(separator)))
        .rs(plain(move || rs.eip712_signing_hash(&rs_domain)))
        .r402(plain(move || r402.eip712_signing_hash(&r402_domain)));
    let [a, b, c] = [text.clone(), text.clone(), text];
    let verify = Row::new("`/verify` body of `upto` to typed request", Some(0.40))
        .ours(plain(move || ours_verify(a.as_bytes())))
        .rs(plain(move || rs_verify(b.as_bytes())))
        .r402(plain(move || r402_verify(c.as_bytes())));
    vec![digest, verify]
}
