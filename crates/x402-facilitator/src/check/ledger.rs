//! The check of the ledger's database, and of the keys that are kept in it.

use std::fmt;

use crate::config::{Config, LedgerPlace};
use crate::configured::StartError;
use crate::stores::Stores;

use super::{CheckReport, Finding};

/// Opens the ledger as the facilitator does, and has its writer answer.
pub(super) async fn check(config: &Config, report: &mut CheckReport) {
    let place = match config.ledger.place() {
        Ok(place) => place,
        Err(error) => {
            return report.add(Finding::problem("ledger", error, "write a path or the URL of a PostgreSQL database"));
        }
    };
    let subject = Subject(&place);
    let stores = match Stores::open(config).await {
        Ok(stores) => stores,
        Err(StartError::Fault(fault)) if fault.to_string().contains("another process uses it") => {
            let advice = "nothing, if that is the running facilitator; otherwise end the other process";
            return report.add(Finding::warning(subject, "another process uses it", advice));
        }
        Err(error) => return report.add(Finding::problem(subject, error, advice(&place))),
    };
    match stores.database.check_writer().await {
        Ok(_) if stores.unfinished.is_empty() => {
            report.add(Finding::ok(subject, "it takes writes; no payment is open"))
        }
        Ok(_) => {
            let lanes: Vec<_> = stores.unfinished.iter().map(ToString::to_string).collect();
            report
                .add(Finding::ok(subject, format_args!("it takes writes; payments are open on {}", lanes.join(", "))));
        }
        Err(fault) => report.add(Finding::problem(subject, fault, advice(&place))),
    }
}

const fn advice(place: &LedgerPlace) -> &'static str {
    match place {
        LedgerPlace::File(_) => "create the folder, give this user the right to write there, and free some space",
        #[cfg(feature = "postgres")]
        LedgerPlace::Postgres(_) => "see docs/operations.md, PostgreSQL",
    }
}

struct Subject<'a>(&'a LedgerPlace);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            LedgerPlace::File(path) => write!(f, "ledger {}", path.display()),
            #[cfg(feature = "postgres")]
            LedgerPlace::Postgres(url) => write!(f, "ledger {url}"),
        }
    }
}
