//! The messages of [x402 version 2](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v2.md) §5 and §7.

use crate::wire::wire;
use crate::{
    AtomicAmount, Blank, ChainId, Entry, ErrorReason, Members, NetworkName, RawJson, Rejection, SchemeName,
    TimeoutSeconds, Version,
};

wire! {
    /// What a protected resource is: `ResourceInfo`, §5.1.1.
    pub struct ResourceInfo {
        /// Its URL.
        url: String => "url" required;
        /// What it is, for people.
        description: Option<String> => "description" optional;
        /// The media type of the answer.
        mime_type: Option<String> => "mimeType" optional;
        /// The service's name, at most 32 printable ASCII characters.
        service_name: Option<String> => "serviceName" optional;
        /// At most 5 tags.
        tags: Option<Vec<String>> => "tags" optional;
        /// An icon, http or https.
        icon_url: Option<String> => "iconUrl" optional;
    }
}

impl ResourceInfo {
    /// A resource of which only the URL is known.
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
        /// The scheme.
        scheme: SchemeName => "scheme" required;
        /// The network, CAIP-2.
        network: ChainId => "network" required;
        /// The amount in atomic units.
        amount: AtomicAmount => "amount" required;
        /// The asset: a contract address, or what the scheme says.
        asset: String => "asset" required;
        /// Who is paid: an address, or what the scheme says.
        pay_to: String => "payTo" required;
        /// How long the payer's authorization may last.
        max_timeout_seconds: TimeoutSeconds => "maxTimeoutSeconds" or TimeoutSeconds::ABSENT;
        /// What the scheme adds.
        extra: Members => "extra" or Members::new();
    }
}

wire! {
    /// The 402 answer: `PaymentRequired`, §5.1.
    pub struct PaymentRequired {
        /// The integer 2.
        x402_version: Version => "x402Version" version_2;
        /// Why the request was not served.
        error: Option<String> => "error" optional;
        /// What would be served. Always written; its absence is read, since other SDKs omit it.
        resource: Option<ResourceInfo> => "resource" optional;
        /// The ways to pay, in the server's order.
        accepts: Vec<Entry<PaymentRequirements>> => "accepts" required;
        /// Extensions by name.
        extensions: Members => "extensions" unless_empty;
    }
}

wire! {
    /// What a client sends to pay: `PaymentPayload`, §5.2.
    pub struct PaymentPayload {
        /// The integer 2.
        x402_version: Version => "x402Version" version_2;
        /// The server's `resource`, echoed.
        resource: Option<ResourceInfo> => "resource" optional;
        /// The chosen entry, echoed in full.
        accepted: PaymentRequirements => "accepted" required;
        /// What the scheme defines.
        payload: RawJson => "payload" object;
        /// The server's extensions, echoed, with the client's additions.
        extensions: Members => "extensions" unless_empty;
    }
}

wire! {
    /// The facilitator's verdict: `VerifyResponse`, §5.4. The same in v1.
    pub struct VerifyResponse {
        /// Whether the payment is good.
        is_valid: bool => "isValid" required;
        /// Why not.
        invalid_reason: Option<ErrorReason> => "invalidReason" optional;
        /// Why not, for people.
        invalid_message: Option<String> => "invalidMessage" optional;
        /// Who pays.
        payer: Option<String> => "payer" optional;
        /// What the scheme adds.
        extra: Members => "extra" unless_empty;
        /// What extensions add.
        extensions: Members => "extensions" unless_empty;
    }
}

impl VerifyResponse {
    /// The payment is good, and this is who pays.
    #[must_use]
    pub fn valid(payer: impl Into<String>) -> Self {
        Self { is_valid: true, payer: Some(payer.into()), ..Self::without_verdict() }
    }

