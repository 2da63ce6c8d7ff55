//! The signed message: [sign-in-with-x](https://github.com/x402-foundation/x402/blob/main/specs/extensions/sign-in-with-x.md),
//! "Server-Declared Fields", "Client Proof Fields" and "Message Format";
//! [EIP-4361](https://eips.ethereum.org/EIPS/eip-4361) and [CAIP-122](https://chainagnostic.org/CAIPs/caip-122).

use alloy_primitives::Address;
use serde::Serialize;
use x402_codec::json::{Node, parse};
use x402_codec::{Limits, base64};
use x402_types::{ChainId, EvmAddress, Rejection};

use super::{MALFORMED, UNSUPPORTED_CHAIN};

/// The maximum length of the header in bytes as sent.
pub const MAX_HEADER: usize = 8 * 1024;
/// The maximum length of a field in bytes. A signature by EIP-6492 is longer.
const MAX_FIELD: usize = 2_048;
/// The maximum number of `resources`.
const MAX_RESOURCES: usize = 16;

/// The fields of a sign-in that the server declares, and the chain that the client chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SignInFields {
    /// The host of the server, with its port unless that is the default one.
    pub domain: String,
    /// The URL of the resource.
    pub uri: String,
    /// The version of CAIP-122: 1.
    pub version: String,
    /// The chain of the account.
    pub chain_id: ChainId,
    /// The nonce, which the server made.
    pub nonce: String,
    /// The time of the challenge.
    pub issued_at: String,
    /// The purpose, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// The time from which on the message is void.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<String>,
    /// The time before which the message is void.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// An identifier that the server gave the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The URLs that the message is about; an empty list is written into the text, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<String>>,
}

/// An account that signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignInAccount {
    /// An account of an EVM chain: `eip191`.
    Evm(Address),
    /// A key of Ed25519, which is an account of Solana: `ed25519`.
    Ed25519([u8; 32]),
}

impl SignInAccount {
    /// Returns the account as messages write it: with its checksum, or in base58.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Evm(address) => address.to_string(),
            Self::Ed25519(key) => bs58::encode(key).into_string(),
        }
    }

    /// Returns the `type` of the account's signatures.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Evm(_) => "eip191",
            Self::Ed25519(_) => "ed25519",
        }
    }

    /// Returns whether accounts of this kind exist on this chain.
    #[must_use]
    pub fn is_on(&self, chain: ChainId) -> bool {
        match self {
            Self::Evm(_) => chain.evm_chain().is_ok(),
            Self::Ed25519(_) => chain.namespace() == "solana",
        }
    }
}

/// A sign-in as the header `SIGN-IN-WITH-X` carries it. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignIn {
    /// The signed fields.
    pub fields: SignInFields,
    /// The account whose signature this should be.
    pub account: SignInAccount,
    /// The bytes of the signature.
    pub signature: Vec<u8>,
}

impl SignInFields {
    /// Returns the text that the account signs.
    ///
    /// For EVM chains it is that of EIP-4361, for Solana that of Sign-In With Solana: without a statement the first has two
    /// empty lines before `URI:`, the second one.
    #[must_use]
    pub fn message(&self, account: &SignInAccount) -> String {
        let (chain, name, gap) = match account {
            SignInAccount::Evm(_) => (self.chain_id.reference(), "Ethereum", "\n"),
            SignInAccount::Ed25519(_) => (self.chain_id.reference(), "Solana", ""),
        };
        let mut text =
            format!("{} wants you to sign in with your {name} account:\n{}\n\n", self.domain, account.text());
        match &self.statement {
            Some(statement) => {
                text.push_str(statement);
                text.push_str("\n\n");
            }
            None => text.push_str(gap),
        }
        let lines = [
            ("URI", Some(self.uri.as_str())),
            ("Version", Some(self.version.as_str())),
            ("Chain ID", Some(chain)),
            ("Nonce", Some(self.nonce.as_str())),
            ("Issued At", Some(self.issued_at.as_str())),
            ("Expiration Time", self.expiration_time.as_deref()),
            ("Not Before", self.not_before.as_deref()),
            ("Request ID", self.request_id.as_deref()),
        ];
        let written = lines.iter().filter_map(|(name, value)| value.map(|value| format!("{name}: {value}")));
        text.push_str(&written.collect::<Vec<_>>().join("\n"));
        // The library of the TypeScript SDK writes `Resources:` for an empty list on EVM chains alone.
        let shown = |list: &&Vec<String>| !list.is_empty() || matches!(account, SignInAccount::Evm(_));
        if let Some(resources) = self.resources.as_ref().filter(shown) {
            text.push_str("\nResources:");
            for resource in resources {
                text.push_str("\n- ");
                text.push_str(resource);
            }
        }
        text
    }

