//! The scope of a Kernel permission, in the common form.

use alloy_primitives::Address;

use super::approval::Approval;
use super::policy::{NOT_FOR_SIGNATURES, NOT_FOR_USER_OP, Policy, PolicyItem};
use super::{CallPermission, ECDSA_SIGNER, ECDSA_VALIDATOR, Permission, UnverifiedApproval};
use crate::EntryPointVersion;
use crate::scope::{AllowedCall, Calls, Limit, Rule, Scope, Signatures, Test, Window};

impl Approval {
    /// Returns the scope of the key. Without a permission its flag is unknown, and counts as "no limit of the
    /// permission".
    #[must_use]
    pub fn scope(&self, permission: Option<&Permission>) -> Scope {
        scope(self.account, &self.policies, permission.map_or(0, |p| p.flag))
    }
}

impl UnverifiedApproval {
    /// Returns the scope of the key, provided that its account is the Kernel that the text states; `permission` as in
    /// [`Approval::scope`].
    #[must_use]
    pub fn scope(&self, permission: Option<&Permission>) -> Scope {
        scope(self.account, &self.policies, permission.map_or(0, |p| p.flag))
    }
}

impl Permission {
    /// Returns the scope of the permission for an account.
    #[must_use]
    pub fn scope(&self, account: Address) -> Scope {
        scope(account, &self.policies, self.flag)
    }
}

fn scope(account: Address, policies: &[PolicyItem], flag: u16) -> Scope {
    let mut scope = Scope {
        account,
        entry_point: EntryPointVersion::V07.address(),
        modules: [ECDSA_VALIDATOR, ECDSA_SIGNER].into_iter().chain(policies.iter().map(|p| p.address)).collect(),
        operations: flag & NOT_FOR_USER_OP == 0,
        calls: Calls::Any,
        window: Window::default(),
        limits: Vec::new(),
        signatures: if flag & NOT_FOR_SIGNATURES == 0 { Signatures::Open } else { Signatures::Closed },
        unknown: Vec::new(),
    };
    for item in policies {
        if !item.is_known() {
            scope.unknown.push(item.address);
            continue;
        }
        // "on a policy item: skip that policy there"
        if let Policy::SignatureCaller(callers) = &item.policy
            && item.flag & NOT_FOR_SIGNATURES == 0
            && scope.signatures == Signatures::Open
        {
            scope.signatures = if callers.is_empty() { Signatures::Closed } else { Signatures::For(callers.clone()) };
        }
        if item.flag & NOT_FOR_USER_OP == 0 {
            add(&mut scope, &item.policy);
        }
    }
    scope
}

fn add(scope: &mut Scope, policy: &Policy) {
    match policy {
        Policy::Call { permissions, .. } => {
            let kinds: Vec<AllowedCall> = permissions.iter().map(allowed).collect();
            match &scope.calls {
                Calls::Any => scope.calls = Calls::Only(kinds),
                // Two versions of the call policy must both agree: the intersection cannot be expressed here.
                Calls::Only(_) => scope.unknown.push(policy.address()),
            }
        }
        Policy::Timestamp { valid_after, valid_until } => {
            scope.window = scope.window.intersect(Window::new(*valid_after, *valid_until));
        }
        Policy::RateLimit { interval, count, start_at } => {
            scope.limits.push(Limit::Calls { count: *count, interval: *interval, start_at: *start_at });
        }
        Policy::RateLimitWithReset { interval, count } => {
            scope.limits.push(Limit::CallsPerInterval { count: *count, interval: *interval });
        }
        Policy::Gas { allowed, enforce_paymaster, allowed_paymaster } => {
            let paymaster = enforce_paymaster.then_some(*allowed_paymaster);
            scope.limits.push(Limit::Gas { allowed: *allowed, paymaster });
        }
        Policy::SignatureCaller(_) | Policy::Sudo => {}
    }
}

fn allowed(permission: &CallPermission) -> AllowedCall {
    AllowedCall {
        target: (!permission.target.is_zero()).then_some(permission.target),
        selector: Some(permission.selector),
        value_limit: Some(permission.value_limit),
        rules: permission
            .rules
            .iter()
            .map(|r| Rule { offset: r.offset, test: Test::Compare(r.condition, r.params.clone()) })
            .collect(),
        window: Window::default(),
        limits: Vec::new(),
    }
}
