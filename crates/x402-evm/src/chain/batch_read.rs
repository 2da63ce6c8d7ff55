//! Many reads in one `eth_call`: init code that is never deployed.
//!
//! `eth_call` without `to` runs its data as init code and returns what that returns. The code is branch-free and
//! generated for each use: it needs no jump, no contract on the chain, no state override, and every read sees the same
//! block. A JSON-RPC batch would also work, but counts as many requests and may be distributed over several nodes.

use alloy_primitives::{Address, Bytes, U256};

/// Reads and calls to be made on one block.
#[derive(Debug, Clone, Default)]
pub struct BatchRead {
    sizes: Vec<Address>,
    calls: Vec<Entry>,
    from: Option<Address>,
    caller: Option<Address>,
}

#[derive(Debug, Clone)]
struct Entry {
    to: Address,
    data: Bytes,
    gas: u32,
    words: u16,
    view: bool,
}

/// The results of a batch read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// The block's time, Unix seconds.
    pub timestamp: u64,
    /// The number of bytes of code at each requested address.
    pub sizes: Vec<u64>,
    /// The result of each call.
    pub calls: Vec<Returned>,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// Whether the call did not revert.
    pub success: bool,
    /// The return or revert data, cut off at the limit that the batch set.
    pub data: Bytes,
}

impl Returned {
    /// Returns the only word of the data.
    #[must_use]
    pub fn word(&self) -> Option<U256> {
        (self.success && self.data.len() == 32).then(|| U256::from_be_slice(&self.data))
    }

    /// Returns the string in the data.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if self.success { abi_string(&self.data) } else { None }
    }

    /// Returns the message of Solidity's `Error(string)`, if the call reverted with one.
    #[must_use]
    pub fn revert_reason(&self) -> Option<&str> {
        let reason = self.data.strip_prefix(&[0x08, 0xc3, 0x79, 0xa0])?;
        if self.success { None } else { abi_string(reason) }
    }
}

/// Decodes a string as the only value: offset, length, bytes.
fn abi_string(data: &[u8]) -> Option<&str> {
    let (offset, rest) = data.split_first_chunk::<32>()?;
    let (len, rest) = rest.split_first_chunk::<32>()?;
    if U256::from_be_bytes(*offset) != U256::from(32) {
        return None;
    }
    let len = usize::try_from(U256::from_be_bytes(*len)).ok()?;
    core::str::from_utf8(rest.get(..len)?).ok()
}

impl BatchRead {
    /// Creates a batch that reads only the block's time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs the batch as a transaction of this account: called contracts see it as `tx.origin`, and the batch's own
    /// init code as `msg.sender`.
    #[must_use]
    pub fn sent_by(mut self, account: Address) -> Self {
        self.from = Some(account);
        self
    }

    /// Makes the calls of the batch as this account, which called contracts see as `msg.sender`. The node has to support
    /// [state overrides](https://geth.ethereum.org/docs/interacting-with-geth/rpc/objects#state-override-set): the code
    /// of the batch runs in the account's place.
    #[must_use]
    pub fn called_by(mut self, account: Address) -> Self {
        self.caller = Some(account);
        self
    }

    /// Returns the account that makes the calls of the batch.
    #[must_use]
    pub const fn caller(&self) -> Option<Address> {
        self.caller
    }

    /// Returns the account whose transaction is simulated.
    #[must_use]
    pub const fn sender(&self) -> Option<Address> {
        self.from
    }

    /// Adds the size of the code at an address. For an account delegated by EIP-7702 it is 23.
    #[must_use]
    pub fn code_size(mut self, of: Address) -> Self {
        self.sizes.push(of);
        self
    }

    /// Adds a call with this gas limit, of whose result this many words are kept. Calls see the changes of earlier
    /// ones.
    #[must_use]
    pub fn call(mut self, to: Address, data: Bytes, gas: u32, words: u16) -> Self {
        self.calls.push(Entry { to, data, gas, words, view: false });
        self
    }

    /// Adds a call that reverts if it would change anything (`STATICCALL`).
    #[must_use]
    pub fn view(mut self, to: Address, data: Bytes, gas: u32, words: u16) -> Self {
        self.calls.push(Entry { to, data, gas, words, view: true });
        self
    }

