//! The check of a configuration before it serves: nodes, tokens, signers' balances and the ledger, each with what to do.
//! No transaction is sent. The ledger is opened as `serve` opens it: its file is created and its tables are migrated.

mod ledger;
mod network;
mod report;

use std::path::Path;

use crate::config::Config;

pub use self::report::{CheckReport, Finding, State};

/// Checks the file at a path and everything that it names. A part that fails does not keep the others from being
/// checked.
pub async fn check(path: &Path) -> CheckReport {
    let mut report = CheckReport::default();
    let config = match Config::read(path) {
        Ok(config) => config,
        Err(error) => {
            let place = path.display().to_string();
            report.add(Finding::problem(place, error, "correct the file: docs/operations.md has every key"));
            return report;
        }
    };
    report.add(Finding::ok(path.display().to_string(), "it can be read"));
    callers(&config, &mut report);
    ledger::check(&config, &mut report).await;
    for each in &config.networks {
        network::check(each, &mut report).await;
    }
    report
}

fn callers(config: &Config, report: &mut CheckReport) {
    match config.named_callers() {
        Ok(callers) if callers.is_empty() && !config.listen.ip().is_loopback() => report.add(Finding::problem(
            "callers",
            format_args!("none, and {} is not a loopback address", config.listen),
            "add a [[caller]] for each resource server, or listen on 127.0.0.1",
        )),
        Ok(callers) if callers.is_empty() => report.add(Finding::warning(
            "callers",
            "none: every program on this machine may settle payments at the signers' cost",
            "add a [[caller]] for each resource server",
        )),
        Ok(callers) => {
            let names: Vec<_> = callers.iter().map(|caller| caller.name().to_owned()).collect();
            report.add(Finding::ok("callers", names.join(", ")));
        }
        Err(error) => report.add(Finding::problem("callers", error, "put the token where the file expects it")),
    }
}
