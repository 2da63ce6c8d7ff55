//! A payment header of the size real clients send: 815 bytes of JSON, 1088 of base64.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use x402_codec::header::{self, PaymentHeader};
use x402_codec::{Limits, base64, body, json};
use x402_types::{PaymentPayload, PaymentRequired, PaymentRequirements};

fn recorded(kind: &str) -> (String, String) {
    let text = include_str!("../../x402-testkit/vectors/headers/typescript.json");
    let all: serde_json::Value = serde_json::from_str(text).unwrap();
    let case = all["cases"].as_array().unwrap().iter().find(|c| c["kind"] == kind).unwrap();
    let part = |key: &str| case[key].as_str().unwrap().to_owned();
    (part("message"), part("value"))
}

fn codec(c: &mut Criterion) {
    let limits = &Limits::DEFAULT;
    let (message, value) = recorded("payment");
    let payment = header::decode_payment(PaymentHeader::PaymentSignature, value.as_bytes(), limits).unwrap();
    let payload = payment.payload().clone();
    let PaymentPayload::V2(v2) = &payload else { return };
    let terms = PaymentRequirements::V2(v2.accepted.clone());
    let request = payment.verify_body(&terms).unwrap();
    let (_, required_value) = recorded("required");
    let required: PaymentRequired = header::decode_payment_required(required_value.as_bytes(), limits).unwrap();

    c.bench_function("decode_payment", |b| {
        b.iter(|| {
            header::decode_payment(PaymentHeader::PaymentSignature, black_box(value.as_bytes()), limits).unwrap()
        });
    });
    c.bench_function("encode_payment", |b| b.iter(|| header::encode_payment(black_box(&payload)).unwrap()));
    c.bench_function("decode_payment_required", |b| {
        b.iter(|| header::decode_payment_required(black_box(required_value.as_bytes()), limits).unwrap());
    });
    c.bench_function("encode_payment_required", |b| b.iter(|| header::encode(black_box(&required)).unwrap()));
    c.bench_function("verify_body_to_request", |b| {
        b.iter(|| body::verify_request(black_box(&request), limits).unwrap());
    });
    c.bench_function("part_base64_decode", |b| b.iter(|| base64::decode(black_box(value.as_bytes()), 16384).unwrap()));
    c.bench_function("part_json_typed", |b| {
        b.iter(|| json::from_slice::<PaymentPayload>(black_box(message.as_bytes()), limits).unwrap());
    });
    c.bench_function("part_json_typed_by_serde_json", |b| {
        b.iter(|| serde_json::from_str::<PaymentPayload>(black_box(&message)).unwrap());
    });
    c.bench_function("part_json_skip", |b| {
        b.iter(|| json::from_slice::<serde::de::IgnoredAny>(black_box(message.as_bytes()), limits).unwrap());
    });
    c.bench_function("json_tree", |b| b.iter(|| json::parse(black_box(message.as_bytes()), limits).unwrap()));
}

criterion_group!(benches, codec);
criterion_main!(benches);
