//! Bodies of the fuzz targets in `fuzz/`: properties that hold for all input bytes. This module is not part of the API.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a property that does not hold has to be heard")]

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::{Eip712Domain, SolStruct, SolValue};
use base64_simd::STANDARD;
use serde_json::Value;
use x402_types::UnixSeconds;

use crate::bundler::wire::{Estimate, Receipt};
use crate::bundler::{BundlerCode, BundlerError};
use crate::packed::PAYMASTER_SIG_MAGIC;
use crate::session::SerializedKey;
use crate::session::biconomy::SessionDetails;
use crate::session::smart::{SessionSignature, check_enable, scope, session_digest};
use crate::session::zerodev::{
    Approval, KernelAccount, KernelSignature, MAX_APPROVAL, Permission, PolicyItem, UnverifiedApproval,
};
use crate::{
    BlockTime, Call, EntryPoint, EntryPointEvent, EntryPointVersion, Executed, PackedUserOperation, Revert,
    SimulationRefusal, UserOperation, UserOperationV06, ValidationData, flz,
};

mod typed {
    alloy_sol_types::sol! {
        struct PackedUserOperation {
            address sender;
            uint256 nonce;
            bytes initCode;
            bytes callData;
            bytes32 accountGasLimits;
            uint256 preVerificationGas;
            bytes32 gasFees;
            bytes paymasterAndData;
        }
    }
}

const CHAIN: u64 = 84532;

/// Checks UserOperations in JSON, of every form: written again they are unchanged, and the packed and unpacked forms
/// have the same hash.
pub fn roundtrip_user_op(data: &[u8]) {
    if let Ok(op) = UserOperation::from_json(data) {
        let written = serde_json::to_vec(&op).unwrap();
        assert_eq!(UserOperation::from_json(&written).as_ref(), Ok(&op));
        spelt(data, &written);
        let delegate = op.eip7702_auth.map(|auth| auth.address);
        for version in EntryPointVersion::ALL {
            let at = EntryPoint::canonical(version, CHAIN);
            let Ok(packed) = op.pack(version) else {
                assert!(op.hash(&at).is_err(), "{version}");
                continue;
            };
            assert_eq!(op.hash(&at), packed.hash(&at, delegate), "{version}");
            unpacked(&packed, &at, delegate);
        }
        let _ = op.eip7702_auth.and_then(|auth| auth.authority());
    }
    if let Ok(packed) = PackedUserOperation::from_json(data) {
        let written = serde_json::to_vec(&packed).unwrap();
        assert_eq!(PackedUserOperation::from_json(&written).as_ref(), Ok(&packed));
        spelt(data, &written);
        for version in EntryPointVersion::ALL {
            unpacked(&packed, &EntryPoint::canonical(version, CHAIN), Some(Address::repeat_byte(7)));
        }
    }
    if let Ok(op) = UserOperationV06::from_json(data) {
        let written = serde_json::to_vec(&op).unwrap();
        assert_eq!(UserOperationV06::from_json(&written).as_ref(), Ok(&op));
        spelt(data, &written);
    }
}

/// Checks that an operation unpacked for a version of the EntryPoint is packed to the same bytes, with the same hash.
fn unpacked(packed: &PackedUserOperation, at: &EntryPoint, delegate: Option<Address>) {
    let Ok(op) = packed.unpack(at.version) else { return };
    assert_eq!(op.pack(at.version).as_ref(), Ok(packed), "{}", at.version);
    assert_eq!(op.hash_delegated(at, delegate), packed.hash(at, delegate), "{}", at.version);
}

