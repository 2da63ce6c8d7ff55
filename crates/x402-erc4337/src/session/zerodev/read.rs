//! Parses the policies of a serialized permission account from `policyParams`.

use alloy_primitives::{Address, B256, FixedBytes};

use super::ApprovalError;
use super::policy::{
    CallPermission, CallPolicyVersion, CallRule, Condition, Policy, PolicyError, PolicyItem, contracts,
};
use crate::MAX_UINT48;
use crate::fields::{Field, FieldError, Problem, is_lower};

/// The maximum number of permissions of one call policy, rules of one permission, parameters of one rule, and callers,
/// each.
const MAX_ITEMS: usize = 256;

pub(super) fn policies(field: &Field<'_>, max: usize) -> Result<Vec<PolicyItem>, ApprovalError> {
    field
        .items(max)?
        .enumerate()
        .map(|(index, item)| {
            let item = item.object()?;
            let params = item.required("policyParams")?.object()?;
            let refused = |error| ApprovalError::Policy { index, error };
            let item = policy_item(&params).map_err(|why| match why {
                NotPolicy::Field(error) => error.into(),
                NotPolicy::Policy(error) => refused(error),
            })?;
            item.policy.check().map_err(refused)?;
            Ok(item)
        })
        .collect()
}

/// The reason why a member is no policy: its form, or what it would allow.
enum NotPolicy {
    Field(FieldError),
    Policy(PolicyError),
}

impl From<FieldError> for NotPolicy {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

impl From<PolicyError> for NotPolicy {
    fn from(error: PolicyError) -> Self {
        Self::Policy(error)
    }
}

fn policy_item(params: &Field<'_>) -> Result<PolicyItem, NotPolicy> {
    let kind = params.required("type")?;
    let address = params.optional("policyAddress").map(|f| f.address()).transpose()?;
    let flag = flag(&params.required("policyFlag")?)?;
    let policy = match kind.text()? {
        "call" => return call(params, flag, address),
        "timestamp" => Policy::Timestamp {
            valid_after: uint48(&params.required("validAfter")?)?,
            valid_until: uint48(&params.required("validUntil")?)?,
        },
        "rate-limit" => {
            let interval = uint48(&params.required("interval")?)?;
            let count = uint48(&params.required("count")?)?;
            let start_at = uint48(&params.required("startAt")?)?;
            match address {
                Some(contracts::RATE_LIMIT) => Policy::RateLimit { interval, count, start_at },
                // "RATE_LIMIT_POLICY_WITH_RESET_CONTRACT does not support startAt"
                Some(contracts::RATE_LIMIT_WITH_RESET) if start_at == 0 => {
                    Policy::RateLimitWithReset { interval, count }
                }
                other => return Err(PolicyError::Malformed(other.unwrap_or_default()).into()),
            }
        }
        "gas" => {
            let allowed = params.required("allowed")?;
            Policy::Gas {
                allowed: u128::try_from(allowed.decimal()?).map_err(|_| allowed.error(Problem::Range("uint128")))?,
                enforce_paymaster: params.required("enforcePaymaster")?.boolean()?,
                allowed_paymaster: params.required("allowedPaymaster")?.address()?,
            }
        }
        "signature-caller" => {
            let callers = params.required("allowedCallers")?;
            let callers = callers.items(MAX_ITEMS)?.map(|f| f.address()).collect::<Result<_, _>>()?;
            Policy::SignatureCaller(callers)
        }
        "sudo" => Policy::Sudo,
        _ => return Err(kind.error(Problem::Refused("unknown policy")).into()),
    };
    // Only the call policy has a default that depends on another member.
    let address = address.ok_or_else(|| missing(params, "policyAddress"))?;
    Ok(PolicyItem { flag, address, policy })
}

fn missing(params: &Field<'_>, key: &'static str) -> FieldError {
    FieldError::new(format!("{params}.{key}"), Problem::Missing)
}

fn call(params: &Field<'_>, flag: u16, address: Option<Address>) -> Result<PolicyItem, NotPolicy> {
    let version = params.required("policyVersion")?;
    let text = version.text()?;
    let version = CallPolicyVersion::ALL
        .into_iter()
        .find(|v| v.as_str() == text)
        .ok_or_else(|| version.error(Problem::Refused("unknown version of the call policy")))?;
    let address = address.unwrap_or_else(|| version.address());
    // The SDK encodes by the address, whatever the version member contains.
    if version.address() != address
        && (version == CallPolicyVersion::V001 || CallPolicyVersion::ALL.iter().any(|v| v.address() == address))
    {
        return Err(PolicyError::Malformed(address).into());
    }
    let mut permissions = Vec::new();
    for item in params.required("permissions")?.items(MAX_ITEMS)? {
        let item = item.object()?;
        let call_type: FixedBytes<1> = item.required("callType")?.lower_fixed()?;
        if !call_type.is_zero() {
            return Err(PolicyError::CallType(call_type).into());
        }
        let rules = item.required("rules")?;
        permissions.push(CallPermission {
            target: item.required("target")?.address()?,
            selector: item.required("selector")?.lower_fixed()?,
            value_limit: item.required("valueLimit")?.decimal()?,
            rules: rules.items(MAX_ITEMS)?.map(|r| rule(&r, version)).collect::<Result<_, _>>()?,
        });
    }
    Ok(PolicyItem { flag, address, policy: Policy::Call { version, permissions } })
}

fn rule(field: &Field<'_>, version: CallPolicyVersion) -> Result<CallRule, FieldError> {
    let field = field.object()?;
    let condition = field.required("condition")?;
    let code = condition.integer(u64::MAX, "uint64")?;
    let params = field.required("params")?;
    Ok(CallRule {
        condition: Condition::from_code(code).ok_or_else(|| condition.error(Problem::Refused("unknown condition")))?,
        offset: field.required("offset")?.integer(u64::MAX, "uint64")?,
        params: if version == CallPolicyVersion::V001 {
            vec![word(&params)?]
        } else {
            params.items(MAX_ITEMS)?.map(|f| word(&f)).collect::<Result<_, _>>()?
        },
    })
}

/// Parses 32 bytes in lower case, or an address with its checksum, padded: the SDK keeps the spelling of an argument.
fn word(field: &Field<'_>) -> Result<B256, FieldError> {
    let word: B256 = field.fixed()?;
    let text = field.text()?;
    let address = Address::from_word(word);
    let padded = text.len() == 66
        && text.get(..26) == Some("0x000000000000000000000000")
        && text.get(26..) == address.to_checksum(None).get(2..);
    if is_lower(text) || padded { Ok(word) } else { Err(field.error(Problem::Form("lower-case hexadecimal"))) }
}

fn flag(field: &Field<'_>) -> Result<u16, FieldError> {
    let flag: FixedBytes<2> = field.lower_fixed()?;
    match u16::from_be_bytes(flag.0) {
        flag @ 0..=3 => Ok(flag),
        _ => Err(field.error(Problem::Refused("unknown flag"))),
    }
}

fn uint48(field: &Field<'_>) -> Result<u64, FieldError> {
    field.integer(MAX_UINT48, "uint48")
}
