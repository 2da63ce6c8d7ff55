//! The fate of an authorization according to logs: which use is its own, and which transfer belongs to that use
//! ([EIP-3009](https://eips.ethereum.org/EIPS/eip-3009)).

use alloy_primitives::{Address, B256, U64};
use serde::Deserialize;

use super::{Fate, Moved, Use, Watched, WatchedEvent};

/// The relevant members of a log.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Log {
    pub(super) address: Address,
    pub(super) topics: Vec<B256>,
    pub(super) data: alloy_primitives::Bytes,
    pub(super) block_number: U64,
    pub(super) transaction_hash: B256,
    pub(super) log_index: U64,
    #[serde(default)]
    pub(super) removed: bool,
}

impl WatchedEvent {
    fn is(&self, log: &Log) -> bool {
        log.address == self.contract && log.topics == self.topics
    }

    /// Returns whether the log is this event with any second indexed word: one of the same payer's.
    fn is_like(&self, log: &Log) -> bool {
        let [event, first, _] = self.topics;
        log.address == self.contract && log.topics.starts_with(&[event, first])
    }
}

pub(super) const fn event(watched: &Watched) -> Option<WatchedEvent> {
    match watched.used {
        Use::Event(event) => Some(event),
        Use::State(_) => None,
    }
}

/// Returns the fate of an authorization according to the logs of a few blocks; `None` if they do not contain it. The
/// `moved` of a use has a meaning only if the transfers are among them.
pub(crate) fn found(watched: &Watched, mut logs: Vec<Log>) -> Option<Fate> {
    logs.retain(|log| !log.removed);
    fate(watched, &logs)
}

/// Returns what the use of an authorization moved according to all logs of its transaction.
pub(crate) fn moved_by(watched: &Watched, transaction: B256, logs: &[Log]) -> Moved {
    match fate(watched, logs) {
        _ if moved_alone(watched, transaction, logs) => Moved::Paid,
        Some(Fate::Used { transaction: of, moved }) if of == transaction => moved,
        // The receipt does not contain the use: its block was replaced in between.
        _ => Moved::Unclear,
    }
}

pub(super) fn fate(watched: &Watched, logs: &[Log]) -> Option<Fate> {
    let canceled = |log: &Log| watched.canceled.is_some_and(|event| event.is(log));
    let Some(used) = event(watched) else {
        if logs.iter().any(canceled) {
            return Some(Fate::Canceled);
        }
        let value = watched.value.to_be_bytes::<32>();
        let matching = logs.iter().filter(|log| watched.transfer.is(log) && log.data[..] == value);
        let mut candidates: Vec<B256> = matching.map(|log| log.transaction_hash).collect();
        candidates.dedup();
        return (!candidates.is_empty()).then_some(Fate::Set { candidates });
    };
    let log = logs.iter().find(|log| used.is(log) || canceled(log))?;
    if canceled(log) {
        return Some(Fate::Canceled);
    }
    Some(Fate::Used { transaction: log.transaction_hash, moved: moved(watched, log, logs) })
}

/// Determines the transfer of a use: the token's log directly after it, as FiatToken and the EIP's own code emit it.
/// Elsewhere in the transaction a transfer may belong to another use: a payer can put two authorizations into one
/// transaction, of which only one pays, and would want both to count.
fn moved(watched: &Watched, used: &Log, logs: &[Log]) -> Moved {
    let value = watched.value.to_be_bytes::<32>();
    let mut matching = logs
        .iter()
        .filter(|log| log.transaction_hash == used.transaction_hash)
        .filter(|log| watched.transfer.is(log) && log.data[..] == value)
        .peekable();
    let behind = used.log_index.to::<u64>().checked_add(1);
    if matching.peek().is_none() {
        Moved::Nothing
    } else if matching.any(|log| Some(log.log_index.to::<u64>()) == behind) {
        Moved::Paid
    } else {
        Moved::Unclear
    }
}

/// Returns whether the transaction contains one use by the payer and one matching transfer, in whichever order: a token
/// may transfer first, or emit a log of its own between the two. `logs` must be all logs of the transaction: a query
/// for watched authorizations omits the uses of others.
fn moved_alone(watched: &Watched, transaction: B256, logs: &[Log]) -> bool {
    let inside = || logs.iter().filter(|log| log.transaction_hash == transaction);
    let Some(event) = event(watched) else { return false };
    let mut uses = inside().filter(|log| event.is_like(log));
    let (Some(used), None) = (uses.next(), uses.next()) else { return false };
    if !event.is(used) {
        return false;
    }
    let value = watched.value.to_be_bytes::<32>();
    let matches = |log: &Log| log.topics.get(2) == watched.transfer.topics.get(2) && log.data[..] == value;
    let transfers = || inside().filter(|log| watched.transfer.is_like(log));
    // An adjacent transfer to another recipient belongs to the use: another authorization under the same nonce.
    let beside = transfers().filter(|log| log.log_index.to::<u64>().abs_diff(used.log_index.to()) == 1);
    let (mut ours, mut others) = (false, false);
    beside.for_each(|log| if matches(log) { ours = true } else { others = true });
    (ours || !others) && transfers().filter(|log| matches(log)).count() == 1
}

#[cfg(test)]
pub(super) mod tests {
    use alloy_primitives::U256;

    use super::*;
    use crate::chain::TRANSFER;
    use crate::eip3009::{AUTHORIZATION_CANCELED, AUTHORIZATION_USED};

