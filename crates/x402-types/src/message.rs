//! Messages whose version is known only once they are read.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::v2::ResourceInfo;
use crate::wire::wire;
use crate::{AtomicAmount, Entry, Members, NetworkName, RawJson, SchemeName, TimeoutSeconds, Version, nvm, v1, v2};

/// A 402 document of either version.
#[derive(Debug, Clone, PartialEq)]
pub enum PaymentRequired {
    /// Version 1.
    V1(v1::PaymentRequired),
    /// Version 2.
    V2(v2::PaymentRequired),
}

/// A payment of either version.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly every payment is of the larger version")]
pub enum PaymentPayload {
    /// Version 1.
    V1(v1::PaymentPayload),
    /// Version 2.
    V2(v2::PaymentPayload),
    /// Version 2 with credits of a plan in the place of an amount. Read from text by `x402-codec`, which tells it from
    /// the others; `Deserialize` reads the other two.
    Nvm(nvm::PaymentPayload),
}

/// Requirements of either version, as a facilitator receives them beside a payment.
#[derive(Debug, Clone, PartialEq)]
pub enum PaymentRequirements {
    /// Version 1.
    V1(v1::PaymentRequirements),
    /// Version 2.
    V2(v2::PaymentRequirements),
    /// Version 2 with credits of a plan in the place of an amount. `Deserialize` reads the other two.
    Nvm(nvm::Requirements),
}

impl PaymentPayload {
    /// Its version.
    #[must_use]
    pub const fn version(&self) -> Version {
        match self {
            Self::V1(_) => Version::V1,
            Self::V2(_) | Self::Nvm(_) => Version::V2,
        }
    }
}

macro_rules! either {
    ($($name:ident: $($variant:ident)*),*) => { $(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $( Self::$variant(message) => message.serialize(serializer), )*
                }
            }
        }
    )* };
}
either!(PaymentRequired: V1 V2, PaymentPayload: V1 V2 Nvm, PaymentRequirements: V1 V2 Nvm);

// Both versions' members side by side, so that a message is read in one pass and told apart afterwards.
// A member of the other version is an unknown one: it goes to `rest` and survives being forwarded.

wire! {
    /// Either version's 402 document.
    pub struct AnyRequired {
        /// The version.
        x402_version: Version => "x402Version" required;
        /// Both.
        error: Option<String> => "error" lenient;
        /// Version 2.
        resource: Option<ResourceInfo> => "resource" lenient;
        /// Both.
        accepts: Vec<RawJson> => "accepts" required;
        /// Version 2.
        extensions: Members => "extensions" lenient;
    }
}

wire! {
    /// Either version's requirements.
    pub struct AnyRequirements {
        /// Both.
        scheme: SchemeName => "scheme" required;
        /// Both.
        network: NetworkName => "network" required;
        /// Version 2.
        amount: Option<AtomicAmount> => "amount" optional;
        /// Version 1.
        max_amount_required: Option<AtomicAmount> => "maxAmountRequired" optional;
        /// Both.
        asset: String => "asset" required;
        /// Both.
        pay_to: String => "payTo" required;
        /// Version 1.
        resource: Option<v1::ResourceUrl> => "resource" optional;
        /// Version 1.
        description: Option<String> => "description" optional;
        /// Version 1.
        mime_type: Option<String> => "mimeType" optional;
        /// Version 1.
        output_schema: Option<RawJson> => "outputSchema" optional;
        /// Both.
        max_timeout_seconds: TimeoutSeconds => "maxTimeoutSeconds" or TimeoutSeconds::ABSENT;
        /// Both.
        extra: Members => "extra" or Members::new();
    }
}

wire! {
    /// Either version's payment.
    pub struct AnyPayload {
        /// The version.
        x402_version: Version => "x402Version" required;
        /// Version 2.
        resource: Option<ResourceInfo> => "resource" optional;
        /// Version 2.
        accepted: Option<v2::PaymentRequirements> => "accepted" optional;
        /// Version 1.
        scheme: Option<SchemeName> => "scheme" optional;
        /// Version 1.
        network: Option<NetworkName> => "network" optional;
        /// Both.
        payload: RawJson => "payload" object;
        /// Version 2.
        extensions: Members => "extensions" unless_empty;
    }
}

wire! {
    /// `POST /verify` and `POST /settle`.
    pub struct AnyVerifyRequest {
        /// May be absent; where present it must be the payment's.
        x402_version: Option<Version> => "x402Version" optional;
        /// The payment. Boxed, as it is moved often until its version is settled.
        payment_payload: Box<AnyPayload> => "paymentPayload" required;
        /// What it must fulfil.
        payment_requirements: Box<AnyRequirements> => "paymentRequirements" required;
    }
}

impl<'de> Deserialize<'de> for PaymentRequired {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn entries<T: serde::de::DeserializeOwned>(raw: Vec<RawJson>) -> Vec<Entry<T>> {
            raw.into_iter().map(|raw| raw.read().map_or_else(|_| Entry::Opaque(raw), Entry::Known)).collect()
        }
        let mut any = AnyRequired::deserialize(deserializer)?;
        Ok(match any.x402_version {
            Version::V1 => Self::V1({
                any.rest.keep("resource", any.resource);
                any.rest.keep("extensions", (!any.extensions.is_empty()).then_some(any.extensions));
                // Version 1 always writes its own.
                any.rest.remove("error");
                v1::PaymentRequired {
                    x402_version: Version::V1,
                    error: any.error.unwrap_or_default(),
                    accepts: entries(any.accepts),
                    rest: any.rest,
                }
            }),
            Version::V2 => Self::V2(v2::PaymentRequired {
                x402_version: Version::V2,
                error: any.error,
                resource: any.resource,
                accepts: entries(any.accepts),
                extensions: any.extensions,
                rest: any.rest,
            }),
        })
    }
}

