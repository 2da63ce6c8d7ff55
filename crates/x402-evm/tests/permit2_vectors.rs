//! `vectors/permit2.json`, made by the published SDKs and viem: digests, calldata, selectors, and one key for every
//! spelling of a signature.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use alloy_primitives::{Address, B256, Bytes, U256, hex, keccak256};
use serde_json::{Value, json};
use x402_evm::eip712::DomainSeparator;
use x402_evm::permit2::sponsored::PermittedAllowance;
use x402_evm::permit2::{
    ContractError, EXACT_PROXY, EXACT_WITNESS_TYPE, Eip2612Permit, PERMIT_TYPE, PERMIT2, Permit, PermitPayload,
    SettleCall, UPTO_PROXY, UPTO_WITNESS_TYPE, UncheckedPermit, Witness, allowance_call, domain, nonce_bitmap_call,
};
use x402_evm::signature::{Signature, SignatureError, recover};
use x402_evm::wallet::{NotSigned, Signers};
use x402_types::{ChainId, ErrorReason, RawJson};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../x402-testkit/vectors/permit2.json")).unwrap()
}

fn list(of: &Value) -> &[Value] {
    of.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn bytes(value: &Value) -> Bytes {
    text(value).parse().unwrap()
}

fn number(value: &Value) -> U256 {
    U256::from_str_radix(text(value), 10).unwrap()
}

fn address(value: &Value) -> Address {
    text(value).parse().unwrap()
}

fn witness(witness: &Value) -> Witness {
    Witness {
        to: address(&witness["to"]),
        facilitator: witness.get("facilitator").map(address),
        valid_after: number(&witness["validAfter"]),
    }
}

fn authorization(from: &Value, message: &Value, witness: Witness) -> Permit {
    Permit {
        from: address(from),
        token: address(&message["permitted"]["token"]),
        amount: number(&message["permitted"]["amount"]).into(),
        spender: witness.proxy(),
        nonce: number(&message["nonce"]),
        deadline: number(&message["deadline"]),
        witness,
    }
}

#[test]
fn every_digest_is_viem_s_and_the_signer_the_payer() {
    let all = vectors();
    let vectors = list(&all["permit2Digests"]);
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        let (message, id) = (&vector["message"], text(&vector["id"]));
        let signed = authorization(&vector["owner"], message, witness(&message["witness"]));
        assert_eq!(signed.spender, address(&message["spender"]), "{id}");
        assert_eq!(signed.witness.facilitator.is_some(), vector["scheme"] == "upto", "{id}");
        let separator = domain(vector["chainId"].as_u64().unwrap());
        assert_eq!(separator.value(), text(&vector["domainSeparator"]).parse::<B256>().unwrap(), "{id}");
        assert_eq!(signed.witness.hash(), text(&vector["witnessHash"]).parse::<B256>().unwrap(), "{id}");
        assert_eq!(signed.struct_hash(), text(&vector["structHash"]).parse::<B256>().unwrap(), "{id}");
        let digest = signed.digest(separator);
        assert_eq!(digest, text(&vector["digest"]).parse::<B256>().unwrap(), "{id}");
        let signature = Signature::from_bytes(&bytes(&vector["signature"])).unwrap();
        assert_eq!(recover(digest, &signature), Ok(signed.from), "{id}");

        let payload = PermitPayload { authorization: signed, signature: bytes(&vector["signature"]) };
        assert_eq!(PermitPayload::read(&payload.to_json()), Ok(payload), "{id}");
    }
}

#[test]
fn every_type_hash_is_that_of_its_text() {
    let all = vectors();
    let texts = all["typeHashes"].as_object().unwrap();
    for (text, hash) in texts {
        assert_eq!(keccak256(text), self::text(hash).parse::<B256>().unwrap(), "{text}");
    }
    let hashes: Vec<B256> = texts.values().map(|hash| text(hash).parse().unwrap()).collect();
    for known in [EXACT_WITNESS_TYPE, UPTO_WITNESS_TYPE, PERMIT_TYPE[0], PERMIT_TYPE[1]] {
        assert!(hashes.contains(&known), "{known}");
    }
}