    /// The payment is refused.
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
    /// What settlement came to: `SettlementResponse`, §5.3. The same in v1.
    pub struct SettleResponse {
        /// Whether the payment was made.
        success: bool => "success" required;
        /// Why not. `settlement_pending`: not known yet, `transaction` says where to look.
        error_reason: Option<ErrorReason> => "errorReason" optional;
        /// Why not, for people.
        error_message: Option<String> => "errorMessage" optional;
        /// Who paid.
        payer: Option<String> => "payer" optional;
        /// The transaction, or `""` where nothing was sent.
        transaction: String => "transaction" or String::new();
        /// The network: CAIP-2 in v2, a legacy name in v1, `""` in some failed answers of peers.
        network: NetworkName => "network" or NetworkName::default();
        /// What was moved, where the scheme lets it differ from what was asked.
        amount: Option<Blank<AtomicAmount>> => "amount" optional;
        /// What the scheme adds.
        extra: Members => "extra" unless_empty;
        /// What extensions add.
        extensions: Members => "extensions" unless_empty;
    }
}

impl SettleResponse {
    /// The payment was made by this transaction, which is `""` where nothing had to be moved.
    #[must_use]
    pub fn settled(payer: impl Into<String>, transaction: impl Into<String>, network: impl Into<NetworkName>) -> Self {
        Self {
            success: true,
            payer: Some(payer.into()),
            transaction: transaction.into(),
            ..Self::without_outcome(network.into())
        }
    }

    /// The payment was not made, or it is not known: a code, and neither payer nor transaction.
    #[must_use]
    pub fn failed(reason: ErrorReason, network: impl Into<NetworkName>) -> Self {
        Self { error_reason: Some(reason), ..Self::without_outcome(network.into()) }
    }

    /// The payment was refused, and nothing was sent. A transaction in the details of the refusal is the one that used
    /// the authorization before.
    #[must_use]
    pub fn refused(rejection: &Rejection, network: impl Into<NetworkName>) -> Self {
        Self {
            error_message: Some(rejection.words().to_owned()),
            payer: rejection.payer.as_deref().map(str::to_owned),
            transaction: rejection.details.text("transaction").unwrap_or_default(),
            ..Self::failed(rejection.reason.clone(), network)
        }
    }

    /// Neither paid nor refused yet, for whoever fills in the rest.
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
        /// The version.
        x402_version: Version => "x402Version" required;
        /// The scheme.
        scheme: SchemeName => "scheme" required;
        /// The network: CAIP-2 in v2, a legacy name in v1.
        network: NetworkName => "network" required;
        /// What the scheme adds.
        extra: Members => "extra" unless_empty;
    }
}

wire! {
    /// `GET /supported`, §7.3.
    pub struct SupportedResponse {
        /// The kinds of payment served.
        kinds: Vec<Entry<SupportedKind>> => "kinds" required;
        /// The extensions served.
        extensions: Vec<String> => "extensions" or Vec::new();
        /// The addresses that settle, by CAIP-2 network or `namespace:*`.
        signers: Members => "signers" or Members::new();
    }
}

wire! {
    /// A resource that a facilitator lists, §8.
    pub struct DiscoveredResource {
        /// Its URL.
        resource: String => "resource" required;
        /// `http`, `mcp`, …
        r#type: String => "type" required;
        /// The version.
        x402_version: Version => "x402Version" required;
        /// The ways to pay.
        accepts: Vec<Entry<PaymentRequirements>> => "accepts" required;
        /// When it was last seen, seconds since 1970.
        last_updated: Option<u64> => "lastUpdated" optional;
        /// Extensions by name.
        extensions: Members => "extensions" unless_empty;
        /// Free members.
        metadata: Members => "metadata" unless_empty;
    }
}

wire! {
    /// Where a page of a list stands.
    pub struct Pagination {
        /// Items a page.
        limit: u64 => "limit" required;
        /// Items before this page.
        offset: u64 => "offset" or 0;
        /// Items in all.
        total: Option<u64> => "total" optional;
    }
}

wire! {
    /// `GET /discovery/resources`, §8.
    pub struct DiscoveryList {
        /// The version.
        x402_version: Version => "x402Version" required;
        /// The resources.
        items: Vec<Entry<DiscoveredResource>> => "items" required;
        /// The page.
        pagination: Pagination => "pagination" required;
    }
}
