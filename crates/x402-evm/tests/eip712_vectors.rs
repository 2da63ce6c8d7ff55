//! `vectors/eip712.json`, made with viem: digest, signature, and the way back to the payer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use alloy_primitives::{Address, B256, Bytes, address, hex};
use serde_json::{Value, json};
use x402_evm::eip712::DomainSeparator;
use x402_evm::eip3009::{Authorization, Payload, TRANSFER_TYPE};
use x402_evm::exact::{Exact, ExactPolicy, Payer};
use x402_evm::key::Key;
use x402_evm::signature::{Signature, recover};
use x402_types::{AtomicAmount, Claim, MakePayment, RawJson, SigningContext, TimeoutSeconds, UnixSeconds, Version};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../x402-testkit/vectors/eip712.json")).unwrap()
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap()
}

fn authorization(message: &Value) -> Authorization {
    Authorization {
        from: text(message, "/from").parse().unwrap(),
        to: text(message, "/to").parse().unwrap(),
        value: text(message, "/value").parse().unwrap(),
        valid_after: text(message, "/validAfter").parse().unwrap(),
        valid_before: text(message, "/validBefore").parse().unwrap(),
        nonce: text(message, "/nonce").parse().unwrap(),
    }
}

#[test]
fn the_transfer_of_viem_has_this_digest_signature_and_signer() {
    let all = vectors();
    let vector = &all["eip3009_transfer"];
    let domain = &vector["domain"];
    let separator = DomainSeparator::new(
        text(domain, "/name"),
        text(domain, "/version"),
        domain["chainId"].as_u64().unwrap(),
        text(domain, "/verifyingContract").parse().unwrap(),
    );
    let authorization = authorization(&vector["message"]);
    let digest = authorization.digest(separator);
    assert_eq!(digest, text(vector, "/digest").parse::<B256>().unwrap());

    let signature = Signature::from_bytes(&text(vector, "/signature").parse::<Bytes>().unwrap()).unwrap();
    assert_eq!(recover(digest, &signature), Ok(authorization.from));

    let transfer = "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)";
    assert_eq!(TRANSFER_TYPE, text(&all["_typehashes"], &format!("/{transfer}")).parse::<B256>().unwrap());
}

/// Anvil's account 1, as viem used it.
fn payer() -> Payer<Key> {
    Payer::new("0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d".parse().unwrap())
}

#[tokio::test]
async fn our_payer_makes_viem_s_signature() {
    let all = vectors();
    let vector = &all["eip3009_transfer"];
    let network = "eip155:84532".parse().unwrap();
    let pay_to = address!("0x90F79bf6EB2c4f870365E785982E1f101E93b906");
    let mut offer = Exact::default().requirements(network, pay_to, AtomicAmount::from(10_000).into()).unwrap();
    offer.terms.max_timeout_seconds = TimeoutSeconds::try_from(60).unwrap();
    // Version 1 of the clients dates `validAfter` ten minutes back, which makes the window of the vector: 65 s.
    offer.terms.version = Version::V1;
    let signed = authorization(&vector["message"]);
    let now = UnixSeconds(signed.valid_after.0 + 600);
    let context = SigningContext { now, entropy: signed.nonce.0, url: "https://example.com/", method: "GET" };
    let made = payer().make_payment(&offer.terms, &context).await.unwrap();
    let payload = Payload::read(&made.payload).unwrap();
    assert_eq!(payload.authorization.valid_after, signed.valid_after);
    assert_eq!(payload.authorization.valid_before, now.plus(60));
    assert_eq!(made.payer, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8");

    // The vector's own message, signed by the same key, gives the vector's own bytes: RFC 6979 leaves no choice.
    let key: Key = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d".parse().unwrap();
    let signature = key.signature_of(text(vector, "/digest").parse().unwrap()).unwrap();
    assert_eq!(hex::encode_prefixed(signature.to_bytes()), text(vector, "/signature"));
}

#[tokio::test]
async fn a_payment_of_version_2_passes_the_check_and_has_the_spec_s_form() {
    let network = "eip155:84532".parse().unwrap();
    let pay_to = address!("0x90F79bf6EB2c4f870365E785982E1f101E93b906");
    let offer = Exact::default().requirements(network, pay_to, "$0.01".parse().unwrap()).unwrap();
    let now = UnixSeconds(1_740_672_089);
    let context = SigningContext { now, entropy: [7; 32], url: "https://example.com/", method: "GET" };
    let payer = payer();
    assert!(payer.can_pay(&offer.terms));
    let made = payer.make_payment(&offer.terms, &context).await.unwrap();
    let wire: Value = made.payload.read().unwrap();
    let signature = text(&wire, "/signature").to_owned();
    assert_eq!(
        wire,
        json!({"signature": signature, "authorization": {
            "from": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
            "to": "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
            "value": "10000",
            "validAfter": "0",
            "validBefore": "1740672389",
            "nonce": "0x0707070707070707070707070707070707070707070707070707070707070707",
        }})
    );
    let claim = Claim::of_payload(offer.terms.clone(), made.payload);
    let checked = ExactPolicy::default().check(&Default::default(), &claim, now).unwrap();
    assert_eq!(checked.authorization.from, address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"));
    assert_eq!(offer.key.key(&claim).unwrap(), made.key);
    assert_eq!(made.valid_until, UnixSeconds(1_740_672_389));
}

#[test]
fn the_key_does_not_depend_on_spelling_or_signature() {
    let network = "eip155:84532".parse().unwrap();
    let offer = Exact::default().requirements(network, Address::repeat_byte(1), "$0.01".parse().unwrap()).unwrap();
    let payload = r#"{"signature":"0x","authorization":{"from":"0x70997970C51812dc3A010C7d01b50e0d17dc79C8","to":"0x90F79bf6EB2c4f870365E785982E1f101E93b906","value":"1","validAfter":"0","validBefore":"9","nonce":"0xab07070707070707070707070707070707070707070707070707070707070707"}}"#;
    let key = |payload: &str| {
        let claim = Claim::of_payload(offer.terms.clone(), RawJson::parse(payload.to_owned()).unwrap());
        offer.key.key(&claim).unwrap()
    };
    let other = payload
        .replace("0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "0x70997970c51812dc3a010c7d01b50e0d17dc79c8")
        .replace("0xab", "0xAB")
        .replace("\"0x\"", "\"0x1234\"");
    assert_eq!(key(payload), key(&other));
    assert_ne!(key(payload), key(&payload.replace("0xab", "0xac")));
}