impl AnyPayload {
    /// The payment of its own version.
    ///
    /// # Errors
    /// The name of the member that its version demands and that is absent.
    fn settle_version(mut self) -> Result<PaymentPayload, &'static str> {
        Ok(match self.x402_version {
            Version::V1 => {
                self.rest.keep("resource", self.resource);
                self.rest.keep("accepted", self.accepted);
                self.rest.keep("extensions", (!self.extensions.is_empty()).then_some(self.extensions));
                PaymentPayload::V1(v1::PaymentPayload {
                    x402_version: Version::V1,
                    scheme: self.scheme.ok_or("scheme")?,
                    network: self.network.ok_or("network")?,
                    payload: self.payload,
                    rest: self.rest,
                })
            }
            Version::V2 => {
                self.rest.keep("scheme", self.scheme);
                self.rest.keep("network", self.network);
                PaymentPayload::V2(v2::PaymentPayload {
                    x402_version: Version::V2,
                    resource: self.resource,
                    accepted: self.accepted.ok_or("accepted")?,
                    payload: self.payload,
                    extensions: self.extensions,
                    rest: self.rest,
                })
            }
        })
    }
}

impl AnyRequirements {
    /// The requirements as one version has them.
    ///
    /// # Errors
    /// The name of the member that the version demands and that is absent or of the other version's form.
    fn settle_version(mut self, version: Version) -> Result<PaymentRequirements, &'static str> {
        Ok(match version {
            Version::V1 => {
                self.rest.keep("amount", self.amount);
                PaymentRequirements::V1(v1::PaymentRequirements {
                    scheme: self.scheme,
                    network: self.network,
                    max_amount_required: self.max_amount_required.ok_or("maxAmountRequired")?,
                    asset: self.asset,
                    pay_to: self.pay_to,
                    resource: self.resource.unwrap_or_default(),
                    description: self.description.unwrap_or_default(),
                    mime_type: self.mime_type.unwrap_or_default(),
                    output_schema: self.output_schema,
                    max_timeout_seconds: self.max_timeout_seconds,
                    extra: self.extra,
                    rest: self.rest,
                })
            }
            Version::V2 => {
                self.rest.keep("maxAmountRequired", self.max_amount_required);
                self.rest.keep("resource", self.resource);
                self.rest.keep("description", self.description);
                self.rest.keep("mimeType", self.mime_type);
                self.rest.keep("outputSchema", self.output_schema);
                PaymentRequirements::V2(v2::PaymentRequirements {
                    scheme: self.scheme,
                    network: self.network.as_str().parse().map_err(|_| "network")?,
                    amount: self.amount.ok_or("amount")?,
                    asset: self.asset,
                    pay_to: self.pay_to,
                    max_timeout_seconds: self.max_timeout_seconds,
                    extra: self.extra,
                    rest: self.rest,
                })
            }
        })
    }
}

impl<'de> Deserialize<'de> for PaymentPayload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AnyPayload::deserialize(deserializer)?.settle_version().map_err(serde::de::Error::missing_field)
    }
}

/// The dotted names that readers of paths take apart.
fn in_payload(key: &'static str) -> &'static str {
    match key {
        "accepted" => "paymentPayload.accepted",
        "scheme" => "paymentPayload.scheme",
        _ => "paymentPayload.network",
    }
}

fn in_requirements(key: &'static str) -> &'static str {
    match key {
        "maxAmountRequired" => "paymentRequirements.maxAmountRequired",
        "amount" => "paymentRequirements.amount",
        _ => "paymentRequirements.network",
    }
}

/// `POST /verify` and `POST /settle`, §7.1 and §7.2.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifyRequest {
    /// May be absent; where present it must be the payment's.
    pub x402_version: Option<Version>,
    /// The payment.
    pub payment_payload: PaymentPayload,
    /// What it must fulfil.
    pub payment_requirements: PaymentRequirements,
}

/// The body of `POST /settle` is that of `POST /verify`.
pub use self::VerifyRequest as SettleRequest;

impl Serialize for VerifyRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("x402Version", &self.payment_payload.version())?;
        map.serialize_entry("paymentPayload", &self.payment_payload)?;
        map.serialize_entry("paymentRequirements", &self.payment_requirements)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for VerifyRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let any = AnyVerifyRequest::deserialize(deserializer)?;
        let version = any.payment_payload.x402_version;
        let missing = |key| serde::de::Error::missing_field(key);
        Ok(Self {
            x402_version: any.x402_version,
            payment_payload: any.payment_payload.settle_version().map_err(|key| missing(in_payload(key)))?,
            payment_requirements: any
                .payment_requirements
                .settle_version(version)
                .map_err(|key| missing(in_requirements(key)))?,
        })
    }
}
