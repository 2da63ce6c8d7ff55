//! `x402 explain`: the page of a code.

use std::io::Write;
use std::process::ExitCode;

use x402_types::ErrorReason;
use x402_validate::Code;

/// Explains a code and how to fix the fault.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A code such as `MISSING_ACCEPTS`; without one, the codes of the linter are listed.
    code: Option<String>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    let text = match &args.code {
        None => Code::TABLE
            .iter()
            .map(|row| format!("{:<28} {:<8} {}\n", row.name, row.severity.as_str(), row.text))
            .collect(),
        Some(code) => match page(code) {
            Some(page) => page,
            None => {
                eprintln!("no such code; `x402 explain` without one lists the linter's");
                return ExitCode::from(2);
            }
        },
    };
    // A reader that closed the pipe is not a failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Returns the page of a code of the linter, or of one that travels on the wire.
fn page(code: &str) -> Option<String> {
    if let Ok(code) = code.parse::<Code>() {
        return Some(code.page());
    }
    let row = ErrorReason::TABLE.iter().find(|row| row.code.eq_ignore_ascii_case(code))?;
    Some(format!("### `{}`\n\n{}. HTTP status {}.\n", row.code, row.text, row.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_families_have_pages() {
        assert!(page("invalid-amount").unwrap().starts_with("### `INVALID_AMOUNT`"));
        assert!(page("insufficient_funds").unwrap().contains("402"));
        assert_eq!(page("NOPE"), None);
    }
}
