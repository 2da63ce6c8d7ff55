//! `x402 lint`: reports every fault of a server's 402 response.

mod fetch;
mod identify;
mod input;
mod sarif;
mod serve;
pub(crate) mod text;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use x402_validate::{
    CheckedResponse, HttpAnswer, Options, Registry, Report, Source, Summary, lint, lint_answer, summary,
};

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
    /// Serves the linter's page on a loopback port, from this folder; `npm/x402-validate/page/build` makes `docs/lint`.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "docs/lint", conflicts_with_all = ["file", "response", "url"])]
    serve: Option<PathBuf>,
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
pub(crate) struct Outcome {
    /// The name of the input: a path, a URL.
    name: String,
    /// The text to which the spans of the report refer.
    json: Vec<u8>,
    report: Report,
    /// The offers of the document, with their prices in whole units.
    summary: Vec<Summary>,
    /// For a response: the part that contains the document.
    found: Option<Found>,
}

#[derive(Serialize)]
struct Found {
    source: Option<Source>,
}

/// The output of `--json`: the report, the offers, and for a response the part that contains the document.
#[derive(Serialize)]
struct Whole<'r> {
    #[serde(flatten)]
    report: &'r Report,
    summary: &'r [Summary],
    #[serde(flatten)]
    found: Option<&'r Found>,
}

pub(crate) async fn run(args: Args) -> ExitCode {
    if let Some(folder) = &args.serve {
        return match serve::run(folder).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("{message}");
                ExitCode::from(2)
            }
        };
    }
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
        outcome.json()
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
        // One byte beyond the limit is read, so that a longer body is recognised.
        options.limit = fetch::LARGEST;
        let with = |found: HttpAnswer<'_>| lint_answer(&found.with_status(answer.status).with_url(url), &options);
        return Ok(Outcome::of_answer(url.clone(), &answer.headers, &answer.body, with));
    }
    if let Some(path) = &args.response {
        let (name, bytes) = input::read(path, options.limit)?;
        return match input::response(&bytes)? {
            Some(response) => {
                let with = |found: HttpAnswer<'_>| match response.status {
                    Some(status) => lint_answer(&found.with_status(status), &options),
                    None => lint_answer(&found, &options),
                };
                Ok(Outcome::of_answer(name, &response.headers, &response.body, with))
            }
            // The linter reports the byte at which the file stops being JSON.
            None => {
                let report = lint(&bytes, &options);
                Ok(Outcome { name, json: bytes, report, summary: Vec::new(), found: Some(Found { source: None }) })
            }
        };
    }
    let stdin = PathBuf::from("-");
    let (name, json) = input::read(args.file.as_ref().unwrap_or(&stdin), options.limit)?;
    let report = lint(&json, &options);
    let summary = summary(&report, &options.registry);
    Ok(Outcome { name, json, report, summary, found: None })
}

impl Outcome {
    pub(crate) fn of_answer(
        name: String,
        headers: &[(String, Vec<u8>)],
        body: &[u8],
        with: impl Fn(HttpAnswer<'_>) -> CheckedResponse,
    ) -> Self {
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let CheckedResponse { report, source, summary, json, .. } = with(HttpAnswer::new(&headers, body));
        Self { name, json, report, summary, found: Some(Found { source }) }
    }

    /// Returns whether the document is valid.
    pub(crate) const fn is_valid(&self) -> bool {
        self.report.valid
    }

    /// Returns the report as `--json` prints it.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(&Whole::of(self)).map(|json| json + "\n").unwrap_or_default()
    }
}

impl<'r> Whole<'r> {
    fn of(outcome: &'r Outcome) -> Self {
        Self { report: &outcome.report, summary: &outcome.summary, found: outcome.found.as_ref() }
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
        let out: Value = serde_json::from_str(&out).unwrap();
        want.as_object_mut().unwrap().insert("summary".to_owned(), out["summary"].clone());
        assert_eq!(out, want);
        assert_eq!(out["summary"].as_array().map(Vec::len), Some(1));
        let recorded = Temporary::new(
            "response",
            &format!(r#"{{"status":402,"headers":{{"cache-control":"no-store"}},"body":{VALID}}}"#),
        );
        let (valid, out) = lint_of(&["--json", "--response", recorded.path()]).await.unwrap();
        assert!(valid);
        let out: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&out["source"], &out["summary"][0]["networkName"]), (&"body".into(), &"Base Sepolia".into()));
        // An answer has issues of its own: version 2 in the body alone.
        let last = out["warnings"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["code"], "BODY_ONLY");
        let want = want.as_object_mut().unwrap();
        want["warnings"].as_array_mut().unwrap().push(last);
        want.insert("source".to_owned(), out["source"].clone());
        assert_eq!(out.as_object().unwrap(), want);
    }

    #[tokio::test]
    async fn every_report_has_the_price_in_whole_units() {
        let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../x402-testkit/vectors/cases");
        let (_, out) = lint_of(&[&format!("{cases}/documents/l01-price-millionfold.json")]).await.unwrap();
        assert!(
            out.contains("accepts[0]: 10000 USDC on Base to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 (exact)"),
            "{out}"
        );
        let (_, out) =
            lint_of(&["--response", &format!("{cases}/answers/a03-header-only-body-empty-object.json")]).await.unwrap();
        assert!(out.contains("accepts[0]: 0.01 USDC on Base"), "{out}");
    }

    #[tokio::test]
    async fn a_recorded_answer_is_linted_with_its_status() {
        let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../x402-testkit/vectors/cases/answers");
        for (name, code) in [
            ("a04-bare-402-html", "NO_TERMS"),
            ("a07-status-200-with-terms", "UNEXPECTED_STATUS"),
            ("a13-two-headers", "REPEATED_HEADER"),
        ] {
            let file = format!("{cases}/{name}.json");
            let (_, out) = lint_of(&["--response", &file]).await.unwrap();
            assert!(out.contains(code), "{out}");
            let (valid, out) = lint_of(&["--strict", "--sarif", "--response", &file]).await.unwrap();
            assert!(!valid && out.contains(&format!("\"ruleId\": \"{code}\"")), "{out}");
        }
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
