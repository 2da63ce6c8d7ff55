//! Several batch reads in one `eth_call`, none of which sees the changes of another.
//!
//! Each is run as the init code of a `CREATE` and reverts with its result, so that the chain undoes whatever it changed:
//! warm slots, nonces and balances included ([EIP-140](https://eips.ethereum.org/EIPS/eip-140)). Two payments of one
//! payer, each of which takes the whole balance, are both simulated as the only one.

use alloy_primitives::{Address, Bytes, U256};

use super::batch_read::{Line, ops};
use super::{Answers, BatchRead};

/// The maximum number of reads in one call.
pub(super) const MOST_MERGED: usize = 32;
/// The maximum gas of all reads in one call, within what nodes give to an `eth_call`: geth and reth 50 million.
pub(super) const MOST_GAS: u64 = 32_000_000;
/// The maximum length of the code, below the 49,152 bytes of [EIP-3860](https://eips.ethereum.org/EIPS/eip-3860).
const MOST_CODE: usize = 40_000;
/// The gas of a read beside its calls: the creation takes 32,000, its code and memory a few thousand.
const READ_GAS: u64 = 60_000;
/// The gas of a call beside its own limit: 2,600 for an account that is cold, and what its data take in memory.
const CALL_GAS: u64 = 10_000;

/// The reads of one call, all of the same sender.
#[derive(Debug)]
pub(super) struct MergedRead<'a>(Vec<&'a BatchRead>);

/// Sorts reads into calls of at most so much gas; each has the places of its reads in the list.
pub(super) fn merged(reads: &[BatchRead], most_gas: u64) -> Vec<(Vec<usize>, MergedRead<'_>)> {
    let mut calls: Vec<(Vec<usize>, MergedRead<'_>)> = Vec::new();
    for (place, read) in reads.iter().enumerate() {
        match calls.iter_mut().find(|(_, call)| call.has_room_for(read, most_gas)) {
            Some((places, call)) => {
                places.push(place);
                call.0.push(read);
            }
            None => calls.push((vec![place], MergedRead(vec![read]))),
        }
    }
    calls
}

impl MergedRead<'_> {
    fn has_room_for(&self, read: &BatchRead, most_gas: u64) -> bool {
        let all = || self.0.iter().copied().chain([read]);
        let gas = all().map(gas).fold(0_u64, u64::saturating_add);
        let bytes = all().map(|read| read.code_len().saturating_add(LINE)).fold(0, usize::saturating_add);
        let output = all().map(answer_len).fold(0, usize::saturating_add);
        self.0.len() < MOST_MERGED
            && self.sender() == read.sender()
            && gas <= most_gas
            && bytes.saturating_add(output) <= MOST_CODE
    }

    /// Returns the account whose transaction is simulated.
    pub(super) fn sender(&self) -> Option<Address> {
        self.0.first().and_then(|read| read.sender())
    }

    /// Returns the init code. A read that is alone is not wrapped.
    pub(super) fn code(&self) -> Bytes {
        if let [read] = &*self.0 {
            return read.code();
        }
        let codes: Vec<Vec<u8>> = self.0.iter().map(|read| read.reverting_code()).collect();
        let line = self.line(&codes, 0).len();
        let mut code = self.line(&codes, line);
        codes.iter().for_each(|each| code.extend_from_slice(each));
        code.into()
    }

    /// Returns the gas that the node gave to the call; `None` if a read was alone in it.
    pub(super) fn gas_given(&self, returned: &[u8]) -> Option<u64> {
        let first = returned.first_chunk::<32>().filter(|_| self.0.len() > 1)?;
        u64::try_from(U256::from_be_bytes(*first)).ok()
    }

    /// Decodes what the code returned. A read without a usable result is `None`: it had too little gas, or its code
    /// ended early.
    pub(super) fn answers(&self, returned: &[u8]) -> Vec<Option<Answers>> {
        if let [read] = &*self.0 {
            return vec![read.answers(returned)];
        }
        let mut rest = returned;
        self.0.iter().map(|read| answer(read, rest.split_off(..answer_len(read))?)).collect()
    }

    /// Generates the instructions, given the position `data` of the reads' codes.
    fn line(&self, codes: &[Vec<u8>], data: usize) -> Vec<u8> {
        let mut asm = Line::default();
        let scratch = self.0.iter().map(|read| answer_len(read)).fold(0, usize::saturating_add);
        let (mut at, mut from) = (0_usize, data);
        for (read, code) in self.0.iter().zip(codes) {
            asm.op(ops::GAS).push(at).op(ops::MSTORE);
            asm.push(code.len()).push(from).push(scratch).op(ops::CODECOPY);
            asm.push(code.len()).push(scratch).push(0).op(ops::CREATE).op(ops::POP);
            asm.op(ops::RETURNDATASIZE).push(at.saturating_add(32)).op(ops::MSTORE);
            asm.op(ops::RETURNDATASIZE).push(0).push(at.saturating_add(64)).op(ops::RETURNDATACOPY);
            from = from.saturating_add(code.len());
            at = at.saturating_add(answer_len(read));
        }
        asm.push(scratch).push(0).op(ops::RETURN);
        asm.into_bytes()
    }
}

