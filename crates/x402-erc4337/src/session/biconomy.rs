//! [Biconomy's session details](https://docs.biconomy.io/): Smart Sessions as JSON, with
//! `{"__type":"bigint","value":"…"}` for big numbers, of Nexus and of Safe7579.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use x402_codec::json;
use x402_codec::{DecodeError, Limits};

use super::SerializedKey;
use super::smart::{
    ActionData, ChainDigest, ERC7739Context, ERC7739Data, EnableMode, EnableSession, PolicyData, Session,
    permission_id, scope,
};
use crate::fields::{Field, FieldError, Problem};
use crate::scope::Scope;

/// The maximum length of the text: 64 KiB.
pub const MAX_DETAILS: usize = 64 * 1024;
/// The maximum number of sessions, chains, policies, actions and contents, each.
const MAX_ITEMS: usize = 64;

/// Serialized sessions of one account.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionDetails {
    /// The type of the account.
    pub account_type: AccountType,
    /// The sessions, at least one.
    pub sessions: Vec<SessionDetail>,
    hash: B256,
}

/// The account types whose sessions can be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountType {
    /// Nexus, by Biconomy.
    Nexus,
    /// A Safe with the adapter Safe7579.
    Safe,
}

/// One session: the data that enables it, with the owner's approval.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionDetail {
    /// The mode in which it is enabled; `None` if it is enabled already.
    pub mode: Option<EnableMode>,
    /// The id, derived from validator, init data and salt.
    pub permission_id: B256,
    /// The data that enable the session. `permissionEnableSig` is in the contract's form, `validator ‖ signature`.
    pub enable: EnableSession,
    /// The account's module that verifies the owner.
    pub validator: Address,
}

/// The error for text that is not session details, or is of an unsupported account.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DetailsError {
    /// The text is not strict JSON, or longer than [`MAX_DETAILS`].
    #[error(transparent)]
    Json(#[from] DecodeError),
    /// A member does not have its required form.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The account is neither Nexus nor Safe7579.
    #[error("expected an account of Nexus or Safe7579, found another")]
    UnsupportedProvider,
    /// The id is not that of the session.
    #[error("session {0}: expected its own permission id, found another")]
    PermissionId(usize),
}

impl SessionDetails {
    /// Parses the JSON text: an array of `{mode, permissionId, signature, enableSessionData}`. The signature is a
    /// placeholder and ignored. No document defines the spelling of hexadecimal, so bytes are accepted in either case;
    /// addresses in mixed case must have their checksum.
    /// # Errors
    /// The text is not session details: the error names the member.
    pub fn read(text: &str) -> Result<Self, DetailsError> {
        let node = json::parse(text.as_bytes(), &Limits { body: MAX_DETAILS, ..Limits::DEFAULT })?;
        let root = Field::root(&node);
        let mut sessions = Vec::new();
        let mut account_type = None;
        for (i, item) in root.items(MAX_ITEMS)?.enumerate() {
            let item = item.object()?;
            let data = item.required("enableSessionData")?.object()?;
            let kind = match data.required("accountType")?.text()? {
                "nexus" => AccountType::Nexus,
                "safe" => AccountType::Safe,
                _ => return Err(DetailsError::UnsupportedProvider),
            };
            if *account_type.get_or_insert(kind) != kind {
                return Err(DetailsError::UnsupportedProvider);
            }
            let detail = detail(&item, &data)?;
            if permission_id(&detail.enable.sessionToEnable) != detail.permission_id {
                return Err(DetailsError::PermissionId(i));
            }
            sessions.push(detail);
        }
        let account_type = account_type.ok_or_else(|| root.error(Problem::Form("at least one session")))?;
        Ok(Self { account_type, sessions, hash: keccak256(text) })
    }
}

impl SessionDetail {
    /// Returns the scope of the session for an account, which the text does not name.
    #[must_use]
    pub fn scope(&self, account: Address) -> Scope {
        scope(&self.enable.sessionToEnable, account)
    }
}

impl SerializedKey for SessionDetails {
    fn provider(&self) -> &str {
        match self.account_type {
            AccountType::Nexus => "biconomy",
            AccountType::Safe => "safe",
        }
    }

    fn hash(&self) -> B256 {
        self.hash
    }

    fn account(&self) -> Option<Address> {
        None
    }

    fn scope(&self) -> Option<Scope> {
        None
    }

