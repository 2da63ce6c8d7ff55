//! `x402 session revoke`: the calls by which the owner revokes a key.

use std::path::PathBuf;

use alloy_primitives::{Address, Bytes};
use serde::Serialize;
use x402_erc4337::Call;
use x402_erc4337::session::zerodev::{Approval, invalidate_nonce};

use super::{Failure, input, json, show};

/// Prints the calls by which the owner revokes a session key.
#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// Ends also every permission that was enabled below this nonce.
    #[arg(long, value_name = "N")]
    invalidate_below: Option<u32>,
    /// Prints JSON objects.
    #[arg(long)]
    json: bool,
    /// The serialized key; `-` or nothing reads standard input.
    file: Option<PathBuf>,
}

/// A call that the account makes to itself: the callData of an operation of the owner.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnerCall {
    pub(super) name: &'static str,
    pub(super) account: Address,
    pub(super) call_data: Bytes,
}

pub(super) fn run(args: &Revoke) -> Result<(), Failure> {
    let approval = Approval::read(input(args.file.as_ref())?.trim())?;
    for call in owner_calls(&approval, args.invalidate_below) {
        show(&if args.json { json(&call)? } else { format!("{} {} {}", call.name, call.account, call.call_data) })?;
    }
    Ok(())
}

pub(super) fn owner_calls(approval: &Approval, below: Option<u32>) -> Vec<OwnerCall> {
    let call = |name, call: Call| OwnerCall { name, account: call.target, call_data: call.data };
    let invalidate = below.map(|nonce| call("invalidateNonce", invalidate_nonce(approval.account, nonce)));
    [call("uninstallValidation", approval.uninstall())].into_iter().chain(invalidate).collect()
}
