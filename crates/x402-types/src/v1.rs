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
        /// The payment scheme.
        scheme: SchemeName => "scheme" required;
        /// The network, a legacy name such as `base-sepolia`.
        network: NetworkName => "network" required;
        /// The amount in atomic units.
        max_amount_required: AtomicAmount => "maxAmountRequired" required;
        /// The asset's contract address.
        asset: String => "asset" required;
        /// The recipient's address.
        pay_to: String => "payTo" required;
        /// The resource's URL.
        resource: ResourceUrl => "resource" or ResourceUrl::default();
        /// The description of the resource, for people.
        description: String => "description" or String::new();
        /// The media type of the response.
        mime_type: String => "mimeType" or String::new();
        /// The schema of input and output.
        output_schema: Option<RawJson> => "outputSchema" optional;
        /// The longest validity of the payer's authorization.
        max_timeout_seconds: TimeoutSeconds => "maxTimeoutSeconds" or TimeoutSeconds::ABSENT;
        /// The scheme's additional members.
        extra: Members => "extra" or Members::new();
    }
}

wire! {
    /// The body of a 402 response.
    pub struct PaymentRequired {
        /// The protocol version, 1.
        x402_version: Version => "x402Version" version_1;
        /// The reason why the request was not served.
        error: String => "error" or String::new();
        /// The ways to pay, in the server's order.
        accepts: Vec<Entry<PaymentRequirements>> => "accepts" required;
    }
}

wire! {
    /// The payment that a client sends.
    pub struct PaymentPayload {
        /// The protocol version, 1.
        x402_version: Version => "x402Version" version_1;
        /// The payment scheme.
        scheme: SchemeName => "scheme" required;
        /// The network of the payment.
        network: NetworkName => "network" required;
        /// The scheme's payload.
        payload: RawJson => "payload" object;
    }
}
