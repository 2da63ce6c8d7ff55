//! [Events of the EntryPoint](https://eips.ethereum.org/EIPS/eip-4337#required-entry-point-contract-functionality): the
//! outcome of each operation of a transaction, and the logs that belong to it.
//!
//! "Success is the operation's own event", never the transaction's status: a bundle succeeds even if all of its
//! operations reverted.

use alloy_primitives::{Address, B256, Log, U256};

use crate::{EntryPointEvent, Revert};

/// The outcome of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// The hash of the operation.
    pub hash: B256,
    /// The account that the operation belongs to.
    pub sender: Address,
    /// The nonce of the operation.
    pub nonce: U256,
    /// The paymaster; `None` means that the account paid, or that nothing was charged.
    pub paymaster: Option<Address>,
    /// Whether the account's call did not revert. In try mode this does not cover the inner calls: check the target's
    /// own event in `logs`.
    pub success: bool,
    /// The revert data of the call, if there are any.
    pub revert: Option<Revert>,
    /// The revert data of the paymaster's `postOp`, which also reverted the call's effects.
    pub post_op_revert: Option<Revert>,
    /// Whether the operation was reverted because it used more gas than was paid for.
    pub prefund_too_low: bool,
    /// The price that account or paymaster paid, in wei.
    pub gas_cost: U256,
    /// The gas that was charged.
    pub gas_used: U256,
    /// The logs of its execution, in order, without those of its validation.
    pub logs: Vec<Log>,
}

impl Executed {
    /// Extracts every operation that a transaction executed from the transaction's logs, which must be in order.
    ///
    /// All operations are validated first; then `BeforeExecution` is emitted, and then they are executed in turn, each
    /// followed by its `UserOperationEvent`. Therefore the logs between one of these events and the next belong to the
    /// operation of the latter. Only the EntryPoint's own events count, since any contract can emit logs that look like
    /// them.
    #[must_use]
    pub fn read(entry_point: Address, logs: &[Log]) -> Vec<Self> {
        let mut all = Vec::new();
        let mut own: Vec<Log> = Vec::new();
        let mut said: Vec<EntryPointEvent> = Vec::new();
        for log in logs {
            let event = match log.address == entry_point {
                true => EntryPointEvent::decode(log.data.topics(), &log.data.data),
                false => None,
            };
            match event {
                Some(EntryPointEvent::BeforeExecution) => {
                    own.clear();
                    said.clear();
                }
                Some(EntryPointEvent::UserOperation {
                    hash,
                    sender,
                    paymaster,
                    nonce,
                    success,
                    actual_gas_cost,
                    actual_gas_used,
                }) => {
                    let mut executed = Self {
                        hash,
                        sender,
                        nonce,
                        paymaster: (!paymaster.is_zero()).then_some(paymaster),
                        success,
                        revert: None,
                        post_op_revert: None,
                        prefund_too_low: false,
                        gas_cost: actual_gas_cost,
                        gas_used: actual_gas_used,
                        logs: core::mem::take(&mut own),
                    };
                    said.drain(..).for_each(|event| executed.add(event));
                    all.push(executed);
                }
                Some(event) => said.push(event),
                None => own.push(log.clone()),
            }
        }
        all
    }

    /// Selects the logs of the execution that this contract emitted with this first topic. An account can call in try
    /// mode, so if more matters than the operation's own success, check the target's event.
    pub fn events(&self, of: Address, event: B256) -> impl Iterator<Item = &Log> {
        self.logs.iter().filter(move |log| log.address == of && log.topics().first() == Some(&event))
    }

