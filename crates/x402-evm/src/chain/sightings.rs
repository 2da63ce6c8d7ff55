//! Watched authorizations, and their state in final logs and blocks.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;

use alloy_primitives::{Address, B256, U64, U256};
use alloy_transport::TransportError;
use serde::Serialize;
use x402_types::Fault;

use super::fate::{Log, event, fate, moved_by};
use super::log_span::LogSpan;
use super::{Fate, LOG_QUERY_BLOCKS, Moved, Sighting, StateBit, Use, Watched, WatchedEvent};

/// The number of blocks before the first unread one with which a query begins: a lagging node omits the logs of its
/// newest blocks without an error.
const OVERLAP: u64 = 4;
/// The number of blocks after which an authorization that no caller requests is excluded from queries.
const IDLE: u64 = 32;
/// The number of blocks after which an authorization is forgotten whose fate is open. One whose fate is decided is
/// forgotten after [`IDLE`] blocks: its worker has read the fate, and every further request finds the same logs again.
const FORGOTTEN: u64 = 4_096;

/// The maximum number of bits that one read of the state contains.
const BITS: usize = 100;

/// The effect of its use, which is unique to an authorization.
type Id = Use;

#[derive(Debug, Clone)]
struct Entry {
    watched: Watched,
    /// The first block whose logs were not read yet.
    next: u64,
    /// The final block at the time of the last request.
    asked: u64,
    /// The final block at the time when its transaction was planned: up to it no log is read before there is a later one.
    planned: Option<u64>,
    fate: Fate,
    /// Whether all logs of the transaction that used it were read.
    whole: bool,
    /// The state of the bit that its use sets, if no event shows it.
    bit: Bit,
    /// The transactions with the expected transfer, if no event shows the use.
    candidates: Vec<B256>,
}

/// The state of a watched bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bit {
    /// The bit was not read yet.
    Unread,
    /// The bit was not set in this final block.
    ClearAt(u64),
    /// The bit was set in this final block, so its transaction is in it or before.
    SetAt(u64),
}

impl Entry {
    const fn new(watched: Watched, asked: u64) -> Self {
        Self {
            watched,
            next: watched.since,
            asked,
            planned: None,
            fate: Fate::Unseen,
            whole: false,
            bit: Bit::Unread,
            candidates: Vec::new(),
        }
    }

    /// Returns the number of blocks for which the entry is kept after its last request.
    const fn kept(&self) -> u64 {
        match self.fate {
            Fate::Used { moved: Moved::Paid | Moved::Nothing, .. } | Fate::Canceled => IDLE,
            Fate::Used { moved: Moved::Unclear, .. } | Fate::Set { .. } | Fate::Unseen => FORGOTTEN,
        }
    }

    /// Returns whether logs of this authorization are read: if only state shows its use, they are after it.
    const fn reads_logs(&self) -> bool {
        matches!((self.watched.used, self.bit), (Use::Event(_), _) | (Use::State(_), Bit::SetAt(_)))
    }

    /// Applies the logs up to a block.
    fn read_to(&mut self, to: u64, logs: &[Log], uses_only: bool) {
        let found = fate(&self.watched, logs);
        self.next = to.saturating_add(1);
        match found {
            // The use may be in a later block than the first such transfer.
            Some(Fate::Set { mut candidates }) => {
                candidates.retain(|candidate| !self.candidates.contains(candidate));
                self.candidates.append(&mut candidates);
            }
            Some(Fate::Used { transaction, .. }) if uses_only => {
                self.fate = Fate::Used { transaction, moved: Moved::Unclear };
            }
            Some(fate) => self.fate = fate,
            None => {}
        }
        if matches!(self.bit, Bit::SetAt(at) if to >= at) && self.fate == Fate::Unseen {
            self.fate = Fate::Set { candidates: core::mem::take(&mut self.candidates) };
        }
    }
}

