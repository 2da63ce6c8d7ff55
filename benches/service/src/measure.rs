//! One row for one implementation.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::anvil::{Anvil, BLOCK_SECONDS, Blocks};
use crate::facilitator::{Binaries, Facilitator, Implementation, SetUp};
use crate::fault::Fallible;
use crate::judge::{Transfer, gas, judge, transfers};
use crate::load::{self, Answer};
use crate::payments::Batch;
use crate::proxy::Seen;
use crate::rows::{self, Load, Metric, Row};

/// After so long without another transfer nothing more is expected.
const QUIET: Duration = Duration::from_secs(20);
/// The longest that payments may still move after all are answered.
const LONGEST_AFTER: Duration = Duration::from_secs(600);
/// Payments that are settled before those of a row with one at a time.
const WARM: usize = 4;
/// Different bodies in a row of `/verify`.
const VERIFIED: usize = 1_000;

/// What is measured with.
pub struct Bench<'a> {
    pub anvil: &'a Anvil,
    pub binaries: &'a Binaries,
    pub work: &'a Path,
    /// Whether CPU by thread and calls by method are printed.
    pub details: bool,
}

/// The figures of one run.
pub struct Figures {
    pub numbers: Vec<(Metric, f64)>,
    /// Answers that are no success, by kind.
    pub answers: BTreeMap<String, usize>,
}

