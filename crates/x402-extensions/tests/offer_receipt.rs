//! The extension `offer-receipt` against values recorded from the published TypeScript SDK:
//! `x402-testkit/vectors/extensions.md`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use serde_json::Value;
use x402_codec::Limits;
use x402_extensions::canonical::canonical;
use x402_extensions::keys::{Ed25519Key, JwsAlgorithm, PublicKey};
use x402_extensions::offer_receipt::{
    ArtifactPayload, ArtifactSigner, IssuerKey, KnownKeys, OfferIssuer, OfferPayload, ReceiptPayload, SignedArtifact,
    digest,
};
use x402_types::extension::{Moment, Required, SettledClaim};
use x402_types::v2::{ResourceInfo, SettleResponse};
use x402_types::{Claim, Extension, Offer, RawJson, Terms, UnixSeconds};

/// The key of the account anvil#2, which signs in the recording.
const SIGNER: &str = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";

fn vectors() -> Value {
    serde_json::from_str(&x402_testkit::vector("extensions.json").unwrap()).unwrap()
}

fn account() -> IssuerKey {
    IssuerKey::eip712(SIGNER.parse().unwrap())
}

fn ed25519(of: &Value) -> IssuerKey {
    let seed = bytes(of["offer-receipt.jwsKey"]["ed25519Seed"].as_str().unwrap());
    IssuerKey::ed25519(Ed25519Key::from_seed(&seed).unwrap())
}