    /// Returns the number of code sizes and calls so far: the indices of those added next.
    #[must_use]
    pub fn places(&self) -> (usize, usize) {
        (self.sizes.len(), self.calls.len())
    }

    /// Generates the init code.
    #[must_use]
    pub fn code(&self) -> Bytes {
        self.code_ending_in(ops::RETURN).into()
    }

    /// Generates init code that reverts with the same data.
    #[cfg(feature = "rpc")]
    pub(super) fn reverting_code(&self) -> Vec<u8> {
        self.code_ending_in(ops::REVERT)
    }

    /// Returns the length of the code.
    #[cfg(feature = "rpc")]
    pub(super) fn code_len(&self) -> usize {
        let data = self.calls.iter().map(|call| call.data.len()).fold(0, usize::saturating_add);
        self.line(0, ops::RETURN).len().saturating_add(data)
    }

    /// Returns the number of calls, and the sum of their gas limits.
    #[cfg(feature = "rpc")]
    pub(super) fn gas(&self) -> (u64, u64) {
        let of = |call: &Entry| u64::from(call.gas);
        (u64::try_from(self.calls.len()).unwrap_or(u64::MAX), self.calls.iter().map(of).fold(0, u64::saturating_add))
    }

    fn code_ending_in(&self, end: u8) -> Vec<u8> {
        let line = self.line(0, end).len();
        let mut code = self.line(line, end);
        for call in &self.calls {
            code.extend_from_slice(&call.data);
        }
        code
    }

    /// Decodes the data that the init code returned. Returns `None` for the data of another batch.
    #[must_use]
    pub fn answers(&self, returned: &[u8]) -> Option<Answers> {
        if returned.len() != self.output() {
            return None;
        }
        let (words, _) = returned.as_chunks::<32>();
        let number = |at: usize| u64::try_from(U256::from_be_bytes(*words.get(at)?)).ok();
        let sizes = (0..self.sizes.len()).map(|i| number(i.checked_add(1)?)).collect::<Option<_>>()?;
        let mut at = self.first();
        let mut calls = Vec::with_capacity(self.calls.len());
        for call in &self.calls {
            let kept = usize::from(call.words).checked_mul(32)?;
            let (success, size) = (number(at.div_euclid(32))?, number(at.div_euclid(32).checked_add(1)?)?);
            let from = at.checked_add(64)?;
            at = from.checked_add(kept)?;
            let data = returned.get(from..at)?;
            let size = usize::try_from(size).map_or(kept, |size| size.min(kept));
            calls.push(Returned { success: success == 1, data: data.get(..size)?.to_vec().into() });
        }
        Some(Answers { timestamp: number(0)?, sizes, calls })
    }

    /// Returns the position of the first call's result, after time and sizes.
    fn first(&self) -> usize {
        self.sizes.len().saturating_add(1).saturating_mul(32)
    }

    /// Returns the length of the data that the code returns.
    pub(super) fn output(&self) -> usize {
        let kept = |call: &Entry| usize::from(call.words).saturating_add(2).saturating_mul(32);
        self.calls.iter().map(kept).fold(self.first(), usize::saturating_add)
    }

    /// Generates the instructions, given the position `data` of the calls' data in the code, and the last of them.
    fn line(&self, data: usize, end: u8) -> Vec<u8> {
        let mut asm = Line::default();
        let scratch = self.output();
        asm.op(ops::TIMESTAMP).push(0).op(ops::MSTORE);
        for (i, address) in self.sizes.iter().enumerate() {
            asm.address(*address).op(ops::EXTCODESIZE).push(i.saturating_add(1).saturating_mul(32)).op(ops::MSTORE);
        }
        let (mut at, mut from) = (self.first(), data);
        for call in &self.calls {
            let kept = usize::from(call.words).saturating_mul(32);
            let answer = at.saturating_add(64);
            asm.push(call.data.len()).push(from).push(scratch).op(ops::CODECOPY);
            asm.push(kept).push(answer).push(call.data.len()).push(scratch);
            if call.view {
                asm.address(call.to).gas(call.gas).op(ops::STATICCALL);
            } else {
                asm.push(0).address(call.to).gas(call.gas).op(ops::CALL);
            }
            asm.push(at).op(ops::MSTORE);
            asm.op(ops::RETURNDATASIZE).push(at.saturating_add(32)).op(ops::MSTORE);
            from = from.saturating_add(call.data.len());
            at = answer.saturating_add(kept);
        }
        asm.push(scratch).push(0).op(end);
        asm.into_bytes()
    }
}

