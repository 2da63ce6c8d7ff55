//! Recovery on shared vectors, by each implementation that is compiled in: one accepted set.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use alloy_primitives::{Address, B256, U256, hex, keccak256};
use serde_json::Value;
use sha2::{Digest, Sha256};
use x402_evm::signature::{Signature, SignatureError, pure, recover};

const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

/// What every implementation says, which must be the same.
fn all(digest: B256, signature: &Signature) -> Result<Address, SignatureError> {
    let answer = pure::recover(digest, signature);
    assert_eq!(recover(digest, signature), answer);
    #[cfg(feature = "libsecp256k1")]
    assert_eq!(x402_evm::signature::libsecp256k1::recover(digest, signature), answer);
    answer
}

/// Strict DER of an ECDSA signature: r and s as 32 bytes, or nothing.
fn der(bytes: &[u8]) -> Option<(B256, B256)> {
    fn integer(bytes: &[u8]) -> Option<(B256, &[u8])> {
        let [2, len, rest @ ..] = bytes else { return None };
        let (value, rest) = rest.split_at_checked(usize::from(*len))?;
        let value = match value {
            [0, b, ..] if b & 0x80 != 0 => &value[1..],
            [0] => value,
            [] | [0, ..] => return None,
            [b, ..] if b & 0x80 != 0 => return None,
            _ => value,
        };
        (value.len() <= 32).then(|| (B256::left_padding_from(value), rest))
    }
    let [0x30, len, rest @ ..] = bytes else { return None };
    if rest.len() != usize::from(*len) {
        return None;
    }
    let (r, rest) = integer(rest)?;
    let (s, rest) = integer(rest)?;
    rest.is_empty().then_some((r, s))
}

#[test]
fn wycheproof() {
    let file = include_str!("../../x402-testkit/vectors/wycheproof_ecdsa_secp256k1_sha256_bitcoin.json");
    let file: Value = serde_json::from_str(file).unwrap();
    let text = |v: &Value| hex::decode(v.as_str().unwrap()).unwrap();
    let (mut valid, mut invalid, mut reduced) = (0, 0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        let key = group.get("publicKey").or_else(|| group.get("key")).unwrap();
        let key = text(&key["uncompressed"]);
        let account = Address::from_word(keccak256(&key[1..]));
        for test in group["tests"].as_array().unwrap() {
            let digest = B256::from_slice(&Sha256::digest(text(&test["msg"])));
            let parsed = der(&text(&test["sig"]));
            let recovered = |odd| parsed.and_then(|(r, s)| all(digest, &Signature::new(r, s, odd).ok()?).ok());
            let signed = [false, true].map(recovered).contains(&Some(account));
            match test["result"].as_str().unwrap() {
                // r of these is R.x - n; such signatures have v 29 or 30, which no EVM chain takes.
                "valid" if !signed => {
                    let flags = test["flags"].to_string() + test["comment"].as_str().unwrap();
                    assert!(
                        flags.contains("ArithmeticError") || flags.contains("k*G has a large x-coordinate"),
                        "{test}"
                    );
                    reduced += 1;
                }
                "valid" => valid += 1,
                _ => {
                    assert!(!signed, "{test}");
                    invalid += 1;
                }
            }
        }
    }
    assert_eq!(valid + invalid + reduced, file["numberOfTests"].as_u64().unwrap());
    assert!(valid > 100 && invalid > 150 && reduced < 5, "{valid} {invalid} {reduced}");
}

fn b256(n: U256) -> B256 {
    n.into()
}

#[test]
fn edges_of_r_and_s() {
    let order = U256::from_str_radix(ORDER, 16).unwrap();
    let (one, half) = (U256::from(1), order / U256::from(2));
    let make = |r: U256, s: U256| Signature::new(b256(r), b256(s), false).map(|_| ());
    assert_eq!(make(U256::ZERO, one), Err(SignatureError::R));
    assert_eq!(make(order, one), Err(SignatureError::R));
    assert_eq!(make(U256::MAX, one), Err(SignatureError::R));
    assert_eq!(make(one, U256::ZERO), Err(SignatureError::S));
    assert_eq!(make(one, order), Err(SignatureError::S));
    assert_eq!(make(one, U256::MAX), Err(SignatureError::S));
    assert_eq!(make(one, half + one), Err(SignatureError::HighS));
    assert_eq!(make(one, order - one), Err(SignatureError::HighS));
    assert_eq!(make(one, half), Ok(()));
    assert_eq!(make(order - one, half), Ok(()));
}

#[test]
fn r_must_be_the_x_of_a_point() {
    let digest = keccak256("x");
    // 5³ + 7 = 132 is no square modulo p; 1³ + 7 = 8 is one.
    let off = Signature::new(b256(U256::from(5)), b256(U256::from(1)), false).unwrap();
    assert_eq!(all(digest, &off), Err(SignatureError::NoKey));
    let on = Signature::new(b256(U256::from(1)), b256(U256::from(1)), false).unwrap();
    assert!(all(digest, &on).is_ok());
}

#[test]
fn the_point_at_infinity_is_no_key() {
    // R = G and s = z give Q = r⁻¹(zG - zG).
    let g = U256::from_str_radix("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798", 16).unwrap();
    let z = U256::from(7);
    let signature = Signature::new(b256(g), b256(z), false).unwrap();
    assert_eq!(all(b256(z), &signature), Err(SignatureError::NoKey));
    let other = Signature::new(b256(g), b256(z), true).unwrap();
    assert!(all(b256(z), &other).is_ok());
}

#[test]
fn implementations_agree_on_many() {
    // r, s, digest and parity from a hash chain: about half of the r are no x of a point.
    let mut seed = keccak256("recovery");
    let (mut keys, mut none) = (0, 0);
    for _ in 0..200 {
        let next = |seed: &mut B256| {
            *seed = keccak256(*seed);
            *seed
        };
        let (r, s, digest) = (next(&mut seed), next(&mut seed), next(&mut seed));
        let Ok(signature) = Signature::new(r, s, seed[0] & 1 == 1) else { continue };
        match all(digest, &signature) {
            Ok(_) => keys += 1,
            Err(why) => {
                assert_eq!(why, SignatureError::NoKey);
                none += 1;
            }
        }
    }
    assert!(keys > 20 && none > 20, "{keys} {none}");
}

#[test]
fn bytes_have_one_length_and_v() {
    let mut bytes = [1u8; 65];
    assert_eq!(Signature::from_bytes(&[]), Err(SignatureError::Length(0)));
    assert_eq!(Signature::from_bytes(&bytes[..64]), Err(SignatureError::Length(64)));
    for v in (0..=255).filter(|v| !(27..=28).contains(v)) {
        bytes[64] = v;
        assert_eq!(Signature::from_bytes(&bytes), Err(SignatureError::V(v)));
    }
    for v in [27, 28] {
        bytes[64] = v;
        assert_eq!(Signature::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    }
}
