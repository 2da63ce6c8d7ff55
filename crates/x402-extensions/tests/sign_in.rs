//! The extension `sign-in-with-x` against values recorded from the published TypeScript SDK:
//! `x402-testkit/vectors/extensions.md`. Its messages are those of the library `siwe` and of Sign-In With Solana.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use alloy_primitives::eip191_hash_message;
use serde_json::{Value, json};
use x402_evm::key::Key;
use x402_extensions::keys::Ed25519Key;
use x402_extensions::sign_in::{KeysAlone, MALFORMED, NONCE, SignIn, SignInAccount, SignInFields, SignedBy};
use x402_types::challenge::IsoTime;
use x402_types::{Refusal, UnixSeconds};

/// The key of anvil's account 1, which signs in the recording.
const SIGNER: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

fn vectors() -> Value {
    serde_json::from_str(&x402_testkit::vector("extensions.json").unwrap()).unwrap()
}

fn cases(of: &Value, section: &str) -> Vec<Value> {
    of[section].as_array().unwrap().clone()
}

fn key() -> Key {
    SIGNER.parse().unwrap()
}

/// The key of the recording's Solana account.
fn solana() -> Ed25519Key {
    let seed: Vec<u8> = (1..=32).collect();
    Ed25519Key::from_seed(&seed.try_into().unwrap()).unwrap()
}

/// A header with these members.
fn header(payload: &Value) -> Vec<u8> {
    x402_codec::base64::encode(payload.to_string().as_bytes()).into_bytes()
}

/// The fields of a recorded challenge, for which a signature need not hold.
fn fields(info: &Value) -> SignInFields {
    let mut payload = info.clone();
    let is_solana = info["chainId"].as_str().unwrap().starts_with("solana:");
    payload["address"] = if is_solana { json!("11111111111111111111111111111111") } else { json!(key().address()) };
    payload["signature"] = if is_solana { json!("1".repeat(64)) } else { json!("0x00") };
    SignIn::parse(&header(&payload)).unwrap().fields
}

