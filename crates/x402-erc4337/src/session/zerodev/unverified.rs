//! Serialized permission accounts of accounts that no known factory makes: for looking at only.

use alloy_primitives::{Address, B256, FixedBytes};

use super::account::{KernelAccount, KernelVersion};
use super::approval::{ApprovalError, CheckError, EnableStatus, Findings, SessionPrivateKey, fit_any};
use super::policy::PolicyItem;
use super::serialized::Serialized;

/// What a serialized permission account states, whichever factory made its account.
///
/// The address of such an account cannot be recomputed, so nothing ties the owner, whose signature enables the
/// permission, to the account. There is therefore no way from it to an operation or to a check: a key that is paid with
/// is read by [`Approval::read`](super::Approval::read), which refuses these.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnverifiedApproval {
    /// What the permission is limited by.
    pub policies: Vec<PolicyItem>,
    /// The id that it claims to have.
    pub permission_id: FixedBytes<4>,
    /// The account that it claims to be for.
    pub account: Address,
    /// The factory that `initCode` names; `None` where it names none.
    pub factory: Option<Address>,
    /// The owner that `initCode` names.
    pub owner: Address,
    /// The address of the session key, if its private key stands inside. The key itself is not kept.
    pub embedded_signer: Option<Address>,
    /// Whether there is no enable signature because the permission is installed already.
    pub pre_installed: bool,
    hash: B256,
}

impl UnverifiedApproval {
    /// Reads the base64 text, as [`Approval::read`](super::Approval::read) does. A known factory that `initCode` names
    /// must make the account still.
    ///
    /// # Errors
    /// Not such a text; the member or policy is named, its value never.
    pub fn read(text: &str) -> Result<Self, ApprovalError> {
        let read = Serialized::read(text)?;
        let (factory, owner) = match read.init {
            Some(data) => {
                if data.factory.and_then(KernelVersion::of_factory).is_some() {
                    KernelAccount::made_at(read.account, data)?;
                }
                (data.factory, data.owner)
            }
            None => (None, read.account),
        };
        Ok(Self {
            policies: read.policies,
            permission_id: read.permission_id,
            account: read.account,
            factory,
            owner,
            embedded_signer: read.private_key.as_ref().map(SessionPrivateKey::address),
            pre_installed: read.enable_signature.is_none(),
            hash: read.hash,
        })
    }

    /// `keccak256` of the text that was read: how a payment names a key.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// What can be told with some candidates for the signer; the embedded key is always one of them. The enable
    /// signature stays unchecked: whose it should be is not known.
    ///
    /// # Errors
    /// [`CheckError::PermissionId`] if there are candidates and none of them fits.
    pub fn inspect(&self, signers: &[Address]) -> Result<Findings, CheckError> {
        let permission = fit_any(&self.policies, self.permission_id, self.embedded_signer, signers)?;
        let signer = permission.as_ref().and_then(|p| p.signer.address());
        Ok(Findings {
            signer_embedded: self.embedded_signer.is_some() && signer == self.embedded_signer,
            permission,
            chain_id: None,
            enable_signature: if self.pre_installed { EnableStatus::Absent } else { EnableStatus::Unchecked },
        })
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{U256, address, hex};
    use base64_simd::STANDARD;

    use super::super::{AccountError, Approval};
    use super::*;

    /// `vectors/cases/keys`: the meta factory deploys by a factory of the account's maker.
    const OWN_FACTORY: &str = include_str!("../../../../x402-testkit/vectors/cases/keys/k03-own-factory.txt");
    const FACTORY: Address = address!("00000000000000000000000000000000000000ee");
    const OWNER: Address = address!("70997970C51812dc3A010C7d01b50e0d17dc79C8");

    fn edited(edit: impl Fn(String) -> String) -> String {
        let json = String::from_utf8(STANDARD.decode_to_vec(OWN_FACTORY.trim()).unwrap()).unwrap();
        STANDARD.encode_to_string(edit(json))
    }

    fn refused<T: core::fmt::Debug>(read: Result<T, ApprovalError>) -> AccountError {
        match read {
            Err(ApprovalError::Account(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_of_an_unknown_factory_is_looked_at_and_not_paid_with() {
        let text = OWN_FACTORY.trim();
        assert_eq!(refused(Approval::read(text)), AccountError::Factory(FACTORY));
        let read = UnverifiedApproval::read(text).unwrap();
        assert_eq!((read.factory, read.owner), (Some(FACTORY), OWNER));
        assert_eq!(read.account, address!("00000000000000000000000000000000000000f1"));
        assert_eq!(read.inspect(&[]).unwrap().enable_signature, EnableStatus::Unchecked);
        assert_eq!(read.inspect(&[OWNER]), Err(CheckError::PermissionId));
    }

    /// Calldata for the factory itself name no factory: only the address could tell.
    #[test]
    fn a_factory_that_is_not_named_is_unknown_too() {
        let direct =
            KernelAccount { meta_factory: false, ..KernelAccount::new(KernelVersion::V031, OWNER, U256::ZERO) };
        let code = |json: &str, code: &str| {
            let start = json.find("0xc5265d5d").unwrap();
            let end = start + json[start..].find('"').unwrap();
            format!("{}{code}{}", &json[..start], &json[end..])
        };
        let text = edited(|json| code(&json, &hex::encode_prefixed(direct.factory_data())));
        assert_eq!(refused(Approval::read(&text)), AccountError::Address);
        let read = UnverifiedApproval::read(&text).unwrap();
        assert_eq!((read.factory, read.owner), (None, OWNER));

        // A known factory that is named makes another account: that is a false address, and no unknown factory.
        let known = KernelAccount::new(KernelVersion::V031, OWNER, U256::ZERO);
        let text = edited(|json| code(&json, &hex::encode_prefixed(known.factory_data())));
        assert_eq!(refused(UnverifiedApproval::read(&text)), AccountError::Address);
    }
}
