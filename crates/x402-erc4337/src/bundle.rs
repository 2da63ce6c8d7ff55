//! [Bundling](https://eips.ethereum.org/EIPS/eip-4337#bundling): operations in one `handleOps` that a plain account
//! sends and pays for.
//!
//! With fees of zero in the operations, only the sender of the transaction pays: there is no prefund, no deposit, no
//! ETH in the account, no paymaster. A higher bid then changes only the outer transaction, and every hash stays the
//! same.

use alloy_primitives::{Address, B256, Bytes};
use x402_evm::chain::{Call, Sharing};

use crate::{Eip7702Authorization, EntryPoint, HashError, PackError, PackedUserOperation, UserOperation};

/// The gas limit of a transaction: 2^24, by [EIP-7825](https://eips.ethereum.org/EIPS/eip-7825).
pub const MAX_TRANSACTION_GAS: u64 = 16_777_216;
/// The maximum calldata of a bundle: nodes accept transactions of up to 128 KiB.
pub const MAX_CALL_DATA: usize = 120 * 1024;

/// The base gas of every transaction.
const BASE_GAS: u64 = 21_000;
/// The gas of each operation in addition to its limits: hashing, copying, nonce, events, and the 10,000 that
/// `innerHandleOp` reserves.
const OPERATION_GAS: u64 = 60_000;

/// Operations in one transaction: all are validated before the first is executed, and they are executed in this order.
/// If one validation fails, the whole bundle has no effect; if one execution reverts, the others continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    entry_point: EntryPoint,
    payer: Address,
    ops: Vec<PackedUserOperation>,
    hashes: Vec<B256>,
    authorizations: Vec<(Address, Eip7702Authorization)>,
    call_data: Bytes,
    gas: u64,
}

/// The error for operations that cannot share a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The bundle is empty.
    #[error("expected at least one operation in a bundle, found none")]
    Empty,
    /// An operation is not defined for this EntryPoint.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The sum of the gas limits exceeds the limit of a transaction.
    #[error("expected a bundle of at most {MAX_TRANSACTION_GAS} gas, found {gas}")]
    Gas {
        /// The sum of the gas limits.
        gas: u64,
    },
    /// The calldata is longer than nodes accept.
    #[error("expected a bundle of at most {MAX_CALL_DATA} bytes, found {0}")]
    TooLong(usize),
}

impl Bundle {
    /// Creates a bundle that `payer` sends and pays for; fees that the operations pay, if any, are returned to it.
    ///
    /// `payer` must have no code: EntryPoint 0.9 accepts bundles only from plain accounts, and an account delegated by
    /// EIP-7702 is not plain.
    /// # Errors
    /// There is no operation, one has another version, or the gas or bytes exceed those of one transaction.
    pub fn new(entry_point: EntryPoint, payer: Address, ops: &[UserOperation]) -> Result<Self, BundleError> {
        if ops.is_empty() {
            return Err(BundleError::Empty);
        }
        let packed = ops.iter().map(|op| op.pack(entry_point.version)).collect::<Result<Vec<_>, PackError>>();
        let packed = packed.map_err(HashError::from)?;
        let hashes = ops.iter().map(|op| op.hash(&entry_point)).collect::<Result<_, _>>()?;
        let authorizations = ops.iter().filter_map(|op| Some((op.sender, op.eip7702_auth?))).collect();
        let call_data = PackedUserOperation::handle_ops(&packed, payer);
        if call_data.len() > MAX_CALL_DATA {
            return Err(BundleError::TooLong(call_data.len()));
        }
        let gas = gas_limit(ops, &call_data);
        if gas > MAX_TRANSACTION_GAS {
            return Err(BundleError::Gas { gas });
        }
        Ok(Self { entry_point, payer, ops: packed, hashes, authorizations, call_data, gas })
    }

    /// Returns the EntryPoint, the recipient of the transaction.
    #[must_use]
    pub const fn entry_point(&self) -> &EntryPoint {
        &self.entry_point
    }

    /// Returns the account that sends the transaction and receives the fees.
    #[must_use]
    pub const fn payer(&self) -> Address {
        self.payer
    }

    /// Returns the operations.
    #[must_use]
    pub fn operations(&self) -> &[PackedUserOperation] {
        &self.ops
    }

    /// Returns the hashes of the operations, in the same order.
    #[must_use]
    pub fn hashes(&self) -> &[B256] {
        &self.hashes
    }

    /// Returns the accounts that delegate by EIP-7702 in the same transaction: it must have type 4 and carry these
    /// authorizations.
    #[must_use]
    pub fn authorizations(&self) -> &[(Address, Eip7702Authorization)] {
        &self.authorizations
    }

    /// Returns the calldata of `handleOps`.
    #[must_use]
    pub const fn call_data(&self) -> &Bytes {
        &self.call_data
    }

    /// Returns the gas limit of the transaction.
    ///
    /// "If gasleft() * 63 / 64 < callGasLimit + paymasterPostOpGasLimit + INNER_GAS_OVERHEAD": the whole bundle reverts
    /// with AA95. The limit is therefore 64/63 of the sum of all limits, plus the EntryPoint's own gas.
    #[must_use]
    pub const fn gas(&self) -> u64 {
        self.gas
    }

