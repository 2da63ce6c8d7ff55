//! The golden data and how its values are read.
#![allow(dead_code, unreachable_pub)]

use alloy_primitives::{Address, B256, Bytes};
use serde_json::Value;

/// Everything that other SDKs and the chain said; its provenance stands beside it.
pub fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../x402-testkit/vectors/erc4337.json")).unwrap()
}

pub fn text(v: &Value) -> &str {
    v.as_str().unwrap()
}

pub fn address(v: &Value) -> Address {
    text(v).parse().unwrap()
}

pub fn word(v: &Value) -> B256 {
    text(v).parse().unwrap()
}

pub fn bytes(v: &Value) -> Bytes {
    text(v).parse().unwrap()
}

/// Runs a future that never waits.
pub fn now<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(out) => out,
        std::task::Poll::Pending => panic!("it waits"),
    }
}
