//! [`DevChain`]: the handle of a chain.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolEvent;
use revm::bytecode::Bytecode;

use crate::builder::{ChainBuildError, DevChainBuilder};
use crate::faults::{CallCounts, Disturbance, Failure, Faults, NodeFault, When};
use crate::genesis::construct;
use crate::token::{TOKEN, Token, Transfer, balance_slot};
use crate::world::{Orphans, World};

/// The error for a reorg that would replace genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reorg of {depth} blocks does not fit on a chain of {head}")]
pub struct ReorgTooDeep {
    /// The number of blocks to replace.
    pub depth: u64,
    /// The number of the last block.
    pub head: u64,
}

/// An EVM chain in this process. Clones are handles of the same chain; it ends when the last of them is dropped.
#[derive(Clone)]
pub struct DevChain {
    shared: Arc<Shared>,
}

impl fmt::Debug for DevChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevChain").finish_non_exhaustive()
    }
}

struct Shared {
    core: Mutex<Core>,
}

/// The state behind the lock.
pub(crate) struct Core {
    pub(crate) world: World,
    pub(crate) faults: Faults,
    pub(crate) calls: CallCounts,
    pub(crate) automine: bool,
    /// The number of times that the WebSockets of the chain were closed.
    sockets_closed: u64,
    snapshots: Vec<(u64, World)>,
    next_snapshot: u64,
}

/// A handle that does not keep the chain alive.
pub(crate) struct WeakChain(Weak<Shared>);

impl WeakChain {
    pub(crate) fn upgrade(&self) -> Option<DevChain> {
        self.0.upgrade().map(|shared| DevChain { shared })
    }
}

impl DevChain {
    pub(crate) fn start(world: World, faults: Faults, automine: bool) -> Self {
        let calls = CallCounts::default();
        let core = Core { world, faults, calls, automine, sockets_closed: 0, snapshots: Vec::new(), next_snapshot: 1 };
        Self { shared: Arc::new(Shared { core: Mutex::new(core) }) }
    }

    pub(crate) fn downgrade(&self) -> WeakChain {
        WeakChain(Arc::downgrade(&self.shared))
    }

    /// Creates a builder with the defaults.
    #[must_use]
    pub fn builder() -> DevChainBuilder {
        DevChainBuilder::default()
    }

    /// Creates a chain with the defaults: Base Sepolia's chain id, a block per transaction, the machine's clock.
    /// # Errors
    /// An artifact of this crate is damaged.
    pub fn new() -> Result<Self, ChainBuildError> {
        Self::builder().build()
    }

    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        // Every change of the core is complete before anything in it can panic, so a poisoned lock protects a
        // consistent chain.
        self.shared.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Blocks

    /// Mines this many blocks, each with all that the pool has ready for it.
    pub fn mine(&self, blocks: u64) {
        let mut core = self.core();
        for _ in 0..blocks {
            core.world.mine();
        }
    }

    /// Mines a block if it would be at least this many seconds younger than the last one. Returns whether it did.
    pub fn mine_if_older(&self, seconds: u64) -> bool {
        let mut core = self.core();
        let last = core.world.head().header.timestamp;
        let older = core.world.next_timestamp().saturating_sub(last) >= seconds;
        if older {
            core.world.mine();
        }
        older
    }

    /// Sets whether a block is mined for each transaction; an interval continues independently.
    pub fn set_automine(&self, on: bool) {
        self.core().automine = on;
    }

    /// Replaces the last `depth` blocks by as many others, with the same times and new hashes.
    /// # Errors
    /// The reorg would replace genesis.
    pub fn reorg(&self, depth: u64, orphans: Orphans) -> Result<(), ReorgTooDeep> {
        let mut core = self.core();
        let head = core.world.head_number();
        if core.world.reorg(depth, orphans) { Ok(()) } else { Err(ReorgTooDeep { depth, head }) }
    }