/// The set of watched authorizations.
#[derive(Debug)]
pub(crate) struct Sightings {
    entries: HashMap<Id, Entry>,
    /// The tokens whose transfer directly followed the use of an authorization in a simulation.
    apart: HashSet<Address>,
    span: LogSpan,
}

impl Default for Sightings {
    fn default() -> Self {
        Self::spanning(LOG_QUERY_BLOCKS)
    }
}

/// One query for many authorizations.
#[derive(Debug)]
pub(crate) struct Query {
    ids: Vec<Id>,
    from: u64,
    to: u64,
    uses_only: bool,
    filter: Filter,
}

/// The parameter of `eth_getLogs`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Filter {
    from_block: U64,
    to_block: U64,
    address: Vec<Address>,
    topics: [Vec<B256>; 3],
}

impl Query {
    pub(crate) fn filter(&self) -> Filter {
        self.filter.clone()
    }

    const fn blocks(&self) -> u64 {
        self.to.saturating_sub(self.from).saturating_add(1)
    }
}

impl Filter {
    /// Builds the query for all events of these authorizations: each topic must be among their topics at the same place.
    fn of(watched: &[Watched], from: u64, to: u64) -> Self {
        Self::of_events(watched.iter().flat_map(|one| [event(one), one.canceled, Some(one.transfer)]), from, to)
    }

    /// Builds the query for the events of one authorization without transfers: it finds one log at most, however many
    /// transfers the payer makes. If no event shows the use, it finds the transfers to its recipient.
    pub(crate) fn of_uses(watched: &Watched, from: u64, to: u64) -> Self {
        let used = event(watched).unwrap_or(watched.transfer);
        Self::of_events([Some(used), watched.canceled].into_iter(), from, to)
    }

    fn of_events(events: impl Iterator<Item = Option<WatchedEvent>>, from: u64, to: u64) -> Self {
        let events: Vec<WatchedEvent> = events.flatten().collect();
        let topic = |at: usize| unique(events.iter().filter_map(|event| event.topics.get(at).copied()).collect());
        let address = unique(events.iter().map(|event| event.contract).collect());
        let topics = [topic(0), topic(1), topic(2)];
        Self { from_block: U64::from(from), to_block: U64::from(to), address, topics }
    }
}

fn unique<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values.dedup();
    values
}

const fn id(watched: &Watched) -> Id {
    watched.used
}

impl Sightings {
    /// Creates an empty set whose queries cover this many blocks.
    pub(crate) fn spanning(blocks: NonZeroU64) -> Self {
        Self { entries: HashMap::new(), apart: HashSet::new(), span: LogSpan::new(blocks) }
    }

    /// Records a refused query: the next one is smaller.
    pub(crate) fn refused(&mut self, query: &Query, error: TransportError) -> Result<(), Fault> {
        self.span.refused(query.blocks(), query.ids.len(), error)
    }

    pub(crate) fn tells_uses_apart(&self, token: Address) -> bool {
        self.apart.contains(&token)
    }

    #[cfg(feature = "facilitator")]
    pub(crate) fn note_uses_apart(&mut self, token: Address) {
        self.apart.insert(token);
    }

    pub(crate) fn watch(&mut self, watched: Watched, asked: u64) {
        let entry = self.entries.entry(id(&watched)).or_insert_with(|| Entry::new(watched, asked));
        entry.asked = entry.asked.max(asked);
        // An earlier start, or another recipient or amount of the same authorization, invalidates the state.
        if watched.since < entry.watched.since || watched != (Watched { since: watched.since, ..entry.watched }) {
            *entry = Entry::new(watched, asked);
        }
    }

    /// Watches an authorization whose transaction is planned at this final block.
    pub(crate) fn plan(&mut self, watched: Watched, block: u64) {
        let planned = (!self.entries.contains_key(&id(&watched))).then_some(block);
        self.watch(watched, block);
        if let Some(entry) = self.entries.get_mut(&id(&watched)).filter(|_| planned.is_some()) {
            entry.planned = planned;
        }
    }