#[test]
fn messages_signatures_and_headers_are_the_sdk_s() {
    let solanas: Value = serde_json::from_str(&x402_testkit::vector("sign-in-solana.json").unwrap()).unwrap();
    let mut kinds = (0, 0);
    let all = cases(&vectors(), "sign-in-with-x.messages").into_iter().chain(cases(&solanas, "messages"));
    // One case has only its outcome: the SDK's text has the checksum of an account that is given in lower case.
    for case in all.filter(|case| case.get("info").is_some()) {
        let id = case["id"].as_str().unwrap();
        let fields = fields(&case["info"]);
        let (account, signature) = if case["info"]["type"] == "ed25519" {
            kinds.1 += 1;
            let account = SignInAccount::Ed25519(*solana().public());
            let message = fields.message(&account);
            (account, solana().sign(message.as_bytes()).to_vec())
        } else {
            kinds.0 += 1;
            let account = SignInAccount::Evm(key().address());
            let message = fields.message(&account);
            let digest = eip191_hash_message(message.as_bytes());
            assert_eq!(digest.to_string(), case["eip191Digest"].as_str().unwrap(), "{id}");
            (account, key().signature_of(digest).unwrap().to_bytes().to_vec())
        };
        assert_eq!(fields.message(&account), case["message"].as_str().unwrap(), "{id}");
        assert_eq!(account.text(), case["payload"]["address"].as_str().unwrap(), "{id}");
        let sign_in = SignIn::parse(case["header"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!((&sign_in.fields, sign_in.account, &sign_in.signature), (&fields, account, &signature), "{id}");
        assert_eq!(sign_in.to_header(), case["header"].as_str().unwrap(), "{id}");
    }
    assert_eq!(kinds, (5, 4));
}

#[test]
fn fields_are_refused_by_the_sdk_s_codes() {
    let all = vectors();
    // The recording's relative times are of this moment.
    let now: IsoTime = "2026-11-29T03:42:47Z".parse().unwrap();
    let base = cases(&all, "sign-in-with-x.messages")[0]["info"].clone();
    let mut seen = 0;
    for case in cases(&all, "sign-in-with-x.validate") {
        let mut info = base.clone();
        info["issuedAt"] = json!("2026-11-29T03:42:46.000Z");
        if let Some(change) = case["change"].as_object() {
            info.as_object_mut().unwrap().extend(change.clone());
        }
        let checked = fields(&info).check(case["expectedOrigin"].as_str().unwrap(), now.floor());
        let code = checked.err().map(|rejection| rejection.reason.as_str().to_owned());
        let expected = case["result"]["invalidReason"].as_str();
        if expected == Some(NONCE.as_str()) {
            // The nonce is judged by the gate, which has the store.
            assert_eq!(code, None);
            continue;
        }
        assert_eq!(code.as_deref(), expected, "{}", case["id"]);
        seen += 1;
    }
    assert_eq!(seen, 7);
}

#[test]
fn times_have_their_edges() {
    let base = cases(&vectors(), "sign-in-with-x.messages")[0]["info"].clone();
    let at = |text: &str| text.parse::<IsoTime>().unwrap().floor();
    let now = at("2026-11-29T03:00:00Z");
    for (member, value, expected) in [
        ("issuedAt", "2026-11-29T03:00:00Z", None),
        ("issuedAt", "2026-11-29T02:55:00Z", None),
        ("issuedAt", "2026-11-29T02:54:59Z", Some("invalid_siwx_issued_at_too_old")),
        ("issuedAt", "2026-11-29T03:00:01Z", Some("invalid_siwx_issued_at_in_future")),
        ("issuedAt", "2026-11-29", Some("invalid_siwx_issued_at")),
        ("expirationTime", "2026-11-29T03:00:00Z", None),
        ("expirationTime", "2026-11-29T02:59:59Z", Some("invalid_siwx_expired")),
        ("notBefore", "2026-11-29T03:00:00Z", None),
        ("notBefore", "2026-11-29T03:00:01Z", Some("invalid_siwx_not_yet_valid")),
    ] {
        let mut info = base.clone();
        info[member] = json!(value);
        let refused = fields(&info).check("https://api.example.com", now).err();
        assert_eq!(refused.as_ref().map(|why| why.reason.as_str()), expected, "{member} {value}");
    }
    let never = fields(&base).check("https://api.example.com", UnixSeconds(u64::MAX));
    assert!(never.is_err());
}

#[tokio::test]
async fn signatures_are_judged_as_the_sdk_judges_them() {
    let all = vectors();
    let mut seen = 0;
    for case in cases(&all, "sign-in-with-x.verify") {
        let Some(payload) = case.get("payload") else { continue };
        seen += 1;
        let id = case["id"].as_str().unwrap();
        let judged = match SignIn::parse(&header(payload)) {
            Ok(sign_in) => sign_in.verify(&KeysAlone).await.map(|signed| (signed, sign_in.account.text())),
            Err(rejection) => Err(rejection.into()),
        };
        match (judged, case["result"]["isValid"].as_bool()) {
            (Ok((signed, payer)), Some(true)) => {
                assert_eq!(
                    (signed, payer.as_str()),
                    (SignedBy::Key, case["result"]["payer"].as_str().unwrap()),
                    "{id}"
                );
            }
            (Err(Refusal::Rejection(why)), Some(false)) => {
                let code = case["result"]["invalidReason"].as_str().unwrap();
                // Base58 and lengths are read with the header, before a signature is looked at.
                let of_header = MALFORMED;
                let ours = if code == "invalid_siwx_malformed_signature" { of_header.as_str() } else { code };
                assert_eq!(why.reason.as_str(), ours, "{id}");
            }
            // The SDK throws for a nonce that is too short.
            (Err(Refusal::Rejection(why)), None) => assert_eq!(why.reason, MALFORMED, "{id}"),
            (judged, valid) => panic!("{id}: {judged:?} {valid:?}"),
        }
    }
    assert_eq!(seen, 7);
}

#[test]
fn headers_are_read_as_the_sdk_reads_them() {
    for case in cases(&vectors(), "sign-in-with-x.parse") {
        let read = SignIn::parse(case["header"].as_str().unwrap().as_bytes());
        match case["result"].get("thrown") {
            Some(_) => assert_eq!(read.unwrap_err().reason, MALFORMED, "{}", case["id"]),
            None => {
                let read = read.unwrap();
                assert_eq!(read.fields.uri, case["result"]["uri"].as_str().unwrap());
                assert_eq!(SignIn::parse(read.to_header().as_bytes()).unwrap(), read);
            }
        }
    }
}

#[test]
fn every_member_is_checked() {
    let good = cases(&vectors(), "sign-in-with-x.messages")[2]["payload"].clone();
    assert!(SignIn::parse(&header(&good)).is_ok());
    let members = [
        "domain",
        "uri",
        "version",
        "nonce",
        "issuedAt",
        "chainId",
        "type",
        "address",
        "signature",
        "statement",
        "expirationTime",
        "notBefore",
        "requestId",
        "resources",
    ];
    for member in members {
        let optional = ["statement", "expirationTime", "notBefore", "requestId", "resources"].contains(&member);
        let mut absent = good.clone();
        absent.as_object_mut().unwrap().remove(member);
        assert_eq!(SignIn::parse(&header(&absent)).is_ok(), optional, "{member}");
        for value in [
            json!(null),
            json!(1),
            json!(true),
            json!({}),
            json!(""),
            json!("x".repeat(3_000)),
            json!("a\nURI: https://evil.example"),
            json!("a\u{7f}"),
            json!(["https://a/ b"]),
            json!(["https://a/\n- b"]),
            json!(vec!["https://a/"; 17]),
        ] {
            let mut changed = good.clone();
            changed[member] = value.clone();
            assert!(SignIn::parse(&header(&changed)).is_err(), "{member}: {value}");
        }
    }
    for (member, value) in [
        ("version", "2"),
        ("nonce", "0011223"),
        ("nonce", "00112233-4455"),
        ("domain", "api.example.com evil.example"),
        ("chainId", "eip155:08453"),
        ("type", "ed25519"),
        ("address", "0x70997970c51812dc3A010C7d01b50e0d17dc79C8"),
        ("address", "70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        ("signature", "0x"),
        ("signature", "0x1"),
    ] {
        let mut changed = good.clone();
        changed[member] = json!(value);
        assert!(SignIn::parse(&header(&changed)).is_err(), "{member}: {value}");
    }
    let mut twice = good.to_string();
    twice.insert_str(1, r#""domain":"api.example.com","#);
    for bad in [twice.as_bytes(), b"[]", b"null", b"", b"{"] {
        assert!(SignIn::parse(x402_codec::base64::encode(bad).as_bytes()).is_err());
    }
    let long = vec![b'A'; 9_000];
    assert!(SignIn::parse(&long).is_err());
    let unpadded = String::from_utf8(header(&json!({"a": 1}))).unwrap();
    assert!(SignIn::parse(unpadded.trim_end_matches('=').as_bytes()).is_err());
}

// A key of small order verifies one signature under many messages: https://eprint.iacr.org/2020/1244, table 6.
#[tokio::test]
async fn a_key_of_small_order_signs_nothing() {
    let mut payload = cases(&vectors(), "sign-in-with-x.messages")[0]["payload"].clone();
    payload["chainId"] = json!("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1");
    payload["type"] = json!("ed25519");
    for point in [
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000000",
    ] {
        let key: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&point[2 * at..2 * at + 2], 16).unwrap()).collect();
        let mut signature = key.clone();
        signature.extend([0; 32]);
        payload["address"] = json!(bs58::encode(&key).into_string());
        payload["signature"] = json!(bs58::encode(&signature).into_string());
        let refused = SignIn::parse(&header(&payload)).unwrap().verify(&KeysAlone).await;
        assert!(matches!(refused, Err(Refusal::Rejection(_))), "{point}");
    }
}
