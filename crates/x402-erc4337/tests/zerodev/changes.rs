//! Every truncation and every change of a byte.

use alloy_primitives::U256;
use base64_simd::STANDARD;
use x402_erc4337::Call;
use x402_erc4337::session::zerodev::{
    Approval, ApprovalCheckError, KernelAccount, Permission, PermissionError, PolicyItem,
};

use crate::cases::{CHAIN, approval, cases};
use crate::common::{address, bytes, text, word};

/// "Every truncation and every single-byte change of a serialized approval … is an error, a different and refused
/// permission, or, in a member that is ignored, the same permission with another `hash`".
#[test]
fn every_change_of_an_approval() {
    for case in &cases()[1..2] {
        let good = text(&case["serialized"]);
        let session = address(&case["sessionKey"]);
        let expected = approval(case);
        for len in 0..good.len() {
            assert!(Approval::read(&good[..len]).is_err(), "cut at {len}");
        }
        let json = STANDARD.decode_to_vec(good).unwrap();
        // The members that are ignored, and the white space that JSON allows nowhere in this text.
        let validity = find(&json, b"\"validityData\"")..find(&json, b"\"accountParams\"");
        let mut ignored = 0;
        for i in 0..json.len() {
            for change in [0x01, 0x20] {
                let mut other = json.clone();
                other[i] ^= change;
                let text = STANDARD.encode_to_string(&other);
                let Ok(read) = Approval::read(&text) else { continue };
                assert_ne!(read.hash(), expected.hash());
                if read.check(session, CHAIN, 1).is_err() {
                    continue;
                }
                let tail = &json[i.saturating_sub(20)..(i + 4).min(json.len())];
                let at = String::from_utf8_lossy(tail);
                let dead = validity.contains(&i) || i > find(&json, b"\"isPreInstalled\"") - 1;
                assert!(dead, "byte {i} of …{at}");
                assert_eq!(read.policies, expected.policies);
                ignored += 1;
            }
        }
        assert!(ignored > 0);
        for i in 0..good.len() {
            let mut other = good.as_bytes().to_vec();
            other[i] = if other[i] == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(other).unwrap();
            if let Ok(read) = Approval::read(&text)
                && read.check(session, CHAIN, 1).is_ok()
            {
                assert_eq!(read.policies, expected.policies, "character {i}");
                assert_ne!(read.hash(), expected.hash());
            }
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> usize {
    text.windows(what.len()).position(|w| w == what).unwrap()
}

#[test]
fn every_change_of_enable_data_and_signature() {
    let case = &cases()[0];
    let good = bytes(&case["enableData"]);
    let permission = Permission::from_enable_data(&good).unwrap();
    for len in 0..good.len() {
        assert!(Permission::from_enable_data(&good[..len]).is_err(), "cut at {len}");
    }
    for i in 0..good.len() {
        for bit in [0x01, 0x80] {
            let mut other = good.to_vec();
            other[i] ^= bit;
            if let Ok(read) = Permission::from_enable_data(&other) {
                assert_ne!(read, permission, "byte {i}");
                assert_ne!(read.enable_data(), good);
            }
        }
    }
    let mut longer = good.to_vec();
    longer.extend_from_slice(&[0; 32]);
    assert_eq!(Permission::from_enable_data(&longer), Err(PermissionError::Malformed));

    let approval = approval(case);
    let digest = word(&case["enableDigest"]);
    let good = bytes(&case["operations"][0]["finalSignature"]);
    for len in (0..good.len()).step_by(7) {
        assert!(Permission::from_enable_signature(&good[..len]).is_err(), "cut at {len}");
    }
    for i in 0..good.len() {
        let mut other = good.to_vec();
        other[i] ^= 1;
        let Ok((read, approved, signed)) = Permission::from_enable_signature(&other) else { continue };
        let same_digest = read.enable_digest(approval.account, approval.version(), CHAIN, 1) == digest;
        let same_approval = Some(&approved) == approval.enable_signature.as_ref();
        let same_signature = signed == bytes(&case["operations"][0]["userOpSignature"]);
        assert!(!(same_digest && same_approval && same_signature), "byte {i}");
    }
}

#[test]
fn every_change_of_an_enable_signature_is_refused() {
    let case = &cases()[0];
    let session = address(&case["sessionKey"]);
    let good = bytes(&case["enableSignature"]);
    let check = |signature: Vec<u8>| {
        let mut other = approval(case);
        other.enable_signature = Some(signature.into());
        other.check(session, CHAIN, 1)
    };
    for i in 0..good.len() {
        let mut other = good.to_vec();
        other[i] ^= 1;
        assert_eq!(check(other), Err(ApprovalCheckError::EnableSignature), "byte {i}");
    }
    assert_eq!(check(good[..64].to_vec()), Err(ApprovalCheckError::EnableSignature));
    // The same signature with the other s.
    let signature = alloy_primitives::Signature::from_raw(&good).unwrap();
    let order: U256 = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141".parse().unwrap();
    let high = alloy_primitives::Signature::new(signature.r(), order - signature.s(), !signature.v());
    assert_eq!(check(high.as_bytes().to_vec()), Err(ApprovalCheckError::EnableSignature));
    let mut zero_one = good.to_vec();
    zero_one[64] -= 27;
    assert_eq!(check(zero_one), Err(ApprovalCheckError::EnableSignature));
}

proptest::proptest! {
    #[test]
    fn decode_approval_never_panics(text: String, bytes: Vec<u8>) {
        let _ = Approval::read(&text);
        let _ = Approval::read(&STANDARD.encode_to_string(&bytes));
        let _ = Permission::from_enable_data(&bytes);
        let _ = Permission::from_enable_signature(&bytes);
        let _ = PolicyItem::from_item(&bytes);
        let _ = KernelAccount::from_factory_data(&bytes);
        let _ = Call::read(&bytes);
    }
}