#[test]
fn every_permit_of_a_token_is_viem_s() {
    let all = vectors();
    let vectors = list(&all["eip2612Permits"]);
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let (of, message) = (&vector["domain"], &vector["message"]);
        let chain_id = of["chainId"].as_u64().unwrap();
        let domain =
            DomainSeparator::new(text(&of["name"]), text(&of["version"]), chain_id, address(&of["verifyingContract"]));
        assert_eq!(address(&message["spender"]), PERMIT2);
        let allowance = PermittedAllowance {
            owner: address(&message["owner"]),
            value: number(&message["value"]),
            nonce: number(&message["nonce"]),
            deadline: number(&message["deadline"]),
        };
        let digest = allowance.digest(domain);
        assert_eq!(digest, text(&vector["digest"]).parse::<B256>().unwrap(), "{vector}");
        let signature = Signature::from_bytes(&bytes(&vector["signature"])).unwrap();
        assert_eq!(recover(digest, &signature), Ok(allowance.owner), "{vector}");
    }
}

fn eip2612(permit: &Value) -> Eip2612Permit {
    Eip2612Permit {
        value: number(&permit["value"]),
        deadline: number(&permit["deadline"]),
        r: text(&permit["r"]).parse().unwrap(),
        s: text(&permit["s"]).parse().unwrap(),
        v: u8::try_from(permit["v"].as_u64().or_else(|| permit["v"].as_str()?.parse().ok()).unwrap()).unwrap(),
    }
}

#[test]
fn every_call_of_a_proxy_is_viem_s_and_is_read_back() {
    let all = vectors();
    let vectors = list(&all["settleCalldata"]);
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        let mut args = list(&vector["args"]).iter();
        let mut next = || args.next().unwrap();
        let permit2612 = (vector["function"] == "settleWithPermit").then(|| eip2612(next()));
        let permit = next();
        let amount = if vector["scheme"] == "upto" { number(next()) } else { number(&permit["permitted"]["amount"]) };
        let (owner, witness, signature) = (next(), witness(next()), bytes(next()));
        let authorization = authorization(owner, permit, witness);
        let settlement = SettleCall { authorization, amount: amount.into(), signature, permit2612 };
        assert_eq!(settlement.call(), bytes(&vector["calldata"]), "{vector}");
        assert_eq!(&settlement.call()[..4], &bytes(&vector["selector"])[..]);
        assert_eq!(SettleCall::of_call(&settlement.call()), Some(settlement.clone()));
        let suffixed = [&settlement.call()[..], &[0x80, 0x21]].concat();
        assert_eq!(SettleCall::of_call(&suffixed), Some(settlement.clone()));
        assert_eq!(SettleCall::of_call(&settlement.call()[..100]), None);
    }
}

/// Checks the calls that the SDKs sent to the proxies in the recorded settlements: each is read, and written again.
#[test]
fn every_recorded_transaction_is_read_and_written_again() {
    let all = vectors();
    let mut calls = 0;
    for case in list(&all["facilitatorCases"]) {
        for sdk in ["typescript", "python"] {
            for sent in case[sdk].get("transactions").and_then(Value::as_array).into_iter().flatten() {
                let to = address(&sent["to"]);
                if ![EXACT_PROXY, UPTO_PROXY].contains(&to) {
                    continue;
                }
                let input = bytes(&sent["input"]);
                let settlement = SettleCall::of_call(&input).unwrap_or_else(|| panic!("{}", case["id"]));
                assert_eq!(settlement.call(), input, "{}", case["id"]);
                assert_eq!(settlement.authorization.witness.proxy(), to, "{}", case["id"]);
                let payload = RawJson::of(&case["paymentPayload"]["payload"]).unwrap();
                if let Ok(payload) = PermitPayload::read(&payload) {
                    assert_eq!(settlement.authorization, payload.authorization, "{}", case["id"]);
                }
                calls += 1;
            }
        }
    }
    assert_eq!(calls, 39);
}

