//! `x402 session issue`: the owner permits an address to make some calls.

use std::path::PathBuf;

use alloy_primitives::{Address, U256};
use x402_erc4337::session::zerodev::{Draft, Grant, KernelAccount, KernelVersion};
use x402_evm::key::Key;
use zeroize::Zeroizing;

use super::{Failure, show};

/// Permits an address to make some calls; prints the serialized session key. The owner's private key is read from the
/// environment variable `X402_PRIVATE_KEY` or from a file.
#[derive(Debug, clap::Args)]
pub(crate) struct Issue {
    /// The session key's address.
    #[arg(long, value_name = "ADDR")]
    pub(super) signer: Address,
    /// The number of the chain.
    #[arg(long, value_name = "N")]
    pub(super) chain_id: u64,
    /// A call, as TARGET:SELECTOR with rules on its arguments: OFFSET=NUMBER, OFFSET<=NUMBER, value<=WEI. Offsets are
    /// bytes after the selector. The option may be repeated.
    #[arg(long, value_name = "CALL", required = true)]
    pub(super) call: Vec<String>,
    /// The last second, since 1970.
    #[arg(long, value_name = "SECONDS")]
    pub(super) valid_until: u64,
    /// The first second, since 1970.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(super) valid_after: u64,
    /// The maximum number of operations.
    #[arg(long, value_name = "N")]
    pub(super) count: Option<u64>,
    /// The account's Kernel: 0.3.1, 0.3.2 or 0.3.3.
    #[arg(long, value_name = "VERSION", default_value = "0.3.1")]
    pub(super) kernel: String,
    /// The index of the account among the owner's accounts.
    #[arg(long, value_name = "N", default_value_t = U256::ZERO)]
    pub(super) index: U256,
    /// The account's `currentNonce()`; 1 if nothing was ever revoked.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) nonce: u32,
    /// A file with the owner's key.
    #[arg(long)]
    pub(super) key_file: Option<PathBuf>,
}

pub(super) fn run(args: &Issue) -> Result<(), Failure> {
    let owner = key(args.key_file.as_ref())?;
    show(&issue(args, &owner)?)
}

fn key(file: Option<&PathBuf>) -> Result<Key, Failure> {
    let text = match file {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|e| Failure::Unreadable(format!("{}: {e}", path.display())))?
        }
        None => std::env::var("X402_PRIVATE_KEY")
            .map_err(|_| Failure::Unreadable("X402_PRIVATE_KEY is not set; set it or give --key-file".into()))?,
    };
    let text = Zeroizing::new(text);
    // The parser's message for a malformed key may quote the key.
    text.trim().parse().map_err(|_| Failure::Unreadable("the private key: expected `0x` and 64 hex digits".into()))
}

pub(super) fn issue(args: &Issue, owner: &Key) -> Result<Zeroizing<String>, Failure> {
    let refused = |message: String| Failure::Refused(message);
    let version = KernelVersion::ALL
        .into_iter()
        .find(|v| v.as_str() == args.kernel)
        .ok_or_else(|| refused("kernel: expected 0.3.1, 0.3.2 or 0.3.3".into()))?;
    let mut grant = Grant::new(args.valid_after, args.valid_until);
    if let Some(count) = args.count {
        grant = grant.times(count);
    }
    for call in &args.call {
        grant = granted(grant, call)
            .ok_or_else(|| refused(format!("call: expected TARGET:SELECTOR and rules, found {call}")))?;
    }
    let account = KernelAccount::new(version, owner.address(), args.index);
    let approval = Draft::new(&account, args.signer, &grant, args.chain_id, args.nonce).and_then(|draft| {
        let signature = owner.signature_of(draft.digest())?;
        draft.approved(&signature)
    });
    Ok(approval.map_err(|e| refused(e.to_string()))?.write())
}

/// Parses `TARGET:SELECTOR[:OFFSET=NUMBER][:OFFSET<=NUMBER][:value<=WEI]…` and adds the call to the grant.
fn granted(grant: Grant, call: &str) -> Option<Grant> {
    let mut parts = call.split(':');
    let grant = grant.call(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.try_fold(grant, |grant, rule| {
        if let Some(limit) = rule.strip_prefix("value<=") {
            return Some(grant.value(limit.parse().ok()?));
        }
        match rule.split_once("<=") {
            Some((offset, number)) => Some(grant.at_most(offset.parse().ok()?, number.parse().ok()?)),
            None => {
                let (offset, number) = rule.split_once('=')?;
                Some(grant.equal(offset.parse().ok()?, number.parse().ok()?))
            }
        }
    })
}
