//! Bodies of the fuzz targets in `fuzz/`: properties that hold for all input bytes. This module is not part of the API.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a property that does not hold has to be heard")]

use alloy_primitives::{Address, B256, Bytes, U256, hex};
use alloy_sol_types::{Eip712Domain, SolStruct, SolValue, sol};
use serde::Deserialize;
use serde_json::Value;
use x402_types::{EvmAddress, Members, RawJson, UnixSeconds};

use crate::batching::calls_of_batch;
use crate::chain::{Answers, BatchRead, Call, Returned};
use crate::eip712::DomainSeparator;
use crate::eip3009::{Authorization, Payload, UncheckedPayload};
use crate::eip6492::{self, Counterfactual};
use crate::permit2::signed_approval::SignedApproval;
use crate::permit2::sponsored::ERC20_APPROVAL_GAS_SPONSORING;
use crate::permit2::{PERMIT2, Permit, Witness, approve_call};
use crate::signature::{Signature, SignatureError, libsecp256k1, pure, recover};
use crate::transaction::{SignedTransaction, fees, split_first};
use crate::wallet::{MAX_SIGNATURE, NotSigned, Signers};

sol! {
    struct TransferWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    struct Wrapped {
        address factory;
        bytes factoryData;
        bytes signature;
    }
}

