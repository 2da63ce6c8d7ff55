//! Conversion to revm's inputs: block, transaction, rules.

use std::convert::Infallible;

use alloy_consensus::transaction::Recovered;
use alloy_consensus::{Header, Transaction, TxEnvelope, Typed2718};
use alloy_primitives::{B256, U256};
use revm::context::either::Either;
use revm::context::result::{EVMError, ResultAndState};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::context_interface::cfg::gas_params::GasId;
use revm::database::CacheDB;
use revm::primitives::eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE;
use revm::primitives::hardfork::SpecId;
use revm::{Context, ExecuteEvm, MainBuilder, MainContext};

use crate::state::StateAt;

/// A block's state, and changes on top of it.
pub(crate) type Overlay<'a> = CacheDB<StateAt<'a>>;

/// Osaka: EIP-7702 (Prague) and the P-256 precompile that passkey accounts need.
pub(crate) const HARDFORK: SpecId = SpecId::OSAKA;

/// The configurable rules of a chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) chain_id: u64,
    /// The maximum size of deployed code in bytes.
    pub(crate) code_size_limit: usize,
    /// The difference between the opcode `NUMBER` and the block's number.
    pub(crate) number_ahead: u64,
    /// The gas for a transaction and for each byte of its data that is not zero, in addition to Ethereum's.
    pub(crate) surcharge: (u64, u64),
}

impl Rules {
    /// Returns the block environment of executed code.
    pub(crate) fn block_env(self, header: &Header) -> BlockEnv {
        block_env(header, self.number_ahead)
    }

    /// Returns the rules for transactions in blocks.
    pub(crate) fn block(self) -> CfgEnv {
        let mut rules = CfgEnv::new_with_spec(HARDFORK);
        rules.chain_id = self.chain_id;
        rules.limit_contract_code_size = Some(self.code_size_limit);
        // EIP-3860: twice the code.
        rules.limit_contract_initcode_size = Some(self.code_size_limit.saturating_mul(2));
        let (transaction, byte) = self.surcharge;
        if self.surcharge != (0, 0) {
            let gas = &mut rules.gas_params;
            let base = gas.tx_base_stipend().saturating_add(transaction);
            // A byte that is not zero has four tokens.
            let token = gas.tx_token_cost().saturating_add(byte.div_ceil(4));
            gas.override_gas([(GasId::tx_base_stipend(), base), (GasId::tx_token_cost(), token)]);
        }
        rules
    }

    /// Returns the rules for `eth_call`: any sender, any nonce, and no cap on gas except the block's.
    pub(crate) fn call(self) -> CfgEnv {
        let mut rules = self.simulation();
        rules.disable_nonce_check = true;
        rules
    }

    /// Returns the rules for `eth_simulateV1` with `validation`: those of a block, but contracts may send and only the
    /// block caps gas.
    pub(crate) fn simulation(self) -> CfgEnv {
        let mut rules = self.block();
        rules.disable_eip3607 = true;
        rules.tx_gas_limit_cap = Some(u64::MAX);
        rules
    }
}

fn block_env(header: &Header, number_ahead: u64) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number.saturating_add(number_ahead)),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: U256::ZERO,
        prevrandao: Some(B256::with_last_byte(1)),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice::new(0, BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE)),
        slot_num: 0,
    }
}

pub(crate) fn tx_env(tx: &Recovered<TxEnvelope>) -> TxEnv {
    TxEnv {
        tx_type: tx.ty(),
        caller: tx.signer(),
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: tx
            .authorization_list()
            .map(|list| list.iter().cloned().map(Either::Left).collect())
            .unwrap_or_default(),
    }
}

pub(crate) fn run(
    overlay: &mut Overlay<'_>,
    rules: CfgEnv,
    block: BlockEnv,
    tx: TxEnv,
) -> Result<ResultAndState, EVMError<Infallible>> {
    Context::mainnet().with_db(overlay).with_cfg(rules).with_block(block).build_mainnet().transact(tx)
}
