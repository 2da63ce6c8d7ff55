//! Linting against reading the same bytes into a `serde_json::Value`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};
use x402_validate::{Options, lint};

/// A document of version 2 as servers send it, without schemas.
fn document(entries: usize) -> Vec<u8> {
    let entry = json!({
        "scheme": "exact",
        "network": "eip155:8453",
        "amount": "10000",
        "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        "payTo": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "maxTimeoutSeconds": 60,
        "extra": { "name": "USD Coin", "version": "2" }
    });
    let document = json!({
        "x402Version": 2,
        "error": "PAYMENT-SIGNATURE header is required",
        "resource": {
            "url": "https://api.example.com/weather",
            "description": "Weather data",
            "mimeType": "application/json"
        },
        "accepts": vec![entry; entries]
    });
    serde_json::to_vec(&document).unwrap()
}

fn bench(criterion: &mut Criterion) {
    let options = Options::default();
    let mut group = criterion.benchmark_group("lint");
    // 250 entries are about 60 KiB.
    for entries in [1, 4, 25, 250] {
        let bytes = document(entries);
        group.throughput(Throughput::Bytes(u64::try_from(bytes.len()).unwrap()));
        group.bench_with_input(BenchmarkId::new("serde_json", bytes.len()), &bytes, |b, bytes| {
            b.iter(|| serde_json::from_slice::<Value>(black_box(bytes)).unwrap());
        });
        group.bench_with_input(BenchmarkId::new("lint", bytes.len()), &bytes, |b, bytes| {
            b.iter(|| lint(black_box(bytes), &options));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