    pub(crate) fn look_again(&mut self, watched: Watched) {
        if let Some(entry) = self.entries.get_mut(&id(&watched)) {
            let since = watched.since.min(entry.watched.since);
            *entry = Entry { next: since, ..Entry::new(entry.watched, entry.asked) };
        }
    }

    /// Returns the bits to read at a final block before logs are read: this authorization's, and those of others that
    /// were requested recently. The result is empty if nothing more of its state must be read.
    pub(crate) fn unread(&self, block: u64, first: &Watched) -> Vec<StateBit> {
        let unread = |entry: &Entry| match (entry.watched.used, entry.bit) {
            (Use::State(bit), Bit::Unread) => Some(bit),
            (Use::State(bit), Bit::ClearAt(at)) if at < block => Some(bit),
            _ => None,
        };
        let Some(own) = self.entries.get(&id(first)).and_then(unread) else { return Vec::new() };
        let live = self.entries.values().filter(|entry| entry.asked.saturating_add(IDLE) >= block);
        let others = live.filter_map(unread).filter(|bit| *bit != own).take(BITS.saturating_sub(1));
        core::iter::once(own).chain(others).collect()
    }

    /// Applies the words of some bits, as a final block has them. A view that could not be read leaves its bit unread.
    pub(crate) fn apply_bits(&mut self, bits: &[StateBit], words: &[Option<U256>], block: u64) {
        for (bit, word) in bits.iter().zip(words) {
            if let (Some(entry), Some(word)) = (self.entries.get_mut(&Use::State(*bit)), word) {
                entry.bit = if bit.is_set(*word) { Bit::SetAt(block) } else { Bit::ClearAt(block) };
            }
        }
    }

    /// Returns the state, if logs up to this block were read.
    pub(crate) fn answer(&self, watched: &Watched, block: u64) -> Option<Sighting> {
        let entry = self.entries.get(&id(watched))?;
        let decided = entry.fate != Fate::Unseen || entry.planned.is_some_and(|planned| planned >= block);
        let is_read = match (entry.watched.used, entry.bit) {
            (Use::Event(_), _) => entry.next > block,
            (Use::State(_), Bit::ClearAt(at)) => at >= block,
            (Use::State(_), Bit::Unread | Bit::SetAt(_)) => false,
        };
        (decided || is_read).then(|| Sighting { block, fate: entry.fate.clone() })
    }

    /// Builds the next query up to a final block: for this authorization, and others that were requested recently.
    pub(crate) fn query(&mut self, block: u64, first: &Watched) -> Query {
        self.entries.retain(|_, entry| entry.asked.saturating_add(entry.kept()) >= block);
        let next = self.entries.get(&id(first)).map_or(first.since, |entry| entry.next);
        let since = self.entries.get(&id(first)).map_or(first.since, |entry| entry.watched.since);
        // The overlap is always shorter than the query, so that each query advances.
        let overlap = OVERLAP.min(self.span.blocks().div_euclid(2));
        let from = next.saturating_sub(overlap).max(since.min(next));
        let to = self.span.until(from, block);
        if self.span.is_last_try() {
            // One block can contain more transfers of a payer than the node returns, so none is requested.
            let watched = self.entries.get(&id(first)).map_or(*first, |entry| entry.watched);
            return Query {
                ids: vec![id(first)],
                from,
                to,
                uses_only: true,
                filter: Filter::of_uses(&watched, from, to),
            };
        }
        let others = self.entries.iter().filter(|(_, entry)| {
            // An authorization that begins earlier would extend the range; it gets its own query when it is requested.
            let live = entry.fate == Fate::Unseen && entry.asked.saturating_add(IDLE) >= block;
            live && entry.reads_logs() && (from..=to).contains(&entry.next)
        });
        let mut ids = vec![id(first)];
        ids.extend(
            others.map(|(id, _)| *id).filter(|other| *other != id(first)).take(self.span.values().saturating_sub(1)),
        );
        let found: Vec<Watched> = ids.iter().filter_map(|id| self.entries.get(id)).map(|entry| entry.watched).collect();
        Query { ids, from, to, uses_only: false, filter: Filter::of(&found, from, to) }
    }

