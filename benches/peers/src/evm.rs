//! The EIP-3009 digest, and the check that an externally owned account has signed it.

use alloy_primitives::{Address, B256, Bytes, Signature, U256};
use alloy_sol_types::{Eip712Domain, SolStruct, eip712_domain};
use ours_evm::eip3009::{Authorization, Payload};
use ours_evm::exact::ExactPolicy;
use ours_evm::signature::{Signature as OurSignature, libsecp256k1, pure};
use ours_evm::token::Tokens;
use ours_types::{Claim, RawJson, UnixSeconds};
use rs_evm::v1_eip155_exact::{ExactEvmPayment, StructuredSignature};

use crate::sample;
use crate::table::Row;
use crate::timing::plain;

fn domain() -> Eip712Domain {
    eip712_domain! {
        name: "USDC", version: "2", chain_id: sample::CHAIN, verifying_contract: sample::TOKEN,
    }
}

/// `Eip155ExactFacilitator`'s own check, `signature::classify_eoa`, is private: these are its calls.
fn r402_check(payer: Address, signature: &Bytes, digest: &B256) -> bool {
    let signature = Signature::from_raw(signature).unwrap().normalized_s();
    signature.recover_address_from_prehash(digest).unwrap() == payer
}

pub fn rows() -> Vec<Row> {
    let network = sample::NETWORK.parse().unwrap();
    let tokens = Tokens::default().on(network);
    let terms = sample::offer().terms;
    let claim = Claim::of_payload(terms.clone(), RawJson::parse(sample::PAYLOAD.to_owned()).unwrap());
    let Payload { authorization, signature, .. } = Payload::read(&claim.payload).unwrap();
    let signature = Bytes::from(signature.to_vec());
    let separator = tokens.of(&terms).unwrap().domain.clone().unwrap().separator;
    let typed: r402_evm::exact::Eip3009Payload = serde_json::from_str(sample::PAYLOAD).unwrap();
    let typed = typed.authorization;

    let rs_transfer = rs_evm::v1_eip155_exact::TransferWithAuthorization {
        from: typed.from,
        to: typed.to,
        value: U256::from(10_000),
        validAfter: U256::from(typed.valid_after.as_secs()),
        validBefore: U256::from(typed.valid_before.as_secs()),
        nonce: typed.nonce,
    };
    let r402_transfer = r402_evm::exact::TransferWithAuthorization {
        from: typed.from,
        to: typed.to,
        value: U256::from(10_000),
        validAfter: U256::from(typed.valid_after.as_secs()),
        validBefore: U256::from(typed.valid_before.as_secs()),
        nonce: typed.nonce,
    };
    let rs_payment = ExactEvmPayment {
        from: typed.from,
        to: typed.to,
        value: U256::from(10_000),
        valid_after: rs_types::timestamp::UnixTimestamp::from_secs(typed.valid_after.as_secs()),
        valid_before: rs_types::timestamp::UnixTimestamp::from_secs(typed.valid_before.as_secs()),
        nonce: typed.nonce,
        signature: signature.clone(),
    };

    // All three agree, and the signature is the payer's.
    let digest = authorization.digest(separator);
    assert_eq!(digest, rs_transfer.eip712_signing_hash(&domain()));
    assert_eq!(digest, r402_transfer.eip712_signing_hash(&domain()));
    let structured = StructuredSignature::try_from_bytes(signature.clone(), sample::PAYER, &digest).unwrap();
    assert!(matches!(structured, StructuredSignature::EOA(_)));
    assert!(r402_check(sample::PAYER, &signature, &digest));

    let rs_digest = rs_transfer.clone();
    let r402_digest = r402_transfer.clone();
    let (rs_domain, r402_domain) = (domain(), domain());
    let digest = Row::new("EIP-3009 digest", Some(0.4))
        .ours(plain(move || authorization.digest(separator)))
        .rs(plain(move || rs_digest.eip712_signing_hash(&rs_domain)))
        .r402(plain(move || r402_digest.eip712_signing_hash(&r402_domain)));

    let check = move |recover: fn(B256, &OurSignature) -> Result<Address, ours_evm::signature::SignatureError>,
                      authorization: &Authorization,
                      signature: &Bytes| {
        let signature = OurSignature::from_bytes(signature).unwrap();
        assert_eq!(recover(authorization.digest(separator), &signature), Ok(authorization.from));
    };
    let peers = |row: Row| {
        let (rs_payment, rs_domain, r402_domain) =
            (ExactEvmPayment { signature: rs_payment.signature.clone(), ..rs_payment }, domain(), domain());
        let (r402_transfer, r402_signature) = (r402_transfer.clone(), signature.clone());
        row.rs(plain(move || rs_payment.as_signed_message(&rs_domain).unwrap())).r402(plain(move || {
            let digest = r402_transfer.eip712_signing_hash(&r402_domain);
            assert!(r402_check(r402_transfer.from, &r402_signature, &digest));
        }))
    };
    let (by_k256, by_c) = (signature.clone(), signature.clone());
    let k256 = peers(
        Row::new("EOA check, ours with k256", Some(0.40))
            .ours(plain(move || check(pure::recover, &authorization, &by_k256))),
    );
    let c = peers(
        Row::new("EOA check, ours with libsecp256k1", Some(0.22))
            .ours(plain(move || check(libsecp256k1::recover, &authorization, &by_c))),
    );
    let whole = Row::new("`ExactPolicy::check` whole: read, rules, libsecp256k1", None)
        .ours(plain(move || ExactPolicy::default().check(&tokens, &claim, UnixSeconds(1_740_672_100)).unwrap()));
    vec![digest, k256, c, whole]
}