/// Compares the hash of an operation with the one that alloy's ABI and EIP-712 compute.
pub fn diff_user_op_hash(data: &[u8]) {
    let v06 = UserOperationV06::from_json(data);
    if let Ok(op) = &v06 {
        let bytes = [&op.init_code, &op.call_data, &op.paymaster_and_data].map(keccak256);
        let gas = (op.call_gas_limit, op.verification_gas_limit, op.pre_verification_gas);
        let fees = (op.max_fee_per_gas, op.max_priority_fee_per_gas, bytes[2]);
        let head = (op.sender, op.nonce, bytes[0], bytes[1]).abi_encode_params();
        let operation = keccak256([head, gas.abi_encode_params(), fees.abi_encode_params()].concat());
        assert_eq!(op.hash(CHAIN), wrapped(operation, EntryPointVersion::V06));
    }
    let read = UserOperation::from_json(data).ok().and_then(|op| op.pack(EntryPointVersion::V09).ok());
    let Some(op) = read.or_else(|| PackedUserOperation::from_json(data).ok()) else { return };
    let hash = |version| op.hash(&EntryPoint::canonical(version, CHAIN), None);
    let bytes = [&op.init_code, &op.call_data, &op.paymaster_and_data].map(keccak256);
    let words = (op.sender, op.nonce, bytes[0], bytes[1], op.account_gas_limits);
    let rest = (op.pre_verification_gas, op.gas_fees, bytes[2]);
    let operation = keccak256([words.abi_encode_params(), rest.abi_encode_params()].concat());
    assert_eq!(hash(EntryPointVersion::V07), Ok(wrapped(operation, EntryPointVersion::V07)));

    // From 0.8 the delegate replaces `0x7702`, from 0.9 the paymaster's signature is omitted.
    if op.init_code.starts_with(&[0x77, 0x02]) {
        return;
    }
    let message = typed::PackedUserOperation {
        sender: op.sender,
        nonce: op.nonce,
        initCode: op.init_code.clone(),
        callData: op.call_data.clone(),
        accountGasLimits: op.account_gas_limits,
        preVerificationGas: op.pre_verification_gas,
        gasFees: op.gas_fees,
        paymasterAndData: op.paymaster_and_data.clone(),
    };
    let signed = op.paymaster_and_data.ends_with(&PAYMASTER_SIG_MAGIC);
    for version in [EntryPointVersion::V08, EntryPointVersion::V09] {
        let (name, one) = (Some("ERC4337".into()), Some("1".into()));
        let domain = Eip712Domain::new(name, one, Some(U256::from(CHAIN)), Some(version.address()), None);
        if version == EntryPointVersion::V08 || !signed {
            assert_eq!(hash(version), Ok(message.eip712_signing_hash(&domain)), "{version}");
        }
    }
}

fn wrapped(operation: B256, version: EntryPointVersion) -> B256 {
    keccak256((operation, version.address(), U256::from(CHAIN)).abi_encode_params())
}

/// Checks `execute` of one call or of several: decoded bytes are encoded identically, and all calls can be encoded.
pub fn roundtrip_call(data: &[u8]) {
    if let Ok(calls) = Call::read(data) {
        assert!((1..=64).contains(&calls.len()));
        let single = calls.iter().map(Call::execute).take(1).any(|written| *written == *data);
        assert!(single && calls.len() == 1 || *Call::execute_batch(&calls) == *data);
    }
    let call = |bytes: &[u8]| {
        let (target, data) = bytes.split_at(bytes.len().min(20));
        let value = U256::from_be_slice(target);
        Call { target: Address::left_padding_from(target), value, data: Bytes::copy_from_slice(data) }
    };
    let calls: Vec<Call> = data.chunks(data.len() / 3 + 1).map(call).collect();
    for call in &calls {
        assert_eq!(Call::read(&call.execute()).as_deref(), Ok(core::slice::from_ref(call)));
    }
    assert_eq!(Call::read(&Call::execute_batch(&calls)).ok().unwrap_or_default(), calls);
}

/// Checks a serialized permission account of the ZeroDev SDK, as base64 or as JSON. Its relevant members have one
/// spelling: written again the text is the same, except for the case of letters.
pub fn decode_approval(data: &[u8]) {
    let inside = STANDARD.encode_to_string(data);
    for text in [core::str::from_utf8(data).unwrap_or_default(), &inside] {
        let Ok(approval) = Approval::read(text) else { continue };
        assert_eq!(approval.hash(), keccak256(text));
        let stated = UnverifiedApproval::read(text).unwrap();
        assert_eq!(
            (stated.account, stated.owner, stated.hash()),
            (approval.account, approval.owner(), approval.hash())
        );
        let written = approval.write();
        if written.len() > MAX_APPROVAL {
            continue;
        }
        let again = Approval::read(&written).unwrap();
        assert_eq!(again.write(), written);
        assert_eq!((again.account, again.root, &again.policies), (approval.account, approval.root, &approval.policies));
        assert_eq!(
            (again.permission_id, &again.enable_signature),
            (approval.permission_id, &approval.enable_signature)
        );
        assert_eq!((&again.private_key, again.eip7702_auth), (&approval.private_key, approval.eip7702_auth));
        spelt(&STANDARD.decode_to_vec(text).unwrap(), &STANDARD.decode_to_vec(written.as_bytes()).unwrap());

        let scope = approval.scope(None);
        let _ = (scope.widest_window(), scope.permits_call_data(&Bytes::copy_from_slice(data), UnixSeconds(0)));
        let found = approval.inspect(&[approval.owner()], &[CHAIN], 1);
        if let Some(permission) = found.ok().and_then(|found| found.permission) {
            assert_eq!(permission.id(), approval.permission_id);
        }
    }
}

