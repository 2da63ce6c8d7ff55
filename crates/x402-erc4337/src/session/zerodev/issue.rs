//! Issues a session key: the owner approves calls, amounts, a count and a period, in one signature.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use x402_evm::key::Sign;
use x402_evm::signature::{self, Signature, SignatureError};
use x402_types::Fault;

use super::policy::{CallPermission, CallPolicyVersion, CallRule, Condition, Policy, PolicyError, PolicyItem};
use super::{Approval, KernelAccount, Permission, PermissionSigner};

/// The permissions to give to a session key. It never permits EIP-1271 signatures.
///
/// ```
/// # use alloy_primitives::{address, fixed_bytes, U256};
/// use x402_erc4337::session::zerodev::Grant;
///
/// let plans = address!("39Af4F6334D1E8d65b3a2317Cd8D27f3513fdCff");
/// let grant = Grant::new(1_780_000_000, 1_900_000_000)
///     .times(10)
///     .call(plans, fixed_bytes!("7cbc2373"))
///     .equal(0, U256::from(42))
///     .at_most(32, U256::from(5));
/// assert!(Grant::new(0, 0).call(plans, fixed_bytes!("7cbc2373")).policies().is_err(), "no expiry");
/// assert_eq!(grant.policies().unwrap().len(), 4);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    valid_after: u64,
    valid_until: u64,
    count: Option<u64>,
    calls: Vec<CallPermission>,
}

/// The error for a grant that is refused, or a signer that fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The key would never expire.
    #[error("a session key needs an expiry")]
    NoExpiry,
    /// The key would expire before it becomes valid.
    #[error("a session key ends before it begins")]
    Times,
    /// The key would permit no call, or no use.
    #[error("a session key needs a call and a count above zero")]
    Nothing,
    /// The target of a call is arbitrary, the account itself or the EntryPoint.
    #[error("expected a contract other than the account and the EntryPoint, found {0}")]
    Target(Address),
    /// The chain would refuse the policy or interpret it differently.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The signer is not the owner of the account.
    #[error("expected the owner {owner} as signer, found {signer}")]
    Owner {
        /// The address of the signer.
        signer: Address,
        /// The owner, whose signature the account requires.
        owner: Address,
    },
    /// The signer failed.
    #[error(transparent)]
    Signer(#[from] Fault),
    /// The signature is not one of an account.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl Grant {
    /// Creates an empty grant, valid between two seconds, both included.
    #[must_use]
    pub const fn new(valid_after: u64, valid_until: u64) -> Self {
        Self { valid_after, valid_until, count: None, calls: Vec::new() }
    }

    /// Limits the total number of operations.
    #[must_use]
    pub const fn times(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Permits calls of one function of one contract, without native value.
    #[must_use]
    pub fn call(mut self, target: Address, selector: FixedBytes<4>) -> Self {
        self.calls.push(CallPermission { target, selector, value_limit: U256::ZERO, rules: Vec::new() });
        self
    }

    /// Requires of the last call that the word at this offset after the selector is equal to this one.
    #[must_use]
    pub fn equal(self, offset: u64, word: U256) -> Self {
        self.rule(offset, Condition::Equal, word)
    }

    /// Requires of the last call that the word at this offset after the selector is at most this one.
    #[must_use]
    pub fn at_most(self, offset: u64, amount: U256) -> Self {
        self.rule(offset, Condition::LessOrEqual, amount)
    }

    /// Permits with the last call a native value of at most this much wei, per call.
    #[must_use]
    pub fn value(mut self, limit: U256) -> Self {
        if let Some(call) = self.calls.last_mut() {
            call.value_limit = limit;
        }
        self
    }

    fn rule(mut self, offset: u64, condition: Condition, word: U256) -> Self {
        if let Some(call) = self.calls.last_mut() {
            call.rules.push(CallRule { condition, offset, params: vec![B256::from(word)] });
        }
        self
    }

    /// Builds the policies of this grant: calls, period, count, and no EIP-1271 signatures.
    /// # Errors
    /// The grant has no expiry, call or count, or the chain would interpret it differently.
    pub fn policies(&self) -> Result<Vec<PolicyItem>, IssueError> {
        if self.valid_until == 0 || self.valid_until >= crate::MAX_UINT48 {
            return Err(IssueError::NoExpiry);
        }
        if self.valid_after > self.valid_until {
            return Err(IssueError::Times);
        }
        if self.calls.is_empty() || self.count == Some(0) {
            return Err(IssueError::Nothing);
        }
        if let Some(any) = self.calls.iter().find(|c| c.target.is_zero()) {
            return Err(IssueError::Target(any.target));
        }
        let mut policies = vec![
            Policy::Call { version: CallPolicyVersion::V004, permissions: self.calls.clone() },
            Policy::Timestamp { valid_after: self.valid_after, valid_until: self.valid_until },
        ];
        if let Some(count) = self.count {
            policies.push(Policy::RateLimit { interval: 0, count, start_at: 0 });
        }
        // A flag on the permission would have the same effect, but the SDK loses it when it parses the approval.
        policies.push(Policy::SignatureCaller(Vec::new()));
        for policy in &policies {
            policy.check()?;
        }
        Ok(policies.into_iter().map(PolicyItem::standard).collect())
    }
}

/// A session key that awaits the owner's signature, wherever that is made.
#[derive(Debug, Clone)]
pub struct Draft {
    permission: Permission,
    account: KernelAccount,
    digest: B256,
}

impl Draft {
    /// Prepares the message that the owner signs. `nonce` is the account's `currentNonce()`, 1 if it is not deployed.
    /// # Errors
    /// The grant is refused.
    pub fn new(
        account: &KernelAccount,
        session: Address,
        grant: &Grant,
        chain_id: u64,
        nonce: u32,
    ) -> Result<Self, IssueError> {
        let address = account.address();
        let permission = Permission { policies: grant.policies()?, flag: 0, signer: PermissionSigner::ecdsa(session) };
        let inward = [address, crate::EntryPointVersion::V07.address()];
        if let Some(call) = grant.calls.iter().find(|c| inward.contains(&c.target)) {
            return Err(IssueError::Target(call.target));
        }
        let digest = permission.enable_digest(address, account.version, chain_id, nonce);
        Ok(Self { permission, account: *account, digest })
    }

    /// Returns the EIP-712 digest of `Enable`.
    #[must_use]
    pub const fn digest(&self) -> B256 {
        self.digest
    }

    /// Completes the approval with the owner's signature of the digest.
    /// # Errors
    /// The signature is not the owner's.
    pub fn approved(self, signature: &Signature) -> Result<Approval, IssueError> {
        let signer = signature::recover(self.digest, signature)?;
        if signer != self.account.owner {
            return Err(IssueError::Owner { signer, owner: self.account.owner });
        }
        Ok(Approval::new(&self.permission, self.account, Bytes::copy_from_slice(&signature.to_bytes())))
    }
}

/// Issues `grant` to `session`: the owner signs once, and the approval can be handed over. `nonce` is the account's
/// `currentNonce()`, 1 if it is not deployed.
/// # Errors
/// The grant is refused, or the signer is not the owner, or fails.
pub async fn issue<S: Sign>(
    owner: &S,
    account: &KernelAccount,
    session: Address,
    grant: &Grant,
    chain_id: u64,
    nonce: u32,
) -> Result<Approval, IssueError> {
    if owner.address() != account.owner {
        return Err(IssueError::Owner { signer: owner.address(), owner: account.owner });
    }
    let draft = Draft::new(account, session, grant, chain_id, nonce)?;
    let signature = owner.sign(draft.digest()).await?;
    draft.approved(&signature)
}