    /// Returns the chain id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.core().world.rules.chain_id
    }

    /// Returns the number of the last block.
    #[must_use]
    pub fn block_number(&self) -> u64 {
        self.core().world.head_number()
    }

    /// Returns the number of the last final block.
    #[must_use]
    pub fn final_block_number(&self) -> u64 {
        self.core().world.final_number()
    }

    /// Returns the base fee of the next block, in wei.
    #[must_use]
    pub fn base_fee(&self) -> u64 {
        self.core().world.upcoming_base_fee()
    }

    /// Sets the base fee of the next block, in wei; those of later blocks follow from it.
    pub fn set_base_fee(&self, wei: u64) {
        self.core().world.next_base_fee = Some(wei);
    }

    // Time

    /// Returns the time that a block mined now would have, in Unix seconds.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.core().world.next_timestamp()
    }

    /// Stops the clock at this Unix time. Times never decrease: a block mined before its parent's time gets its
    /// parent's time.
    pub fn set_time(&self, seconds: u64) {
        self.core().world.clock.fix(seconds);
    }

    /// Stops the clock; each block then advances it by this many seconds.
    pub fn set_time_step(&self, seconds: u64) {
        self.core().world.clock.set_step(seconds);
    }

    /// Advances the clock.
    pub fn increase_time(&self, seconds: u64) {
        self.core().world.clock.advance(seconds);
    }

    /// Returns to the machine's clock.
    pub fn use_real_time(&self) {
        self.core().world.clock.release();
    }

    /// Sets the exact time of the next block; those of later blocks follow from it.
    pub fn set_next_timestamp(&self, seconds: u64) {
        self.core().world.clock.set_next(seconds);
    }

    // State

    /// Returns an account's tokens at the last block, in atomic units.
    #[must_use]
    pub fn balance_of(&self, account: Address) -> U256 {
        self.core().world.latest().slot(TOKEN, balance_slot(account))
    }

    /// Returns an account's ether at the last block, in wei.
    #[must_use]
    pub fn ether_of(&self, account: Address) -> U256 {
        self.core().world.latest().account(account).balance
    }

    /// Returns an account's nonce at the last block.
    #[must_use]
    pub fn nonce_of(&self, account: Address) -> u64 {
        self.core().world.latest().account(account).nonce
    }

    /// Returns every final transfer of the token, mints included, in the order of the chain.
    #[must_use]
    pub fn transfers(&self) -> Vec<Transfer> {
        let core = self.core();
        let blocks = (0..=core.world.final_number()).filter_map(|number| core.world.block(number));
        blocks
            .flat_map(|block| block.logs())
            .filter(|log| log.address() == TOKEN)
            .filter_map(|log| {
                let event = Token::Transfer::decode_log(&log.inner).ok()?;
                Some(Transfer {
                    block: log.block_number?,
                    transaction: log.transaction_hash?,
                    log_index: log.log_index?,
                    from: event.from,
                    to: event.to,
                    value: event.value,
                })
            })
            .collect()
    }

    /// Sets an account's tokens as of the last block, and adjusts the total supply. No event is emitted.
    pub fn set_balance_of(&self, account: Address, atomic: U256) {
        let mut core = self.core();
        let before = core.world.latest().slot(TOKEN, balance_slot(account));
        let supply = core.world.latest().slot(TOKEN, crate::token::SUPPLY_SLOT);
        core.set_slot(TOKEN, balance_slot(account), atomic);
        core.set_slot(TOKEN, crate::token::SUPPLY_SLOT, supply.saturating_sub(before).saturating_add(atomic));
    }

    /// Sets an account's ether as of the last block, in wei.
    pub fn set_ether_of(&self, account: Address, wei: U256) {
        self.core().edit(account, |info| info.balance = wei);
    }

    /// Sets the code at an address as of the last block: runtime code, or `0xef0100` and an address for an EIP-7702
    /// delegation.
    /// # Errors
    /// The bytes begin as a delegation but are not one.
    pub fn set_code(&self, account: Address, code: Bytes) -> Result<(), BadCode> {
        self.core().set_code(account, code)
    }

    /// Creates a contract at an address as of the last block: runs creation code, followed by constructor arguments, as
    /// if account 0 created the contract there. No block and no event records it.
    /// # Errors
    /// The constructor fails, or returns bytes that are not code.
    pub fn construct(&self, account: Address, creation: Bytes) -> Result<(), BadCode> {
        let mut core = self.core();
        let head = core.world.head_number();
        let changes = construct(core.world.latest(), core.world.rules.chain_id, account, creation);
        core.world.history.apply(head, changes.map_err(|reason| BadCode { reason })?);
        Ok(())
    }

    /// Sets a storage slot as of the last block.
    pub fn set_storage(&self, account: Address, slot: U256, value: B256) {
        self.core().set_slot(account, slot, value.into());
    }

    /// Removes a transaction from the pool; returns `false` if it is not there.
    pub fn drop_transaction(&self, hash: B256) -> bool {
        self.core().world.pool.remove(hash).is_some()
    }

    // Faults

    /// Makes the next `times` calls of `method` fail.
    pub fn fail_calls(&self, method: &str, times: u32, when: When, failure: Failure) {
        self.core().faults.fail(Some(method.to_owned()), times, when, failure);
    }

    /// Makes the next `times` calls of any method fail.
    pub fn fail_any_calls(&self, times: u32, when: When, failure: Failure) {
        self.core().faults.fail(None, times, when, failure);
    }

    /// Disturbs the next `times` accepted transactions. Several disturbances queue up.
    pub fn disturb_transactions(&self, times: usize, disturbance: Disturbance) {
        self.core().faults.disturb(times, disturbance);
    }

    /// Sets the duration of each round trip, half of which passes before the node acts and half after.
    pub fn rpc_delay(&self, delay: Duration) {
        self.core().faults.rpc_delay = delay;
    }

    /// Makes the node faulty in this way until [`clear_faults`](Self::clear_faults).
    pub fn node_fault(&self, fault: NodeFault) {
        let mut core = self.core();
        core.world.show(&fault);
        core.faults.stand(fault);
    }

    /// Closes every WebSocket of the chain's nodes.
    pub fn close_sockets(&self) {
        let mut core = self.core();
        core.sockets_closed = core.sockets_closed.saturating_add(1);
    }

    pub(crate) fn sockets_closed(&self) -> u64 {
        self.core().sockets_closed
    }

    /// Returns whether no notices of new heads are sent.
    pub(crate) fn is_silent(&self) -> bool {
        self.core().faults.silent
    }

    pub(crate) fn count_call(&self, method: &str) {
        let mut core = self.core();
        let count = core.calls.by_method.entry(method.to_owned()).or_default();
        *count = count.saturating_add(1);
    }

    /// Clears every fault and the delay.
    pub fn clear_faults(&self) {
        let mut core = self.core();
        core.world.show_all();
        core.faults.clear();
    }

    // Counters

    /// Returns the RPC's call counters since the start or the last [`reset_calls`](Self::reset_calls).
    #[must_use]
    pub fn calls(&self) -> CallCounts {
        self.core().calls.clone()
    }

    /// Resets the counters to zero and returns their previous values.
    pub fn reset_calls(&self) -> CallCounts {
        std::mem::take(&mut self.core().calls)
    }
}