#[test]
fn selectors_are_those_of_the_abis() {
    let all = vectors();
    let word = || Bytes::from([0u8; 64].to_vec());
    let selectors = &all["selectors"];
    let nonce_bitmap = &selectors["permit2"]["function nonceBitmap(address,uint256)"];
    assert_eq!(nonce_bitmap_call(Address::ZERO, U256::ZERO), [&bytes(nonce_bitmap)[..], &word()].concat());
    // ERC-20's, from its document's ABI.
    assert_eq!(allowance_call(Address::ZERO, Address::ZERO), [&hex!("dd62ed3e")[..], &word()].concat());

    let mut known = 0;
    for contract in ["exactProxy", "uptoProxy", "permit2"] {
        for (name, selector) in selectors[contract].as_object().unwrap() {
            let Some(error) = name.strip_prefix("error ") else { continue };
            if let Some(read) = ContractError::read(&bytes(selector)) {
                assert_eq!(read.name, error);
                known += 1;
            } else {
                // Errors of Permit2's other half, allowances with an end, and of batches.
                let others = [
                    "AllowanceExpired",
                    "ExcessiveInvalidation",
                    "InsufficientAllowance",
                    "InvalidAmount(uint256)",
                    "LengthMismatch",
                ];
                assert!(others.iter().any(|other| error.starts_with(other)), "{error}");
            }
        }
    }
    assert_eq!(known, 7 + 9 + 6);
    let used = ContractError::read(&hex!("756688fe")).unwrap();
    assert_eq!((used.name, used.reason), ("InvalidNonce()", ErrorReason::PERMIT2_INVALID_NONCE));
    assert_eq!(ContractError::read(&hex!("756688")), None);
}

/// Checks that Permit2's own recovery accepts the twin with `s` in the upper half, as the recorded settlement with it
/// shows, and that no spelling of a signature makes another key.
#[test]
fn both_halves_of_s_and_the_compact_form_are_one_payment() {
    let all = vectors();
    let case = |id: &str| list(&all["facilitatorCases"]).iter().find(|case| case["id"] == id).unwrap();
    let high = case("signature_high_s");
    assert_eq!(high["typescript"]["settle"]["success"], true);
    let payload = PermitPayload::read(&RawJson::of(&high["paymentPayload"]["payload"]).unwrap()).unwrap();
    let digest = payload.authorization.digest(domain(84532));
    assert_eq!(Signature::from_bytes(&payload.signature), Err(SignatureError::HighS));
    let low = Signature::of_either_half(&payload.signature).unwrap();
    assert_eq!(recover(digest, &low), Ok(payload.authorization.from));
    assert_eq!(Signature::from_bytes(&low.to_bytes()), Ok(low));

    let (strict, both) = (Signers::any(), Signers::any().with_either_half());
    let read = |signers: &Signers, signature: &[u8]| {
        signers.read(payload.authorization.from, digest, &signature.to_vec().into()).unwrap().of_key()
    };
    assert_eq!(read(&strict, &payload.signature), Err(NotSigned::Key(SignatureError::HighS)));
    assert_eq!(read(&both, &payload.signature), Ok(()));
    assert_eq!(read(&both, &low.to_bytes()), Ok(()));

    let network: ChainId = "eip155:84532".parse().unwrap();
    let mut compact = low.to_bytes()[..64].to_vec();
    compact[32] |= if low.is_odd() { 0x80 } else { 0 };
    assert_eq!(read(&both, &compact), Err(NotSigned::Key(SignatureError::Length(64))));
    for signature in [payload.signature.to_vec(), low.to_bytes().to_vec(), compact, Vec::new()] {
        let json = PermitPayload { signature: signature.into(), ..payload.clone() }.to_json();
        assert_eq!(UncheckedPermit::read(&json).unwrap().key(network), payload.authorization.key(network));
    }
}

/// A payload that is good, as a JSON value.
fn good() -> Value {
    let all = vectors();
    all["facilitatorCases"][0]["paymentPayload"]["payload"].clone()
}

fn refusal(payload: &Value) -> String {
    let why = PermitPayload::read(&RawJson::of(payload).unwrap()).unwrap_err();
    assert_eq!(why.reason, ErrorReason::INVALID_PAYLOAD);
    why.message.unwrap().into()
}

