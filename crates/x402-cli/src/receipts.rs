//! `x402 receipts` and `x402 receipt verify`: the signed receipts that `x402 pay` kept, and what one of them proves.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use x402_extensions::keys::PublicKey;
use x402_extensions::offer_receipt::{ArtifactSigner, KeptReceipt, KnownKeys, ReceiptProof};

use crate::pay::journal::{Journal, default_path};

/// Lists the receipts that `x402 pay` kept.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// The file that holds them: by default `x402/payments.sqlite` in `$XDG_STATE_HOME`.
    #[arg(long, value_name = "PATH")]
    journal: Option<PathBuf>,
    /// Prints the receipt with this number as the document that `x402 receipt verify` reads.
    #[arg(long, value_name = "NUMBER")]
    export: Option<i64>,
}

/// Verifies signed receipts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Receipt {
    /// Verifies one receipt by its signatures alone, and prints what it proves.
    Verify(Verify),
}

/// Verifies one receipt by its signatures alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The document of `x402 receipts --export`, or a bare signed receipt; `-` reads standard input.
    file: String,
    /// The account or the key identifier that must have signed. Without it, any valid signature is accepted, unless the offer
    /// names another recipient than its signer.
    #[arg(long, value_name = "NAME")]
    signer: Option<String>,
    /// The key of an identifier that does not contain it: `did:web:api.example.com#key-1=did:key:z6Mk…`.
    #[arg(long, value_name = "KID=KEY")]
    key: Vec<String>,
}

/// Prints the receipts, the newest first.
pub(crate) fn list(args: List) -> ExitCode {
    match listed(args) {
        Ok(text) => print(&text),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn listed(args: List) -> Result<String, String> {
    let path = args.journal.or_else(default_path).ok_or("neither XDG_STATE_HOME nor HOME is set; give --journal")?;
    if !path.exists() {
        return Err(format!("{}: no such file", path.display()));
    }
    let kept = Journal::open(&path, false)?.receipts()?;
    if let Some(number) = args.export {
        let found = kept.into_iter().find(|(known, _)| *known == number);
        return found
            .map(|(_, text)| text)
            .ok_or_else(|| format!("{}: no receipt has the number {number}", path.display()));
    }
    let mut lines = Vec::new();
    for (number, text) in kept {
        let kept = KeptReceipt::parse(text.as_bytes()).map_err(|why| format!("receipt {number}: {why}"))?;
        let proof = kept.prove(&KnownKeys::new());
        let line = match &proof {
            Ok(proof) => report(proof),
            // The key may be known elsewhere, so the receipt is listed with its reason.
            Err(why) => json!({ "url": kept.url, "unverified": why.to_string() }),
        };
        lines.push(
            json!({ "number": number, "receipt": line, "method": kept.method, "keptAt": kept.kept_at }).to_string(),
        );
    }
    Ok(lines.join("\n"))
}

pub(crate) fn run(receipt: Receipt) -> ExitCode {
    let Receipt::Verify(args) = receipt;
    let text = match input(&args.file) {
        Ok(text) => text,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match verified(&text, &args) {
        Ok(report) => print(&format!("{report:#}")),
        Err(message) => {
            eprintln!("not proven: {message}");
            ExitCode::FAILURE
        }
    }
}

fn input(file: &str) -> Result<Vec<u8>, String> {
    const MOST: u64 = 64 * 1024;
    let mut text = Vec::new();
    let read = if file == "-" {
        std::io::stdin().take(MOST).read_to_end(&mut text)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(MOST).read_to_end(&mut text))
    };
    read.map(|_| text).map_err(|error| format!("{file}: {error}"))
}

fn verified(text: &[u8], args: &Verify) -> Result<Value, String> {
    let mut known = KnownKeys::new();
    for pair in &args.key {
        let (kid, key) = pair.rsplit_once('=').ok_or("--key: expected KID=KEY")?;
        known = known.with(kid, PublicKey::of_did(key).map_err(|why| format!("--key: {why}"))?);
    }
    let proof =
        KeptReceipt::parse(text).map_err(|why| why.to_string())?.prove(&known).map_err(|why| why.to_string())?;
    let signer = &proof.receipt.signer;
    match &args.signer {
        Some(name) if !signer.is(name) => Err(format!("signed by {signer}, not by {name}")),
        _ => Ok(report(&proof)),
    }
}

/// Describes what the signatures cover. `signerIsAuthorizedBy` is the source by which the signer may sign for the resource.
fn report(proof: &ReceiptProof) -> Value {
    let receipt = &proof.receipt.payload;
    let authorized = if proof.is_signed_by_payee() { "payTo of the offer" } else { "not shown by the receipt" };
    let bound = !matches!(proof.receipt.signer, ArtifactSigner::Key { is_bound: false, .. });
    let offer = proof.offer.as_ref().map(|offer| {
        json!({ "scheme": offer.scheme, "amount": offer.amount, "asset": offer.asset, "payTo": offer.pay_to,
            "validUntil": offer.valid_until })
    });
    json!({
        "resourceUrl": receipt.resource_url, "network": receipt.network, "payer": receipt.payer,
        "issuedAt": receipt.issued_at, "transaction": receipt.transaction, "offer": offer,
        "signer": proof.receipt.signer.to_string(), "signerHasItsKey": bound, "signerIsAuthorizedBy": authorized,
    })
}

fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2),
    }
}
