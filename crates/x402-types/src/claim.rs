//! Claims: payments offered for terms, whatever the version of the payment.

use core::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::v2::ResourceInfo;
use crate::{AmountRule, Members, PaymentPayload, RawJson, Rejection, SchemeName, Terms, Version, nvm, v1, v2};

/// A payment that claims to fulfil terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The terms to fulfil. They are the server's own entry, never the payer's echo of it. `nvm:erc4337` lets the payer
    /// add members to `extra`, which it signs.
    pub terms: Terms,
    /// The scheme's payload, as the payer sent it.
    pub payload: RawJson,
    /// The resource that the payer names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceInfo>,
    /// The extensions that the payer echoes.
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    pub extensions: Members,
    /// The caller and the request; set by the route that received the payment.
    pub identity: Identity,
}

/// The caller and the request that a payment belongs to. A retry of the same request has the same identity and gets the
/// same answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Identity {
    /// The authenticated caller; empty if callers are not distinguished.
    pub caller: String,
    /// The name of the request: `Idempotency-Key`, `agentRequestId`, or the hash of the canonical request body.
    pub request: String,
}

impl Claim {
    /// Combines a payment with the entry that it must fulfil.
    #[must_use]
    #[inline]
    pub fn new(terms: Terms, payment: PaymentPayload) -> Self {
        let (payload, resource, extensions) = match payment {
            PaymentPayload::V1(payment) => (payment.payload, None, Members::new()),
            PaymentPayload::V2(payment) => (payment.payload, payment.resource, payment.extensions),
            PaymentPayload::Nvm(payment) => {
                let terms = payment.accepted_terms(terms);
                return Self {
                    terms,
                    payload: payment.payload().clone(),
                    resource: payment.resource().cloned(),
                    extensions: Members::new(),
                    identity: Identity::default(),
                };
            }
        };
        Self { terms, payload, resource, extensions, identity: Identity::default() }
    }

    /// Rebuilds the payment in the version of its terms, as it is written on the wire.
    #[must_use]
    pub fn to_payment(&self) -> PaymentPayload {
        if let Ok(accepted) = nvm::Requirements::try_from(&self.terms) {
            let payment = nvm::v03::PaymentPayload::new(self.resource.clone(), accepted, self.payload.clone());
            return PaymentPayload::Nvm(nvm::PaymentPayload::V03(Box::new(payment)));
        }
        match self.terms.version {
            Version::V1 => PaymentPayload::V1(v1::PaymentPayload {
                x402_version: Version::V1,
                scheme: self.terms.scheme.clone(),
                network: self.terms.to_v1(&ResourceInfo::of("")).network,
                payload: self.payload.clone(),
                rest: Members::new(),
            }),
            Version::V2 => PaymentPayload::V2(v2::PaymentPayload {
                x402_version: Version::V2,
                resource: self.resource.clone(),
                accepted: self.terms.to_v2(),
                payload: self.payload.clone(),
                extensions: self.extensions.clone(),
                rest: Members::new(),
            }),
        }
    }
}

impl PaymentPayload {
    /// Returns whether the payment was made for this entry: v2 echoes the entry, v1 names only its scheme and network.
    #[must_use]
    pub fn is_for(&self, terms: &Terms) -> bool {
        self.settles(terms, AmountRule::Equal)
    }

    /// Returns whether the payment may settle these terms: it was made for such an entry, and the amount follows the
    /// scheme's rule. The terms of a settlement have the used amount, and `accepted` the authorized one.
    #[must_use]
    pub fn settles(&self, terms: &Terms, rule: AmountRule) -> bool {
        match self {
            Self::V1(payment) => payment.scheme == terms.scheme && payment.network.chain_id() == Some(terms.network),
            Self::V2(payment) => terms.scheme != SchemeName::NVM_ERC4337 && terms.matches(&payment.accepted, rule),
            Self::Nvm(payment) => payment.is_for(terms),
        }
    }
}

/// The kind of authorization that a key identifies. One kind may serve several schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AuthorizationKind {
    /// EIP-3009: contract = token, nonce = 32 bytes.
    Eip3009 = 1,
    /// Permit2: contract = Permit2, nonce = 32 bytes.
    Permit2 = 2,
    /// A redemption of plan credits by a smart account.
    NvmErc4337 = 3,
    /// Of a scheme from outside of these crates, which names itself where the others name their contract.
    Other = 255,
}

