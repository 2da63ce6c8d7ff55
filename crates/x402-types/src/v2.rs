//! The messages of [x402 version 2](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md) §5 and §7.

mod discovery;

pub use discovery::{CursorPagination, DiscoveredResource, DiscoveryList, DiscoverySearch, Pagination};

use crate::wire::wire;
use crate::{
    AtomicAmount, Blank, ChainId, Entry, ErrorReason, Members, NetworkName, RawJson, Rejection, SchemeName,
    TimeoutSeconds, Version,
};

wire! {
    /// The description of a protected resource: `ResourceInfo`, §5.1.1.
    pub struct ResourceInfo {
        /// The resource's URL.
        url: String => "url" required;
        /// The description of the resource, for people.
        description: Option<String> => "description" optional;
        /// The media type of the response.
        mime_type: Option<String> => "mimeType" optional;
        /// The service's name, at most 32 printable ASCII characters.
        service_name: Option<String> => "serviceName" optional;
        /// The tags, at most 5.
        tags: Option<Vec<String>> => "tags" optional;
        /// The URL of an icon, http or https.
        icon_url: Option<String> => "iconUrl" optional;
    }
}

impl ResourceInfo {
    /// Creates the description of a resource of which only the URL is known.
    #[must_use]
    pub fn of(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            description: None,
            mime_type: None,
            service_name: None,
            tags: None,
            icon_url: None,
            rest: Members::new(),
        }
    }
}

wire! {
    /// One way to pay: an entry of `accepts`, §5.1.2.
    pub struct PaymentRequirements {
        /// The payment scheme.
        scheme: SchemeName => "scheme" required;
        /// The network, CAIP-2.
        network: ChainId => "network" required;
        /// The amount in atomic units.
        amount: AtomicAmount => "amount" required;
        /// The asset: a contract address, or what the scheme defines.
        asset: String => "asset" required;
        /// The recipient: an address, or what the scheme defines.
        pay_to: String => "payTo" required;
        /// The longest validity of the payer's authorization.
        max_timeout_seconds: TimeoutSeconds => "maxTimeoutSeconds" or TimeoutSeconds::ABSENT;
        /// The scheme's additional members.
        extra: Members => "extra" or Members::new();
    }
}

wire! {
    /// The 402 response: `PaymentRequired`, §5.1.
    pub struct PaymentRequired {
        /// The protocol version, 2.
        x402_version: Version => "x402Version" version_2;
        /// The reason why the request was not served.
        error: Option<String> => "error" optional;
        /// The resource that is for sale. It is always written, and may be absent when read, since other SDKs omit it.
        resource: Option<ResourceInfo> => "resource" optional;
        /// The ways to pay, in the server's order.
        accepts: Vec<Entry<PaymentRequirements>> => "accepts" required;
        /// The extensions by name.
        extensions: Members => "extensions" unless_empty;
    }
}

wire! {
    /// The payment that a client sends: `PaymentPayload`, §5.2.
    pub struct PaymentPayload {
        /// The protocol version, 2.
        x402_version: Version => "x402Version" version_2;
        /// The echo of the server's `resource`.
        resource: Option<ResourceInfo> => "resource" optional;
        /// The chosen entry, echoed in full.
        accepted: PaymentRequirements => "accepted" required;
        /// The scheme's payload.
        payload: RawJson => "payload" object;
        /// The echo of the server's extensions, with the client's additions.
        extensions: Members => "extensions" unless_empty;
    }
}

wire! {
    /// The facilitator's verdict: `VerifyResponse`, §5.4. Version 1 uses the same message.
    pub struct VerifyResponse {
        /// Whether the payment is valid.
        is_valid: bool => "isValid" required;
        /// The reason why the payment is invalid.
        invalid_reason: Option<ErrorReason> => "invalidReason" optional;
        /// The explanation of `invalid_reason`, for people.
        invalid_message: Option<String> => "invalidMessage" optional;
        /// The payer's account.
        payer: Option<String> => "payer" optional;
        /// The scheme's additional members.
        extra: Members => "extra" unless_empty;
        /// The members that extensions add.
        extensions: Members => "extensions" unless_empty;
    }
}

impl VerifyResponse {
    /// Creates the verdict that the payment is valid.
    #[must_use]
    pub fn valid(payer: impl Into<String>) -> Self {
        Self { is_valid: true, payer: Some(payer.into()), ..Self::without_verdict() }
    }