/// Checks that policies, enable data, enabling signatures, a Kernel's calldata and its signatures are encoded as they
/// were decoded.
pub fn roundtrip_permission(data: &[u8]) {
    if let Ok(item) = PolicyItem::from_item(data) {
        assert_eq!(*item.item(), *data);
    }
    if let Ok(permission) = Permission::from_enable_data(data) {
        assert_eq!(*permission.enable_data(), *data);
        let _ = permission.scope(Address::ZERO).widest_window();
    }
    if let Ok((permission, approval, signature)) = Permission::from_enable_signature(data) {
        assert_eq!(*permission.enable_signature(&approval, &signature), *data);
    }
    if let Ok(account) = KernelAccount::from_factory_data(data) {
        assert_eq!(*account.factory_data(), *data);
        assert_eq!(KernelAccount::at(account.address(), data), Ok(account));
    }
    if let Some(signature) = KernelSignature::decode(data) {
        assert_eq!(*signature.encode(), *data);
    }
}

/// Checks sessions of the Smart Sessions module (signatures, compressed or not) and Biconomy's details.
pub fn decode_smart_session(data: &[u8]) {
    let inside = [&[2][..], &flz::literals(data)].concat();
    for bytes in [data, &inside] {
        let Ok(read) = SessionSignature::decode(bytes) else { continue };
        assert_eq!(SessionSignature::decode(&read.encode()).as_ref(), Ok(&read));
        if let SessionSignature::Enable { mode, enable, .. } = &read {
            let session = &enable.sessionToEnable;
            let _ = (scope(session, Address::ZERO), session_digest(session, Address::ZERO, U256::ZERO, *mode));
            let zero = Address::ZERO;
            assert!(check_enable(enable, *mode, zero, U256::ZERO, CHAIN, zero, zero).is_err(), "nobody signed it");
        }
    }
    let unpacked = flz::decompress(data).ok();
    assert_eq!(unpacked, unpack(data).filter(|unpacked| unpacked.len() <= flz::MAX_UNPACKED));
    if let Some(unpacked) = unpacked {
        assert_eq!(flz::decompress(&flz::literals(&unpacked)), Ok(unpacked));
    }
    let text = String::from_utf8_lossy(data);
    if let Ok(details) = SessionDetails::read(&text) {
        assert_eq!(SerializedKey::hash(&details), keccak256(&*text));
        for session in &details.sessions {
            let _ = session.scope(Address::ZERO).widest_window();
        }
    }
}

/// Decompresses FastLZ as `flzDecompress` of Solady's JavaScript does, a byte at a time.
fn unpack(data: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut out) = (data.iter().copied().map(usize::from), Vec::new());
    while let Some(control) = bytes.next() {
        if control < 32 {
            for _ in 0..=control {
                out.push(u8::try_from(bytes.next()?).ok()?);
            }
            continue;
        }
        let long = control >> 5 == 7;
        let length = 2 + if long { 7 + bytes.next()? } else { control >> 5 };
        let distance = 256 * (control & 31) + bytes.next()? + 1;
        for _ in 0..length {
            out.push(*out.get(out.len().checked_sub(distance)?)?);
        }
    }
    Some(out)
}