impl Bench<'_> {
    /// Runs a row.
    pub async fn run(&self, row: &Row, implementation: Implementation, round: usize) -> Fallible<Figures> {
        let name = format!("{} {} {round}", row.name, implementation.name());
        if let Load::Restart { payments } = row.load {
            return self.restart(row, implementation, &name, payments).await;
        }
        self.anvil.make_blocks(Blocks::Each).await?;
        let (signers, round_trip) = (row.signers, row.round_trip);
        let set_up = SetUp {
            implementation,
            name: &name,
            signers,
            round_trip,
            blocks: row.blocks,
            further: row.further,
            wait_seconds: None,
        };
        let facilitator = Facilitator::start(&set_up, self.binaries, self.anvil, self.work).await?;
        self.anvil.make_blocks(row.blocks).await?;
        // Connections to the node are open and the head is known before anything is measured.
        let warm: Vec<_> = Batch::sign(&format!("{name} warm"), 20)?.payments.into_iter().map(|one| one.body).collect();
        check_verified(&load::steadily(facilitator.address, "/verify", &warm, 4, 100).await?)?;
        if let Load::One { .. } = row.load {
            // So are the times at which blocks come, as long as a facilitator looks for them.
            let warm = Batch::sign(&format!("{name} before"), WARM)?;
            let bodies: Vec<_> = warm.payments.iter().map(|one| one.body.clone()).collect();
            load::one_by_one(facilitator.address, "/settle", &bodies, async |_| Fallible::Ok(())).await?;
        }
        let figures = match row.load {
            Load::Verify { connections, calls } => self.verify(&facilitator, &name, connections, calls).await,
            Load::One { payments }
            | Load::AtOnce { payments }
            | Load::Paced { payments, .. }
            | Load::Restart { payments } => self.settle(&facilitator, &name, row, Batch::sign(&name, payments)?).await,
        }?;
        if self.details {
            for (thread, seconds) in facilitator.threads() {
                eprintln!("    {thread}: {seconds:.3} s");
            }
        }
        facilitator.stop().await?;
        Ok(figures)
    }

    async fn verify(
        &self,
        facilitator: &Facilitator,
        name: &str,
        connections: usize,
        calls: usize,
    ) -> Fallible<Figures> {
        let bodies: Vec<_> = Batch::sign(name, VERIFIED)?.payments.into_iter().map(|one| one.body).collect();
        facilitator.proxy.take();
        let (cpu, began) = (facilitator.cpu()?, Instant::now());
        let answers = load::steadily(facilitator.address, "/verify", &bodies, connections, calls).await?;
        let (took, cpu) = (began.elapsed(), facilitator.cpu()? - cpu);
        let seen = facilitator.proxy.take();
        self.tell(&seen);
        check_verified(&answers)?;
        let each = calls as f64;
        let numbers = vec![
            (rows::CPU, milliseconds(cpu) / each),
            (rows::A_SECOND, each / took.as_secs_f64()),
            (rows::CALLS, seen.calls.values().sum::<u64>() as f64 / each),
        ];
        Ok(Figures { numbers, answers: BTreeMap::new() })
    }

    async fn settle(&self, facilitator: &Facilitator, name: &str, row: &Row, batch: Batch) -> Fallible<Figures> {
        let bodies: Vec<Bytes> = batch.payments.iter().map(|payment| payment.body.clone()).collect();
        let since = self.anvil.rpc.head().await?;
        facilitator.proxy.take();
        let cpu = facilitator.cpu()?;
        let (to, count) = (facilitator.address, bodies.len());
        let answers = match row.load {
            Load::One { .. } => {
                // The k-th of n begins k/n of an interval after a block.
                let interval = Duration::from_secs(BLOCK_SECONDS);
                let pause = async |index: usize| {
                    self.anvil.next_block().await?;
                    tokio::time::sleep(interval.mul_f64(index as f64 / count as f64)).await;
                    Fallible::Ok(())
                };
                load::one_by_one(to, "/settle", &bodies, pause).await?
            }
            Load::Paced { a_second, .. } => load::paced(to, "/settle", bodies, a_second).await?,
            Load::AtOnce { .. } | Load::Verify { .. } | Load::Restart { .. } => {
                let start = async {
                    if row.blocks == Blocks::Timed {
                        self.anvil.next_block().await?;
                    }
                    Ok(())
                };
                load::at_once(to, "/settle", bodies, start).await?
            }
        };
        let (moved, _) = self.all_moved(&batch, since).await?;
        let cpu = facilitator.cpu()? - cpu;
        let seen = facilitator.proxy.take();
        self.tell(&seen);
        let verdict = judge(&batch, &answers, &moved).map_err(|error| format!("{name}: {error}"))?;
        let settled = verdict.settled as f64;
        let gas = gas(&self.anvil.rpc, &moved).await? as f64;

        let began = answers.iter().map(|answer| answer.asked).min().ok_or("nothing was asked")?;
        let mut sent = Vec::new();
        for (payment, answer) in batch.payments.iter().zip(&answers) {
            if let Some(&at) = seen.sent.get(&payment.nonce) {
                sent.push(milliseconds(at.saturating_duration_since(answer.asked)));
            }
        }
        let last_sent = seen.sent.values().max().map(|&at| (at - began).as_secs_f64());
        let mut took: Vec<f64> = answers.iter().map(|of| (of.answered - of.asked).as_secs_f64()).collect();
        let all = answers.iter().map(|answer| answer.answered).max().ok_or("nothing was answered")? - began;
        let mut numbers = vec![
            (rows::CPU, milliseconds(cpu) / settled),
            (rows::SENT, percentile(&mut sent, 0.5)),
            (rows::SENT_99, percentile(&mut sent, 0.99)),
            (rows::ANSWERED, percentile(&mut took, 0.5)),
            (rows::ALL_ANSWERED, all.as_secs_f64()),
            (rows::BLOCKS_AWAITED, (all.as_secs_f64() / BLOCK_SECONDS as f64).floor()),
            (rows::SETTLED, settled),
            (rows::SUCCESSES, verdict.successes as f64),
            (rows::CALLS, seen.calls.values().sum::<u64>() as f64 / settled),
            (rows::REQUESTS, seen.requests as f64 / settled),
            (rows::GAS, gas / settled),
            (rows::MEMORY, facilitator.peak_memory()?),
        ];
        if let Some(last) = last_sent {
            numbers.push((rows::SENT_RATE, seen.sent.len() as f64 / last));
        }
        let mut kinds = verdict.answers;
        if seen.transactions > count as u64 {
            kinds.insert("transactions beyond one a payment".to_owned(), seen.transactions as usize - count);
        }
        Ok(Figures { numbers, answers: kinds })
    }

    /// Waits until every payment has moved, or none has for a while. Returns the transfers, and when the last was seen.
    pub async fn all_moved(&self, batch: &Batch, since: u64) -> Fallible<(Vec<Transfer>, Instant)> {
        let (began, mut progress, mut count) = (Instant::now(), Instant::now(), 0);
        loop {
            let moved = transfers(&self.anvil.rpc, batch.recipient, since).await?;
            if moved.len() > count {
                (count, progress) = (moved.len(), Instant::now());
            }
            if count >= batch.payments.len() || progress.elapsed() > QUIET || began.elapsed() > LONGEST_AFTER {
                return Ok((moved, progress));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    pub fn tell(&self, seen: &Seen) {
        if self.details {
            eprintln!("    {} requests to the node, {:?}", seen.requests, seen.calls);
        }
    }
}

fn check_verified(answers: &[Answer]) -> Fallible<()> {
    for answer in answers {
        let (status, body) = answer.got.as_ref().map_err(Clone::clone)?;
        let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        if *status != 200 || value["isValid"] != true {
            return Err(format!("a good payment was refused: {status} {}", String::from_utf8_lossy(body)).into());
        }
    }
    Ok(())
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// The value below which this share of the values lies.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    values.get((last * share).round() as usize).copied().unwrap_or(f64::NAN)
}