/// The opcodes that the generated codes consist of.
pub(super) mod ops {
    pub(in super::super) const CODECOPY: u8 = 0x39;
    pub(in super::super) const EXTCODESIZE: u8 = 0x3b;
    pub(in super::super) const RETURNDATASIZE: u8 = 0x3d;
    #[cfg(feature = "rpc")]
    pub(in super::super) const RETURNDATACOPY: u8 = 0x3e;
    pub(in super::super) const TIMESTAMP: u8 = 0x42;
    #[cfg(feature = "rpc")]
    pub(in super::super) const POP: u8 = 0x50;
    pub(in super::super) const MSTORE: u8 = 0x52;
    #[cfg(feature = "rpc")]
    pub(in super::super) const GAS: u8 = 0x5a;
    pub(in super::super) const PUSH2: u8 = 0x61;
    pub(in super::super) const PUSH4: u8 = 0x63;
    pub(in super::super) const PUSH20: u8 = 0x73;
    #[cfg(feature = "rpc")]
    pub(in super::super) const CREATE: u8 = 0xf0;
    pub(in super::super) const CALL: u8 = 0xf1;
    pub(in super::super) const RETURN: u8 = 0xf3;
    pub(in super::super) const STATICCALL: u8 = 0xfa;
    #[cfg(feature = "rpc")]
    pub(in super::super) const REVERT: u8 = 0xfd;
}

/// Instructions, written one after another.
#[derive(Default)]
pub(super) struct Line(Vec<u8>);

impl Line {
    pub(super) fn op(&mut self, op: u8) -> &mut Self {
        self.0.push(op);
        self
    }

    /// Pushes a number with two bytes, so that the length of the code does not depend on its value. The code is far
    /// below 64 KiB.
    pub(super) fn push(&mut self, number: usize) -> &mut Self {
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        self.0.push(ops::PUSH2);
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Returns the instructions.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn gas(&mut self, gas: u32) -> &mut Self {
        self.0.push(ops::PUSH4);
        self.0.extend_from_slice(&gas.to_be_bytes());
        self
    }

    fn address(&mut self, address: Address) -> &mut Self {
        self.0.push(ops::PUSH20);
        self.0.extend_from_slice(address.as_slice());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    #[test]
    fn the_line_is_as_assembled_by_hand() {
        let reads = BatchRead::new().code_size(Address::repeat_byte(0xaa));
        let expected = concat!(
            "42610000",
            "52",
            "73aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "3b",
            "610020",
            "52",
            "610040",
            "610000",
            "f3",
        );
        assert_eq!(hex::encode(reads.code()), expected);
    }

    #[test]
    fn answers_of_another_length_are_none() {
        let reads = BatchRead::new().call(Address::ZERO, vec![1].into(), 1, 1);
        assert_eq!(reads.answers(&[0; 32]), None);
        assert_eq!(reads.answers(&[]), None);
        let mut returned = [0u8; 128];
        returned[31] = 7;
        returned[63] = 1;
        returned[95] = 32;
        returned[127] = 9;
        let answers = reads.answers(&returned).unwrap();
        assert_eq!(answers.timestamp, 7);
        assert_eq!(answers.calls[0].word(), Some(U256::from(9)));
        // A length beyond the kept part is cut; a number beyond 64 bits is an error.
        returned[94] = 0xff;
        assert_eq!(reads.answers(&returned).unwrap().calls[0].data.len(), 32);
        returned[0] = 1;
        assert_eq!(reads.answers(&returned), None);
    }

    #[test]
    fn strings_are_read_within_their_bounds() {
        let ok = |data: Vec<u8>| Returned { success: true, data: data.into() };
        let mut data = vec![0; 96];
        data[31] = 32;
        data[63] = 4;
        data[64..68].copy_from_slice(b"USDC");
        assert_eq!(ok(data.clone()).text(), Some("USDC"));
        data[63] = 33;
        assert_eq!(ok(data.clone()).text(), None);
        data[32] = 0xff;
        assert_eq!(ok(data.clone()).text(), None);
        assert_eq!(ok(vec![]).text(), None);
    }
}
