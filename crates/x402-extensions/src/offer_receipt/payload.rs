//! The signed payloads: [offer and receipt
//! extension](https://github.com/x402-foundation/x402/blob/main/specs/extensions/extension-offer-and-receipt.md) §4.2, §4.3,
//! §5.2 and §5.3.

use alloy_primitives::{B256, U256, keccak256};
use serde::Serialize;
use x402_codec::json::{Node, Value};
use x402_types::{AtomicAmount, ChainId, SchemeName, Terms, UnixSeconds};

use super::ArtifactError;

/// The maximum length of `resourceUrl` in bytes.
pub const MAX_URL: usize = 2048;
/// The maximum length of an account, an asset or a transaction in bytes.
const MAX_NAME: usize = 128;
/// The greatest integer that every JSON parser reads exactly.
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// `Offer(uint256 version,string resourceUrl,string scheme,string network,string asset,string payTo,string amount,uint256
/// validUntil)`
const OFFER_TYPE: &str = "Offer(uint256 version,string resourceUrl,string scheme,string network,string asset,string payTo,\
                          string amount,uint256 validUntil)";
/// `Receipt(uint256 version,string network,string resourceUrl,string payer,uint256 issuedAt,string transaction)`
const RECEIPT_TYPE: &str =
    "Receipt(uint256 version,string network,string resourceUrl,string payer,uint256 issuedAt,string transaction)";

/// The terms to which a server commits itself: §4.2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OfferPayload {
    /// The URL of the resource, at most 2,048 bytes.
    pub resource_url: Box<str>,
    /// The payment scheme.
    pub scheme: SchemeName,
    /// The network of the payment.
    pub network: ChainId,
    /// The asset, as the entry of `accepts` writes it.
    pub asset: Box<str>,
    /// The recipient, as the entry of `accepts` writes it.
    pub pay_to: Box<str>,
    /// The amount in atomic units.
    pub amount: AtomicAmount,
    /// The time at which the offer ends. `None` is written as 0 in EIP-712, and left out of a JWS.
    pub valid_until: Option<UnixSeconds>,
}

/// The statement that a payment was received: §5.2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ReceiptPayload {
    /// The network of the payment.
    pub network: ChainId,
    /// The URL of the resource, at most 2,048 bytes.
    pub resource_url: Box<str>,
    /// The payer's account.
    pub payer: Box<str>,
    /// The time at which the receipt was signed.
    pub issued_at: UnixSeconds,
    /// The transaction that paid. `None` is written as `""` in EIP-712, and left out of a JWS.
    pub transaction: Option<Box<str>>,
}

/// A payload that a server signs. Only the two types of this module implement it.
pub trait ArtifactPayload: Sized + sealed::Sealed {
    /// The name of the EIP-712 domain: §3.2.
    const DOMAIN: &'static str;

    /// Reads the payload. Every member is checked, and a member that the document does not define is refused: what no
    /// signature covers must not look signed.
    ///
    /// # Errors
    /// A member is absent, of another type, too long, or unknown; the version is not 1.
    fn read(node: &Node<'_>) -> Result<Self, ArtifactError>;

    /// Computes `hashStruct` of the payload by the types of the document.
    fn struct_hash(&self) -> B256;

    /// Returns the payload as JSON. In EIP-712 `fixed` members without a value are written, too.
    fn to_json(&self, fixed: bool) -> String;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::OfferPayload {}
    impl Sealed for super::ReceiptPayload {}
}

impl OfferPayload {
    /// Creates the offer of these terms, without an end.
    #[must_use]
    pub fn new(resource_url: &str, terms: &Terms) -> Self {
        Self {
            resource_url: resource_url.into(),
            scheme: terms.scheme.clone(),
            network: terms.network,
            asset: terms.asset.as_str().into(),
            pay_to: terms.pay_to.as_str().into(),
            amount: terms.amount,
            valid_until: None,
        }
    }

