//! x402 v2 §9 and `scheme_exact_evm.md` §1: each rule broken alone gives its own code.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use alloy_primitives::{Address, U256, address};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use serde_json::{Value, json};
use x402_evm::eip712::DomainSeparator;
use x402_evm::eip3009::{Authorization, Payload};
use x402_evm::exact::{Exact, ExactPolicy, Payer};
use x402_evm::signature::Signature;
use x402_evm::token::Tokens;
use x402_types::{
    Asset, Assets, Claim, MakePayment, Members, RawJson, Refusal, Rejection, SigningContext, Terms, TimeoutSeconds,
    UnixSeconds,
};

const NOW: UnixSeconds = UnixSeconds(1_740_672_089);
const USDC: Address = address!("0x036CbD53842c5426634e7929541eC2318f3dCF7e");
const PAY_TO: Address = address!("0x90F79bf6EB2c4f870365E785982E1f101E93b906");

fn key() -> PrivateKeySigner {
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d".parse().unwrap()
}

fn terms() -> Terms {
    Exact::default().requirements("eip155:84532".parse().unwrap(), PAY_TO, "$0.01".parse().unwrap()).unwrap().terms
}

fn good() -> Authorization {
    Authorization {
        from: key().address(),
        to: PAY_TO,
        value: 10_000.into(),
        valid_after: UnixSeconds(0),
        valid_before: NOW.plus(300),
        nonce: [9; 32].into(),
    }
}

fn sign(authorization: Authorization, domain: DomainSeparator) -> Payload {
    let signature = key().sign_hash_sync(&authorization.digest(domain)).unwrap();
    Payload { authorization, signature: Signature::try_from(signature).unwrap().to_bytes().into() }
}

fn usdc() -> DomainSeparator {
    DomainSeparator::new("USDC", "2", 84532, USDC)
}

fn claim(terms: Terms, payload: RawJson) -> Claim {
    Claim::of_payload(terms, payload)
}

fn check(terms: Terms, payload: &Payload) -> Result<(), Rejection> {
    ExactPolicy::default()
        .check(&Tokens::default(), &claim(terms, payload.to_json()), NOW)
        .and_then(|checked| checked.signed_by_key())
}

fn code(result: Result<(), Rejection>) -> String {
    result.map_or_else(|rejection| rejection.reason.to_string(), |()| "ok".to_owned())
}

/// Signs what the change makes of a good authorization: only that rule is broken.
fn signed(change: impl Fn(&mut Authorization)) -> String {
    let mut authorization = good();
    change(&mut authorization);
    code(check(terms(), &sign(authorization, usdc())))
}

#[test]
fn a_good_payment_passes() {
    assert_eq!(signed(|_| ()), "ok");
}

#[test]
fn the_recipient_must_be_the_one_asked() {
    assert_eq!(signed(|a| a.to = Address::repeat_byte(1)), "invalid_exact_evm_payload_recipient_mismatch");
}

#[test]
fn the_value_must_be_equal() {
    for value in [9_999, 10_001, 0] {
        assert_eq!(signed(|a| a.value = value.into()), "invalid_exact_evm_payload_authorization_value_mismatch");
    }
    assert_eq!(signed(|a| a.value = U256::MAX.into()), "invalid_exact_evm_payload_authorization_value_mismatch");
}

#[test]
fn the_window_has_edges() {
    let before = "invalid_exact_evm_payload_authorization_valid_before";
    let after = "invalid_exact_evm_payload_authorization_valid_after";
    for (seconds, expected) in [(0, before), (5, before), (6, "ok"), (360, "ok"), (361, before)] {
        assert_eq!(signed(|a| a.valid_before = NOW.plus(seconds)), expected, "validBefore now+{seconds}");
    }
    assert_eq!(signed(|a| a.valid_before = UnixSeconds(u64::MAX)), before);
    assert_eq!(signed(|a| a.valid_after = UnixSeconds(NOW.0 - 1)), "ok");
    assert_eq!(signed(|a| a.valid_after = NOW), after);
    assert_eq!(signed(|a| a.valid_after = UnixSeconds(u64::MAX)), after);
    let long = sign(Authorization { valid_before: UnixSeconds(u64::MAX), ..good() }, usdc());
    let open = ExactPolicy::default().with_skew(None).with_longest(u64::MAX);
    assert!(open.check(&Tokens::default(), &claim(terms(), long.to_json()), NOW).is_ok());
}

