//! The relevant members of a serialized permission account, parsed before its factory is identified.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, keccak256};
use base64_simd::STANDARD;
use x402_codec::Limits;
use x402_codec::json;
use zeroize::Zeroizing;

use super::account::{FactoryData, KernelVersion};
use super::approval::{ApprovalError, MAX_APPROVAL, SessionPrivateKey};
use super::permission::MAX_POLICIES;
use super::policy::PolicyItem;
use super::read;
use crate::Eip7702Authorization;
use crate::fields::{Field, FieldError, Problem, is_lower};

/// The content of the text. `init` is `None` for an EIP-7702 account.
pub(super) struct Serialized {
    pub(super) policies: Vec<PolicyItem>,
    pub(super) permission_id: FixedBytes<4>,
    pub(super) account: Address,
    pub(super) init: Option<FactoryData>,
    pub(super) enable_signature: Option<Bytes>,
    pub(super) private_key: Option<SessionPrivateKey>,
    pub(super) eip7702_auth: Option<Eip7702Authorization>,
    pub(super) hash: B256,
}

impl Serialized {
    /// Parses the text. Every relevant member has only one accepted spelling; irrelevant members are ignored.
    pub(super) fn read(text: &str) -> Result<Self, ApprovalError> {
        if text.len() > MAX_APPROVAL {
            return Err(ApprovalError::TooLong);
        }
        let json = Zeroizing::new(STANDARD.decode_to_vec(text).map_err(|_| ApprovalError::Base64)?);
        // Bits beyond the last byte would be a second spelling.
        if *Zeroizing::new(STANDARD.encode_to_string(&*json)) != *text {
            return Err(ApprovalError::Base64);
        }
        let node = json::parse(&json, &Limits::DEFAULT).map_err(ApprovalError::Json)?;
        let root = Field::root(&node).object()?;
        let params = root.required("permissionParams")?.object()?;
        let account = root.required("accountParams")?.object()?;
        execute_only(&root.required("action")?.object()?)?;

        let policies = read::policies(&params.required("policies")?, MAX_POLICIES)?;
        for (i, item) in policies.iter().enumerate() {
            if policies.iter().skip(i + 1).any(|other| other.address == item.address) {
                return Err(ApprovalError::PolicyTwice(item.address));
            }
        }
        let address = account.required("accountAddress")?.address()?;
        let init_field = account.required("initCode")?;
        let init_code = init_field.bytes(4096)?;
        let pre_installed = root.optional("isPreInstalled").map_or(Ok(false), |f| f.boolean())?;
        let enable_signature = if pre_installed {
            root.refuse("enableSignature", "a pre-installed permission has none")?;
            None
        } else {
            Some(root.required("enableSignature")?.lower_bytes(1024)?)
        };
        let eip7702_auth = root.optional("eip7702Auth").map(|f| Eip7702Authorization::read(&f)).transpose()?;
        let init = if init_code.is_empty() {
            let implementation = KernelVersion::V033.implementation();
            if eip7702_auth.is_some_and(|auth| auth.address != implementation) {
                return Err(FieldError::new("eip7702Auth.address", Problem::Refused("is not Kernel 0.3.3")).into());
            }
            None
        } else {
            let data = FactoryData::read(&init_code)?;
            let text = init_field.text()?;
            if !is_lower(text) && text != data.text() {
                return Err(init_field.error(Problem::Form("lower-case hexadecimal, or the SDK's spelling")).into());
            }
            Some(data)
        };
        Ok(Self {
            policies,
            permission_id: params.required("permissionId")?.lower_fixed()?,
            account: address,
            init,
            enable_signature,
            private_key: root.optional("privateKey").map(|f| SessionPrivateKey::read(&f)).transpose()?,
            eip7702_auth,
            hash: keccak256(text),
        })
    }
}

/// Checks "selectorData … always this, for execute": another action would enable another selector with the permission.
fn execute_only(action: &Field<'_>) -> Result<(), FieldError> {
    let selector = action.required("selector")?;
    if selector.lower_fixed::<4>()?.0 != [0xe9, 0xae, 0x5c, 0x53] {
        return Err(selector.error(Problem::Refused("is not execute(bytes32,bytes)")));
    }
    let address = action.required("address")?;
    if !address.address()?.is_zero() {
        return Err(address.error(Problem::Refused("runs another contract's code in the account")));
    }
    if let Some(hook) = action.optional("hook") {
        let none = hook.text().is_ok() && hook.address()?.is_zero();
        if !none {
            return Err(hook.error(Problem::Refused("a hook is installed beside the permission")));
        }
    }
    Ok(())
}
