//! Recovery: the process is killed with many payments pending, none of them in a block, and started again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::anvil::Blocks;
use crate::facilitator::{Facilitator, Implementation, SetUp};
use crate::fault::Fallible;
use crate::judge::judge;
use crate::load;
use crate::measure::{Bench, Figures, milliseconds};
use crate::payments::Batch;
use crate::rows::{self, Row};

/// Requests at a time while payments become pending.
const CONNECTIONS: usize = 200;
/// The least that `/settle` can be told to wait.
const WAIT_SECONDS: u64 = 1;

impl Bench<'_> {
    /// Measures from the second start on.
    pub async fn restart(
        &self,
        row: &Row,
        implementation: Implementation,
        name: &str,
        payments: usize,
    ) -> Fallible<Figures> {
        self.anvil.make_blocks(Blocks::Halted).await?;
        let wait_seconds = Some(WAIT_SECONDS);
        let (signers, round_trip) = (row.signers, row.round_trip);
        let (blocks, further) = (Blocks::Halted, row.further);
        let set_up = SetUp { implementation, name, signers, round_trip, blocks, further, wait_seconds };
        let first = Facilitator::start(&set_up, self.binaries, self.anvil, self.work).await?;
        let batch = Batch::sign(name, payments)?;
        let bodies: Vec<_> = batch.payments.iter().map(|payment| payment.body.clone()).collect();
        let since = self.anvil.rpc.head().await?;
        load::steadily(first.address, "/settle", &bodies, CONNECTIONS, payments).await?;

        self.anvil.make_blocks(row.blocks).await?;
        let began = Instant::now();
        let second = first.kill_and_start(&set_up, self.binaries).await?;
        second.proxy.take();
        let (moved, took) = self.all_moved(&batch, since).await?;
        // What it does after the last block belongs to it.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let cpu = second.cpu()?;
        self.tell(&second.proxy.take());
        let verdict = judge(&batch, &[], &moved).map_err(|error| format!("{name}: {error}"))?;
        let settled = verdict.settled as f64;
        let numbers = vec![
            (rows::CPU, milliseconds(cpu) / settled),
            (rows::ALL_SETTLED, (took - began).as_secs_f64()),
            (rows::BLOCKS, verdict.blocks as f64),
            (rows::SETTLED, settled),
            (rows::MEMORY, second.peak_memory()?),
        ];
        second.stop().await?;
        Ok(Figures { numbers, answers: BTreeMap::new() })
    }
}