/// Terms of 2^53-1 s are the caller's. What an authorization may last is the facilitator's.
#[test]
fn an_authorization_lasts_an_hour_at_most() {
    let mut long = terms();
    long.max_timeout_seconds = TimeoutSeconds::try_from(9_007_199_254_740_991).unwrap();
    let policy = ExactPolicy::default();
    let check = |policy: &ExactPolicy, seconds: u64| {
        let payload = sign(Authorization { valid_before: NOW.plus(seconds), ..good() }, usdc());
        policy.check(&Tokens::default(), &claim(long.clone(), payload.to_json()), NOW).map(drop)
    };
    // A minute on top, for clocks that differ.
    assert_eq!(check(&policy, 3_660), Ok(()));
    for seconds in [3_661, 86_400, 3_155_760_000] {
        let refused = check(&policy, seconds).unwrap_err();
        assert_eq!(refused.reason.as_str(), "invalid_exact_evm_payload_authorization_valid_before", "{seconds}");
        assert_eq!(refused.message.as_deref(), Some("validBefore: an authorization lasts 3600 s at most here"));
        assert!(refused.payer.is_some());
    }
    assert_eq!(check(&policy.clone().with_longest(86_400), 86_460), Ok(()));
    assert!(check(&policy.with_longest(86_400), 86_461).is_err());
}

#[test]
fn the_signature_must_be_the_payer_s_own_under_the_token_s_domain() {
    let bad = "invalid_exact_evm_payload_signature";
    assert_eq!(signed(|a| a.from = Address::repeat_byte(2)), bad);
    for domain in [
        DomainSeparator::new("USD Coin", "2", 84532, USDC),
        DomainSeparator::new("USDC", "1", 84532, USDC),
        DomainSeparator::new("USDC", "2", 8453, USDC),
        DomainSeparator::new("USDC", "2", 84532, PAY_TO),
    ] {
        assert_eq!(code(check(terms(), &sign(good(), domain))), bad);
    }
    // Every field is under the signature, also where the terms ask for what it was changed to.
    let changes: [fn(&mut Authorization, &mut Terms); 5] = [
        |a, terms| (a.to, terms.pay_to) = (Address::repeat_byte(1), Address::repeat_byte(1).to_string()),
        |a, terms| (a.value, terms.amount) = (1.into(), 1.into()),
        |a, _| a.valid_after = UnixSeconds(1),
        |a, _| a.valid_before = NOW.plus(301),
        |a, _| a.nonce = [8; 32].into(),
    ];
    for change in changes {
        let (mut payload, mut terms) = (sign(good(), usdc()), terms());
        change(&mut payload.authorization, &mut terms);
        assert_eq!(code(check(terms, &payload)), bad);
    }
}

#[test]
fn a_signature_has_one_spelling() {
    let good = sign(good(), usdc());
    let bytes: [u8; 65] = good.signature.as_ref().try_into().unwrap();
    let with = |bytes: &[u8]| code(check(terms(), &Payload { signature: bytes.to_vec().into(), ..good.clone() }));
    assert_eq!(with(&bytes), "ok");
    let mut v01 = bytes;
    v01[64] -= 27;
    let mut other = bytes;
    other[64] = 27 + 28 - bytes[64];
    let mut v37 = bytes;
    v37[64] += 8;
    let mut high = bytes;
    let order = U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16).unwrap();
    high[32..64].copy_from_slice(&(order - U256::from_be_slice(&bytes[32..64])).to_be_bytes::<32>());
    high[64] = other[64];
    let mut longer = bytes.to_vec();
    longer.push(0);
    let compact = {
        let mut compact = bytes[..64].to_vec();
        compact[32] |= (bytes[64] - 27) << 7;
        compact
    };
    for bad in [&[][..], &bytes[..64], &compact, &v01, &other, &v37, &high, &[0; 65]] {
        assert_eq!(with(bad), "invalid_exact_evm_payload_signature", "{} bytes", bad.len());
    }
    // No key makes more than 65 bytes: whose they are is an account's to say, and none is there.
    for long in [&longer[..], &[0xff; 4096]] {
        assert_eq!(with(long), "invalid_exact_evm_payload_undeployed_smart_wallet", "{} bytes", long.len());
    }
    let normalised = Signature::from_compact(&compact).unwrap();
    assert_eq!(normalised.to_bytes(), bytes);
}

