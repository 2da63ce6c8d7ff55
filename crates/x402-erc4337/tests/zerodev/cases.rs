//! The permissions of the vectors.

use base64_simd::STANDARD;
use serde_json::Value;
use x402_erc4337::session::zerodev::{Approval, KernelVersion};

use crate::common::{text, vectors};

pub(crate) const CHAIN: u64 = 84532;

pub(crate) fn cases() -> Vec<Value> {
    vectors()["kernelPermissions"].as_array().unwrap().clone()
}

pub(crate) fn version(case: &Value) -> KernelVersion {
    KernelVersion::ALL.into_iter().find(|v| v.as_str() == text(&case["kernelVersion"])).unwrap()
}

pub(crate) fn approval(case: &Value) -> Approval {
    Approval::read(text(&case["serialized"])).unwrap()
}

/// The base64 text of a changed document.
pub(crate) fn serialize(json: &Value) -> String {
    STANDARD.encode_to_string(json.to_string().as_bytes())
}
