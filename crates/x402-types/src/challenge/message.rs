//! The messages of the document's section "Specification Alignment".

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    BodySha256, ChallengeId, Code, DialectVersion, HostName, HttpMethod, IsoTime, Network, Nonce, Proof, ResourceName,
    UrlPath,
};
use crate::wire::wire;
use crate::{AtomicAmount, EvmAddress, Malformed, Members, RawJson, SchemeName, TimeoutSeconds};

wire! {
    /// The body of a 402: "Challenge Format (402 Body)".
    pub struct Challenge {
        /// The version of the dialect, `x402.v1`.
        version: DialectVersion => "version" required;
        /// The payment scheme, `exact` or `upto`.
        scheme: SchemeName => "scheme" required;
        /// The network on which to pay.
        network: Network => "network" required;
        /// The contract of the token.
        asset: EvmAddress => "asset" required;
        /// The recipient's address.
        pay_to: EvmAddress => "payTo" required;
        /// The price, in atomic units.
        max_amount_required: AtomicAmount => "maxAmountRequired" required;
        /// The number of seconds for which the challenge can be paid.
        max_timeout_seconds: TimeoutSeconds => "maxTimeoutSeconds" required;
        /// The identifier of the challenge.
        challenge_id: ChallengeId => "challengeId" required;
        /// The request that the challenge is bound to.
        bind: Binding => "bind" required;
        /// The resource that is sold.
        resource: ResourceName => "resource" required;
        /// Free members for display.
        meta: Option<Members> => "meta" optional;
    }
}

wire! {
    /// `bind`: the request that a challenge is bound to.
    pub struct Binding {
        /// The host, in lower case, without a default port.
        host: HostName => "host" required;
        /// The request's HTTP method.
        method: HttpMethod => "method" required;
        /// The path as the client sent it.
        path: UrlPath => "path" required;
        /// The SHA-256 of the body, if the challenge binds it; `null` on the wire otherwise.
        body_sha256: Option<BodySha256> => "bodySha256" or None;
    }
}

wire! {
    /// The payment: "Payment Header (X-PAYMENT)".
    pub struct Payment {
        /// The version of the dialect, `x402.v1`. Any other version can be parsed and is then refused as a mismatch.
        version: DialectVersion => "version" required;
        /// The challenge's scheme.
        scheme: SchemeName => "scheme" required;
        /// The identifier of the challenge that is paid.
        challenge_id: ChallengeId => "challengeId" required;
        /// The challenge's network.
        network: Network => "network" required;
        /// The challenge's token.
        asset: EvmAddress => "asset" required;
        /// The amount paid, in atomic units.
        paid_amount: AtomicAmount => "paidAmount" required;
        /// The payer's address, if the client states it.
        payer: Option<EvmAddress> => "payer" optional;
        /// The time at which the payment was made.
        issued_at: IsoTime => "issuedAt" required;
        /// A value that is fresh for each payment.
        nonce: Nonce => "nonce" required;
        /// The proof that the payment was made.
        proof: Proof => "proof" required;
    }
}

wire! {
    /// The receipt: "Response Header (X-PAYMENT-RESPONSE)".
    pub struct PaymentResponse {
        /// Whether access was granted.
        ok: bool => "ok" required;
        /// The identifier of the challenge that was paid.
        challenge_id: ChallengeId => "challengeId" required;
        /// The resource that was bought.
        resource: ResourceName => "resource" required;
        /// The entitlement that the payment grants beyond this response.
        entitlement: Option<EntitlementNotice> => "entitlement" optional;
    }
}

wire! {
    /// `entitlement` of a [`PaymentResponse`].
    pub struct EntitlementNotice {
        /// The form in which the client presents the entitlement.
        carrier: Carrier => "type" required;
        /// The number of seconds for which the entitlement is valid.
        ttl_seconds: u64 => "ttlSeconds" required;
    }
}

wire! {
    /// The body of a refusal: `{error, message}`, and with 402 also the members of a fresh challenge.
    pub struct RefusalBody {
        /// The machine-readable code.
        error: Code => "error" required;
        /// The description of the fault, for people.
        message: Box<str> => "message" required;
    }
}

impl PaymentResponse {
    /// Makes the response to a metered payment whose request was not served: nothing of it was settled, and nothing will
    /// be. The document has no such response; the member is named as in a settlement of x402 v2, `amount`.
    #[must_use]
    pub fn waived(challenge_id: ChallengeId, resource: ResourceName) -> Self {
        let mut rest = Members::new();
        rest.insert_text("amount", "0");
        Self { ok: false, challenge_id, resource, entitlement: None, rest }
    }

    /// Returns whether the response states that nothing was settled and nothing will be. `ok: false` alone only
    /// means that access was not granted.
    #[must_use]
    pub fn is_waived(&self) -> bool {
        !self.ok && self.rest.text("amount").as_deref() == Some("0")
    }
}

impl RefusalBody {
    /// Adds a fresh challenge, so that the client can continue.
    ///
    /// # Errors
    /// The challenge cannot be serialized as JSON.
    pub fn with_challenge(mut self, challenge: &Challenge) -> Result<Self, serde_json::Error> {
        let members: Members = RawJson::of(challenge)?.read()?;
        for (key, value) in members.iter().filter(|(key, _)| !matches!(*key, "error" | "message")) {
            self.rest.insert(key, value.clone());
        }
        Ok(self)
    }
}

/// The form in which a client presents an entitlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// The cookie `402_access`.
    Cookie,
    /// `Authorization: Bearer`, issued in `X-PAYMENT-TOKEN`.
    Bearer,
}

impl Carrier {
    const EXPECTED: &'static str = "`cookie` or `bearer`";

    /// Returns the name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Bearer => "bearer",
        }
    }
}

impl core::str::FromStr for Carrier {
    type Err = Malformed;

    fn from_str(s: &str) -> Result<Self, Malformed> {
        match s {
            "cookie" => Ok(Self::Cookie),
            "bearer" => Ok(Self::Bearer),
            _ => Err(Malformed::new(Self::EXPECTED)),
        }
    }
}

impl Serialize for Carrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Carrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::parsed::deserialize(deserializer, Self::EXPECTED)
    }
}