#[test]
fn the_terms_must_be_served_here() {
    let with = |change: &dyn Fn(&mut Terms)| {
        let mut terms = terms();
        change(&mut terms);
        code(check(terms, &sign(good(), usdc())))
    };
    assert_eq!(with(&|t| t.scheme = "upto".parse().unwrap()), "unsupported_scheme");
    assert_eq!(with(&|t| t.network = "eip155:7".parse().unwrap()), "invalid_network");
    assert_eq!(with(&|t| t.network = "eip155:8453".parse().unwrap()), "invalid_payment_requirements");
    assert_eq!(with(&|t| t.asset = PAY_TO.to_string()), "invalid_payment_requirements");
    assert_eq!(with(&|t| t.asset = String::new()), "invalid_payment_requirements");
    assert_eq!(with(&|t| t.pay_to = "nobody".to_owned()), "invalid_payment_requirements");
    assert_eq!(with(&|t| t.pay_to = Address::ZERO.to_string()), "invalid_payment_requirements");
    assert_eq!(with(&|t| t.amount = 0.into()), "invalid_payment_requirements");
    assert_eq!(with(&|t| t.extra.insert_text("name", "USD Coin")), "invalid_exact_evm_token_name_mismatch");
    assert_eq!(with(&|t| t.extra.insert_text("version", "1")), "invalid_exact_evm_token_version_mismatch");
    assert_eq!(with(&|t| t.extra = Members::new()), "invalid_exact_evm_missing_eip712_domain");
    let number = RawJson::of(&2).unwrap();
    assert_eq!(with(&|t| t.extra.insert("version", number.clone())), "invalid_exact_evm_missing_eip712_domain");
    assert_eq!(with(&|t| t.extra.insert_text("assetTransferMethod", "permit2")), "unsupported_payload_type");
    assert_eq!(with(&|t| t.extra.insert_text("assetTransferMethod", "eip3009")), "ok");
    assert_eq!(with(&|t| t.pay_to = t.pay_to.to_lowercase()), "ok");
    assert_eq!(with(&|t| t.asset = t.asset.to_lowercase()), "ok");
}

/// Absent, null, number, empty, too long, wrong spelling, for every member: the error names it.
#[test]
fn every_member_of_the_payload_has_one_form() {
    let wire: Value = sign(good(), usdc()).to_json().read().unwrap();
    let refused = |path: &str, value: Option<Value>| {
        let mut wire = wire.clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        let parent = wire.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        let shown = format!("{value:?}");
        match value {
            Some(value) => parent.insert(name.to_owned(), value),
            None => parent.remove(name),
        };
        let claim = claim(terms(), RawJson::of(&wire).unwrap());
        let rejection = ExactPolicy::default().check(&Tokens::default(), &claim, NOW).unwrap_err();
        let expected = format!("payload{}: expected ", path.replace('/', "."));
        assert_eq!(rejection.reason.as_str(), "invalid_payload", "{path} {shown}");
        let message = rejection.message.unwrap();
        assert!(message.starts_with(&expected), "{path} {shown}: {message}");
    };
    let wrong_types = [None, Some(Value::Null), Some(json!(1)), Some(json!(true)), Some(json!([])), Some(json!({}))];
    let numbers = ["", " ", "01", "+1", "-1", "1e3", "1_000", "0x10", "1.0", " 1", "1 ", "1\u{0}", "١", "NaN"];
    let long = "9".repeat(100);
    let address = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
    let addresses = [
        "",
        "0x",
        "vitalik.eth",
        &address[2..],
        &address[..41],
        &format!("{address}0"),
        &address.replace("0x", "0X"),
        &address.replace("C8", "c8"),
        &address.replace("70997970", "7099797g"),
        &format!(" {address}"),
    ]
    .map(str::to_owned);
    for path in ["/signature", "/authorization/from", "/authorization/to", "/authorization/nonce"] {
        wrong_types.iter().for_each(|value| refused(path, value.clone()));
        for text in ["zz", "0xzz", "0x0", "0X00", "0x0x00", " 0x00", "0x00 "] {
            refused(path, Some(json!(text)));
        }
    }
    for path in ["/authorization/value", "/authorization/validAfter", "/authorization/validBefore"] {
        wrong_types.iter().for_each(|value| refused(path, value.clone()));
        numbers.iter().for_each(|text| refused(path, Some(json!(text))));
        refused(path, Some(json!(long)));
    }
    for path in ["/authorization/from", "/authorization/to"] {
        addresses.iter().for_each(|text| refused(path, Some(json!(text))));
    }
    let nonce = "ab".repeat(32);
    for text in [String::new(), nonce.clone(), format!("0x{nonce}00"), format!("0x{}", &nonce[2..]), "0x".to_owned()] {
        refused("/authorization/nonce", Some(json!(text)));
    }
    refused("/signature", Some(json!(format!("0x{}", "00".repeat(4097)))));
    for value in [None, Some(Value::Null), Some(json!("x")), Some(json!([])), Some(json!(1))] {
        refused("/authorization", value);
    }
    let whole = |text: &str| {
        let claim = claim(terms(), RawJson::parse(text.to_owned()).unwrap());
        let rejection = ExactPolicy::default().check(&Tokens::default(), &claim, NOW).unwrap_err();
        (rejection.reason.to_string(), rejection.message.unwrap().to_string())
    };
    for text in ["null", "[]", "1", "\"\"", "true"] {
        assert_eq!(whole(text), ("invalid_payload".to_owned(), "payload: expected a JSON object".to_owned()));
    }
    // An array of the members' values in their order, which serde reads a struct from, is no object.
    let members = |object: &Value, names: &[&str]| json!(names.iter().map(|name| &object[*name]).collect::<Vec<_>>());
    let names = ["from", "to", "value", "validAfter", "validBefore", "nonce"];
    let authorization = members(&wire["authorization"], &names);
    refused("/authorization", Some(authorization));
    assert_eq!(
        whole(&members(&wire, &["signature", "authorization"]).to_string()).1,
        "payload: expected a JSON object"
    );
    let twice = wire.to_string().replacen("\"value\"", "\"value\":\"1\",\"value\"", 1);
    let (reason, message) = whole(&twice);
    assert_eq!(reason, "invalid_payload");
    assert!(message.starts_with("payload.authorization: duplicate field `value`"), "{message}");
    let spelt = wire.to_string().replacen("\"value\"", "\"value\":\"1\",\"v\\u0061lue\"", 1);
    assert!(whole(&spelt).1.starts_with("payload.authorization: duplicate field `value`"), "{spelt}");
    // Of another type, it still stands there once.
    let typed = wire.to_string().replacen("\"signature\"", "\"signature\":[{\"]\":1e9},\"}\"],\"signature\"", 1);
    assert!(whole(&typed).1.starts_with("payload: duplicate field `signature`"), "{typed}");
    // White space and escapes are how one writes JSON, not what it says.
    let spaced = serde_json::to_string_pretty(&wire).unwrap().replace("value", "v\\u0061lue").replace("0x", "\\u0030x");
    assert!(
        ExactPolicy::default().check(&Tokens::default(), &claim(terms(), RawJson::parse(spaced).unwrap()), NOW).is_ok()
    );
    // What is unknown is ignored.
    let mut more = wire;
    more["authorization"]["memo"] = json!({"a": [1, {}, "}\"\\"], "value": null, "b": -1.5e3});
    assert!(
        ExactPolicy::default().check(&Tokens::default(), &claim(terms(), RawJson::of(&more).unwrap()), NOW).is_ok()
    );
}

