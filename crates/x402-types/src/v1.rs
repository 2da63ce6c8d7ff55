//! The messages of [x402 version 1](https://github.com/coinbase/x402/blob/main/specs/x402-specification-v1.md) §5
//! that differ from version 2.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::wire;
use crate::{AtomicAmount, Entry, Members, NetworkName, RawJson, SchemeName, TimeoutSeconds, Version};

/// `resource` of v1: written as a URL string, read as a string or an object with `url`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceUrl(pub String);

impl Serialize for ResourceUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ResourceUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = ResourceUrl;
            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("a URL string, or an object with `url`")
            }
            fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<ResourceUrl, E> {
                Ok(ResourceUrl(s.to_owned()))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<ResourceUrl, A::Error> {
                let resource = crate::v2::ResourceInfo::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(ResourceUrl(resource.url))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

wire! {
    /// One way to pay: an entry of `accepts`.
    pub struct PaymentRequirements {
        /// The scheme.
        scheme: SchemeName => "scheme" required;
        /// The network, a legacy name such as `base-sepolia`.
        network: NetworkName => "network" required;
        /// The amount in atomic units.
        max_amount_required: AtomicAmount => "maxAmountRequired" required;
        /// The asset's contract address.
        asset: String => "asset" required;
        /// Who is paid.
        pay_to: String => "payTo" required;
        /// The resource's URL.
        resource: ResourceUrl => "resource" or ResourceUrl::default();
        /// What it is, for people.
        description: String => "description" or String::new();
        /// The media type of the answer.
        mime_type: String => "mimeType" or String::new();
        /// The shape of input and output.
        output_schema: Option<RawJson> => "outputSchema" optional;
        /// How long the payer's authorization may last.
        max_timeout_seconds: TimeoutSeconds => "maxTimeoutSeconds" or TimeoutSeconds::ABSENT;
        /// What the scheme adds.
        extra: Members => "extra" or Members::new();
    }
}

wire! {
    /// The 402 body.
    pub struct PaymentRequired {
        /// The integer 1.
        x402_version: Version => "x402Version" version_1;
        /// Why the request was not served.
        error: String => "error" or String::new();
        /// The ways to pay, in the server's order.
        accepts: Vec<Entry<PaymentRequirements>> => "accepts" required;
    }
}

wire! {
    /// What a client sends to pay.
    pub struct PaymentPayload {
        /// The integer 1.
        x402_version: Version => "x402Version" version_1;
        /// The scheme.
        scheme: SchemeName => "scheme" required;
        /// The network.
        network: NetworkName => "network" required;
        /// What the scheme defines.
        payload: RawJson => "payload" object;
    }
}
