//! The messages of the [x402 Smart Accounts Extension](https://docs.nevermined.app/docs/specs/x402-smart-accounts),
//! scheme `nvm:erc4337`: version 0.3, and the payments of version 0.2.
//!
//! An entry of this scheme has a price in credits of a plan instead of an amount of an asset. Above this module both
//! are [`Terms`]: `asset` is the plan's id, `amount` the credits for this request, `payTo` is empty.

pub mod card;
mod code;
mod detect;
mod form;
mod id;
mod key;
mod payload;
mod receipt;
mod request;
mod required;
mod session_key;
pub mod v02;
pub mod v03;

pub use code::{Code, CodeRow, ErrorBody, ErrorResponse};
pub use detect::{is_payment, is_required};
pub(crate) use form::PlanForm;
pub use id::{AgentId, PlanId};
pub use key::payment_key;
pub use payload::{Authorization, Payload, RequestProof, StatementVersion};
pub use receipt::{Receipt, VerdictResponse};
pub use request::{AccessToken, FacilitatorRequest};
pub use required::{Extra, PaymentRequired, Requirements};
use session_key::word;
pub use session_key::{Operation, SessionKey};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::v2::ResourceInfo;
use crate::{RawJson, Rejection, Terms};

/// A payment of either version of the extension.
#[derive(Debug, Clone, PartialEq)]
pub enum PaymentPayload {
    /// Version 0.3: the payment has `accepted`, and the authorization is in `payload`.
    V03(Box<v03::PaymentPayload>),
    /// Version 0.2: the authorization is in `extensions.smart-account`.
    V02(Box<v02::PaymentPayload>),
}

impl PaymentPayload {
    /// Parses a payment whose text is known to be one of this extension ([`is_payment`]), in the order of §5.1:
    /// version, scheme, network, then the shape.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD`; `UNSUPPORTED_NETWORK` if the network is not CAIP-2 (0.3) or has no known name (0.2).
    pub fn from_raw(raw: &RawJson) -> Result<Self, Rejection> {
        detect::read_payment(raw)
    }

    /// Returns the scheme's payload: an object with `signature` and `authorization`, whose `from` is absent in version
    /// 0.2.
    #[must_use]
    pub fn payload(&self) -> &RawJson {
        match self {
            Self::V03(payment) => &payment.payload,
            Self::V02(payment) => &payment.extension,
        }
    }

    /// Returns the echo of the server's `resource`; version 0.2 has none.
    #[must_use]
    pub fn resource(&self) -> Option<&ResourceInfo> {
        match self {
            Self::V03(payment) => payment.resource.as_ref(),
            Self::V02(_) => None,
        }
    }

    /// Returns whether the payment was made for this entry. Version 0.3 echoes the entry and may add members to
    /// `extra`; version 0.2 names only the network, and its scheme is `exact`.
    #[must_use]
    pub fn is_for(&self, terms: &Terms) -> bool {
        match self {
            Self::V03(payment) => {
                Requirements::try_from(terms).is_ok_and(|asked| asked.is_accepted_by(&payment.accepted))
            }
            Self::V02(payment) => {
                terms.scheme == crate::SchemeName::NVM_ERC4337 && payment.network() == Some(terms.network)
            }
        }
    }

    /// Adds the payer's additions to the entry's `extra`: signed members such as `httpVerb` may be present only there.
    #[must_use]
    pub fn accepted_terms(&self, terms: Terms) -> Terms {
        match self {
            Self::V03(payment) => Terms { extra: payment.accepted.extra.to_members(), ..terms },
            Self::V02(_) => terms,
        }
    }
}

impl Serialize for PaymentPayload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::V03(payment) => payment.serialize(serializer),
            Self::V02(payment) => payment.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PaymentPayload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawJson::deserialize(deserializer)?;
        Self::from_raw(&raw).map_err(serde::de::Error::custom)
    }
}