    /// Reads the fields out of a header's document, or out of a declaration's `info` with a chain.
    pub(super) fn of_node(node: &Node<'_>, chain: ChainId) -> Result<Self, Rejection> {
        let required = |name: &str| text(node, name)?.ok_or_else(|| malformed(name, "a string"));
        let resources = match node.get("resources") {
            None => None,
            Some(list) => {
                let list = list.as_array().filter(|list| list.len() <= MAX_RESOURCES);
                let list = list.ok_or_else(|| malformed("resources", "a list of at most 16 URLs"))?;
                let url = |entry: &Node<'_>| entry.as_str().and_then(plain).map(str::to_owned);
                let urls = list.iter().map(url).collect::<Option<Vec<_>>>();
                Some(urls.ok_or_else(|| malformed("resources", "URLs without spaces and controls"))?)
            }
        };
        let fields = Self {
            domain: required("domain")?,
            uri: required("uri")?,
            version: required("version")?,
            chain_id: chain,
            nonce: required("nonce")?,
            issued_at: required("issuedAt")?,
            statement: text(node, "statement")?,
            expiration_time: text(node, "expirationTime")?,
            not_before: text(node, "notBefore")?,
            request_id: text(node, "requestId")?,
            resources,
        };
        // A space would let one line of the text contain another field.
        for (name, value) in [("domain", &fields.domain), ("uri", &fields.uri), ("nonce", &fields.nonce)] {
            plain(value).ok_or_else(|| malformed(name, "a text without spaces"))?;
        }
        let alphanumeric = fields.nonce.len() >= 8 && fields.nonce.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !alphanumeric {
            return Err(malformed("nonce", "at least 8 letters and digits"));
        }
        if fields.version != "1" {
            return Err(malformed("version", "1"));
        }
        Ok(fields)
    }
}

impl SignIn {
    /// Reads the header's value: standard base64 of JSON.
    ///
    /// # Errors
    /// [`MALFORMED`] for every fault of the form, [`UNSUPPORTED_CHAIN`] for a chain that is neither EVM nor Solana.
    pub fn parse(value: &[u8]) -> Result<Self, Rejection> {
        if value.iter().any(|byte| matches!(byte, b'-' | b'_')) || !value.len().is_multiple_of(4) {
            return Err(malformed("SIGN-IN-WITH-X", "padded standard base64"));
        }
        let broken = |why: &dyn core::fmt::Display| Rejection::new(MALFORMED).because(format!("SIGN-IN-WITH-X: {why}"));
        let json = base64::decode(value, MAX_HEADER).map_err(|why| broken(&why))?;
        let limits = Limits { body: MAX_HEADER, depth: 4, ..Limits::DEFAULT };
        let node = parse(&json, &limits).map_err(|why| broken(&why))?;
        let string = |name: &str| node.get(name).and_then(Node::as_str).filter(|text| text.len() <= MAX_HEADER);
        let required = |name: &'static str| string(name).ok_or_else(|| malformed(name, "a string"));
        let chain: ChainId = required("chainId")?.parse().map_err(|_| malformed("chainId", ChainId::EXPECTED))?;
        let fields = SignInFields::of_node(&node, chain)?;
        let (address, signature) = (required("address")?, required("signature")?);
        let (account, signature) = match chain.namespace() {
            "eip155" => (SignInAccount::Evm(evm(address)?), hex(signature)?),
            "solana" => {
                let key = base58(address).and_then(|bytes| bytes.try_into().ok());
                let key = key.ok_or_else(|| malformed("address", "32 bytes in base58"))?;
                let signature = base58(signature).filter(|bytes| bytes.len() == 64);
                let signature = signature.ok_or_else(|| malformed("signature", "64 bytes in base58"))?;
                (SignInAccount::Ed25519(key), signature)
            }
            _ => return Err(Rejection::new(UNSUPPORTED_CHAIN).because(format!("chainId: {chain} is not supported"))),
        };
        if required("type")? != account.kind() {
            return Err(malformed("type", account.kind()));
        }
        Ok(Self { fields, account, signature })
    }

