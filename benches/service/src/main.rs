//! Facilitators as services, side by side against one node: `cargo run --release` prints the table of
//! `docs/benchmarks.md`.
//!
//! `cargo run --release -- [--rounds N] [--only before,this,x402-rs,polled,r402] [--this FILE] [--before FILE]
//! [--network TOML] [--details] [--list] [row…]` runs the rows whose names begin with one of the words.

mod anvil;
mod arguments;
mod binaries;
mod facilitator;
mod fault;
mod judge;
mod load;
mod measure;
mod payments;
mod peers;
mod proxy;
mod restart;
mod rows;
mod rpc;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::anvil::Anvil;
use crate::arguments::Arguments;
use crate::facilitator::{Binaries, Implementation};
use crate::fault::Fallible;
use crate::measure::Bench;
use crate::rows::rows;
use crate::table::Measured;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let served = match words.first().map(String::as_str) {
        Some("peer") => peers::serve(words.get(1).map_or("", String::as_str)).await,
        _ => until_told(&words).await,
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs to the end or to a signal. Either way every process that was started is ended.
async fn until_told(words: &[String]) -> Fallible<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        ended = run(words) => ended,
        _ = term.recv() => Err("stopped".into()),
        _ = interrupt.recv() => Err("stopped".into()),
    }
}

async fn run(words: &[String]) -> Fallible<()> {
    let arguments = Arguments::read(words)?;
    let rows = rows();
    let chosen: Vec<_> = rows.iter().filter(|row| arguments.chooses(row.name)).collect();
    if arguments.list || chosen.is_empty() {
        rows.iter().for_each(|row| println!("{}", row.name));
        return if arguments.list { Ok(()) } else { Err("no row has such a name".into()) };
    }
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;

    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let target = target()?;
    let work = target.join("service");
    std::fs::create_dir_all(&work)?;
    let binaries = binaries(&arguments, &repository, &target, &work)?;
    let anvil = Anvil::start(&repository, &work).await?;
    let bench = Bench { anvil: &anvil, binaries: &binaries, work: &work, details: arguments.details };
    table::head();
    for row in chosen {
        let mut measured = Measured::new(row);
        for round in 0..arguments.rounds {
            // Each round begins with another one.
            let mut who: Vec<_> = row.who.iter().copied().filter(|&one| arguments.measures(one)).collect();
            let turns = round % who.len().max(1);
            who.rotate_left(turns);
            for implementation in who {
                let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
                let busy = busy.split(' ').next().unwrap_or_default();
                eprintln!("  {}, {}, round {round}, load {busy}", row.name, implementation.name());
                let figures = bench.run(row, implementation, round).await?;
                if arguments.details {
                    eprintln!("    {:?} {:?}", figures.numbers, figures.answers);
                }
                measured.add(implementation, figures);
            }
        }
        measured.print();
    }
    Ok(())
}

/// The target folder of this build: two above the binary.
fn target() -> Fallible<PathBuf> {
    let binary = std::env::current_exe()?;
    Ok(binary.ancestors().nth(2).ok_or("the binary has no target folder")?.to_owned())
}

fn binaries(arguments: &Arguments, repository: &Path, target: &Path, work: &Path) -> Fallible<Binaries> {
    let mut binaries =
        Binaries { before: arguments.before.clone(), this: arguments.this.clone(), network: arguments.network.clone() };
    if binaries.before.is_none() && arguments.measures(Implementation::Before) {
        eprintln!("building 17f55ea");
        binaries.before = Some(binaries::before(repository, work)?);
    }
    if binaries.this.is_none() && arguments.measures(Implementation::This) {
        eprintln!("building this tree");
        binaries.this = Some(binaries::this(repository, target, work)?);
    }
    Ok(binaries)
}
