//! `x402 lint`: reports every fault of a server's 402 response.

mod fetch;
mod input;
mod sarif;
mod text;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use x402_validate::{CheckedResponse, Options, Registry, Report, Source, Summary, lint, lint_response, summary};

/// Reports every fault of a payment-required document. Exit status: 0 valid, 1 invalid, 2 nothing to read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file with the document; `-` or nothing reads standard input.
    #[arg(conflicts_with_all = ["response", "url"])]
    file: Option<PathBuf>,
    /// A file with a response: `{"status": 402, "headers": {…}, "body": …}`; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    response: Option<PathBuf>,
    /// Requests this URL with GET. Redirects are not followed, 64 KiB are read at most.
    #[arg(long)]
    url: Option<String>,
    /// Lets `--url` connect to loopback and private addresses.
    #[arg(long, requires = "url")]
    allow_private: bool,
    /// Uses the larger tables of networks and assets, not only those of the document.
    #[arg(long)]
    all_networks: bool,
    /// Reports warnings as errors.
    #[arg(long)]
    strict: bool,
    /// Prints only the report, as JSON.
    #[arg(long, conflicts_with = "sarif")]
    json: bool,
    /// Prints the report as SARIF 2.1.0.
    #[arg(long)]
    sarif: bool,
    /// Prints nothing: the exit status is the result.
    #[arg(long, short)]
    quiet: bool,
}

/// The input, and the linter's report on it.
struct Outcome {
    /// The name of the input: a path, a URL.
    name: String,
    /// The text to which the spans of the report refer.
    json: Vec<u8>,
    report: Report,
    /// For a response: the part that contains the document, and its offers.
    found: Option<Found>,
}

#[derive(Serialize)]
struct Found {
    source: Option<Source>,
    summary: Vec<Summary>,
}

/// The output of `--json` for a response: the report, and the part that contains the document.
#[derive(Serialize)]
struct Whole<'r> {
    #[serde(flatten)]
    report: &'r Report,
    #[serde(flatten)]
    found: Option<&'r Found>,
}

pub(crate) async fn run(args: Args) -> ExitCode {
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match answer(&args, color).await {
        Ok((valid, out)) => {
            // A reader that closed the pipe changes nothing about the document.
            let _ = std::io::stdout().write_all(out.as_bytes());
            if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether the document is valid, and the text for standard output.
async fn answer(args: &Args, color: bool) -> Result<(bool, String), String> {
    let mut options = Options { strict: args.strict, ..Options::default() };
    if args.all_networks {
        options.registry = Registry::all();
    }
    let outcome = outcome(args, options).await?;
    let out = if args.quiet {
        String::new()
    } else if args.json {
        serde_json::to_string_pretty(&Whole { report: &outcome.report, found: outcome.found.as_ref() })
            .map(|json| json + "\n")
            .unwrap_or_default()
    } else if args.sarif {
        sarif::log(&outcome)
    } else {
        text::render(&outcome, color)
    };
    Ok((outcome.report.valid, out))
}

async fn outcome(args: &Args, mut options: Options) -> Result<Outcome, String> {
    if let Some(url) = &args.url {
        let answer = fetch::get(url, args.allow_private).await?;
        if (300..400).contains(&answer.status) && !args.quiet {
            eprintln!("the server answered {}: redirects are not followed", answer.status);
        }
        // One byte beyond the limit is read, so that a longer body is recognised.
        options.limit = fetch::LARGEST;
        return Ok(Outcome::of_response(url.clone(), &answer.headers, &answer.body, &options));
    }
    if let Some(path) = &args.response {
        let (name, bytes) = input::read(path, options.limit)?;
        return match input::response(&bytes)? {
            Some(response) => Ok(Outcome::of_response(name, &response.headers, &response.body, &options)),
            // The linter reports the byte at which the file stops being JSON.
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
        let CheckedResponse { report, source, json, .. } = lint_response(headers, body, options);
        let summary = summary(&report, &options.registry);
        Self { name, json, report, found: Some(Found { source, summary }) }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    async fn lint_of(line: &[&str]) -> Result<(bool, String), String> {
        answer(&Line::try_parse_from([&["lint"], line].concat()).map_err(|e| e.to_string())?.args, false).await
    }

    /// A file that is removed at the end of the test.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("x402-lint-{}-{name}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            Self(path)
        }

        fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    const VALID: &str = r#"{"x402Version":2,"resource":{"url":"https://a.example/"},"accepts":[{"scheme":"nvm:erc4337","network":"eip155:84532","planId":"1","extra":{"version":"1"}}]}"#;

    #[tokio::test]
    async fn json_is_exactly_the_report() {
        let file = Temporary::new("json", VALID);
        let (valid, out) = lint_of(&["--json", file.path()]).await.unwrap();
        assert!(valid);
        let mut want = serde_json::to_value(lint(VALID, &Options::default())).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), want);
        let recorded = Temporary::new("response", &format!(r#"{{"status":402,"headers":{{}},"body":{VALID}}}"#));
        let (valid, out) = lint_of(&["--json", "--response", recorded.path()]).await.unwrap();
        assert!(valid);
        let out: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&out["source"], &out["summary"][0]["networkName"]), (&"body".into(), &"Base Sepolia".into()));
        let want = want.as_object_mut().unwrap();
        want.extend([("source".to_owned(), out["source"].clone()), ("summary".to_owned(), out["summary"].clone())]);
        assert_eq!(out.as_object().unwrap(), want);
    }

    #[tokio::test]
    async fn strict_quiet_and_the_larger_tables() {
        let file = Temporary::new("strict", &VALID.replace("84532", "137"));
        assert!(lint_of(&["--quiet", file.path()]).await == Ok((true, String::new())));
        assert!(lint_of(&["--quiet", "--strict", file.path()]).await == Ok((false, String::new())));
        assert!(lint_of(&[file.path()]).await.unwrap().1.contains("UNKNOWN_NETWORK"));
        assert!(!lint_of(&["--all-networks", file.path()]).await.unwrap().1.contains("UNKNOWN_NETWORK"));
    }

    #[tokio::test]
    async fn what_was_read_and_is_no_json_is_invalid_and_what_cannot_be_read_is_an_error() {
        let file = Temporary::new("none", "HTTP/1.1 402 Payment Required");
        for line in [&["--json", file.path()][..], &["--json", "--response", file.path()]] {
            let (valid, out) = lint_of(line).await.unwrap();
            assert!(!valid && out.contains("INVALID_JSON"), "{out}");
        }
        assert!(lint_of(&["/no/such/file"]).await.is_err());
        assert!(lint_of(&["--response", "/no/such/file"]).await.is_err());
        for usage in [
            &["--json", "--sarif", "-"][..],
            &["a", "--url", "b"],
            &["a", "--response", "b"],
            &["--allow-private", "a"],
        ] {
            assert!(lint_of(usage).await.is_err(), "{usage:?}");
        }
    }
}
