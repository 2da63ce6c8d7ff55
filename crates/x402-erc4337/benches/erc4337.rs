//! The hash of the smallest 0.7 vector beside one keccak of 224 bytes, and an approval beside one recovery.
//!
//! The goals: at most 8 times and at most 3 times as much.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::hint::black_box;

use alloy_primitives::{Address, B256, keccak256};
use criterion::{Criterion, criterion_group, criterion_main};
use x402_erc4337::session::zerodev::Approval;
use x402_erc4337::{EntryPoint, EntryPointVersion, UserOperation};
use x402_evm::signature::{Signature, recover};

fn erc4337(c: &mut Criterion) {
    let text = include_str!("../../x402-testkit/vectors/erc4337.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let minimal = &vectors["userOpHash"][4];
    assert_eq!((&minimal["name"], &minimal["entryPointVersion"]), (&"minimal".into(), &"0.7".into()));
    let op = UserOperation::from_json(minimal["userOperation"].to_string().as_bytes()).unwrap();
    let entry_point = EntryPoint::canonical(EntryPointVersion::V07, 84532);
    c.bench_function("keccak_224_bytes", |b| b.iter(|| keccak256(black_box([7_u8; 224]))));
    c.bench_function("user_op_hash", |b| b.iter(|| black_box(&op).hash(&entry_point).unwrap()));

    let case = &vectors["kernelPermissions"][0];
    let approval = case["serialized"].as_str().unwrap();
    let session: Address = case["sessionKey"].as_str().unwrap().parse().unwrap();
    let digest: B256 = case["enableDigest"].as_str().unwrap().parse().unwrap();
    let signature: alloy_primitives::Bytes = case["enableSignature"].as_str().unwrap().parse().unwrap();
    let signature = Signature::from_bytes(&signature).unwrap();
    c.bench_function("recover", |b| b.iter(|| recover(black_box(digest), black_box(&signature)).unwrap()));
    c.bench_function("approval_parse_and_check", |b| {
        b.iter(|| Approval::read(black_box(approval)).unwrap().check(session, 84532, 1).unwrap());
    });
}

criterion_group!(benches, erc4337);
criterion_main!(benches);