    /// Returns the value of the header, with the members in the order of the TypeScript SDK.
    #[must_use]
    pub fn to_header(&self) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Header<'a> {
            domain: &'a str,
            address: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            statement: Option<&'a str>,
            uri: &'a str,
            version: &'a str,
            chain_id: ChainId,
            r#type: &'a str,
            nonce: &'a str,
            issued_at: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            expiration_time: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            not_before: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            resources: Option<&'a [String]>,
            signature: String,
        }
        let SignInFields { domain, uri, version, chain_id, nonce, issued_at, statement, .. } = &self.fields;
        let signature = match self.account {
            SignInAccount::Evm(_) => alloy_primitives::hex::encode_prefixed(&self.signature),
            SignInAccount::Ed25519(_) => bs58::encode(&self.signature).into_string(),
        };
        let header = Header {
            domain,
            address: self.account.text(),
            statement: statement.as_deref(),
            uri,
            version,
            chain_id: *chain_id,
            r#type: self.account.kind(),
            nonce,
            issued_at,
            expiration_time: self.fields.expiration_time.as_deref(),
            not_before: self.fields.not_before.as_deref(),
            request_id: self.fields.request_id.as_deref(),
            resources: self.fields.resources.as_deref(),
            signature,
        };
        base64::encode(serde_json::to_string(&header).unwrap_or_default().as_bytes())
    }
}

pub(super) fn malformed(field: &str, expected: &str) -> Rejection {
    Rejection::new(MALFORMED).because(format!("{field}: expected {expected}"))
}

/// Returns an optional text: a single line of at most 2,048 bytes that is not empty.
fn text(node: &Node<'_>, name: &str) -> Result<Option<String>, Rejection> {
    let Some(value) = node.get(name) else { return Ok(None) };
    let fits = |text: &&str| (1..=MAX_FIELD).contains(&text.len()) && !text.contains(char::is_control);
    match value.as_str().filter(fits) {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(malformed(name, "one line of 1 to 2048 bytes")),
    }
}

/// Returns the text if it has neither spaces nor controls.
fn plain(text: &str) -> Option<&str> {
    let fits = (1..=MAX_FIELD).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(text)
}

fn evm(text: &str) -> Result<Address, Rejection> {
    let address = text.parse::<EvmAddress>().and_then(|address| address.checked());
    address.map(Address::from).map_err(|_| malformed("address", "0x and 40 hex digits"))
}

fn hex(text: &str) -> Result<Vec<u8>, Rejection> {
    let digits = text.strip_prefix("0x").filter(|digits| !digits.is_empty());
    digits
        .and_then(|digits| alloy_primitives::hex::decode(digits).ok())
        .ok_or_else(|| malformed("signature", "0x and hex"))
}

fn base58(text: &str) -> Option<Vec<u8>> {
    // The longest value is a signature: 64 bytes have at most 88 characters.
    (text.len() <= 88).then(|| bs58::decode(text).into_vec().ok())?
}