/// Reads 32 bytes in hex.
fn bytes(text: &str) -> [u8; 32] {
    let digits = text.trim_start_matches("0x").as_bytes().chunks(2);
    let bytes: Vec<u8> =
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// Reads a payload by the parser of artifacts, with a signature that nobody verifies.
fn payload<P: ArtifactPayload + Clone>(json: &Value) -> P {
    let signature = format!("0x{}1b", "11".repeat(64));
    let text = serde_json::json!({"format": "eip712", "payload": json, "signature": signature}).to_string();
    SignedArtifact::<P>::parse(text.as_bytes()).unwrap().unverified().clone()
}

#[test]
fn digests_and_signatures_of_eip712_are_the_sdk_s() {
    let all = vectors();
    let mut seen = 0;
    for case in all["offer-receipt.eip712Offers"].as_array().unwrap() {
        check_eip712::<OfferPayload>(case);
        seen += 1;
    }
    for case in all["offer-receipt.eip712Receipts"].as_array().unwrap() {
        check_eip712::<ReceiptPayload>(case);
        seen += 1;
    }
    assert_eq!(seen, 3);
}

fn check_eip712<P: ArtifactPayload + Clone + PartialEq + std::fmt::Debug>(case: &Value) {
    let payload: P = payload(&case["payload"]);
    assert_eq!(digest(&payload).to_string(), case["digest"].as_str().unwrap());
    // The nonce of RFC 6979 makes one signature of a digest, so that ours has the SDK's bytes.
    let signed = account().sign(payload.clone()).unwrap();
    let json: Value = serde_json::from_str(&signed.to_json()).unwrap();
    assert_eq!(json["signature"], case["signature"]);
    assert_eq!(json["payload"].to_string(), case["payload"].to_string());
    let attested = signed.verify(&KnownKeys::new()).unwrap();
    assert_eq!(attested.payload, payload);
    assert!(attested.signer.is(case["signer"].as_str().unwrap()));
    assert_eq!(attested.signer.to_string(), case["verify"]["signer"].as_str().unwrap());
}

#[test]
fn canonical_json_and_jws_are_the_sdk_s_byte_for_byte() {
    let all = vectors();
    let kid = all["offer-receipt.jwsKey"]["kid"].as_str().unwrap();
    let mut seen = (0, 0);
    for case in all["offer-receipt.jws"].as_array().unwrap() {
        let text = canonical(case["payload"].to_string().as_bytes(), &Limits::DEFAULT).unwrap();
        assert_eq!(text, case["canonical"].as_str().unwrap());
        let jws = case["jws"].as_str().unwrap();
        let attested = if case["payload"].get("payer").is_some() {
            seen.1 += 1;
            check_jws::<ReceiptPayload>(&ed25519(&all), &case["payload"], jws)
        } else {
            seen.0 += 1;
            check_jws::<OfferPayload>(&ed25519(&all), &case["payload"], jws)
        };
        assert!(attested.is(kid) && attested.is(kid.split('#').next().unwrap()), "{attested}");
    }
    assert_eq!(seen, (2, 1));
}

fn check_jws<P: ArtifactPayload + Clone + PartialEq + std::fmt::Debug>(
    key: &IssuerKey,
    json: &Value,
    jws: &str,
) -> ArtifactSigner {
    let payload: P = payload(json);
    let signed = key.sign(payload.clone()).unwrap();
    let written: Value = serde_json::from_str(&signed.to_json()).unwrap();
    assert_eq!(written, serde_json::json!({"format": "jws", "signature": jws}));
    let read = SignedArtifact::<P>::parse(written.to_string().as_bytes()).unwrap();
    let attested = read.verify(&KnownKeys::new()).unwrap();
    assert_eq!(attested.payload, payload);
    attested.signer
}

#[test]
fn canonical_json_differs_from_the_sdk_s_in_short_escapes_alone() {
    let all = vectors();
    for case in all["offer-receipt.canonicalize"].as_array().unwrap() {
        let text = canonical(case["input"].to_string().as_bytes(), &Limits::DEFAULT).unwrap();
        let sdk = case["result"].as_str().unwrap();
        // RFC 8785 §3.2.2.2 requires the short escapes, where the SDK writes \u00xx: docs/interop.md.
        let as_the_sdk = text.replace("\\b", "\\u0008").replace("\\f", "\\u000c").replace("\\r", "\\u000d");
        assert_eq!(as_the_sdk, sdk, "{}", case["index"]);
    }
}

/// Builds the offers of a recorded 402 document.
fn offers_of(required: &Value) -> Vec<Offer> {
    let entries = required["accepts"].as_array().unwrap();
    let terms = |entry: &Value| {
        let entry: x402_types::v2::PaymentRequirements = serde_json::from_value(entry.clone()).unwrap();
        Terms::from(&entry)
    };
    let key = |_: &Claim| -> Result<x402_types::PaymentKey, x402_types::Rejection> { unreachable!() };
    entries.iter().map(|entry| Offer { terms: terms(entry), key: std::sync::Arc::new(key) }).collect()
}

#[test]
fn a_declaration_is_the_sdk_s() {
    let all = vectors();
    for case in all["offer-receipt.serverEmits"].as_array().unwrap() {
        let required = &case["paymentRequired"];
        let expected = &required["extensions"]["offer-receipt"];
        let is_jws = expected["info"]["offers"][0]["format"] == "jws";
        let resource = ResourceInfo::of(required["resource"]["url"].as_str().unwrap());
        let offers = offers_of(required);
        // Both recorded offers end 300 seconds after an unknown moment; the first one says which, the other one alike.
        let until = if is_jws {
            let signed = SignedArtifact::<OfferPayload>::parse(expected["info"]["offers"][0].to_string().as_bytes());
            signed.unwrap().verify(&KnownKeys::new()).unwrap().payload.valid_until.unwrap().0
        } else {
            expected["info"]["offers"][0]["payload"]["validUntil"].as_u64().unwrap()
        };
        let key = if is_jws { ed25519(&all) } else { account() };
        let validity = 60;
        let moment = Moment::at(UnixSeconds(until - validity));
        let issuer = OfferIssuer::new(key).with_validity(validity);
        let declared = issuer.declare(&Required::new(&resource, &offers, moment)).unwrap();
        assert_eq!(declared.read::<Value>().unwrap(), *expected, "{}", case["id"]);
        assert_eq!(issuer.lasts(), Some(validity / 2));
    }
}

#[test]
fn a_receipt_is_the_sdk_s() {
    let all = vectors();
    for case in all["offer-receipt.receipts"].as_array().unwrap() {
        let settled = &case["settleResponse"];
        let expected = &settled["extensions"]["offer-receipt"];
        let signed = x402_extensions::offer_receipt::receipt(&RawJson::of(expected).unwrap()).unwrap();
        let attested = signed.verify(&KnownKeys::new()).unwrap();
        let is_jws = expected["info"]["receipt"]["format"] == "jws";
        let key = if is_jws { ed25519(&all) } else { account() };
        if !is_jws {
            assert!(attested.signer.is(case["signer"].as_str().unwrap()));
        }
        let mut response: SettleResponse = serde_json::from_value(settled.clone()).unwrap();
        response.extensions = x402_types::Members::new();
        let offers = offers_of(&all["offer-receipt.serverEmits"][0]["paymentRequired"]);
        let claim = Claim::of_payload(offers[0].terms.clone(), RawJson::null());
        let resource = ResourceInfo::of(&*attested.payload.resource_url);
        let at = attested.payload.issued_at;
        let written =
            OfferIssuer::new(key).on_receipt(&SettledClaim::new(&claim, Some(&resource), &response, at)).unwrap();
        assert_eq!(written.read::<Value>().unwrap(), *expected, "{}", case["id"]);
    }
}

#[test]
fn a_receipt_names_its_transaction_only_if_it_is_told_to() {
    let all = vectors();
    let offers = offers_of(&all["offer-receipt.serverEmits"][0]["paymentRequired"]);
    let claim = Claim::of_payload(offers[0].terms.clone(), RawJson::null());
    let response: SettleResponse =
        serde_json::from_value(all["offer-receipt.receipts"][0]["settleResponse"].clone()).unwrap();
    let resource = ResourceInfo::of("https://api.example.com/");
    let settled = SettledClaim::new(&claim, Some(&resource), &response, UnixSeconds(1));
    let receipt = |issuer: OfferIssuer| {
        let value = issuer.on_receipt(&settled).unwrap();
        let signed = x402_extensions::offer_receipt::receipt(&value).unwrap();
        signed.verify(&KnownKeys::new()).unwrap().payload.transaction
    };
    assert_eq!(receipt(OfferIssuer::new(account())), None);
    let transaction = receipt(OfferIssuer::new(account()).with_transaction()).unwrap();
    assert_eq!(&*transaction, response.transaction);
    // Without a payer there is nothing to confirm.
    let nameless = SettleResponse { payer: None, ..response };
    let settled = SettledClaim::new(&claim, Some(&resource), &nameless, UnixSeconds(1));
    assert_eq!(OfferIssuer::new(account()).on_receipt(&settled), None);
}

// RFC 8037, appendix A.4: a JWS of Ed25519 with its key. RFC 7515, appendix A.3: ES256. did:key's test vectors.
#[test]
fn published_keys_and_signatures_are_read() {
    let did = "did:key:z6MkneMkZqwqRiU5mJzSG3kDwzt9P8C59N4NGTfBLfSGE7c7";
    assert_eq!(PublicKey::of_did(did).unwrap().to_did().unwrap(), did);
    // https://w3c-ccg.github.io/did-key-spec/#secp256k1
    let did = "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme";
    let key = PublicKey::of_did(did).unwrap();
    assert_eq!((key.algorithm(), key.to_did().as_deref()), (JwsAlgorithm::Es256K, Some(did)));

    let jwk = br#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let key = PublicKey::of_jwk(&x402_codec::json::parse(jwk, &Limits::DEFAULT).unwrap()).unwrap();
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let signature: [u8; 64] = x402_codec::base64::decode(signature.as_bytes(), 100).unwrap().try_into().unwrap();
    assert!(key.verifies(signed.as_bytes(), &signature));
    assert!(!key.verifies(b"another text", &signature));

    let jwk = br#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    let key = PublicKey::of_jwk(&x402_codec::json::parse(jwk, &Limits::DEFAULT).unwrap()).unwrap();
    let signed = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let signature: [u8; 64] = x402_codec::base64::decode(signature.as_bytes(), 100).unwrap().try_into().unwrap();
    assert!(key.verifies(signed.as_bytes(), &signature));
    assert_eq!(key.to_did(), None);
}
