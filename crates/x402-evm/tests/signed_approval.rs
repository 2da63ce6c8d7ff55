//! The signed approval of `erc20ApprovalGasSponsoring`: viem's recorded one, alloy's, and everything that is none.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use alloy_consensus::transaction::RlpEcdsaEncodableTx;
use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxLegacy};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, hex};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use serde_json::{Value, json};
use x402_evm::permit2::signed_approval::SignedApproval;
use x402_evm::permit2::sponsored::ERC20_APPROVAL_GAS_SPONSORING;
use x402_evm::permit2::{PERMIT2, Permit, Witness, approve_call};
use x402_types::{ErrorReason, Members, RawJson, Rejection};

/// anvil's second account, the payer of the recording.
const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const CHAIN: u64 = 84_532;
const TOKEN: Address = Address::repeat_byte(0x11);
const PRICE: u64 = 10_000;

fn payer() -> PrivateKeySigner {
    KEY.parse().unwrap()
}

fn permit() -> Permit {
    let witness = Witness { to: Address::repeat_byte(0x22), facilitator: None, valid_after: U256::ZERO };
    let (nonce, deadline) = (U256::from(1), U256::MAX);
    Permit {
        from: payer().address(),
        token: TOKEN,
        amount: PRICE.into(),
        spender: witness.proxy(),
        nonce,
        deadline,
        witness,
    }
}

fn read(info: &Value) -> Result<Option<SignedApproval>, Rejection> {
    let mut extensions = Members::new();
    extensions.insert(ERC20_APPROVAL_GAS_SPONSORING, RawJson::of(&json!({ "info": info })).unwrap());
    SignedApproval::read(&extensions, &permit(), CHAIN)
}

fn info(transaction: &[u8], amount: U256) -> Value {
    json!({
        "description": "as declared", "version": "1", "from": payer().address().to_string(), "asset": TOKEN.to_string(),
        "spender": PERMIT2.to_string(), "amount": amount.to_string(), "signedTransaction": hex::encode_prefixed(transaction),
    })
}

fn approve() -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN,
        nonce: 3,
        max_priority_fee_per_gas: 1_000_000_000,
        max_fee_per_gas: 1_500_000_000,
        gas_limit: 70_000,
        to: TxKind::Call(TOKEN),
        value: U256::ZERO,
        access_list: AccessList::default(),
        input: approve_call(PERMIT2, U256::from(PRICE)),
    }
}

fn signed(transaction: &TxEip1559) -> Vec<u8> {
    with(transaction, &payer().sign_hash_sync(&transaction.signature_hash()).unwrap())
}

fn with(transaction: &(impl RlpEcdsaEncodableTx + SignableTransaction<Signature>), signature: &Signature) -> Vec<u8> {
    let mut bytes = Vec::new();
    transaction.eip2718_encode(signature, &mut bytes);
    bytes
}

fn refused(transaction: &[u8]) -> ErrorReason {
    read(&info(transaction, U256::from(PRICE))).unwrap_err().reason
}

#[test]
fn the_approval_of_viem_is_read_whole() {
    let vectors: Value = serde_json::from_str(include_str!("../../x402-testkit/vectors/permit2.json")).unwrap();
    let exchanges = vectors["httpExchanges"].as_array().unwrap();
    let exchange = exchanges.iter().find(|one| one["id"] == "permit2_erc20_approval").unwrap();
    let paid = exchange["exchange"].as_array().unwrap().iter().find_map(|one| one["request"].get("paymentPayload"));
    let info = &paid.unwrap()["extensions"][ERC20_APPROVAL_GAS_SPONSORING]["info"];
    let approval = read(info).unwrap().unwrap();
    assert_eq!((approval.from, approval.amount, approval.gas_limit), (payer().address(), U256::MAX, 70_000));
    assert_eq!((approval.nonce, approval.max_priority_fee_per_gas), (0, 1_000_000_000));
    assert_eq!(approval.bytes, info["signedTransaction"].as_str().unwrap().parse::<Bytes>().unwrap());
    // An echo of the declaration, and one that lacks a member, is none.
    assert_eq!(read(&json!({ "description": "as declared", "version": "1" })), Ok(None));
    for member in ["from", "asset", "spender", "amount", "signedTransaction", "version"] {
        let mut less = info.clone();
        less.as_object_mut().unwrap().remove(member);
        assert_eq!(read(&less), Ok(None), "{member}");
    }
}

