//! The cost of settled payments: each transaction's receipt is read once after its payments are answered, beside the
//! settlement and never before it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{U64, U256};
use alloy_rpc_client::RpcClient;
use serde::Deserialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use x402_facilitator_core::TxId;
use x402_store::budgets::Measure;
use x402_types::{AtomicAmount, ChainId, PaymentKey};

use super::{Metrics, names};
use crate::budgets::CorrectionQueue;

/// The most settled payments whose cost waits to be read; those beyond are counted as unknown.
const WAITING: usize = 1_024;
/// The most transactions whose number of payments is remembered.
const REMEMBERED: usize = 4_096;

/// A settled payment whose transaction's cost is to be read.
#[derive(Debug)]
struct Settled {
    payment: PaymentKey,
    network: ChainId,
    asset: String,
    transaction: TxId,
    /// The number of payments in the transaction.
    payments: usize,
}

/// The noting half.
#[derive(Debug, Clone, Default)]
pub(crate) struct GasReads {
    queue: Option<Sender<Settled>>,
    metrics: Metrics,
    payments: Arc<Mutex<BTreeMap<TxId, usize>>>,
}

/// The reading half: a task runs it.
#[derive(Debug)]
pub(crate) struct GasReader {
    settled: Receiver<Settled>,
    clients: BTreeMap<ChainId, RpcClient>,
    metrics: Metrics,
    corrections: CorrectionQueue,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    gas_used: U64,
    effective_gas_price: U256,
    /// The part of a rollup of the OP Stack: the cost of the data on the chain below.
    #[serde(default)]
    l1_fee: Option<U256>,
}

/// Makes the two halves.
pub(crate) fn gas(metrics: &Metrics) -> (GasReads, GasReader) {
    let (queue, settled) = channel(WAITING);
    let reads = GasReads { queue: Some(queue), metrics: metrics.clone(), payments: Arc::default() };
    (
        reads,
        GasReader {
            settled,
            clients: BTreeMap::new(),
            metrics: metrics.clone(),
            corrections: CorrectionQueue::default(),
        },
    )
}

impl GasReads {
    /// Remembers how many payments share a transaction.
    pub(crate) fn note_sent(&self, transaction: &TxId, payments: usize) {
        let mut all = self.payments.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED && !all.contains_key(transaction) {
            all.pop_first();
        }
        all.insert(transaction.clone(), payments);
    }

    pub(crate) fn note_settled(&self, payment: &PaymentKey, network: ChainId, asset: &str, transaction: &TxId) {
        // Without a reader the cost is not counted.
        let Some(queue) = self.queue.as_ref().filter(|queue| !queue.is_closed()) else { return };
        let payments = self.payments.lock().unwrap_or_else(PoisonError::into_inner).get(transaction).copied();
        // A transaction that this process did not send is another's, or a former process sent it: its cost is unknown.
        let settled = payments.map(|payments| Settled {
            payment: payment.clone(),
            network,
            asset: asset.to_owned(),
            transaction: transaction.clone(),
            payments: payments.max(1),
        });
        if settled.is_none_or(|settled| queue.try_send(settled).is_err()) {
            self.metrics.add(&names::GAS_UNKNOWN, &[network.as_str()], 1);
        }
    }
}

impl GasReader {
    /// Notes what each payment cost for the budgets, too.
    pub(crate) fn with_corrections(mut self, corrections: CorrectionQueue) -> Self {
        self.corrections = corrections;
        self
    }

    /// Reads the receipts of a network's transactions by this client.
    pub(crate) fn add(&mut self, network: ChainId, client: RpcClient) {
        self.clients.insert(network, client);
    }

    /// Reads until the noting half is dropped.
    pub(crate) async fn run(mut self) {
        // The payments of one transaction end together, and its receipt is read once.
        let mut last: Option<(TxId, U256)> = None;
        while let Some(settled) = self.settled.recv().await {
            let Settled { payment, network, asset, transaction, payments } = settled;
            let known = last.take().filter(|(of, _)| *of == transaction).map(|(_, wei)| wei);
            let cost = match known {
                Some(wei) => Some(wei),
                None => self.cost(network, &transaction).await,
            };
            last = cost.map(|wei| (transaction, wei));
            match cost {
                Some(wei) => {
                    let share = wei.checked_div(U256::from(payments)).unwrap_or(wei);
                    self.corrections.note(&payment, Measure::Gas, AtomicAmount::from(share));
                    let share = share.try_into().unwrap_or(u128::MAX);
                    self.metrics.add(&names::GAS_SPENT, &[network.as_str(), &asset], share);
                }
                None => self.metrics.add(&names::GAS_UNKNOWN, &[network.as_str()], 1),
            }
        }
    }

    async fn cost(&self, network: ChainId, transaction: &TxId) -> Option<U256> {
        let client = self.clients.get(&network)?;
        let read = client.request::<_, Option<Receipt>>("eth_getTransactionReceipt", (transaction.as_str(),));
        let receipt = read.await.ok().flatten()?;
        let execution = U256::from(receipt.gas_used.to::<u64>()).saturating_mul(receipt.effective_gas_price);
        Some(execution.saturating_add(receipt.l1_fee.unwrap_or_default()))
    }
}