/// The error for bytes that cannot be an account's code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected code: {reason}")]
pub struct BadCode {
    pub(crate) reason: String,
}

impl Core {
    pub(crate) fn edit(&mut self, account: Address, change: impl FnOnce(&mut revm::state::AccountInfo)) {
        let head = self.world.head_number();
        let mut info = self.world.latest().account(account);
        change(&mut info);
        self.world.history.write_account(head, account, info);
    }

    pub(crate) fn set_slot(&mut self, account: Address, slot: U256, value: U256) {
        let head = self.world.head_number();
        self.world.history.write_slot(head, account, slot, value);
    }

    pub(crate) fn set_code(&mut self, account: Address, code: Bytes) -> Result<(), BadCode> {
        let code = Bytecode::new_raw_checked(code).map_err(|error| BadCode { reason: error.to_string() })?;
        self.edit(account, |info| {
            info.code_hash = code.hash_slow();
            info.code = Some(code);
        });
        Ok(())
    }

    pub(crate) fn snapshot(&mut self) -> u64 {
        let id = self.next_snapshot;
        self.next_snapshot = id.saturating_add(1);
        self.snapshots.push((id, self.world.clone()));
        id
    }

    /// Reverts to a snapshot, which is consumed with all later ones.
    pub(crate) fn revert(&mut self, id: u64) -> bool {
        let Some(at) = self.snapshots.iter().position(|(taken, _)| *taken == id) else { return false };
        let Some((_, world)) = self.snapshots.drain(at..).next() else { return false };
        self.world = world;
        true
    }
}