    fn add(&mut self, event: EntryPointEvent) {
        match event {
            EntryPointEvent::RevertReason { hash, reason, .. } if hash == self.hash => {
                self.revert = Some(Revert::new(reason));
            }
            EntryPointEvent::PostOpRevertReason { hash, reason, .. } if hash == self.hash => {
                self.post_op_revert = Some(Revert::new(reason));
            }
            EntryPointEvent::PrefundTooLow { hash, .. } if hash == self.hash => self.prefund_too_low = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Bytes, LogData, b256, hex};

    const ENTRY_POINT: Address = Address::repeat_byte(0xee);
    const PLANS: Address = Address::repeat_byte(7);
    const BEFORE: B256 = b256!("bb47ee3e183a558b1a2ff0874b079f3fc5478b7454eacf2bfc5af2ff5878f972");
    const ENDED: B256 = b256!("49628fd1471006c1482da88028e9ce4dbb080b815c9b0344d39e5a8e6ec1419f");
    const REVERTED: B256 = b256!("1c4fada7374c0a9ee8841fc38afe82932dc0f8e69012e927f061a8bae611a201");
    const MINT: B256 = B256::repeat_byte(0x33);

    fn log(address: Address, topics: &[B256], data: &[u8]) -> Log {
        Log { address, data: LogData::new_unchecked(topics.to_vec(), Bytes::copy_from_slice(data)) }
    }

    fn ended(address: Address, hash: u8, success: u8) -> Log {
        let mut data = [0; 128];
        data[63] = success;
        data[95] = 5;
        data[127] = 6;
        log(address, &[ENDED, B256::repeat_byte(hash), Address::repeat_byte(1).into_word(), B256::ZERO], &data)
    }

    fn reverted(hash: u8) -> Log {
        let data = hex!(
            "0000000000000000000000000000000000000000000000000000000000000000"
            "0000000000000000000000000000000000000000000000000000000000000040"
            "0000000000000000000000000000000000000000000000000000000000000004"
            "756688fe00000000000000000000000000000000000000000000000000000000"
        );
        log(ENTRY_POINT, &[REVERTED, B256::repeat_byte(hash), Address::repeat_byte(1).into_word()], &data)
    }

    #[test]
    fn each_operation_has_the_logs_before_its_event() {
        let mint = |n: u8| log(PLANS, &[MINT], &[n]);
        let before = log(ENTRY_POINT, &[BEFORE], &[]);
        // The transaction has two bundles, with logs of validation before each.
        let logs = [
            mint(1),
            before.clone(),
            mint(2),
            mint(3),
            ended(ENTRY_POINT, 0xa, 1),
            reverted(0xb),
            ended(ENTRY_POINT, 0xb, 0),
            mint(4),
            before,
            ended(ENTRY_POINT, 0xc, 1),
            mint(5),
        ];
        let read = Executed::read(ENTRY_POINT, &logs);
        assert_eq!(read.iter().map(|e| e.hash).collect::<Vec<_>>(), [0xa, 0xb, 0xc].map(B256::repeat_byte));
        assert_eq!(read[0].logs, [mint(2), mint(3)]);
        assert_eq!(read[0].events(PLANS, MINT).count(), 2);
        assert_eq!(read[0].events(PLANS, ENDED).count() + read[0].events(ENTRY_POINT, MINT).count(), 0);
        assert_eq!((read[0].success, read[0].revert.as_ref(), read[0].paymaster), (true, None, None));
        assert_eq!((read[0].gas_cost, read[0].gas_used), (U256::from(5), U256::from(6)));
        assert_eq!((read[1].success, read[1].logs.len()), (false, 0));
        assert_eq!(read[1].revert.as_ref().and_then(Revert::name), Some("InvalidNonce()"));
        assert_eq!(read[2].logs, []);
    }

    #[test]
    fn events_of_others_are_no_events() {
        let fake = ended(PLANS, 0xa, 1);
        assert_eq!(Executed::read(ENTRY_POINT, std::slice::from_ref(&fake)), []);
        // Within an operation these events are ordinary logs, and end nothing.
        let read =
            Executed::read(ENTRY_POINT, &[log(ENTRY_POINT, &[BEFORE], &[]), fake.clone(), ended(ENTRY_POINT, 0xb, 1)]);
        assert_eq!((read.len(), &read[0].logs), (1, &vec![fake]));
        // The reason of another operation does not belong to this one.
        let read = Executed::read(ENTRY_POINT, &[reverted(0xa), ended(ENTRY_POINT, 0xb, 0)]);
        assert_eq!(read[0].revert, None);
    }
}