/// The identity of an authorization, in canonical bytes: kind, network, contract, payer, nonce.
///
/// A key never contains text that the payer can choose, a signature, a header or a scheme: every spelling of one
/// authorization has the same key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PaymentKey(Arc<[u8]>);

impl core::hash::Hash for PaymentKey {
    /// Hashes only the end of the key, payer and nonce, because that is where keys differ.
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        let start = self.0.len().saturating_sub(54);
        state.write(self.0.get(start..).unwrap_or_default());
    }
}

impl PaymentKey {
    /// Builds the key of an authorization. Each part is preceded by its length.
    #[must_use]
    pub fn new(kind: AuthorizationKind, network: crate::ChainId, contract: &[u8], payer: &[u8], nonce: &[u8]) -> Self {
        Self(joined(kind, &[network.as_str().as_bytes(), contract, payer, nonce]).into())
    }

    /// Builds the common prefix of the keys of all authorizations of this kind that a payer gave for one contract.
    #[must_use]
    pub fn prefix(kind: AuthorizationKind, network: crate::ChainId, contract: &[u8], payer: &[u8]) -> Vec<u8> {
        joined(kind, &[network.as_str().as_bytes(), contract, payer])
    }

    /// Returns the payer that the key names.
    #[must_use]
    pub fn payer(&self) -> Option<&[u8]> {
        let (_kind, parts) = self.0.split_first()?;
        let part = |bytes| -> Option<(&[u8], &[u8])> {
            let (length, rest) = <[u8]>::split_first_chunk::<2>(bytes)?;
            rest.split_at_checked(u16::from_be_bytes(*length).into())
        };
        let (_network, rest) = part(parts)?;
        let (_contract, rest) = part(rest)?;
        part(rest).map(|(payer, _nonce)| payer)
    }

    /// Returns the canonical bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Restores a key from stored bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

/// Joins the kind and the parts, each preceded by its length.
fn joined(kind: AuthorizationKind, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| 2 + part.len()).sum();
    let mut bytes = Vec::with_capacity(1 + length);
    bytes.push(kind as u8);
    for part in parts {
        bytes.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

impl fmt::Display for PaymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for PaymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Derives the key of a claim from the claim alone, without I/O.
pub trait PaymentKeyFn: Send + Sync {
    /// Derives the key.
    ///
    /// # Errors
    /// The payload cannot be parsed as the scheme's.
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection>;

    /// Returns whether the settled amount may be below the authorized one: [`AmountRule::Equal`] by default.
    fn amount_rule(&self) -> AmountRule {
        AmountRule::Equal
    }

    /// Returns whether the scheme can settle before the work is done (`paymentFlow: "upfront"`). `false` for a scheme
    /// whose payments are settled for work that was done, as `nvm:erc4337`.
    fn settles_upfront(&self) -> bool {
        true
    }
}

impl<F: Fn(&Claim) -> Result<PaymentKey, Rejection> + Send + Sync> PaymentKeyFn for F {
    fn key(&self, claim: &Claim) -> Result<PaymentKey, Rejection> {
        self(claim)
    }
}

/// An entry that a server offers, with the scheme's function that identifies payments for it.
#[derive(Clone)]
pub struct Offer {
    /// The terms of the offer.
    pub terms: Terms,
    /// The function that derives a claim's payment key, by which a server grants each payment once.
    pub key: std::sync::Arc<dyn PaymentKeyFn>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.terms.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_payer() {
        let network = crate::ChainId::eip155(8453);
        let key = PaymentKey::new(AuthorizationKind::Eip3009, network, &[1; 20], &[2; 20], &[3; 32]);
        assert_eq!(key.payer(), Some([2; 20].as_slice()));
        for bytes in [&b""[..], b"\x01", b"\x01\x00", b"\x01\x00\x01a\x00\x00\x00\x05b"] {
            assert_eq!(PaymentKey::from_bytes(bytes).payer(), None, "{bytes:?}");
        }
    }
}