/// Returns the gas that a read may need: with less, one of its calls could fail that would not fail elsewhere.
fn gas(read: &BatchRead) -> u64 {
    let (calls, limits) = read.gas();
    let needed = limits.saturating_add(calls.saturating_mul(CALL_GAS)).saturating_add(READ_GAS);
    // Each of two frames keeps a 64th back (EIP-150).
    needed.saturating_mul(34).div_ceil(32)
}

/// Returns the length of a read's answer: its gas, the length of its result, its result.
fn answer_len(read: &BatchRead) -> usize {
    read.output().saturating_add(64)
}

fn answer(read: &BatchRead, bytes: &[u8]) -> Option<Answers> {
    let (had, rest) = bytes.split_first_chunk::<32>()?;
    let (len, result) = rest.split_first_chunk::<32>()?;
    let is_whole = U256::from_be_bytes(*len) == U256::from(result.len());
    let had_enough = U256::from_be_bytes(*had) >= U256::from(gas(read));
    (is_whole && had_enough).then(|| read.answers(result)).flatten()
}

/// The length of the instructions for one read.
const LINE: usize = 39;

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    fn read(sender: u8, gas: u32) -> BatchRead {
        BatchRead::new().sent_by(Address::repeat_byte(sender)).call(Address::ZERO, vec![7].into(), gas, 1)
    }

    fn places(reads: &[BatchRead]) -> Vec<Vec<usize>> {
        merged(reads, MOST_GAS).into_iter().map(|(places, _)| places).collect()
    }

    #[test]
    fn the_code_is_as_assembled_by_hand() {
        let reads = [BatchRead::new(), BatchRead::new()];
        let [(_, both)] = &*merged(&reads, MOST_GAS) else { panic!("{:?}", places(&reads)) };
        // TIMESTAMP MSTORE, then REVERT(0, 32).
        let each = "4261000052610020610000fd";
        let line = |at: &str, len: &str, data: &str, from: &str| {
            let copied = format!("5a61{at}5261000c61{from}6100c039");
            let run = "61000c6100c0610000f050";
            format!("{copied}{run}3d61{len}523d61000061{data}3e")
        };
        let outer = [line("0000", "0020", "0040", "0055"), line("0060", "0080", "00a0", "0061")].concat();
        let expected = format!("{outer}6100c0610000f3{each}{each}");
        assert_eq!(hex::encode(both.code()), expected);
    }

    #[test]
    fn reads_are_joined_by_sender_gas_and_number() {
        assert_eq!(places(&[read(1, 10), read(2, 10), read(1, 10)]), [vec![0, 2], vec![1]]);
        assert_eq!(places(&[read(1, 16_000_000), read(1, 16_000_000)]), [vec![0], vec![1]]);
        let many = vec![read(1, 10); MOST_MERGED + 1];
        assert_eq!(places(&many).iter().map(Vec::len).collect::<Vec<_>>(), [MOST_MERGED, 1]);
        let long = BatchRead::new().call(Address::ZERO, vec![7; 30_000].into(), 10, 1);
        assert_eq!(places(&[long.clone(), long]), [vec![0], vec![1]]);
    }

    #[test]
    fn a_read_with_too_little_gas_or_of_another_length_is_none() {
        let reads = [BatchRead::new(), BatchRead::new()];
        let calls = merged(&reads, MOST_GAS);
        let answers = |had: u64, len: u64| {
            let word = |number: u64| U256::from(number).to_be_bytes::<32>();
            let one = [word(had), word(len), word(1_700_000_000)].concat();
            let two = [word(1_000_000), word(32), word(5)].concat();
            calls[0].1.answers(&[one, two].concat())
        };
        let times = |had, len| answers(had, len).into_iter().map(|it| it.map(|it| it.timestamp)).collect::<Vec<_>>();
        assert_eq!(times(1_000_000, 32), [Some(1_700_000_000), Some(5)]);
        assert_eq!(times(gas(&reads[0]) - 1, 32), [None, Some(5)]);
        assert_eq!(times(1_000_000, 0), [None, Some(5)]);
        assert_eq!(calls[0].1.answers(&[0; 95]), [None, None]);
        assert_eq!(calls[0].1.gas_given(&[0; 95]), Some(0));
        assert_eq!(merged(&reads[..1], MOST_GAS)[0].1.gas_given(&[0; 95]), None);
    }
}