    /// Sets the end of the offer.
    #[must_use]
    pub const fn with_valid_until(mut self, until: UnixSeconds) -> Self {
        self.valid_until = Some(until);
        self
    }

    /// Returns whether the offer is for these terms: §4.5.1, "field matching against the signed payload is the source of
    /// truth". Accounts are compared as the network does.
    #[must_use]
    pub fn is_for(&self, terms: &Terms) -> bool {
        self.scheme == terms.scheme
            && self.network == terms.network
            && self.amount == terms.amount
            && self.network.same_account(&self.asset, &terms.asset)
            && self.network.same_account(&self.pay_to, &terms.pay_to)
    }
}

impl ReceiptPayload {
    /// Creates the receipt of a payment, without its transaction.
    #[must_use]
    pub fn new(resource_url: &str, network: ChainId, payer: &str, issued_at: UnixSeconds) -> Self {
        Self { network, resource_url: resource_url.into(), payer: payer.into(), issued_at, transaction: None }
    }

    /// Sets the transaction that paid.
    #[must_use]
    pub fn with_transaction(mut self, transaction: &str) -> Self {
        self.transaction = Some(transaction).filter(|text| !text.is_empty()).map(Into::into);
        self
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfferJson<'a> {
    version: u8,
    resource_url: &'a str,
    scheme: &'a SchemeName,
    network: ChainId,
    asset: &'a str,
    pay_to: &'a str,
    amount: AtomicAmount,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptJson<'a> {
    version: u8,
    network: ChainId,
    resource_url: &'a str,
    payer: &'a str,
    issued_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<&'a str>,
}

impl ArtifactPayload for OfferPayload {
    const DOMAIN: &'static str = "x402 offer";

    fn read(node: &Node<'_>) -> Result<Self, ArtifactError> {
        let fields = Fields::of(
            node,
            &["version", "resourceUrl", "scheme", "network", "asset", "payTo", "amount", "validUntil"],
        )?;
        let scheme = fields.text("scheme", MAX_NAME)?;
        let amount = fields.text("amount", 78)?;
        Ok(Self {
            resource_url: fields.text("resourceUrl", MAX_URL)?.into(),
            scheme: scheme.parse().map_err(|_| ArtifactError::member("scheme", SchemeName::EXPECTED))?,
            network: fields.network()?,
            asset: fields.text("asset", MAX_NAME)?.into(),
            pay_to: fields.text("payTo", MAX_NAME)?.into(),
            amount: amount.parse().map_err(|_| ArtifactError::member("amount", "atomic units in decimal digits"))?,
            valid_until: fields
                .optional("validUntil")
                .map(|_| fields.integer("validUntil"))
                .transpose()?
                .and_then(some),
        })
    }

    fn struct_hash(&self) -> B256 {
        let until = self.valid_until.map_or(0, |until| until.0);
        hash(&[
            keccak256(OFFER_TYPE),
            number(1),
            keccak256(&*self.resource_url),
            keccak256(self.scheme.as_str()),
            keccak256(self.network.as_str()),
            keccak256(&*self.asset),
            keccak256(&*self.pay_to),
            keccak256(self.amount.to_string()),
            number(until),
        ])
    }

    fn to_json(&self, fixed: bool) -> String {
        let until = self.valid_until.map(|until| until.0).or_else(|| fixed.then_some(0));
        json(&OfferJson {
            version: 1,
            resource_url: &self.resource_url,
            scheme: &self.scheme,
            network: self.network,
            asset: &self.asset,
            pay_to: &self.pay_to,
            amount: self.amount,
            valid_until: until,
        })
    }
}

impl ArtifactPayload for ReceiptPayload {
    const DOMAIN: &'static str = "x402 receipt";