/// Compares the parsed payload of EIP-3009, whose members are found by a scan, with the result of serde's derive.
pub fn diff_eip3009_payload(data: &[u8]) {
    #[derive(Deserialize)]
    struct Theirs {
        signature: String,
        authorization: TheirAuthorization,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct TheirAuthorization {
        from: String,
        to: String,
        value: String,
        valid_after: String,
        valid_before: String,
        nonce: String,
    }
    // The scan is given strictly parsed JSON. Serde would accept an array for an object.
    let Ok(text) = core::str::from_utf8(data) else { return };
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let Ok(raw) = RawJson::parse(text.to_owned()) else { return };
    let theirs = serde_json::from_str::<Theirs>(text)
        .ok()
        .filter(|_| value.is_object() && value.get("authorization").is_some_and(Value::is_object));
    let theirs = theirs.and_then(|theirs| {
        let signed = theirs.authorization;
        Some(UncheckedPayload {
            from: signed.from.parse().ok()?,
            to: signed.to.parse().ok()?,
            value: signed.value.parse().ok()?,
            valid_after: signed.valid_after.parse().ok()?,
            valid_before: signed.valid_before.parse().ok()?,
            nonce: B256::from_slice(&digits(&signed.nonce).filter(|bytes| bytes.len() == 32)?),
            signature: digits(&theirs.signature).filter(|bytes| bytes.len() <= 4096)?.into(),
        })
    });
    assert_eq!(UncheckedPayload::read(&raw).ok(), theirs);

    let Some(unchecked) = theirs else { return };
    let addresses = [unchecked.from, unchecked.to].map(|address| Address::try_from(address).is_ok());
    let Ok(payload) = unchecked.clone().checked() else {
        assert!(addresses.contains(&false));
        return;
    };
    assert!(!addresses.contains(&false));
    assert_eq!(Payload::read(&payload.to_json()), Ok(payload.clone()));
    let network = "eip155:8453".parse().unwrap();
    assert_eq!(unchecked.key(network, Address::ZERO), payload.authorization.key(network, Address::ZERO));
}

/// Decodes `0x` and whole bytes of hex digits by hand.
fn digits(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?;
    if digits.len() % 2 != 0 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    hex::decode(digits).ok()
}

/// Compares the digest that a payer signs with alloy's for the same message and domain; and decodes the message from
/// the calls that carry it.
pub fn diff_eip712_hash(data: &[u8]) {
    let mut data = data;
    let chain_id = u64::from_be_bytes(take(&mut data));
    let contract = Address::from(take(&mut data));
    let seconds = |data: &mut &[u8]| UnixSeconds(u64::from_be_bytes(take(data)));
    let signed = Authorization {
        from: take(&mut data).into(),
        to: take(&mut data).into(),
        value: U256::from_be_bytes(take::<32>(&mut data)).into(),
        valid_after: seconds(&mut data),
        valid_before: seconds(&mut data),
        nonce: take(&mut data).into(),
    };
    let [middle] = take(&mut data);
    let (name, version) = data.split_at(usize::from(middle).min(data.len()));
    let (name, version) = (String::from_utf8_lossy(name), String::from_utf8_lossy(version));
    let message = TransferWithAuthorization {
        from: signed.from,
        to: signed.to,
        value: signed.value.value(),
        validAfter: U256::from(signed.valid_after.0),
        validBefore: U256::from(signed.valid_before.0),
        nonce: signed.nonce,
    };
    let domain = Eip712Domain::new(
        Some(name.to_string().into()),
        Some(version.to_string().into()),
        Some(U256::from(chain_id)),
        Some(contract),
        None,
    );
    let separator = DomainSeparator::new(&name, &version, chain_id, contract);
    assert_eq!(separator.value(), domain.separator());
    assert_eq!(signed.digest(separator), message.eip712_signing_hash(&domain));

    let call = signed.transfer_call_with_bytes(Bytes::copy_from_slice(name.as_bytes()));
    assert_eq!(Authorization::of_transfer_call(&call), Some(signed));
    assert_eq!(Authorization::of_transfer_call(call.get(..call.len() - 33).unwrap()), None);
    if let Ok(signature) = Signature::new(signed.nonce, signed.from.into_word(), true) {
        assert_eq!(Authorization::of_transfer_call(&signed.transfer_call(&signature)), Some(signed));
    }
}

/// Compares the parsed payload of Permit2 with the result of serde's derive on plain types, and its digest with alloy's;
/// and decodes the message from the calls that carry it.
pub fn diff_permit2_payload(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let Ok(raw) = RawJson::parse(text.to_owned()) else { return };
    let theirs = permit2::theirs(text, &value);
    assert_eq!(permit2::UncheckedPermit::read(&raw).ok(), theirs);
    let Some(unchecked) = theirs else { return };
    let network = "eip155:8453".parse().unwrap();
    let key = unchecked.key(network);
    let Ok(payload) = unchecked.checked() else { return };
    assert_eq!(permit2::PermitPayload::read(&payload.to_json()), Ok(payload.clone()));
    let signed = payload.authorization;
    assert_eq!(signed.key(network), key);
    assert_eq!(signed.digest(permit2::domain(8453)), permit2::their_digest(&signed, 8453));

    for (amount, permit2612) in [(signed.amount, None), (U256::from(data.len()).into(), Some(permit2::eip2612(data)))] {
        let amount = if signed.witness.facilitator.is_some() { amount } else { signed.amount };
        let authorization = permit2::Permit { spender: signed.witness.proxy(), ..signed };
        let settlement =
            permit2::SettleCall { authorization, amount, signature: payload.signature.clone(), permit2612 };
        assert_eq!(permit2::SettleCall::of_call(&settlement.call()), Some(settlement.clone()));
        assert_eq!(permit2::SettleCall::of_call(settlement.call().get(..100).unwrap()), None);
    }
}

/// The other readers of a permit that Permit2's is compared with.
mod permit2 {
    pub(super) use crate::permit2::*;

    use super::{Address, B256, Deserialize, Eip712Domain, EvmAddress, SolStruct, U256, Value, digits, sol, take};

    sol! {
        struct TokenPermissions { address token; uint256 amount; }
    }
    mod exact {
        use super::{TokenPermissions, sol};
        sol! {
            struct Witness { address to; uint256 validAfter; }
            struct PermitWitnessTransferFrom { TokenPermissions permitted; address spender; uint256 nonce; uint256 deadline; Witness witness; }
        }
    }
    mod upto {
        use super::{TokenPermissions, sol};
        sol! {
            struct Witness { address to; address facilitator; uint256 validAfter; }
            struct PermitWitnessTransferFrom { TokenPermissions permitted; address spender; uint256 nonce; uint256 deadline; Witness witness; }
        }
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Theirs {
        signature: String,
        permit2_authorization: TheirPermit,
    }
    #[derive(Deserialize)]
    struct TheirPermit {
        from: String,
        permitted: TheirPermitted,
        spender: String,
        nonce: String,
        deadline: String,
        witness: TheirWitness,
    }
    #[derive(Deserialize)]
    struct TheirPermitted {
        token: String,
        amount: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct TheirWitness {
        to: String,
        facilitator: Option<String>,
        valid_after: String,
    }

    /// Reads the payload by serde's derive on texts, which would accept an array for an object, and `null` for a member
    /// that may be absent.
    pub(super) fn theirs(text: &str, value: &Value) -> Option<UncheckedPermit> {
        let paths = ["", "/permit2Authorization", "/permit2Authorization/permitted", "/permit2Authorization/witness"];
        let objects = paths.iter().all(|path| value.pointer(path).is_some_and(Value::is_object));
        let facilitator = value.pointer("/permit2Authorization/witness/facilitator");
        if !objects || facilitator.is_some_and(Value::is_null) {
            return None;
        }
        let Theirs { signature, permit2_authorization: permit } = serde_json::from_str(text).ok()?;
        let address = |text: String| text.parse::<EvmAddress>().ok();
        let number = |text: String| text.parse::<x402_types::AtomicAmount>().ok();
        Some(UncheckedPermit {
            from: address(permit.from)?,
            token: address(permit.permitted.token)?,
            amount: number(permit.permitted.amount)?,
            spender: address(permit.spender)?,
            nonce: number(permit.nonce)?.value(),
            deadline: number(permit.deadline)?.value(),
            to: address(permit.witness.to)?,
            facilitator: match permit.witness.facilitator {
                None => None,
                Some(text) => Some(address(text)?),
            },
            valid_after: number(permit.witness.valid_after)?.value(),
            signature: digits(&signature).filter(|bytes| bytes.len() <= 4096)?.into(),
        })
    }

    /// Computes the digest by alloy.
    pub(super) fn their_digest(signed: &Permit, chain_id: u64) -> B256 {
        let Permit { token, amount, spender, nonce, deadline, witness, .. } = *signed;
        let Witness { to, facilitator, valid_after } = witness;
        let permitted = TokenPermissions { token, amount: amount.value() };
        let chain_id = Some(U256::from(chain_id));
        let domain = Eip712Domain::new(Some("Permit2".into()), None, chain_id, Some(PERMIT2), None);
        match facilitator {
            None => {
                let witness = exact::Witness { to, validAfter: valid_after };
                exact::PermitWitnessTransferFrom { permitted, spender, nonce, deadline, witness }
                    .eip712_signing_hash(&domain)
            }
            Some(facilitator) => {
                let witness = upto::Witness { to, facilitator, validAfter: valid_after };
                upto::PermitWitnessTransferFrom { permitted, spender, nonce, deadline, witness }
                    .eip712_signing_hash(&domain)
            }
        }
    }

    /// Makes a permit of EIP-2612 from any bytes.
    pub(super) fn eip2612(mut data: &[u8]) -> Eip2612Permit {
        let word = |data: &mut &[u8]| B256::from(take(data));
        let (value, deadline) = (word(&mut data).into(), word(&mut data).into());
        let (r, s) = (word(&mut data), Address::from(take(&mut data)).into_word());
        let [v] = take(&mut data);
        Eip2612Permit { value, deadline, r, s, v }
    }
}

/// Compares recovery by k256 with libsecp256k1, and checks the spellings of a signature. The input is 32 bytes of a
/// digest, then the signature.
pub fn diff_recover(data: &[u8]) {
    let mut data = data;
    let digest = B256::from(take(&mut data));
    let Ok(signature) = Signature::from_bytes(data).or_else(|_| Signature::from_compact(data)) else { return };
    match data.len() {
        65 => assert_eq!(signature.to_bytes(), data),
        length => assert_eq!(length, 64),
    }
    assert_eq!(Signature::new(signature.r(), signature.s(), signature.v() == 28), Ok(signature));
    let ours = pure::recover(digest, &signature);
    assert_eq!(ours, libsecp256k1::recover(digest, &signature));
    let theirs =
        alloy_primitives::Signature::from_scalars_and_parity(signature.r(), signature.s(), signature.v() == 28);
    assert_eq!(Signature::try_from(theirs), Ok(signature));
    // The malleated twin is the same signature in another spelling, and is refused.
    let order = U256::from_be_bytes(hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"));
    let twin = B256::from(order - U256::from_be_bytes(signature.s().0));
    assert_eq!(Signature::new(signature.r(), twin, signature.v() != 28), Err(SignatureError::HighS));
    // Where both halves are accepted, the twin is the same signature.
    let high = [signature.r().as_slice(), twin.as_slice(), &[55 - signature.v()]].concat();
    assert_eq!(Signature::of_either_half(&high), Ok(signature));
    assert_eq!(Signature::of_either_half(&signature.to_bytes()), Ok(signature));

    let read = Signers::any().read(Address::ZERO, digest, &signature.to_bytes().to_vec().into()).unwrap();
    match ours {
        Ok(signer) => assert_eq!(read.of_key(), Err(NotSigned::Other(signer))),
        Err(why) => assert_eq!(read.of_key(), Err(why.into())),
    }
}

/// Checks EIP-6492: decoding and encoding agree, and data with the magic are never treated as a key's signature.
pub fn roundtrip_eip6492(data: &[u8]) {
    let wrapped = Counterfactual::decode(data);
    assert!(wrapped.is_none() || Counterfactual::is_one(data));
    if let Some(wrapped) = &wrapped {
        assert_eq!(*wrapped.encode(), *data);
        let theirs = Wrapped::abi_decode_params(data.strip_suffix(eip6492::MAGIC.as_slice()).unwrap()).unwrap();
        assert_eq!((wrapped.factory, &wrapped.factory_data), (theirs.factory, &theirs.factoryData));
        assert_eq!(wrapped.signature, theirs.signature);
    }
    let signature = Bytes::copy_from_slice(data);
    match Signers::any().with_factory(Address::ZERO).read(Address::ZERO, B256::ZERO, &signature) {
        Err(NotSigned::TooLong) => assert!(data.len() > MAX_SIGNATURE),
        Err(why) => {
            assert_eq!(why, NotSigned::Malformed);
            assert!(Counterfactual::is_one(data) && wrapped.is_none());
        }
        Ok(read) => {
            let deployed = wrapped.as_ref().filter(|wrapped| wrapped.factory.is_zero());
            assert_eq!(read.deployment(), deployed.map(|wrapped| (Address::ZERO, &wrapped.factory_data)));
            assert_eq!(*read.inner(), wrapped.as_ref().map_or(signature, |wrapped| wrapped.signature.clone()));
            assert!(wrapped.is_none() || read.of_key() == Err(NotSigned::NotDeployed));
        }
    }
    // Any bytes can be wrapped.
    let (head, tail) = data.split_at(data.len().min(20));
    let any = Counterfactual {
        factory: Address::from(take(&mut &*head)),
        factory_data: Bytes::copy_from_slice(head),
        signature: Bytes::copy_from_slice(tail),
    };
    assert_eq!(Counterfactual::decode(&any.encode()), Some(any));
}

/// Checks a transaction that a payer would have signed to approve Permit2: only bytes that are written are read, and what is
/// taken for an approval is one call, of the asset and for Permit2, by the payer.
pub fn decode_signed_approval(data: &[u8]) {
    let decoded = SignedTransaction::decode(data).ok();
    let signer = |read: &SignedTransaction| {
        let signature = read.signature.ok()?;
        recover(read.transaction.signing_hash(), &signature).ok()
    };
    let signer = decoded.as_ref().and_then(signer);
    if let Some(SignedTransaction { transaction, value, signature }) = &decoded {
        assert_eq!(fees(data), Ok((transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas)));
        assert_eq!(split_first(data), Ok((data, &[][..])));
        if let (Ok(signature), true) = (signature, value.is_zero()) {
            assert_eq!(transaction.signed(signature), data);
        }
    }
    // The payment that it would fit, as far as there is one.
    let called = decoded.as_ref().map(|read| (read.transaction.to, read.transaction.chain_id));
    let ((token, chain_id), from) = (called.unwrap_or_default(), signer.unwrap_or_default());
    let witness = Witness { to: Address::repeat_byte(1), facilitator: None, valid_after: U256::ZERO };
    let (amount, nonce, deadline) = (10_000_u64.into(), U256::ZERO, U256::MAX);
    let permit = Permit { from, token, amount, spender: witness.proxy(), nonce, deadline, witness };
    let info = serde_json::json!({ "info": {
        "from": from.to_string(), "asset": token.to_string(), "spender": PERMIT2.to_string(), "amount": "10000",
        "signedTransaction": hex::encode_prefixed(data), "version": "1",
    } });
    let mut extensions = Members::new();
    extensions.insert(ERC20_APPROVAL_GAS_SPONSORING, RawJson::of(&info).unwrap());
    if let Ok(read) = SignedApproval::read(&extensions, &permit, chain_id) {
        let (approval, decoded) = (read.unwrap(), decoded.unwrap());
        let transaction = decoded.transaction;
        assert_eq!((approval.bytes.as_ref(), Some(approval.from)), (data, signer));
        assert_eq!(transaction.input, approve_call(PERMIT2, approval.amount));
        assert!(approval.amount >= permit.amount.value() && decoded.value.is_zero());
        assert!(approval.max_priority_fee_per_gas <= approval.max_fee_per_gas);
        // The same bytes are no approval of another payer, token or chain.
        let other = Address::repeat_byte(2);
        for wrong in [Permit { from: other, ..permit }, Permit { token: other, ..permit }] {
            assert!(SignedApproval::read(&extensions, &wrong, chain_id).is_err());
        }
        assert!(SignedApproval::read(&extensions, &permit, !chain_id).is_err());
    }
}

/// Checks a node's response to a batch read, the return data of contracts, and the parcels that contain calls.
pub fn decode_chain_answer(data: &[u8]) {
    let reads = BatchRead::new()
        .code_size(Address::ZERO)
        .view(Address::ZERO, Bytes::new(), 1, 0)
        .view(Address::ZERO, Bytes::new(), 1, 1)
        .call(Address::ZERO, Bytes::new(), 1, 4);
    if let Some(Answers { sizes, calls, .. }) = reads.answers(data) {
        assert_eq!((sizes.len(), calls.len()), (1, 3));
        assert!(calls.iter().zip([0, 32, 128]).all(|(call, most)| call.data.len() <= most));
        assert!(calls.iter().all(|call| call.word().is_none() || call.success && call.data.len() == 32));
    }
    let answer = |success, data: &[u8]| Returned { success, data: Bytes::copy_from_slice(data) };
    let (returned, reverted) = (answer(true, data), answer(false, data));
    let theirs = String::abi_decode(data).ok();
    // Alloy follows an offset to anywhere, and replaces bytes that are not UTF-8.
    if let Some(text) = returned.text() {
        assert_eq!(theirs.as_deref(), Some(text));
    }
    assert!(reverted.text().is_none() && returned.revert_reason().is_none() && reverted.word().is_none());
    if let Some(reason) = reverted.revert_reason() {
        assert_eq!(Some(reason), answer(true, data.get(4..).unwrap()).text());
    }
    let text = String::from_utf8_lossy(data);
    assert_eq!(answer(true, &text.abi_encode()).text(), Some(&*text));

    if let Ok(call) = Call::from_bytes(data) {
        assert_eq!(call.to_bytes(), data);
    }
    let _ = calls_of_batch(data).map(|calls| calls.len());
    let _ = Authorization::of_transfer_call(data).map(|signed| EvmAddress::from(signed.from));
}

/// Returns the next bytes; zeros if there are none left.
fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
    let (head, rest) = data.split_at(N.min(data.len()));
    *data = rest;
    let mut out = [0; N];
    out.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests {
    x402_testkit::replays!(
        diff_eip3009_payload,
        diff_eip712_hash,
        diff_permit2_payload,
        diff_recover,
        roundtrip_eip6492,
        decode_signed_approval,
        decode_chain_answer,
    );
}