#[test]
fn every_member_is_the_payment_s() {
    let good = info(&signed(&approve()), U256::from(PRICE));
    assert!(read(&good).unwrap().is_some());
    let other = || json!(Address::repeat_byte(9).to_string());
    for (member, value, reason) in [
        ("from", other(), ErrorReason::ERC20_APPROVAL_FROM_MISMATCH),
        ("asset", other(), ErrorReason::ERC20_APPROVAL_ASSET_MISMATCH),
        ("spender", other(), ErrorReason::ERC20_APPROVAL_SPENDER_NOT_PERMIT2),
    ] {
        let mut bad = good.clone();
        bad[member] = value;
        assert_eq!(read(&bad).unwrap_err().reason, reason, "{member}");
    }
    // The transaction decides on the amount: the recorded clients write the maximum whatever they approve.
    let mut most = good.clone();
    most["amount"] = json!(U256::MAX.to_string());
    assert_eq!(read(&most).unwrap().unwrap().amount, U256::from(PRICE));
    for member in ["from", "asset", "spender", "amount", "signedTransaction", "version"] {
        for value in [
            json!(1),
            json!(null),
            json!({}),
            json!(""),
            json!("0x"),
            json!("0x0x11"),
            json!(format!("0x{}", "00".repeat(1 << 20))),
        ] {
            let mut bad = good.clone();
            bad[member] = value;
            assert!(read(&bad).is_err(), "{member}");
        }
    }
}

#[test]
fn the_transaction_is_checked_whole() {
    let changed = |change: &dyn Fn(&mut TxEip1559)| {
        let mut transaction = approve();
        change(&mut transaction);
        refused(&signed(&transaction))
    };
    let call = |spender: Address, value: u64| approve_call(spender, U256::from(value));
    assert_eq!(changed(&|tx| tx.chain_id = 1), ErrorReason::ERC20_APPROVAL_WRONG_CHAIN);
    assert_eq!(changed(&|tx| tx.to = TxKind::Call(PERMIT2)), ErrorReason::ERC20_APPROVAL_TX_WRONG_TARGET);
    assert_eq!(changed(&|tx| tx.to = TxKind::Create), ErrorReason::ERC20_APPROVAL_TX_PARSE_FAILED);
    assert_eq!(changed(&|tx| tx.value = U256::from(1)), ErrorReason::ERC20_APPROVAL_TX_INVALID_CALLDATA);
    assert_eq!(changed(&|tx| tx.input = call(TOKEN, PRICE)), ErrorReason::ERC20_APPROVAL_TX_WRONG_SPENDER);
    assert_eq!(changed(&|tx| tx.input = call(PERMIT2, PRICE - 1)), ErrorReason::ERC20_APPROVAL_TX_INVALID_CALLDATA);
    let transfer = [&[0xa9, 0x05, 0x9c, 0xbb], &call(PERMIT2, PRICE)[4..]].concat();
    assert_eq!(changed(&|tx| tx.input = transfer.clone().into()), ErrorReason::ERC20_APPROVAL_TX_WRONG_SELECTOR);
    for length in [0, 3, 4, 35, 36, 67] {
        let short = call(PERMIT2, PRICE).slice(..length);
        let reason = changed(&|tx| tx.input = short.clone());
        let expected = if length < 4 {
            ErrorReason::ERC20_APPROVAL_TX_WRONG_SELECTOR
        } else {
            ErrorReason::ERC20_APPROVAL_TX_INVALID_CALLDATA
        };
        assert_eq!(reason, expected, "{length}");
    }
    let long = [&call(PERMIT2, PRICE)[..], &[0]].concat();
    assert_eq!(changed(&|tx| tx.input = long.clone().into()), ErrorReason::ERC20_APPROVAL_TX_INVALID_CALLDATA);
    // Bytes before an address must be zero, or the token would revert.
    let mut dirty = call(PERMIT2, PRICE).to_vec();
    dirty[4] = 1;
    assert_eq!(changed(&|tx| tx.input = dirty.clone().into()), ErrorReason::ERC20_APPROVAL_TX_WRONG_SPENDER);
    assert_eq!(changed(&|tx| tx.gas_limit = 22_088), ErrorReason::ERC20_APPROVAL_UNDERPRICED);
    assert_eq!(changed(&|tx| tx.max_fee_per_gas = 1), ErrorReason::ERC20_APPROVAL_UNDERPRICED);
    let item = AccessListItem { address: TOKEN, storage_keys: vec![B256::ZERO] };
    assert_eq!(changed(&|tx| tx.access_list = vec![item.clone()].into()), ErrorReason::ERC20_APPROVAL_TX_PARSE_FAILED);
}