    fn read(node: &Node<'_>) -> Result<Self, ArtifactError> {
        let fields = Fields::of(node, &["version", "network", "resourceUrl", "payer", "issuedAt", "transaction"])?;
        let transaction = match fields.optional("transaction").map(Node::as_str) {
            // §5.3: "Verifiers MUST treat empty-string optional fields as equivalent to absence."
            None | Some(Some("")) => None,
            Some(_) => Some(fields.text("transaction", MAX_NAME)?.into()),
        };
        Ok(Self {
            network: fields.network()?,
            resource_url: fields.text("resourceUrl", MAX_URL)?.into(),
            payer: fields.text("payer", MAX_NAME)?.into(),
            issued_at: UnixSeconds(fields.integer("issuedAt")?),
            transaction,
        })
    }

    fn struct_hash(&self) -> B256 {
        hash(&[
            keccak256(RECEIPT_TYPE),
            number(1),
            keccak256(self.network.as_str()),
            keccak256(&*self.resource_url),
            keccak256(&*self.payer),
            number(self.issued_at.0),
            keccak256(self.transaction.as_deref().unwrap_or_default()),
        ])
    }

    fn to_json(&self, fixed: bool) -> String {
        json(&ReceiptJson {
            version: 1,
            network: self.network,
            resource_url: &self.resource_url,
            payer: &self.payer,
            issued_at: self.issued_at.0,
            transaction: self.transaction.as_deref().or_else(|| fixed.then_some("")),
        })
    }
}

/// The members of a payload of version 1.
struct Fields<'n, 'a>(&'n Node<'a>);

impl<'n, 'a> Fields<'n, 'a> {
    fn of(node: &'n Node<'a>, known: &[&str]) -> Result<Self, ArtifactError> {
        let members = node.as_object().ok_or(ArtifactError::member("payload", "an object"))?;
        let fields = Self(node);
        // §4.5: "Check `payload.version` to select the appropriate EIP-712 types (currently only version `1`)".
        if fields.integer("version")? != 1 {
            return Err(ArtifactError::Version);
        }
        match members.iter().find(|member| !known.contains(&&*member.key)) {
            Some(member) => Err(ArtifactError::Unknown { member: member.key.chars().take(64).collect() }),
            None => Ok(fields),
        }
    }

    /// Returns a member that may be absent.
    fn optional(&self, name: &str) -> Option<&'n Node<'a>> {
        self.0.get(name)
    }

    fn text(&self, name: &'static str, most: usize) -> Result<&'n str, ArtifactError> {
        let text = self.0.get(name).and_then(Node::as_str);
        let fits = |text: &&str| (1..=most).contains(&text.len()) && !text.contains(char::is_control);
        text.filter(fits).ok_or_else(|| ArtifactError::member(name, "a string that is neither empty nor too long"))
    }

    fn integer(&self, name: &'static str) -> Result<u64, ArtifactError> {
        let number = match self.0.get(name).map(|node| &node.value) {
            Some(Value::Number(text)) => text.parse().ok().filter(|number| *number <= MAX_INTEGER),
            _ => None,
        };
        number.ok_or_else(|| ArtifactError::member(name, "an integer of seconds, or the version"))
    }

    fn network(&self) -> Result<ChainId, ArtifactError> {
        let text = self.text("network", MAX_NAME)?;
        text.parse().map_err(|_| ArtifactError::member("network", ChainId::EXPECTED))
    }
}

/// Returns the time, unless it is 0: §4.3, "Verifiers MUST treat zero-value optional fields as equivalent to absence."
fn some(seconds: u64) -> Option<UnixSeconds> {
    (seconds > 0).then_some(UnixSeconds(seconds))
}

fn json(value: &impl Serialize) -> String {
    // The types above contain nothing that cannot be serialized.
    serde_json::to_string(value).unwrap_or_default()
}

fn number(value: u64) -> B256 {
    U256::from(value).into()
}

fn hash(words: &[B256]) -> B256 {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.0).collect();
    keccak256(bytes)
}