    /// Converts to a call that a rail carries; `since` is the first block that can contain any event of it. The
    /// transaction of such a call does not carry the [`authorizations`](Self::authorizations).
    #[must_use]
    pub fn call(&self, since: u64) -> Call {
        Call {
            to: self.entry_point.address,
            data: self.call_data.clone(),
            gas: self.gas,
            since,
            until: None,
            sharing: Sharing::Alone,
        }
    }
}

fn gas_limit(ops: &[UserOperation], call_data: &[u8]) -> u64 {
    let limits = ops.iter().fold(0u128, |sum, op| {
        let paymaster = op.paymaster.as_ref();
        [
            op.verification_gas_limit,
            op.call_gas_limit,
            paymaster.map_or(0, |p| p.verification_gas_limit),
            paymaster.map_or(0, |p| p.post_op_gas_limit),
            u128::from(OPERATION_GAS),
        ]
        .into_iter()
        .fold(sum, u128::saturating_add)
    });
    let limits = u64::try_from(limits).unwrap_or(u64::MAX);
    let zeros = call_data.iter().filter(|byte| **byte == 0).count();
    let tokens = u64::try_from(call_data.len().saturating_mul(4).saturating_sub(zeros.saturating_mul(3)));
    let tokens = tokens.unwrap_or(u64::MAX);
    // Calldata costs 4 gas a token to send, and some more to copy it into memory three times.
    let run =
        limits.saturating_add(limits.div_ceil(63)).saturating_add(tokens.saturating_mul(6)).saturating_add(BASE_GAS);
    // EIP-7623: "10 a token" is the least that a transaction must have.
    run.max(tokens.saturating_mul(10).saturating_add(BASE_GAS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EntryPointVersion, Paymaster};

    const PAYER: Address = Address::repeat_byte(9);

    fn entry_point() -> EntryPoint {
        EntryPoint::canonical(EntryPointVersion::V07, 84532)
    }

    fn op(verification: u128, call: u128) -> UserOperation {
        UserOperation { verification_gas_limit: verification, call_gas_limit: call, ..UserOperation::default() }
    }

    #[test]
    fn gas_covers_all_limits_and_a_63rd_more() {
        let one = Bundle::new(entry_point(), PAYER, &[op(1_000_000, 260_000)]).unwrap();
        assert!(one.gas() > 1_280_000 + 60_000 + 21_000 && one.gas() < 1_400_000, "{}", one.gas());
        let paymaster =
            Paymaster { verification_gas_limit: 630_000, post_op_gas_limit: 63_000, ..Paymaster::default() };
        let paid = UserOperation { paymaster: Some(paymaster), ..op(1_000_000, 260_000) };
        let paid = Bundle::new(entry_point(), PAYER, &[paid]).unwrap();
        assert!(paid.gas() - one.gas() >= 704_000, "{}", paid.gas());
        let two = Bundle::new(entry_point(), PAYER, &[op(1_000_000, 260_000), op(63_000, 63_000)]).unwrap();
        assert!(two.gas() - one.gas() >= 128_000 + 60_000);
        assert_eq!(two.hashes().len(), 2);
    }

    #[test]
    fn a_long_call_costs_the_floor() {
        let long = UserOperation { call_data: vec![1; 20_000].into(), ..UserOperation::default() };
        let bundle = Bundle::new(entry_point(), PAYER, &[long]).unwrap();
        assert!(bundle.gas() >= 21_000 + 20_000 * 40);
    }

    #[test]
    fn what_no_transaction_carries_is_refused() {
        assert_eq!(Bundle::new(entry_point(), PAYER, &[]), Err(BundleError::Empty));
        assert!(matches!(Bundle::new(entry_point(), PAYER, &[op(u128::MAX, 1)]), Err(BundleError::Gas { .. })));
        assert!(matches!(Bundle::new(entry_point(), PAYER, &[op(16_500_000, 0)]), Err(BundleError::Gas { .. })));
        assert!(Bundle::new(entry_point(), PAYER, &[op(16_300_000, 0)]).is_ok());
        let long = UserOperation { call_data: vec![0; MAX_CALL_DATA].into(), ..UserOperation::default() };
        assert!(matches!(Bundle::new(entry_point(), PAYER, &[long]), Err(BundleError::TooLong(_))));
        let old = EntryPoint::canonical(EntryPointVersion::V06, 1);
        assert_eq!(Bundle::new(old, PAYER, &[op(1, 1)]), Err(BundleError::Hash(HashError::Pack(PackError::NotPacked))));
    }

    #[test]
    fn the_parcel_is_the_bundle() {
        let bundle = Bundle::new(entry_point(), PAYER, &[op(1, 2)]).unwrap();
        let call = bundle.call(7);
        assert_eq!((call.to, call.gas, call.since), (entry_point().address, bundle.gas(), 7));
        let (ops, beneficiary) = PackedUserOperation::from_handle_ops(&call.data).unwrap();
        assert_eq!((ops.as_slice(), beneficiary), (bundle.operations(), PAYER));
    }
}
