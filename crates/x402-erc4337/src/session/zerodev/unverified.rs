//! Serialized permission accounts whose factory is unknown: for inspection only.

use alloy_primitives::{Address, B256, FixedBytes};

use super::account::{KernelAccount, KernelVersion};
use super::approval::{ApprovalCheckError, ApprovalError, EnableStatus, Findings, SessionPrivateKey, fit_any};
use super::policy::PolicyItem;
use super::serialized::Serialized;

/// The statements of a serialized permission account, whatever factory creates its account.
///
/// The address of such an account cannot be recomputed, so nothing ties the owner, whose signature enables the
/// permission, to the account. Therefore it cannot be converted to an operation or checked: keys for payments are
/// parsed by [`Approval::read`](super::Approval::read), which refuses these.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnverifiedApproval {
    /// The policies that limit the permission.
    pub policies: Vec<PolicyItem>,
    /// The id that the text claims.
    pub permission_id: FixedBytes<4>,
    /// The account that the text claims.
    pub account: Address,
    /// The factory in `initCode`; `None` if it names none.
    pub factory: Option<Address>,
    /// The owner in `initCode`.
    pub owner: Address,
    /// The address of the session key, if the text contains its private key. The key itself is not kept.
    pub embedded_signer: Option<Address>,
    /// Whether the enable signature is absent because the permission is installed already.
    pub pre_installed: bool,
    hash: B256,
}

impl UnverifiedApproval {
    /// Parses the base64 text, as [`Approval::read`](super::Approval::read) does. If `initCode` names a known factory,
    /// that factory must create the account.
    /// # Errors
    /// The text is not such an account; the error names the member or policy, never its value.
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

    /// Returns the `keccak256` of the text that was parsed, by which payments refer to the key.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// Collects the facts that follow from some candidates for the signer; the embedded key is always one of them. The
    /// enable signature stays unchecked, because its signer is unknown.
    /// # Errors
    /// [`ApprovalCheckError::PermissionId`] if there are candidates and none of them matches.
    pub fn inspect(&self, signers: &[Address]) -> Result<Findings, ApprovalCheckError> {
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
        assert_eq!(read.inspect(&[OWNER]), Err(ApprovalCheckError::PermissionId));
    }

    /// Checks that calldata for the factory itself name no factory: only the address could identify it.
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

        // A known factory that is named creates another account: the address is false, and the factory is not unknown.
        let known = KernelAccount::new(KernelVersion::V031, OWNER, U256::ZERO);
        let text = edited(|json| code(&json, &hex::encode_prefixed(known.factory_data())));
        assert_eq!(refused(UnverifiedApproval::read(&text)), AccountError::Address);
    }
}
