//! Section "The JWT in `payload.token`": tokens of the document and of npm `jose` 6.2.18 (vectors/card/tokens.md).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use serde_json::Value;
use x402_card::{Cents, Currency, LONGEST_LIFE, TokenClaims, TokenKeys, TokenSigner};
use x402_types::UnixSeconds;
use x402_types::nvm::card::Processor;

const ISSUER: &str = "https://facilitator.example";
const ISSUED: UnixSeconds = UnixSeconds(1_767_225_600);
const END: u64 = 1_769_817_600;
/// The document's vector.
const JWK: &str = r#"{"kty":"EC","crv":"P-256","x":"B6VgirsSo_deHao2q9j5jtR4F8uiHdx6HdyZPxRFuVY","y":"zx24mZgJwpYv5yF39YR3ZWty7PutOpn3lxmuboDhgdY","kid":"k1","alg":"ES256","use":"sig"}"#;
const JWT: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRwczovL2ZhY2lsaXRhdG9yLmV4YW1wbGUiLCJzdWIiOiJ1c2VyLTciLCJhdWQiOiJudm06Y2FyZC1kZWxlZ2F0aW9uIiwianRpIjoiNmYxYzJhMzQtNWI2ZC00ZTdmLThhOTAtMWIyYzNkNGU1ZjYwIiwiaWF0IjoxNzY3MjI1NjAwLCJleHAiOjE3Njk4MTc2MDAsIm52bSI6eyJkZWxlZ2F0aW9uSWQiOiI2ZjFjMmEzNC01YjZkLTRlN2YtOGE5MC0xYjJjM2Q0ZTVmNjAiLCJwcm92aWRlciI6InN0cmlwZSIsInByb3ZpZGVyQ3VzdG9tZXJJZCI6ImN1c19FeGFtcGxlMDEiLCJwcm92aWRlclBheW1lbnRNZXRob2RJZCI6InBtX0V4YW1wbGUwMSIsInNwZW5kaW5nTGltaXRDZW50cyI6NTAwMCwiY3VycmVuY3kiOiJ1c2QiLCJwbGFuSWQiOiIxMDAxIiwibWF4VHJhbnNhY3Rpb25zIjoxMH19.xgw8Z0_cLbfzMn_WPa1eOoIMT3WUnerNWUT4UsuLAPwM55HZJFvrJCFC3D5AdcQToYCIFmbAoNbwA6BCy06FHw";

fn vectors() -> Value {
    serde_json::from_str(&x402_testkit::vector("card/tokens.json").unwrap()).unwrap()
}

fn keys(vectors: &Value) -> TokenKeys {
    vectors["keys"]
        .as_array()
        .unwrap()
        .iter()
        .fold(TokenKeys::new(), |keys, jwk| keys.with_jwk(&jwk.to_string()).unwrap())
}

fn tokens(of: &Value) -> Vec<(&str, &str)> {
    of.as_object().unwrap().iter().map(|(name, token)| (name.as_str(), token.as_str().unwrap())).collect()
}

/// The code of a refusal by signature, form or claim.
fn refused(token: &str, keys: &TokenKeys, at: UnixSeconds) -> Option<String> {
    let checked = TokenClaims::verified(token, keys).and_then(|claims| claims.check(ISSUER, LONGEST_LIFE, at));
    checked.err().map(|rejection| rejection.reason.as_str().to_owned())
}

#[test]
fn the_documents_token_is_read_as_it_was_written() {
    let keys = TokenKeys::new().with_jwk(JWK).unwrap();
    let claims = TokenClaims::verified(JWT, &keys).unwrap();
    assert_eq!(claims.subject, "user-7");
    assert_eq!(claims.delegation.as_str(), "6f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60");
    assert_eq!((claims.issued_at, claims.expires_at, claims.not_before), (ISSUED, UnixSeconds(END), None));
    assert_eq!((claims.processor, claims.currency), (Some(Processor::Stripe), Currency::Usd));
    assert_eq!((claims.customer.as_str(), claims.payment_method.as_str()), ("cus_Example01", "pm_Example01"));
    assert_eq!((claims.limit, claims.max_charges), (Cents::try_from(5_000).unwrap(), Some(10)));
    assert_eq!(claims.plan, Some("1001".parse().unwrap()));
    assert_eq!(TokenClaims::unverified(JWT).unwrap(), claims);
}

#[test]
fn a_token_is_good_from_its_issue_until_before_its_end() {
    let keys = TokenKeys::new().with_jwk(JWK).unwrap();
    assert_eq!(refused(JWT, &keys, ISSUED), None);
    assert_eq!(refused(JWT, &keys, UnixSeconds(END - 1)), None);
    assert_eq!(refused(JWT, &keys, UnixSeconds(END)), Some("EXPIRED_TOKEN".to_owned()));
    // Its issue may be a minute ahead of this clock.
    assert_eq!(refused(JWT, &keys, UnixSeconds(ISSUED.0 - 60)), None);
    assert_eq!(refused(JWT, &keys, UnixSeconds(ISSUED.0 - 61)), Some("INVALID_TOKEN".to_owned()));
}