#[test]
fn the_signature_is_the_payer_s_in_its_one_spelling() {
    let transaction = approve();
    let hash = transaction.signature_hash();
    let stranger = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap().sign_hash_sync(&hash).unwrap();
    assert_eq!(refused(&with(&transaction, &stranger)), ErrorReason::ERC20_APPROVAL_TX_SIGNER_MISMATCH);
    let good = payer().sign_hash_sync(&hash).unwrap();
    // n - s with the other parity recovers to the same key, and is no transaction: EIP-2.
    let order = U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16).unwrap();
    let high = Signature::new(good.r(), order - good.s(), !good.v());
    assert_eq!(refused(&with(&transaction, &high)), ErrorReason::ERC20_APPROVAL_TX_INVALID_SIGNATURE);
    for (r, s) in [(U256::ZERO, good.s()), (good.r(), U256::ZERO), (order, good.s())] {
        let bad = Signature::new(r, s, good.v());
        assert_eq!(refused(&with(&transaction, &bad)), ErrorReason::ERC20_APPROVAL_TX_INVALID_SIGNATURE);
    }
}

#[test]
fn other_types_and_other_bytes_are_no_approval() {
    let good = signed(&approve());
    for end in 1..good.len() {
        assert_eq!(refused(&good[..end]), ErrorReason::ERC20_APPROVAL_TX_PARSE_FAILED, "{end}");
    }
    let more = [&good[..], &[0]].concat();
    assert_eq!(refused(&more), ErrorReason::ERC20_APPROVAL_TX_PARSE_FAILED);
    // Every other first byte is another type; 3 carries blobs, and 4 delegates the account.
    for first in (0..=u8::MAX).filter(|first| *first != 2) {
        let mut other = good.clone();
        other[0] = first;
        assert_eq!(refused(&other), ErrorReason::ERC20_APPROVAL_TX_PARSE_FAILED, "{first}");
    }
    let TxEip1559 { chain_id, nonce, max_fee_per_gas: gas_price, gas_limit, to, value, input, .. } = approve();
    let legacy = TxLegacy { chain_id: Some(chain_id), nonce, gas_price, gas_limit, to, value, input: input.clone() };
    let signature = payer().sign_hash_sync(&legacy.signature_hash()).unwrap();
    assert_eq!(refused(&with(&legacy, &signature)), ErrorReason::ERC20_APPROVAL_TX_PARSE_FAILED);
    let access_list = AccessList::default();
    let listed = TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input };
    let signature = payer().sign_hash_sync(&listed.signature_hash()).unwrap();
    assert_eq!(refused(&with(&listed, &signature)), ErrorReason::ERC20_APPROVAL_TX_PARSE_FAILED);
    // Longer than any approval: 1 MiB is refused before it is decoded.
    for length in [513, 1 << 20] {
        let reason = refused(&vec![2; length]);
        assert_eq!(reason, ErrorReason::INVALID_ERC20_APPROVAL_EXTENSION_FORMAT, "{length}");
    }
}
