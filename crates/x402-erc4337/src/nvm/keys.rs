//! §5.2 Session Key Validation: "Session key MUST contain valid `id` and either `data` or `hash`", "MUST not be
//! expired", "MUST grant the required permissions", "MUST be scoped to the correct smart contracts".

use alloy_primitives::{Address, B256, keccak256};
use async_trait::async_trait;
use x402_types::nvm::{Code, Operation, SessionKey};
use x402_types::{ChainId, Fault, Refusal, Rejection, UnixSeconds};
use zeroize::Zeroizing;

use super::{NvmPolicy, Plan};
use crate::Call;
use crate::scope::{Calls, Limit, Scope, ScopeViolation, Signatures};
use crate::session::zerodev::{Approval, Permission};

/// "When only `hash` is provided, the facilitator MUST have a mechanism to retrieve the session key from off-chain
/// storage using the hash."
#[async_trait]
pub trait ReadSessionKeys: Send + Sync {
    /// Returns the text of the key with this hash, registered for this account of this network, or `None`. A payer
    /// cannot distinguish a missing key from a wrong one.
    /// # Errors
    /// The store failed.
    async fn session_key(
        &self,
        network: ChainId,
        account: Address,
        hash: B256,
    ) -> Result<Option<Zeroizing<String>>, Fault>;
}

/// A store without registered keys, for payments that carry their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoSessionKeys;

#[async_trait]
impl ReadSessionKeys for NoSessionKeys {
    async fn session_key(&self, _: ChainId, _: Address, _: B256) -> Result<Option<Zeroizing<String>>, Fault> {
        Ok(None)
    }
}

/// A key that may sign one kind of operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) operation: Operation,
    pub(super) approval: Approval,
    /// The permission, for the facilitator's session signer.
    pub(super) permission: Permission,
}

/// Returns the text of a key, from the payment or from the store.
/// # Errors
/// `INVALID_PAYLOAD` for an unknown hash.
pub(super) async fn text(
    key: &SessionKey,
    store: &dyn ReadSessionKeys,
    network: ChainId,
    account: Address,
) -> Result<Zeroizing<String>, Refusal> {
    if let Some(text) = key.data() {
        return Ok(Zeroizing::new(text.to_owned()));
    }
    let stored = store.session_key(network, account, key.hash().into()).await?;
    let unknown = || named(key, Code::InvalidPayload, "no such key is registered").detail("nvmCode", "BCK.X402.0035");
    Ok(stored.filter(|text| keccak256(text.as_bytes()) == key.hash()).ok_or_else(unknown)?)
}

/// Creates a rejection that names the key.
fn named(key: &SessionKey, code: Code, why: impl core::fmt::Display) -> Rejection {
    code.because(format!("sessionKeys.{}: {why}", key.id()))
}

/// Parses a key.
/// # Errors
/// `INVALID_PAYLOAD` if the key is malformed.
pub(super) fn read(key: &SessionKey, text: &str, policy: &NvmPolicy) -> Result<Approval, Rejection> {
    let approval = Approval::read(text).map_err(|why| named(key, Code::InvalidPayload, why))?;
    if approval.private_key.is_some() && !policy.private_keys {
        return Err(named(key, Code::InvalidPayload, "it carries a private key"));
    }
    Ok(approval)
}

impl Key {
    /// Checks that the key belongs to this account and to this session signer.
    /// # Errors
    /// `INVALID_USER_OPERATION` for a key of another account or another signer.
    pub(super) fn of(
        key: &SessionKey,
        operation: Operation,
        approval: Approval,
        account: Address,
        signer: Address,
    ) -> Result<Self, Rejection> {
        if approval.account != account {
            return Err(named(key, Code::InvalidUserOperation, "it is another account's"));
        }
        let permission = approval
            .permission_for(signer)
            .ok_or_else(|| named(key, Code::InvalidUserOperation, format_args!("it is not issued to {signer}")))?;
        Ok(Self { operation, approval, permission })
    }

    /// Returns the key's name in messages.
    const fn name(&self) -> &'static str {
        match self.operation {
            Operation::Order => "order",
            Operation::Redeem => "redeem",
        }
    }

    fn refuse(&self, code: Code, why: impl core::fmt::Display) -> Rejection {
        code.because(format!("the {} key: {why}", self.name()))
    }

    pub(super) fn scope(&self) -> Scope {
        self.permission.scope(self.approval.account)
    }

    /// Returns the last second in which the key is valid.
    pub(super) fn valid_until(&self) -> Option<u64> {
        self.scope().widest_window().valid_until
    }

    /// Checks "Session key MUST not be expired", whether or not this payment needs the key.
    /// # Errors
    /// `EXPIRED_SESSION_KEY`.
    pub(super) fn check_time(&self, now: UnixSeconds, policy: &NvmPolicy) -> Result<(), Rejection> {
        let window = self.scope().widest_window();
        let refuse = |why: String| Err(self.refuse(Code::ExpiredSessionKey, why).detail("nvmCode", "BCK.X402.0026"));
        match (window.valid_after, window.valid_until) {
            (_, Some(until)) if until <= now.plus(policy.margin).0 => refuse(format!("it ends at {until}")),
            (Some(after), _) if after > now.0 => refuse(format!("it is not valid before {after}")),
            (_, None) if !policy.endless_keys => refuse("it has no end".to_owned()),
            _ => Ok(()),
        }
    }

    /// Checks "Session key MUST be scoped to the correct smart contracts": the key permits these calls, and no contract
    /// or function other than the plan's.
    /// # Errors
    /// `INVALID_USER_OPERATION`.
    pub(super) fn check_scope(
        &self,
        calls: &[Call],
        plan: &Plan,
        now: UnixSeconds,
        policy: &NvmPolicy,
    ) -> Result<(), Rejection> {
        let refuse = |why: &dyn core::fmt::Display| Err(self.refuse(Code::InvalidUserOperation, why));
        let scope = self.scope();
        if scope.signatures != Signatures::Closed && !policy.open_keys {
            return refuse(&"it may sign in the account's name beside operations");
        }
        if scope.limits.iter().any(|limit| matches!(limit, Limit::Gas { paymaster: Some(_), .. })) {
            return refuse(&"it needs a paymaster, which is not used here");
        }
        match &scope.calls {
            Calls::Any => return refuse(&"it permits every call"),
            Calls::Only(kinds) => {
                let of_plan = |target: Address, selector| {
                    let mut own = plan.calls.order.iter().chain(&plan.calls.redeem);
                    own.any(|call| call.target == target && call.selector == selector)
                };
                if !kinds.iter().all(|kind| kind.target.zip(kind.selector).is_some_and(|(t, s)| of_plan(t, s))) {
                    return refuse(&"it permits calls beside the plan's");
                }
            }
        }
        calls.iter().try_for_each(|call| scope.permits(call, now)).map_err(|why| match why {
            ScopeViolation::Expired(_) | ScopeViolation::NotYetValid(_) => self.refuse(Code::ExpiredSessionKey, why),
            why => self.refuse(Code::InvalidUserOperation, why),
        })
    }
}