#[tokio::test]
async fn a_payer_signs_only_what_it_knows() {
    let context = SigningContext { now: NOW, entropy: [1; 32], url: "https://example.com/", method: "GET" };
    let payer = Payer::new(key());
    let mut unknown = terms();
    unknown.asset = Address::repeat_byte(3).to_string();
    let mut renamed = terms();
    renamed.extra.insert_text("name", "USD Coin");
    let mut permit2 = terms();
    permit2.extra.insert_text("assetTransferMethod", "permit2");
    let mut solana = terms();
    solana.network = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp".parse().unwrap();
    for (terms, reason) in [
        (&unknown, "invalid_payment_requirements"),
        (&renamed, "invalid_exact_evm_token_name_mismatch"),
        (&permit2, "unsupported_payload_type"),
        (&solana, "invalid_network"),
    ] {
        assert!(!payer.can_pay(terms));
        let Err(Refusal::Rejection(rejection)) = payer.make_payment(terms, &context).await else { panic!() };
        assert_eq!(rejection.reason.as_str(), reason);
    }
    assert!(Payer::new(key()).with_any_token().can_pay(&unknown));
    assert!(!Payer::new(key()).with_any_token().can_pay(&renamed));
    assert!(!format!("{:?}", Payer::new(key())).contains("59c6995e"));
}

#[test]
fn a_token_without_a_pinned_domain_is_checked_under_the_domain_named() {
    let mut assets = Assets::none();
    assets.add(Asset::new("eip155:84532".parse().unwrap(), USDC, "USDC", "", "", 6));
    let tokens = Tokens::new(&assets);
    let payload = sign(good(), usdc()).to_json();
    let checked = ExactPolicy::default().check(&tokens, &claim(terms(), payload), NOW).unwrap();
    assert_eq!(&*checked.domain.name, "USDC");
    assert_eq!(tokens.iter().next().unwrap().domain, None);
}