#[test]
fn every_changed_character_is_refused() {
    let keys = TokenKeys::new().with_jwk(JWK).unwrap();
    for at in 0..JWT.len() {
        let mut changed = JWT.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(refused(&changed, &keys, ISSUED), Some("INVALID_TOKEN".to_owned()), "{at}");
    }
    for changed in [format!("{JWT}A"), format!("{JWT}."), format!(".{JWT}"), JWT.replace('.', ""), String::new()] {
        assert_eq!(refused(&changed, &keys, ISSUED), Some("INVALID_TOKEN".to_owned()), "{changed}");
    }
    let long = format!("{}.{}", "A".repeat(4_096), JWT);
    assert_eq!(refused(&long, &keys, ISSUED), Some("INVALID_TOKEN".to_owned()));
}

#[test]
fn both_algorithms_are_read_each_under_its_own_key() {
    let vectors = vectors();
    let keys = keys(&vectors);
    for (name, token) in tokens(&vectors["good"]) {
        assert_eq!(refused(token, &keys, ISSUED), None, "{name}");
    }
    for (name, token) in tokens(&vectors["bad"]) {
        assert_eq!(refused(token, &keys, ISSUED), Some("INVALID_TOKEN".to_owned()), "{name}");
    }
    // A former key verifies until it is removed.
    let removed = vectors["bad"]["removedKey"].as_str().unwrap();
    let with = keys.with_jwk(&vectors["removed"].to_string()).unwrap();
    assert_eq!(refused(removed, &with, ISSUED), None);
}

#[test]
fn claims_of_another_form_are_refused_although_they_are_signed() {
    let vectors = vectors();
    let keys = keys(&vectors);
    for (name, token) in tokens(&vectors["signedBad"]) {
        assert_eq!(refused(token, &keys, ISSUED), Some("INVALID_TOKEN".to_owned()), "{name}");
    }
    let good = |name: &str, at| refused(vectors["signedGood"][name].as_str().unwrap(), &keys, at);
    let no = Some("INVALID_TOKEN".to_owned());
    assert_eq!((good("iatAhead60", ISSUED), good("iatAhead61", ISSUED)), (None, no.clone()));
    assert_eq!(
        (good("nbfLater", UnixSeconds(1_767_225_699)), good("nbfLater", UnixSeconds(1_767_225_700))),
        (no.clone(), None)
    );
    // A header may name keys elsewhere: they are not looked at.
    assert_eq!((good("jku", ISSUED), good("days31", ISSUED)), (None, no));
}

#[test]
fn what_binds_a_token_is_read() {
    let vectors = vectors();
    let claims = |name: &str| TokenClaims::unverified(vectors["signedGood"][name].as_str().unwrap()).unwrap();
    let binding = claims("bound").binding;
    assert_eq!(binding.agent, Some("2002".parse().unwrap()));
    assert_eq!(binding.resource.as_deref(), Some("https://shop.example/reports"));
    assert_eq!((binding.verb.as_deref(), binding.nonce), (Some("POST"), Some([0x11; 32])));
    assert_eq!(claims("erc4337").processor, None);
}

#[test]
fn a_key_is_public_of_one_algorithm_and_one_name() {
    let vectors = vectors();
    let private = JWK.replace("\"kid\"", "\"d\":\"AQ\",\"kid\"");
    for jwk in [
        private.as_str(),
        "{}",
        &JWK.replace("ES256", "ES256K"),
        &JWK.replace("P-256", "P-384"),
        &JWK.replace("B6Vg", "C6Vg"),
        &JWK.replace("\"k1\"", "\"\""),
        &vectors["keys"][0].to_string().replace("RS256", "PS256"),
        &vectors["keys"][0].to_string().replace("RS256", "ES256"),
    ] {
        assert!(TokenKeys::new().with_jwk(jwk).is_err(), "{jwk}");
    }
    assert!(TokenKeys::new().with_jwk(JWK).unwrap().with_jwk(JWK).is_err());
    // What is published is what was read.
    let published = keys(&vectors).to_jwks();
    for (published, read) in published["keys"].as_array().unwrap().iter().zip(vectors["keys"].as_array().unwrap()) {
        assert_eq!(published, read);
    }
}

#[test]
fn what_is_signed_here_is_read_again_and_shows_no_key() {
    let signer = TokenSigner::new("k2", &[7; 32]).unwrap();
    let keys = TokenKeys::new().with_signer(&signer).unwrap();
    let claims = TokenClaims::unverified(vectors()["signedGood"]["bound"].as_str().unwrap()).unwrap();
    let token = claims.to_token(&signer).unwrap();
    assert_eq!(TokenClaims::verified(&token, &keys).unwrap(), claims);
    assert_eq!(claims.to_token(&signer).unwrap(), token, "RFC 6979: the same each time");
    assert!(TokenSigner::new("k2", &[0; 32]).is_err() && TokenSigner::new("", &[7; 32]).is_err());
    assert_eq!(format!("{signer:?} {keys:?}"), "TokenSigner { kid: \"k2\", .. } {\"k2\"}");
}
