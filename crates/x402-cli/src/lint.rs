//! `x402 lint`: everything that is wrong with the 402 that a server sends.

mod fetch;
mod input;
mod sarif;
mod text;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use x402_validate::{Checked, Options, Registry, Report, Source, Summary, lint, lint_response, summary};

/// Says everything that is wrong with a payment-required document. Exit status: 0 valid, 1 invalid, 2 nothing to read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file with the document; `-` or nothing reads standard input.
    #[arg(conflicts_with_all = ["response", "url"])]
    file: Option<PathBuf>,
    /// A file with a response: `{"status": 402, "headers": {…}, "body": …}`; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    response: Option<PathBuf>,
    /// Asks a server with GET. Redirects are not followed, 64 KiB are read at most.
    #[arg(long)]
    url: Option<String>,
    /// Lets `--url` ask loopback and private addresses.
    #[arg(long, requires = "url")]
    allow_private: bool,
    /// Knows the larger tables of networks and assets, not only those of the document.
    #[arg(long)]
    all_networks: bool,
    /// Turns warnings into errors.
    #[arg(long)]
    strict: bool,
    /// Prints the report as JSON and nothing else.
    #[arg(long, conflicts_with = "sarif")]
    json: bool,
    /// Prints the report as SARIF 2.1.0.
    #[arg(long)]
    sarif: bool,
    /// Prints nothing: the exit status says it.
    #[arg(long, short)]
    quiet: bool,
}

/// What was read, and what the linter says of it.
struct Outcome {
    /// What people call it: a path, a URL.
    name: String,
    /// The text that the spans of the report count in.
    json: Vec<u8>,
    report: Report,
    /// Of a response: where the document was found, and what it asks for.
    found: Option<Found>,
}

#[derive(Serialize)]
struct Found {
    source: Option<Source>,
    summary: Vec<Summary>,
}

/// What `--json` prints of a response: the report, and where it came from.
#[derive(Serialize)]
struct Whole<'r> {
    #[serde(flatten)]
    report: &'r Report,
    #[serde(flatten)]
    found: Option<&'r Found>,
}

pub(crate) async fn run(args: Args) -> ExitCode {
    let mut options = Options { strict: args.strict, ..Options::default() };
    if args.all_networks {
        options.registry = Registry::all();
    }
    let outcome = match outcome(&args, options).await {
        Ok(outcome) => outcome,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if !args.quiet {
        let out = if args.json {
            serde_json::to_string_pretty(&Whole { report: &outcome.report, found: outcome.found.as_ref() })
                .map(|json| json + "\n")
                .unwrap_or_default()
        } else if args.sarif {
            sarif::log(&outcome)
        } else {
            text::render(&outcome, std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        };
        // A reader that went away changes nothing about the document.
        let _ = std::io::stdout().write_all(out.as_bytes());
    }
    if outcome.report.valid { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn outcome(args: &Args, mut options: Options) -> Result<Outcome, String> {
    if let Some(url) = &args.url {
        let answer = fetch::get(url, args.allow_private).await?;
        if (300..400).contains(&answer.status) && !args.quiet {
            eprintln!("the server answered {}: redirects are not followed", answer.status);
        }
        // One byte beyond the limit is read, so that a longer body is seen to be one.
        options.limit = fetch::LARGEST;
        return Ok(Outcome::of_response(url.clone(), &answer.headers, &answer.body, &options));
    }
    if let Some(path) = &args.response {
        let (name, bytes) = input::read(path, options.limit)?;
        return match input::response(&bytes)? {
            Some(response) => Ok(Outcome::of_response(name, &response.headers, &response.body, &options)),
            // The linter says at which byte the file stops being JSON.
            None => {
                let report = lint(&bytes, &options);
                Ok(Outcome { name, json: bytes, report, found: Some(Found { source: None, summary: Vec::new() }) })
            }
        };
    }
    let stdin = PathBuf::from("-");
    let (name, json) = input::read(args.file.as_ref().unwrap_or(&stdin), options.limit)?;
    let report = lint(&json, &options);
    Ok(Outcome { name, json, report, found: None })
}

impl Outcome {
    fn of_response(name: String, headers: &[(String, Vec<u8>)], body: &[u8], options: &Options) -> Self {
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let Checked { report, source, json, .. } = lint_response(headers, body, options);
        let summary = summary(&report, &options.registry);
        Self { name, json, report, found: Some(Found { source, summary }) }
    }
}