/// The same with the witness of `upto`: each member is read as strictly, and so is the account that may settle.
#[test]
fn every_member_of_upto_is_a_string_and_in_one_spelling() {
    let all = vectors();
    let case = list(&all["facilitatorCases"]).iter().find(|case| case["id"] == "upto_ok_settle_max").unwrap();
    let good = case["paymentPayload"]["payload"].clone();
    let read = |payload: &Value| PermitPayload::read(&RawJson::of(payload).unwrap());
    assert!(read(&good).unwrap().authorization.witness.facilitator.is_some());
    for member in ["from", "spender", "nonce", "deadline", "permitted", "witness"] {
        for other in [None, Some(json!(null)), Some(json!(7)), Some(json!([])), Some(json!("")), Some(json!("0x"))] {
            let mut changed = good.clone();
            let permit = changed["permit2Authorization"].as_object_mut().unwrap();
            permit.remove(member);
            permit.extend(other.clone().map(|other| (member.to_owned(), other)));
            assert!(refusal(&changed).contains(member), "{member} {other:?}");
        }
    }
    for member in ["to", "facilitator", "validAfter"] {
        for other in [json!(null), json!(7), json!([]), json!(""), json!("0x"), json!("0x1"), json!(" 1")] {
            let mut changed = good.clone();
            changed["permit2Authorization"]["witness"][member] = other.clone();
            let path = format!("payload.permit2Authorization.witness.{member}");
            assert!(refusal(&changed).starts_with(&path), "{member} {other}: {}", refusal(&changed));
        }
    }
    // Without the account it is a payload of `exact`, which the mechanism of `upto` does not take.
    let mut absent = good;
    absent["permit2Authorization"]["witness"].as_object_mut().unwrap().remove("facilitator");
    assert_eq!(read(&absent).unwrap().authorization.witness.facilitator, None);
}

#[test]
fn every_member_is_required_a_string_and_in_one_spelling() {
    assert!(PermitPayload::read(&RawJson::of(&good()).unwrap()).is_ok());
    let members = [
        "/signature",
        "/permit2Authorization",
        "/permit2Authorization/from",
        "/permit2Authorization/permitted",
        "/permit2Authorization/permitted/token",
        "/permit2Authorization/permitted/amount",
        "/permit2Authorization/spender",
        "/permit2Authorization/nonce",
        "/permit2Authorization/deadline",
        "/permit2Authorization/witness",
        "/permit2Authorization/witness/to",
        "/permit2Authorization/witness/validAfter",
    ];
    for member in members {
        let path = format!("payload{}", member.replace('/', "."));
        let (object, name) = member.rsplit_once('/').unwrap();
        let mut absent = good();
        absent.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(name);
        assert!(refusal(&absent).contains(name), "{member}");
        for other in [json!(null), json!(7), json!(true), json!([]), json!(""), json!(" 1"), json!("0x")] {
            let mut changed = good();
            *changed.pointer_mut(member).unwrap() = other.clone();
            if member == "/signature" && other == json!("0x") {
                continue;
            }
            assert!(refusal(&changed).starts_with(&path), "{member} {other}: {}", refusal(&changed));
        }
    }
    for member in ["/permit2Authorization/nonce", "/permit2Authorization/deadline"] {
        for other in ["01", "+1", "0x1", "1e3", "1_000", "-1", "1.0", &format!("1{}", "0".repeat(78))] {
            let mut changed = good();
            *changed.pointer_mut(member).unwrap() = json!(other);
            assert!(refusal(&changed).contains(member.rsplit_once('/').unwrap().1), "{member} {other}");
        }
    }
    let mut changed = good();
    changed["permit2Authorization"]["witness"]["facilitator"] = json!(null);
    assert!(refusal(&changed).starts_with("payload.permit2Authorization.witness.facilitator"));
    // An address with a checksum that does not hold, and one in a single case.
    let mut changed = good();
    changed["permit2Authorization"]["spender"] = json!("0x402085C248EeA27D92E8b30b2C58ed07f9E20001");
    assert!(refusal(&changed).starts_with("payload.permit2Authorization.spender"));
    changed["permit2Authorization"]["spender"] = json!("0x402085c248eea27d92e8b30b2c58ed07f9e20001");
    assert!(PermitPayload::read(&RawJson::of(&changed).unwrap()).is_ok());
    assert!(PermitPayload::read(&RawJson::of(&json!([])).unwrap()).is_err());
    let mut twice = good().to_string();
    twice = twice.replacen("\"nonce\":", "\"nonce\":\"1\",\"nonce\":", 1);
    let why = PermitPayload::read(&RawJson::parse(twice).unwrap()).unwrap_err();
    assert!(why.message.unwrap().contains("duplicate field `nonce`"));
}
