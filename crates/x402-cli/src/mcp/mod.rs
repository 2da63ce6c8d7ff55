//! `x402 mcp`: an MCP server on standard input and output, by which an agent makes paid requests within its owner's budgets.

mod agent;
mod books;
mod confirm;
mod fetch;
mod policy;
mod price;
mod reach;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use rmcp::ServiceExt;
use x402_challenge::{ExactProof, MakeProof};
use x402_evm::exact;
use x402_extensions::offer_receipt::ReceiptBook;
use x402_http::client::Payer;
use x402_types::extension::PaymentIdentifier;

use crate::keys::KeySource;
use crate::pay;
use agent::Agent;
use books::Books;
use policy::Policy;
use reach::Reach;

/// Serves tools to an agent over standard input and output: requests with payment, prices, search, budget, receipts.
///
/// The owner decides in a file that no tool can change what may be spent; the key is in no tool's answer.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A TOML file with the budgets: `per_payment`, `per_day`, `per_host_day`, `confirm_above`, and the same for single hosts.
    #[arg(long, value_name = "PATH")]
    budget: Option<PathBuf>,
    #[command(flatten)]
    key: KeySource,
    /// The file that stores payments, receipts and what was spent: by default `x402/payments.sqlite` in `$XDG_STATE_HOME`.
    #[arg(long, value_name = "PATH")]
    journal: Option<PathBuf>,
    /// The facilitator whose catalog is searched.
    #[arg(long, value_name = "URL", default_value = "https://x402.org/facilitator")]
    facilitator: String,
    /// Allows requests to this machine and to private networks.
    #[arg(long)]
    allow_private: bool,
}

pub(crate) async fn run(args: Args) -> ExitCode {
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

async fn serve(args: Args) -> Result<(), String> {
    let key = args.key.read()?;
    let policy = Arc::new(args.budget.as_deref().map_or_else(|| Ok(Policy::default()), Policy::read)?);
    let path = args.journal.or_else(pay::journal::default_path);
    let path = path.ok_or("neither XDG_STATE_HOME nor HOME is set; give --journal")?;
    let journal = Arc::new(pay::journal::Journal::open(&path, false)?);
    let books = Arc::new(Books::open(&path, policy.clone())?);
    let proof = Arc::new(ExactProof::new(exact::Payer::new(key.clone()))) as Arc<dyn MakeProof>;
    let payer = Payer::new(exact::Payer::new(key)).with_proofs([proof]);
    let payer = payer.with_extension(PaymentIdentifier::optional());
    let payer = payer.with_extension(ReceiptBook::new(journal.clone())).with_journal(journal.clone());
    let agent = Agent::new(payer, books, journal, Reach::new(args.allow_private)?, args.facilitator);
    let running = agent.serve(rmcp::transport::stdio()).await.map_err(|error| error.to_string())?;
    running.waiting().await.map(drop).map_err(|error| error.to_string())
}
