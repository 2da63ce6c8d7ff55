//! What the operating system and the process itself say of a facilitator, and the table of it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// One look at a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    /// The memory that the process has, in KiB.
    pub(crate) rss: u64,
    /// The part of it that belongs to no file: heap and stacks.
    pub(crate) anonymous: u64,
    /// User and system time that the kernel has counted, in ms.
    pub(crate) cpu: u64,
    /// Open files, sockets among them.
    pub(crate) files: usize,
    pub(crate) open: u64,
    pub(crate) answered: u64,
    pub(crate) rows: u64,
}

/// A number of `/proc/PID/status`, in KiB.
fn status(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}

/// The CPU time of a process so far, in ms: `utime` and `stime`, in ticks of 10 ms.
fn cpu(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum()
}

/// The sum of a metric over its labels, of lines that contain `part`.
pub(crate) fn metric(text: &str, name: &str, part: &str) -> u64 {
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(part));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

/// The payments' rows, counted past the process.
pub(crate) fn rows(ledger: &Path, condition: &str) -> u64 {
    let file = Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = format!("SELECT count(*) FROM payments WHERE {condition}");
    file.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
}

impl Sample {
    pub(crate) fn of(pid: u32, at: Duration, metrics: &str, ledger: &Path) -> Self {
        Self {
            at,
            rss: status(pid, "VmRSS"),
            anonymous: status(pid, "RssAnon"),
            cpu: cpu(pid),
            files: std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
            open: metric(metrics, "x402_open_payments{", ""),
            answered: metric(metrics, "x402_answered_total{", ""),
            rows: rows(ledger, "true"),
        }
    }

    /// The CPU time of each payment that was answered since an earlier sample, in ms.
    fn cpu_each(&self, before: &Self) -> f64 {
        (self.cpu - before.cpu) as f64 / (self.answered - before.answered).max(1) as f64
    }

    pub(crate) const HEAD: &str =
        "| s | RSS, KiB | of it heap and stacks | CPU ms a payment | files | open | answered | rows |
|---:|---:|---:|---:|---:|---:|---:|---:|";

    pub(crate) fn line(&self, before: &Self) -> String {
        let Self { at, rss, anonymous, files, open, answered, rows, .. } = self;
        let each = self.cpu_each(before);
        format!("| {} | {rss} | {anonymous} | {each:.2} | {files} | {open} | {answered} | {rows} |", at.as_secs())
    }
}

/// How far apart the least and the greatest of some figures are, as a part of the greatest.
fn apart(figures: impl Iterator<Item = f64> + Clone) -> f64 {
    let (least, greatest) = (figures.clone().fold(f64::MAX, f64::min), figures.fold(0.0, f64::max));
    (greatest - least) / greatest * 100.0
}

/// What became of memory and CPU between the first third of a run and its last one, in words.
pub(crate) fn verdict(samples: &[Sample]) -> String {
    let third = samples.len() / 3;
    if third < 2 {
        return "too short to compare thirds".to_owned();
    }
    // The first sample of a third is what the second one's CPU is counted from.
    let thirds = [&samples[..third], &samples[samples.len() - third..]];
    let mean = |figures: Vec<f64>| figures.iter().sum::<f64>() / figures.len() as f64;
    let rss = thirds.map(|part| mean(part.iter().map(|sample| sample.rss as f64).collect()));
    let heap = thirds.map(|part| mean(part.iter().map(|sample| sample.anonymous as f64).collect()));
    let each = thirds.map(|part| part[part.len() - 1].cpu_each(&part[0]));
    let change = |[first, last]: [f64; 2]| (last / first - 1.0) * 100.0;
    let apart = apart(samples[third..].iter().map(|sample| sample.rss as f64));
    format!(
        "last third to first third: RSS {:+.1} % ({:.0} to {:.0} KiB), heap and stacks {:+.1} %, CPU a payment {:+.1} % \
         ({:.2} to {:.2} ms); after the first third the least and greatest RSS are {apart:.1} % apart",
        change(rss),
        rss[0],
        rss[1],
        change(heap),
        change(each),
        each[0],
        each[1],
    )
}