/// Checks the revert data of EntryPoints and accounts, the errors of bundlers, and their display to people.
pub fn decode_revert(data: &[u8]) {
    let plain = |shown: String| assert!(!shown.contains(char::is_control), "{shown:?}");
    let bytes = Bytes::copy_from_slice(data);
    plain(Revert::new(bytes.clone()).to_string());
    let refused = SimulationRefusal::new(bytes);
    plain(refused.to_string());
    assert!(refused.code().is_none_or(|code| code.len() == 4 && code.starts_with("AA")));
    assert_eq!(refused.is_nonce(), refused.code() == Some("AA25"));
    let _ = refused.inner().map(|inner| plain(inner.to_string()));

    let number = i64::from_be_bytes(data.first_chunk().copied().unwrap_or_default()) % 65_536;
    let code = BundlerCode::new(number);
    assert!(code.number() == number || number == -32_601);
    let error = BundlerError { code, message: String::from_utf8_lossy(data).into() };
    plain(error.to_string());
    assert!(error.entry_point_code().is_none_or(|code| error.message.contains(code)));

    let (words, rest) = data.as_chunks::<32>();
    let topics: Vec<B256> = words.iter().take(4).map(B256::from).collect();
    let _ = EntryPointEvent::decode(&topics, data.get(topics.len() * 32..).unwrap_or(rest));
    for word in words {
        let read = ValidationData::unpack(U256::from_be_bytes(*word));
        assert_eq!(ValidationData::unpack(read.pack()), read);
        let both = read.intersect(&ValidationData::VALID);
        assert_eq!(both, read);
        let block = BlockTime { timestamp: read.valid_until, number: read.valid_until };
        let late = BlockTime { timestamp: u64::MAX, number: u64::MAX };
        let held = EntryPointVersion::ALL.map(|version| (read.holds_at(version, block), read.holds_at(version, late)));
        // From 0.8 an unlimited range never ends; a block range ends with its last block.
        assert!(
            held.iter().all(|(_, late)| !late)
                || read == ValidationData { authorizer: read.authorizer, ..ValidationData::VALID }
        );
    }
}

/// Checks a bundler's responses: an operation landed only if its own event of the requested EntryPoint is included.
pub fn decode_bundler_answer(data: &[u8]) {
    if let Ok(estimate) = serde_json::from_slice::<Estimate>(data) {
        let _ = estimate.read();
    }
    let Ok(receipt) = serde_json::from_slice::<Receipt>(data) else { return };
    let entry_point = EntryPointVersion::V07.address();
    let logs = receipt.logs();
    let all = Executed::read(entry_point, &logs);
    let events = logs.iter().filter(|log| log.address == entry_point);
    let named: Vec<B256> = events.filter_map(|log| log.topics().get(1).copied()).collect();
    for executed in &all {
        assert!(named.contains(&executed.hash));
        let landed = receipt.clone().landed(entry_point, executed.hash).unwrap();
        assert_eq!(landed.executed.hash, executed.hash);
        assert!(landed.executed.logs.iter().all(|log| logs.contains(log)));
        assert_eq!(receipt.clone().landed(Address::ZERO, executed.hash), None);
    }
    assert_eq!(receipt.landed(entry_point, B256::ZERO).is_some(), all.iter().any(|executed| executed.hash.is_zero()));
}

/// The members that are addresses, in one case or with their checksum.
const ADDRESSES: [&str; 7] =
    ["sender", "factory", "paymaster", "accountAddress", "target", "policyAddress", "allowedPaymaster"];

/// Checks that hex values are written as they were read, except for case and leading zeros: `0x` once, then only
/// digits.
fn spelt(read: &[u8], written: &[u8]) {
    fn compare(read: &Value, written: &Value) {
        for text in ADDRESSES.iter().filter_map(|key| written.get(key).and(read.get(key)?.as_str())) {
            let lower = text == text.to_ascii_lowercase();
            assert!(lower || Address::parse_checksummed(text, None).is_ok(), "{text}");
        }
        match (read, written) {
            (Value::Object(read), Value::Object(written)) => {
                // No reader uses `v` if `yParity` is present.
                let written = written.iter().filter(|(key, _)| *key != "v");
                let both = written.filter_map(|(key, written)| Some((read.get(key)?, written)));
                both.for_each(|(read, written)| compare(read, written));
            }
            (Value::Array(read), Value::Array(written)) => {
                read.iter().zip(written).for_each(|(read, written)| compare(read, written));
            }
            // The marker of EIP-7702 is an abbreviation of 20 bytes.
            (Value::String(read), Value::String(written)) if written != "0x7702" && written.starts_with("0x") => {
                let digits = |text: &str| text.strip_prefix("0x").map(str::to_ascii_lowercase).unwrap();
                let (read, written) = (digits(read), digits(written));
                assert_eq!(read.trim_start_matches('0'), written.trim_start_matches('0'));
            }
            _ => {}
        }
    }
    compare(&serde_json::from_slice(read).unwrap(), &serde_json::from_slice(written).unwrap());
}

#[cfg(test)]
mod tests {
    x402_testkit::replays!(
        roundtrip_user_op,
        diff_user_op_hash,
        roundtrip_call,
        decode_approval,
        roundtrip_permission,
        decode_smart_session,
        decode_revert,
        decode_bundler_answer,
    );
}