    pub(in super::super) const TOKEN: Address = Address::repeat_byte(1);
    pub(in super::super) const PAYER: Address = Address::repeat_byte(2);
    pub(in super::super) const TO: Address = Address::repeat_byte(3);
    pub(in super::super) const TX: B256 = B256::repeat_byte(9);

    pub(in super::super) fn watched(nonce: u8) -> Watched {
        let event =
            |event| WatchedEvent { contract: TOKEN, topics: [event, PAYER.into_word(), B256::repeat_byte(nonce)] };
        Watched::new(event(AUTHORIZATION_USED), WatchedEvent::transfer(TOKEN, PAYER, TO), U256::from(100), 10)
            .with_cancellation(event(AUTHORIZATION_CANCELED))
    }

    pub(in super::super) fn log(index: u64, topics: &[B256], data: &[u8]) -> Log {
        Log {
            address: TOKEN,
            topics: topics.to_vec(),
            data: data.to_vec().into(),
            block_number: U64::from(11),
            transaction_hash: TX,
            log_index: U64::from(index),
            removed: false,
        }
    }

    pub(in super::super) fn used(index: u64, nonce: u8) -> Log {
        log(index, &[AUTHORIZATION_USED, PAYER.into_word(), B256::repeat_byte(nonce)], &[])
    }

    pub(in super::super) fn transfer(index: u64, value: u64) -> Log {
        log(index, &[TRANSFER, PAYER.into_word(), TO.into_word()], &U256::from(value).to_be_bytes::<32>())
    }

    pub(in super::super) const fn fate_of(moved: Moved) -> Option<Fate> {
        Some(Fate::Used { transaction: TX, moved })
    }

    #[test]
    fn a_use_owns_the_transfer_behind_it() {
        let logs = [used(4, 1), transfer(5, 100), used(6, 2), transfer(7, 100)];
        assert_eq!(fate(&watched(1), &logs), fate_of(Moved::Paid));
        assert_eq!(fate(&watched(2), &logs), fate_of(Moved::Paid));
        assert_eq!(fate(&watched(3), &logs), None);
        assert_eq!(fate(&watched(1), &[used(4, 1), transfer(5, 99)]), fate_of(Moved::Nothing));
        assert_eq!(fate(&watched(1), &[used(4, 1)]), fate_of(Moved::Nothing));
    }

    /// Checks that if one transaction uses nonce 1 for another recipient and nonce 2 for the watched one, only one of
    /// them counts as paid.
    #[test]
    fn one_transfer_does_not_count_for_two() {
        let logs = [used(4, 1), used(6, 2), transfer(7, 100)];
        assert_eq!(fate(&watched(2), &logs), fate_of(Moved::Paid));
        assert_eq!(fate(&watched(1), &logs), fate_of(Moved::Unclear));
        // The logs of an unwatched use are absent, so the preceding one proves nothing either.
        assert_eq!(fate(&watched(1), &[transfer(5, 100), used(6, 1)]), fate_of(Moved::Unclear));
    }

    /// Checks the whole receipt: one use and one matching transfer belong together, in either order; otherwise the
    /// result is unclear.
    #[test]
    fn one_use_and_one_transfer_of_a_transaction_belong_together() {
        let to_other = |index| log(index, &[TRANSFER, PAYER.into_word(), TOKEN.into_word()], &[0; 32]);
        let between = |index| log(index, &[B256::repeat_byte(0x77), PAYER.into_word()], &[]);
        let mut foreign = used(9, 2);
        foreign.topics[1] = TO.into_word();
        for (logs, paid) in [
            (vec![transfer(5, 100), used(6, 1)], true),
            (vec![used(4, 1), between(5), transfer(6, 100)], true),
            (vec![transfer(5, 100), between(6), used(7, 1)], true),
            // A fee on top, which the payer pays to another recipient.
            (vec![to_other(4), transfer(5, 100), used(6, 1)], true),
            // A use by another payer in the same transaction.
            (vec![transfer(5, 100), used(6, 1), foreign], true),
            // Two uses, one transfer; two transfers, one use; another amount; none.
            (vec![transfer(5, 100), used(6, 1), used(7, 2)], false),
            (vec![transfer(4, 100), transfer(5, 100), used(6, 1)], false),
            (vec![transfer(5, 99), used(6, 1)], false),
            (vec![used(6, 1)], false),
            // The nonce was used to pay another recipient, and the amount came by a plain transfer.
            (vec![used(4, 1), to_other(5), transfer(6, 100)], false),
            // The only use is that of another nonce.
            (vec![transfer(5, 100), used(6, 2)], false),
        ] {
            assert_eq!(moved_alone(&watched(1), TX, &logs), paid, "{logs:?}");
        }
    }

    #[test]
    fn another_token_s_logs_prove_nothing() {
        let mut foreign = [used(4, 1), transfer(5, 100)];
        foreign[1].address = PAYER;
        assert_eq!(fate(&watched(1), &foreign), fate_of(Moved::Nothing));
        foreign[0].address = PAYER;
        assert_eq!(fate(&watched(1), &foreign), None);
        let mut elsewhere = [used(4, 1), transfer(5, 100)];
        elsewhere[1].transaction_hash = B256::ZERO;
        assert_eq!(fate(&watched(1), &elsewhere), fate_of(Moved::Nothing));
    }
}
