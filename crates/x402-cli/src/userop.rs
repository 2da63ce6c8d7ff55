//! `x402 userop hash`: the hash that the account of a UserOperation signs.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use alloy_primitives::{Address, B256};
use serde::Serialize;
use x402_codec::json::{self, Node};
use x402_codec::{DecodeError, Limits};
use x402_erc4337::{
    EntryPoint, EntryPointVersion, FieldError, HashError, PackError, PackedUserOperation, UserOperation,
    UserOperationV06,
};

/// Computes the hashes of UserOperations.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Userop {
    /// Prints the hash that the account signs.
    Hash(Hash),
}

/// Prints the hash that the account signs.
#[derive(Debug, clap::Args)]
pub(crate) struct Hash {
    /// The version of the EntryPoint: 0.6, 0.7, 0.8 or 0.9.
    #[arg(long)]
    entry_point: EntryPointVersion,
    /// The number of the chain.
    #[arg(long)]
    chain_id: u64,
    /// The delegate of an EIP-7702 sender, if the operation does not contain it.
    #[arg(long, value_name = "ADDR")]
    delegate: Option<Address>,
    /// Prints a JSON object with the packed operation.
    #[arg(long)]
    json: bool,
    /// The operation as JSON, in the form of JSON-RPC or packed; `-` or nothing reads standard input.
    file: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum OnChain {
    V06(UserOperationV06),
    Packed(PackedUserOperation),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    user_op_hash: B256,
    entry_point: Address,
    chain_id: u64,
    packed: OnChain,
}

/// The reason why there is no hash. The message begins with the member.
#[derive(Debug)]
enum Failure {
    Unreadable(String),
    Invalid(String),
}

impl From<DecodeError> for Failure {
    fn from(e: DecodeError) -> Self {
        Self::Unreadable(e.to_string())
    }
}

impl From<FieldError> for Failure {
    fn from(e: FieldError) -> Self {
        Self::Invalid(e.to_string())
    }
}

impl From<PackError> for Failure {
    fn from(e: PackError) -> Self {
        Self::Invalid(e.to_string())
    }
}

impl From<HashError> for Failure {
    fn from(e: HashError) -> Self {
        Self::Invalid(e.to_string())
    }
}

pub(crate) fn run(command: Userop) -> ExitCode {
    let Userop::Hash(args) = command;
    let answer = input(args.file.as_ref())
        .and_then(|text| answer(&text, args.entry_point, args.chain_id, args.delegate))
        .and_then(|answer| {
            let text = if args.json { line(&answer)? } else { answer.user_op_hash.to_string() };
            writeln!(std::io::stdout(), "{text}").map_err(|e| Failure::Unreadable(e.to_string()))
        });
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Invalid(message)) => {
            eprintln!("{message}");
            ExitCode::from(1)
        }
        Err(Failure::Unreadable(message)) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn line(answer: &Answer) -> Result<String, Failure> {
    serde_json::to_string(answer).map_err(|e| Failure::Unreadable(e.to_string()))
}

fn input(file: Option<&PathBuf>) -> Result<Vec<u8>, Failure> {
    // One byte beyond the maximum is read, so that longer input is recognised.
    let most = u64::try_from(Limits::DEFAULT.body).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = Vec::new();
    let read = match file.filter(|f| f.as_os_str() != "-") {
        Some(file) => std::fs::File::open(file).and_then(|f| f.take(most).read_to_end(&mut text)),
        None => std::io::stdin().take(most).read_to_end(&mut text),
    };
    read.map(|_| text).map_err(|e| Failure::Unreadable(e.to_string()))
}

fn answer(
    text: &[u8],
    version: EntryPointVersion,
    chain_id: u64,
    delegate: Option<Address>,
) -> Result<Answer, Failure> {
    let node: Node<'_> = json::parse(text, &Limits::DEFAULT)?;
    let entry_point = EntryPoint::canonical(version, chain_id);
    let (user_op_hash, packed) = if version == EntryPointVersion::V06 {
        let op = UserOperationV06::from_node(&node)?;
        (op.hash(chain_id), OnChain::V06(op))
    } else if PackedUserOperation::is_packed(&node) {
        let packed = PackedUserOperation::from_node(&node)?;
        // An operation that the chain would refuse has no useful hash.
        packed.unpack(version)?;
        (packed.hash(&entry_point, delegate)?, OnChain::Packed(packed))
    } else {
        let op = UserOperation::from_node(&node)?;
        (op.hash_delegated(&entry_point, delegate)?, OnChain::Packed(op.pack(version)?))
    };
    Ok(Answer { user_op_hash, entry_point: entry_point.address, chain_id, packed })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cases() -> Vec<Value> {
        let all: Value = serde_json::from_str(include_str!("../../x402-testkit/vectors/erc4337.json")).unwrap();
        all["userOpHash"].as_array().unwrap().clone()
    }

    fn case(version: &str, name: &str) -> Value {
        cases().into_iter().find(|c| c["entryPointVersion"] == version && c["name"] == name).unwrap()
    }

    fn hash(op: &Value, version: &str, delegate: Option<Address>) -> Result<Answer, Failure> {
        answer(op.to_string().as_bytes(), version.parse().unwrap(), 84532, delegate)
    }

    fn invalid(op: &Value, version: &str) -> String {
        match hash(op, version, None) {
            Err(Failure::Invalid(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_forms_of_every_vector() {
        for case in cases() {
            let version = case["entryPointVersion"].as_str().unwrap();
            let found = hash(&case["userOperation"], version, None).unwrap();
            assert_eq!(found.user_op_hash.to_string(), case["userOpHash"]);
            if let Some(packed) = case.get("packed") {
                let delegate = case["userOperation"]["eip7702Auth"]["address"].as_str().map(|a| a.parse().unwrap());
                let found = hash(packed, version, delegate).unwrap();
                assert_eq!(found.user_op_hash.to_string(), case["userOpHash"]);
            }
        }
    }

    #[test]
    fn json_says_what_was_hashed() {
        let case = case("0.7", "factory_and_paymaster");
        let line = line(&hash(&case["userOperation"], "0.7", None).unwrap()).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["userOpHash"], case["userOpHash"]);
        assert_eq!(line["chainId"], 84532);
        let lower = |v: &Value| v.to_string().to_lowercase();
        assert_eq!(lower(&line["entryPoint"]), lower(&case["entryPoint"]));
        assert_eq!(lower(&line["packed"]), lower(&case["packed"]));
    }

    #[test]
    fn invalid_members_are_named() {
        let good = case("0.7", "minimal")["userOperation"].clone();
        let mut op = good.clone();
        op.as_object_mut().unwrap().remove("nonce");
        assert_eq!(invalid(&op, "0.7"), "nonce: missing");
        let mut op = good.clone();
        op["callGasLimit"] = json!(format!("0x{}", "f".repeat(64)));
        assert_eq!(invalid(&op, "0.7"), "callGasLimit: does not fit in uint128");
        let mut op = good;
        op["nonce"] = json!(format!("0x1{}", "0".repeat(64)));
        assert_eq!(invalid(&op, "0.7"), "nonce: does not fit in uint256");
        let mut op = case("0.8", "eip7702_no_factory_data")["userOperation"].clone();
        assert!(invalid(&op, "0.7").starts_with("factory: "));
        op.as_object_mut().unwrap().remove("eip7702Auth");
        assert!(invalid(&op, "0.8").starts_with("eip7702Auth: "));
        assert!(hash(&op, "0.8", Some(Address::repeat_byte(0x44))).is_ok());
        let op = &case("0.9", "paymaster_signature")["userOperation"];
        assert!(invalid(op, "0.8").starts_with("paymasterSignature: "));
        let mut packed = case("0.7", "factory")["packed"].clone();
        packed["initCode"] = json!("0x1234");
        assert!(invalid(&packed, "0.7").starts_with("initCode: "));
        assert!(matches!(answer(b"{", EntryPointVersion::V07, 1, None), Err(Failure::Unreadable(_))));
        assert!(matches!(answer(b"{\"a\":1,\"a\":1}", EntryPointVersion::V07, 1, None), Err(Failure::Unreadable(_))));
    }

    #[test]
    fn a_missing_signature_is_empty() {
        let case = case("0.7", "minimal");
        let mut op = case["userOperation"].clone();
        op.as_object_mut().unwrap().remove("signature");
        let found = hash(&op, "0.7", None).unwrap();
        assert_eq!(found.user_op_hash.to_string(), case["userOpHash"]);
        let OnChain::Packed(packed) = found.packed else { panic!() };
        assert_eq!(packed.signature.to_string(), "0x");
    }
}