    /// Creates the verdict that the payment is invalid.
    #[must_use]
    pub fn invalid(rejection: &Rejection) -> Self {
        Self {
            invalid_message: Some(rejection.words().to_owned()),
            invalid_reason: Some(rejection.reason.clone()),
            payer: rejection.payer.as_deref().map(str::to_owned),
            ..Self::without_verdict()
        }
    }

    const fn without_verdict() -> Self {
        Self {
            is_valid: false,
            invalid_reason: None,
            invalid_message: None,
            payer: None,
            extra: Members::new(),
            extensions: Members::new(),
            rest: Members::new(),
        }
    }
}

wire! {
    /// The result of a settlement: `SettlementResponse`, §5.3. Version 1 uses the same message.
    pub struct SettleResponse {
        /// Whether the payment was made.
        success: bool => "success" required;
        /// The reason of the failure. `settlement_pending` means that the result is not known yet, and `transaction`
        /// names what to look up.
        error_reason: Option<ErrorReason> => "errorReason" optional;
        /// The explanation of `error_reason`, for people.
        error_message: Option<String> => "errorMessage" optional;
        /// The payer's account.
        payer: Option<String> => "payer" optional;
        /// The transaction, or `""` if nothing was sent.
        transaction: String => "transaction" or String::new();
        /// The network: CAIP-2 in v2, a legacy name in v1, `""` in some failure responses of peers.
        network: NetworkName => "network" or NetworkName::default();
        /// The amount moved, for schemes in which it may differ from the amount of the terms.
        amount: Option<Blank<AtomicAmount>> => "amount" optional;
        /// The scheme's additional members.
        extra: Members => "extra" unless_empty;
        /// The members that extensions add.
        extensions: Members => "extensions" unless_empty;
    }
}

impl SettleResponse {
    /// Creates the response to a payment that was settled by this transaction, which is `""` if no transfer was needed.
    #[must_use]
    pub fn settled(payer: impl Into<String>, transaction: impl Into<String>, network: impl Into<NetworkName>) -> Self {
        Self {
            success: true,
            payer: Some(payer.into()),
            transaction: transaction.into(),
            ..Self::without_outcome(network.into())
        }
    }

    /// Creates the response to a payment that is not settled, with a code, and without payer and transaction.
    #[must_use]
    pub fn failed(reason: ErrorReason, network: impl Into<NetworkName>) -> Self {
        Self { error_reason: Some(reason), ..Self::without_outcome(network.into()) }
    }

    /// Creates the response to a payment that was refused before a transaction was sent. A transaction in the details of
    /// the rejection is the one that used the authorization before.
    #[must_use]
    pub fn refused(rejection: &Rejection, network: impl Into<NetworkName>) -> Self {
        Self {
            error_message: Some(rejection.words().to_owned()),
            payer: rejection.payer.as_deref().map(str::to_owned),
            transaction: rejection.details.text("transaction").unwrap_or_default(),
            ..Self::failed(rejection.reason.clone(), network)
        }
    }

    /// Creates a response without an outcome; the caller sets the members of the outcome.
    pub(crate) const fn without_outcome(network: NetworkName) -> Self {
        Self {
            success: false,
            error_reason: None,
            error_message: None,
            payer: None,
            transaction: String::new(),
            network,
            amount: None,
            extra: Members::new(),
            extensions: Members::new(),
            rest: Members::new(),
        }
    }
}

wire! {
    /// A kind of payment that a facilitator serves, §7.3.
    pub struct SupportedKind {
        /// The protocol version.
        x402_version: Version => "x402Version" required;
        /// The payment scheme.
        scheme: SchemeName => "scheme" required;
        /// The network: CAIP-2 in v2, a legacy name in v1.
        network: NetworkName => "network" required;
        /// The scheme's additional members.
        extra: Members => "extra" unless_empty;
    }
}

impl SupportedKind {
    /// Returns the network, if its name is known: the scheme may have names of its own.
    #[must_use]
    pub fn chain_id(&self) -> Option<crate::ChainId> {
        match self.x402_version {
            Version::V1 => self.network.chain_id(),
            Version::V2 => crate::form::network_of(&self.scheme, &self.network),
        }
    }
}

wire! {
    /// The response of `GET /supported`, §7.3.
    pub struct SupportedResponse {
        /// The kinds of payment that are served.
        kinds: Vec<Entry<SupportedKind>> => "kinds" required;
        /// The extensions that are served.
        extensions: Vec<String> => "extensions" or Vec::new();
        /// The addresses that settle, by CAIP-2 network or `namespace:*`.
        signers: Members => "signers" or Members::new();
    }
}
