//! Messages whose version is known only after they have been parsed.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::v2::ResourceInfo;
use crate::wire::wire;
use crate::{AtomicAmount, Entry, Members, NetworkName, RawJson, SchemeName, TimeoutSeconds, Version, v1, v2};

/// A 402 document of either version.
#[derive(Debug, Clone, PartialEq)]
pub enum PaymentRequired {
    /// A document of version 1.
    V1(v1::PaymentRequired),
    /// A document of version 2.
    V2(v2::PaymentRequired),
}

/// A payment of either version.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly every payment is of the larger version")]
pub enum PaymentPayload {
    /// A payment of version 1.
    V1(v1::PaymentPayload),
    /// A payment of version 2.
    V2(v2::PaymentPayload),
}

/// Requirements of either version, as a facilitator receives them beside a payment.
#[derive(Debug, Clone, PartialEq)]
pub enum PaymentRequirements {
    /// Requirements of version 1.
    V1(v1::PaymentRequirements),
    /// Requirements of version 2.
    V2(v2::PaymentRequirements),
}

impl PaymentPayload {
    /// Returns the version of the payment.
    #[must_use]
    pub const fn version(&self) -> Version {
        match self {
            Self::V1(_) => Version::V1,
            Self::V2(_) => Version::V2,
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
either!(PaymentRequired: V1 V2, PaymentPayload: V1 V2, PaymentRequirements: V1 V2);

// The structs below hold the members of both versions side by side, so that a message is parsed in one pass and its
// version is determined afterwards. A member of the other version counts as unknown: it goes to `rest` and survives
// forwarding.

wire! {
    /// A 402 document of either version.
    pub struct AnyRequired {
        /// The protocol version.
        x402_version: Version => "x402Version" required;
        /// Both versions have this member.
        error: Option<String> => "error" lenient;
        /// Only version 2 has this member.
        resource: Option<ResourceInfo> => "resource" lenient;
        /// Both versions have this member.
        accepts: Vec<RawJson> => "accepts" required;
        /// Only version 2 has this member.
        extensions: Members => "extensions" lenient;
    }
}

wire! {
    /// Requirements of either version.
    pub struct AnyRequirements {
        /// Both versions have this member.
        scheme: SchemeName => "scheme" required;
        /// Both versions have this member.
        network: NetworkName => "network" required;
        /// Only version 2 has this member.
        amount: Option<AtomicAmount> => "amount" optional;
        /// Only version 1 has this member.
        max_amount_required: Option<AtomicAmount> => "maxAmountRequired" optional;
        /// Both versions have this member.
        asset: String => "asset" required;
        /// Both versions have this member.
        pay_to: String => "payTo" required;
        /// Only version 1 has this member.
        resource: Option<v1::ResourceUrl> => "resource" optional;
        /// Only version 1 has this member.
        description: Option<String> => "description" optional;
        /// Only version 1 has this member.
        mime_type: Option<String> => "mimeType" optional;
        /// Only version 1 has this member.
        output_schema: Option<RawJson> => "outputSchema" optional;
        /// Both versions have this member.
        max_timeout_seconds: TimeoutSeconds => "maxTimeoutSeconds" or TimeoutSeconds::ABSENT;
        /// Both versions have this member.
        extra: Members => "extra" or Members::new();
    }
}

wire! {
    /// A payment of either version.
    pub struct AnyPayload {
        /// The protocol version.
        x402_version: Version => "x402Version" required;
        /// Only version 2 has this member.
        resource: Option<ResourceInfo> => "resource" optional;
        /// Only version 2 has this member.
        accepted: Option<v2::PaymentRequirements> => "accepted" optional;
        /// Only version 1 has this member.
        scheme: Option<SchemeName> => "scheme" optional;
        /// Only version 1 has this member.
        network: Option<NetworkName> => "network" optional;
        /// Both versions have this member.
        payload: RawJson => "payload" object;
        /// Only version 2 has this member.
        extensions: Members => "extensions" unless_empty;
    }
}

wire! {
    /// The body of `POST /verify` and `POST /settle`.
    pub struct AnyVerifyRequest {
        /// The protocol version. It may be absent; if present, it must be the payment's.
        x402_version: Option<Version> => "x402Version" optional;
        /// The payment. It is boxed because it is moved often until its version is determined.
        payment_payload: Box<AnyPayload> => "paymentPayload" required;
        /// The requirements that the payment must fulfil.
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
                // Version 1 always writes its own `error`.
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
    /// Converts to the payment of its own version.
    ///
    /// # Errors
    /// The name of the member that the version requires and that is absent.
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
    /// Converts to the requirements of one version.
    ///
    /// # Errors
    /// The name of the member that the version requires and that is absent or has the other version's form.
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

/// Maps a key to its dotted path, which readers of paths split again.
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

/// The body of `POST /verify` and `POST /settle`, §7.1 and §7.2.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifyRequest {
    /// The protocol version. It may be absent; if present, it must be the payment's.
    pub x402_version: Option<Version>,
    /// The payment to verify or settle.
    pub payment_payload: PaymentPayload,
    /// The requirements that the payment must fulfil.
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