    /// Returns the number of blocks that one query covers now.
    pub(crate) const fn span(&self) -> u64 {
        self.span.blocks()
    }

    /// Returns the transaction of a use whose transfer does not directly follow it, until all its logs were read.
    pub(crate) fn unclear(&self, watched: &Watched) -> Option<B256> {
        match self.entries.get(&id(watched))? {
            Entry { fate: Fate::Used { transaction, moved: Moved::Unclear }, whole: false, .. } => Some(*transaction),
            _ => None,
        }
    }

    /// Applies all logs of the transaction that used the authorization.
    pub(crate) fn apply_receipt(&mut self, watched: &Watched, transaction: B256, logs: &[Log]) {
        if self.unclear(watched) != Some(transaction) {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&id(watched)) {
            entry.whole = true;
            entry.fate = Fate::Used { transaction, moved: moved_by(watched, transaction, logs) };
        }
    }

    /// Applies the result of a query.
    pub(crate) fn apply(&mut self, query: &Query, mut logs: Vec<Log>) -> Result<(), Fault> {
        logs.retain(|log| !log.removed);
        if logs.iter().any(|log| !(query.from..=query.to).contains(&log.block_number.to())) {
            return Err(Fault::unreachable("the node", "a log of a block that was not asked for"));
        }
        for id in &query.ids {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            if !(query.from..=query.to).contains(&entry.next) {
                continue;
            }
            entry.read_to(query.to, &logs, query.uses_only);
        }
        self.span.answered(query.blocks());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::fate::tests::*;

    #[test]
    fn one_query_asks_for_all_and_is_not_asked_again() {
        let mut sightings = Sightings::default();
        for nonce in 1..=3 {
            sightings.watch(watched(nonce), 10);
        }
        let query = sightings.query(12, &watched(1));
        assert_eq!((query.ids.len(), query.from, query.to), (3, 10, 12));
        assert_eq!(query.filter.topics[1], [PAYER.into_word()]);
        assert_eq!(query.filter.topics[2].len(), 4);
        sightings.apply(&query, vec![used(4, 2), transfer(5, 100)]).unwrap();
        let fate = |sightings: &Sightings, nonce| sightings.answer(&watched(nonce), 12).map(|seen| seen.fate);
        assert_eq!(fate(&sightings, 1), Some(Fate::Unseen));
        assert_eq!(fate(&sightings, 2), fate_of(Moved::Paid));
        assert_eq!(sightings.answer(&watched(1), 13), None);
        // Decided authorizations are no longer queried; a new one begins where the others are. The blocks before are
        // read again: a lagging node may not have had their logs.
        sightings.watch(Watched { since: 13, ..watched(4) }, 12);
        let query = sightings.query(13, &watched(1));
        assert_eq!((query.ids.len(), query.from, query.to), (3, 10, 13));
        // The search starts again from the beginning.
        sightings.look_again(watched(2));
        assert_eq!(fate(&sightings, 2), None);
    }

    /// A facilitator with many payments a second would otherwise keep hundreds of thousands that it has long answered.
    #[test]
    fn what_is_decided_is_soon_forgotten_and_found_again_if_it_is_requested() {
        let mut sightings = Sightings::default();
        for nonce in 1..=3 {
            sightings.watch(watched(nonce), 12);
        }
        let query = sightings.query(12, &watched(1));
        sightings.apply(&query, vec![used(4, 2), transfer(5, 100)]).unwrap();
        // The first one is requested still, the second one is decided, and the third one is open.
        sightings.watch(watched(1), 12 + IDLE + 1);
        sightings.query(12 + IDLE, &watched(1));
        assert_eq!(sightings.entries.len(), 3);
        sightings.query(12 + IDLE + 1, &watched(1));
        assert_eq!(sightings.entries.len(), 2);
        assert!(!sightings.entries.contains_key(&id(&watched(2))));
        // A request after that reads its logs again.
        sightings.watch(watched(2), 60);
        assert_eq!(sightings.answer(&watched(2), 60), None);
        let query = sightings.query(60, &watched(2));
        assert!(query.from <= 10 && query.ids.contains(&id(&watched(2))), "{query:?}");
        sightings.apply(&query, vec![used(4, 2), transfer(5, 100)]).unwrap();
        assert_eq!(sightings.answer(&watched(2), 60).map(|seen| seen.fate), fate_of(Moved::Paid));
        // What is open is kept for long, and forgotten in the end.
        sightings.query(12 + FORGOTTEN, &watched(2));
        assert!(sightings.entries.contains_key(&id(&watched(3))));
        sightings.query(13 + FORGOTTEN, &watched(2));
        assert!(!sightings.entries.contains_key(&id(&watched(3))));
    }

    #[test]
    fn what_is_planned_is_looked_for_from_the_next_final_block_on() {
        let mut sightings = Sightings::default();
        sightings.plan(watched(1), 12);
        let fate = |sightings: &Sightings, block| sightings.answer(&watched(1), block).map(|seen| seen.fate);
        assert_eq!((fate(&sightings, 12), fate(&sightings, 13)), (Some(Fate::Unseen), None));
        // The query begins where it would have begun.
        assert_eq!(sightings.query(13, &watched(1)).from, 10);
        // One that was looked for before is not taken to be new, nor is one that is looked for again.
        sightings.watch(watched(2), 12);
        sightings.plan(watched(2), 12);
        assert_eq!(sightings.answer(&watched(2), 12), None);
        sightings.look_again(watched(1));
        assert_eq!(fate(&sightings, 12), None);
    }

    #[test]
    fn long_ranges_are_cut_and_answers_checked() {
        let mut sightings = Sightings::default();
        sightings.watch(watched(1), 5_000);
        let query = sightings.query(5_000, &watched(1));
        assert_eq!((query.from, query.to), (10, 1_009));
        let mut wrong = used(4, 1);
        wrong.block_number = U64::from(1_010);
        assert!(sightings.apply(&query, vec![wrong.clone()]).is_err());
        wrong.block_number = U64::from(11);
        wrong.removed = true;
        sightings.apply(&query, vec![wrong]).unwrap();
        assert_eq!(sightings.answer(&watched(1), 5_000), None);
        let query = sightings.query(5_000, &watched(1));
        assert_eq!((query.from, query.to), (1_006, 2_005));
    }

    #[test]
    fn a_log_that_a_lagging_node_did_not_have_is_found_by_the_next_query() {
        let mut sightings = Sightings::default();
        sightings.watch(watched(1), 11);
        let query = sightings.query(11, &watched(1));
        sightings.apply(&query, Vec::new()).unwrap();
        let query = sightings.query(12, &watched(1));
        assert!(query.from <= 11, "{}", query.from);
        sightings.apply(&query, vec![used(4, 1), transfer(5, 100)]).unwrap();
        assert_eq!(sightings.answer(&watched(1), 12).map(|seen| seen.fate), fate_of(Moved::Paid));
    }

    #[test]
    fn a_refused_query_is_halved_down_to_one_block_and_grows_again() {
        let mut sightings = Sightings::default();
        sightings.watch(watched(1), 900);
        sightings.watch(watched(2), 900);
        let mut spans = Vec::new();
        let block = 900;
        loop {
            let query = sightings.query(block, &watched(1));
            spans.push(query.to - query.from + 1);
            if !sightings.span.halve(query.blocks(), query.ids.len()) {
                break;
            }
        }
        assert_eq!(spans, [891, 446, 223, 112, 56, 28, 14, 7, 4, 2, 1, 1]);
        // At one block each query advances, and no block is read twice.
        let mut queries = 0u32;
        while sightings.answer(&watched(1), 900).is_none() {
            let query = sightings.query(block, &watched(1));
            sightings.apply(&query, Vec::new()).unwrap();
            queries += 1;
            assert!(queries < 2_000);
        }
        // Eventually the span has its configured size again.
        for to in 0..100_000u64 {
            if sightings.span.is_whole() {
                break;
            }
            sightings.look_again(watched(1));
            let query = sightings.query(to.clamp(900, 5_000), &watched(1));
            sightings.apply(&query, Vec::new()).unwrap();
        }
        assert_eq!((sightings.span.blocks(), sightings.span.values()), (1_000, 200));
    }

    /// Checks that logs are read only after a set bit, up to its block, and that the overlap of two queries yields no
    /// candidate twice.
    #[test]
    fn a_set_bit_is_followed_by_the_transfers_up_to_its_block() {
        let bit =
            |mask: u64| StateBit { contract: TO, selector: [1; 4], arguments: [B256::ZERO; 2], mask: U256::from(mask) };
        let transfers = WatchedEvent::transfer(TOKEN, PAYER, TO);
        let watched = |mask| Watched::by_state(bit(mask), transfers, U256::from(100), 10);
        let mut sightings = Sightings::default();
        for mask in [1, 2] {
            sightings.watch(watched(mask), 2_000);
        }
        let mut bits = sightings.unread(2_000, &watched(1));
        bits.sort_unstable_by_key(|bit| bit.mask);
        assert_eq!(bits, [bit(1), bit(2)]);
        sightings.apply_bits(&bits, &[Some(U256::from(3)), None], 2_000);
        assert_eq!(sightings.unread(2_000, &watched(1)), []);
        assert_eq!(sightings.answer(&watched(1), 2_000), None);
        // The other was not readable: it is neither clear nor set.
        assert_eq!(sightings.answer(&watched(2), 2_000), None);
        let at = |block: u64, transaction: u8| {
            let (block_number, transaction_hash) = (U64::from(block), B256::repeat_byte(transaction));
            Log { block_number, transaction_hash, ..transfer(5, 100) }
        };
        for logs in [vec![at(11, 1), at(1_008, 2)], vec![at(1_008, 2), at(1_500, 3)]] {
            assert_eq!(sightings.answer(&watched(1), 2_000), None);
            let query = sightings.query(2_000, &watched(1));
            assert_eq!(query.ids, [Use::State(bit(1))]);
            sightings.apply(&query, logs).unwrap();
        }
        let candidates = [1, 2, 3].map(B256::repeat_byte).to_vec();
        assert_eq!(sightings.answer(&watched(1), 2_000).map(|seen| seen.fate), Some(Fate::Set { candidates }));
        // A bit that is clear answers for its block, and for no later one.
        sightings.apply_bits(&[bit(2)], &[Some(U256::from(1))], 2_000);
        assert_eq!(sightings.answer(&watched(2), 2_000).map(|seen| seen.fate), Some(Fate::Unseen));
        assert_eq!(sightings.answer(&watched(2), 2_001), None);
    }

    #[test]
    fn a_query_covers_as_many_blocks_as_the_node_takes() {
        for (blocks, to) in [(1, 10), (500, 509), (10_000, 5_000)] {
            let mut sightings = Sightings::spanning(NonZeroU64::new(blocks).unwrap());
            sightings.watch(watched(1), 5_000);
            let query = sightings.query(5_000, &watched(1));
            assert_eq!((query.from, query.to), (10, to), "{blocks}");
        }
    }
}
