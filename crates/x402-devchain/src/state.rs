//! The state of every block: each value is kept with the number of the block that wrote it.
//!
//! A read at block n finds the newest value written at or before n, so `eth_call` on an old block is a binary search
//! and a reorg is a truncation. Memory grows with the changes, not with blocks times accounts.

use std::collections::HashMap;
use std::convert::Infallible;

use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256, keccak256};
use revm::DatabaseRef;
use revm::bytecode::Bytecode;
use revm::state::{AccountInfo, EvmState};

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    accounts: HashMap<Address, Versions<AccountInfo>>,
    slots: HashMap<(Address, U256), Versions<U256>>,
    codes: HashMap<B256, Bytecode>,
    hashes: Vec<B256>,
}

/// The values with the blocks that wrote them, in ascending order.
type Versions<T> = Vec<(u64, T)>;

fn newest<T>(versions: Option<&Versions<T>>, block: u64) -> Option<&T> {
    let versions = versions?;
    let after = versions.partition_point(|(written, _)| *written <= block);
    versions.get(after.checked_sub(1)?).map(|(_, value)| value)
}

fn write<T>(versions: &mut Versions<T>, block: u64, value: T) {
    match versions.last_mut() {
        Some((written, last)) if *written == block => *last = value,
        _ => versions.push((block, value)),
    }
}

impl History {
    pub(crate) fn apply(&mut self, block: u64, changes: EvmState) {
        for (address, account) in changes {
            if !account.is_touched() {
                continue;
            }
            // EIP-6780: only an account created in the same transaction is destroyed, so there is no older value to
            // clear.
            if account.is_selfdestructed() {
                self.write_account(block, address, AccountInfo::default());
                continue;
            }
            for (key, slot) in &account.storage {
                if slot.is_changed() {
                    self.write_slot(block, address, *key, slot.present_value());
                }
            }
            self.write_account(block, address, account.info);
        }
    }

    pub(crate) fn write_account(&mut self, block: u64, address: Address, mut info: AccountInfo) {
        if let Some(code) = info.code.take()
            && !code.is_empty()
        {
            self.codes.entry(info.code_hash).or_insert(code);
        }
        info.account_id = None;
        write(self.accounts.entry(address).or_default(), block, info);
    }

    pub(crate) fn write_slot(&mut self, block: u64, address: Address, key: U256, value: U256) {
        write(self.slots.entry((address, key)).or_default(), block, value);
    }

    pub(crate) fn push_hash(&mut self, hash: B256) {
        self.hashes.push(hash);
    }

    /// Forgets all values that blocks above `block` wrote.
    pub(crate) fn truncate(&mut self, block: u64) {
        self.accounts.retain(|_, versions| {
            versions.retain(|(written, _)| *written <= block);
            !versions.is_empty()
        });
        self.slots.retain(|_, versions| {
            versions.retain(|(written, _)| *written <= block);
            !versions.is_empty()
        });
        self.hashes.truncate(usize::try_from(block).map_or(usize::MAX, |block| block.saturating_add(1)));
    }

    pub(crate) fn at(&self, block: u64) -> StateAt<'_> {
        StateAt { history: self, block }
    }
}

/// The state after one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StateAt<'a> {
    history: &'a History,
    block: u64,
}

impl StateAt<'_> {
    pub(crate) fn account(&self, address: Address) -> AccountInfo {
        let mut info = newest(self.history.accounts.get(&address), self.block).cloned().unwrap_or_default();
        info.code = None;
        info
    }

    pub(crate) fn slot(&self, address: Address, key: U256) -> U256 {
        newest(self.history.slots.get(&(address, key)), self.block).copied().unwrap_or_default()
    }
}

impl DatabaseRef for StateAt<'_> {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        let info = self.account(address);
        Ok((!info.is_empty()).then_some(info))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, Infallible> {
        if hash == KECCAK256_EMPTY {
            return Ok(Bytecode::default());
        }
        Ok(self.history.codes.get(&hash).cloned().unwrap_or_default())
    }

    fn storage_ref(&self, address: Address, key: U256) -> Result<U256, Infallible> {
        Ok(self.slot(address, key))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        let known = usize::try_from(number).ok().and_then(|at| self.history.hashes.get(at)).copied();
        // A number that is not this chain's means that `NUMBER` is another chain's.
        Ok(known.unwrap_or_else(|| keccak256(number.to_be_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_its_block_left_it() {
        let mut history = History::default();
        let (who, key) = (Address::repeat_byte(1), U256::from(7));
        history.write_slot(2, who, key, U256::from(20));
        history.write_slot(5, who, key, U256::from(50));
        history.write_slot(5, who, key, U256::from(51));
        let seen: Vec<u64> = (0..7).map(|block| history.at(block).slot(who, key).to::<u64>()).collect();
        assert_eq!(seen, [0, 0, 20, 20, 20, 51, 51]);
        history.truncate(4);
        assert_eq!(history.at(9).slot(who, key), U256::from(20));
        history.truncate(1);
        assert_eq!(history.at(9).slot(who, key), U256::ZERO);
    }
}
