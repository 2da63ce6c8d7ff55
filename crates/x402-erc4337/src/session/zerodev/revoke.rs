//! Revokes a permission: calls that the owner makes from the account to itself.
//!
//! `invalidateNonce` and expiry stop operations; only `uninstallValidation` also stops EIP-1271 signatures of an open
//! key. The identical permission can never be enabled again: a new approval must differ in something.

use alloy_primitives::{Address, Bytes, FixedBytes, U256};
use alloy_sol_types::{SolCall, SolValue, sol};

use super::permission::validation_id;
use crate::Call;

sol! {
    function invalidateNonce(uint32 nonce) external payable;
    function uninstallValidation(bytes21 vId, bytes deinitData, bytes hookDeinitData) external payable;
}

/// Creates the call that ends every permission that was enabled under a nonce below `nonce`, and every approval for it.
#[must_use]
pub fn invalidate_nonce(account: Address, nonce: u32) -> Call {
    Call { target: account, value: U256::ZERO, data: invalidateNonceCall { nonce }.abi_encode().into() }
}

/// Creates the call that ends this permission, by its id and the number of its policies. Each policy and the signer
/// receive empty data.
#[must_use]
pub fn uninstall(account: Address, permission_id: FixedBytes<4>, policies: usize) -> Call {
    let nothing = vec![Bytes::new(); policies.saturating_add(1)];
    let call = uninstallValidationCall {
        vId: validation_id(permission_id),
        deinitData: nothing.abi_encode().into(),
        hookDeinitData: Bytes::new(),
    };
    Call { target: account, value: U256::ZERO, data: call.abi_encode().into() }
}