    fn embeds_private_key(&self) -> bool {
        false
    }
}

fn detail(item: &Field<'_>, data: &Field<'_>) -> Result<SessionDetail, FieldError> {
    let mode = item.required("mode")?;
    let mode = match mode.text()? {
        "0x00" => None,
        "0x01" => Some(EnableMode::Enable),
        "0x02" => Some(EnableMode::UnsafeEnable),
        _ => return Err(mode.error(Problem::Refused("unknown mode"))),
    };
    let enable = data.required("enableSession")?.object()?;
    let index = enable.required("chainDigestIndex")?;
    let validator = data.required("validator")?.address()?;
    let signature = enable.required("permissionEnableSig")?.bytes(1024)?;
    let digests = enable.required("hashesAndChainIds")?;
    Ok(SessionDetail {
        mode,
        permission_id: item.required("permissionId")?.fixed()?,
        enable: EnableSession {
            chainDigestIndex: u8::try_from(index.integer(255, "uint8")?).unwrap_or(u8::MAX),
            hashesAndChainIds: digests.items(MAX_ITEMS)?.map(|d| digest(&d)).collect::<Result<_, _>>()?,
            sessionToEnable: session(&enable.required("sessionToEnable")?)?,
            permissionEnableSig: [validator.as_slice(), &signature].concat().into(),
        },
        validator,
    })
}

fn digest(field: &Field<'_>) -> Result<ChainDigest, FieldError> {
    let field = field.object()?;
    Ok(ChainDigest {
        chainId: big_u64(&field.required("chainId")?)?,
        sessionDigest: field.required("sessionDigest")?.fixed()?,
    })
}

/// Parses a number such as `{"__type":"bigint","value":"84532"}`.
fn big_u64(field: &Field<'_>) -> Result<u64, FieldError> {
    let field = field.object()?;
    let kind = field.required("__type")?;
    if kind.text()? != "bigint" {
        return Err(kind.error(Problem::Form("bigint")));
    }
    let value = field.required("value")?;
    u64::try_from(value.decimal()?).map_err(|_| value.error(Problem::Range("uint64")))
}

fn session(field: &Field<'_>) -> Result<Session, FieldError> {
    let field = field.object()?;
    let contents = field.required("erc7739Policies")?.object()?;
    let allowed = contents.required("allowedERC7739Content")?;
    let actions = field.required("actions")?;
    Ok(Session {
        sessionValidator: field.required("sessionValidator")?.address()?,
        sessionValidatorInitData: field.required("sessionValidatorInitData")?.bytes(4096)?,
        salt: field.required("salt")?.fixed()?,
        userOpPolicies: policies(&field.required("userOpPolicies")?)?,
        erc7739Policies: ERC7739Data {
            allowedERC7739Content: allowed.items(MAX_ITEMS)?.map(|c| context(&c)).collect::<Result<_, _>>()?,
            erc1271Policies: policies(&contents.required("erc1271Policies")?)?,
        },
        actions: actions.items(MAX_ITEMS)?.map(|a| action(&a)).collect::<Result<_, _>>()?,
        permitERC4337Paymaster: field.required("permitERC4337Paymaster")?.boolean()?,
    })
}

fn context(field: &Field<'_>) -> Result<ERC7739Context, FieldError> {
    let field = field.object()?;
    let names = field.required("contentName")?;
    let names = names.items(MAX_ITEMS)?.map(|n| n.text().map(str::to_owned)).collect::<Result<_, _>>()?;
    Ok(ERC7739Context { appDomainSeparator: field.required("appDomainSeparator")?.fixed()?, contentName: names })
}

fn action(field: &Field<'_>) -> Result<ActionData, FieldError> {
    let field = field.object()?;
    Ok(ActionData {
        actionTargetSelector: field.required("actionTargetSelector")?.fixed()?,
        actionTarget: field.required("actionTarget")?.address()?,
        actionPolicies: policies(&field.required("actionPolicies")?)?,
    })
}

fn policies(field: &Field<'_>) -> Result<Vec<PolicyData>, FieldError> {
    let policy = |p: Field<'_>| -> Result<PolicyData, FieldError> {
        let p = p.object()?;
        let init_data: Bytes = p.required("initData")?.bytes(crate::user_operation::MAX_BYTES)?;
        Ok(PolicyData { policy: p.required("policy")?.address()?, initData: init_data })
    };
    field.items(MAX_ITEMS)?.map(policy).collect()
}
