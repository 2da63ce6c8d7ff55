//! The messages of the document's section "Specification Alignment".

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    BodySha256, ChallengeId, Code, DialectVersion, HostName, HttpMethod, IsoTime, Network, Nonce, Proof, ResourceName,
    UrlPath,
};
use crate::wire::wire;
use crate::{AtomicAmount, EvmAddress, Malformed, Members, RawJson, SchemeName, TimeoutSeconds};

wire! {
    /// "Challenge Format (402 Body)".
    pub struct Challenge {
        /// `x402.v1`.
        version: DialectVersion => "version" required;
        /// `exact` or `upto`.
        scheme: SchemeName => "scheme" required;
        /// Where it is paid.
        network: Network => "network" required;
        /// The token.
        asset: EvmAddress => "asset" required;
        /// Who is paid.
        pay_to: EvmAddress => "payTo" required;
        /// What is asked, in atomic units.
        max_amount_required: AtomicAmount => "maxAmountRequired" required;
        /// How long the challenge can be paid.
        max_timeout_seconds: TimeoutSeconds => "maxTimeoutSeconds" required;
        /// Names the challenge.
        challenge_id: ChallengeId => "challengeId" required;
        /// The request it is for.
        bind: Binding => "bind" required;
        /// What is paid for.
        resource: ResourceName => "resource" required;
        /// For people.
        meta: Option<Members> => "meta" optional;
    }
}

wire! {
    /// `bind`: the request that a challenge is for.
    pub struct Binding {
        /// The host, in lower case, without a default port.
        host: HostName => "host" required;
        /// The method.
        method: HttpMethod => "method" required;
        /// The path as sent.
        path: UrlPath => "path" required;
        /// The SHA-256 of the body, where it is bound; else written as `null`.
        body_sha256: Option<BodySha256> => "bodySha256" or None;
    }
}

wire! {
    /// "Payment Header (X-PAYMENT)".
    pub struct Payment {
        /// `x402.v1`; another one can be read, and is a mismatch.
        version: DialectVersion => "version" required;
        /// The challenge's scheme.
        scheme: SchemeName => "scheme" required;
        /// The challenge that is paid.
        challenge_id: ChallengeId => "challengeId" required;
        /// The challenge's network.
        network: Network => "network" required;
        /// The challenge's token.
        asset: EvmAddress => "asset" required;
        /// What was paid, in atomic units.
        paid_amount: AtomicAmount => "paidAmount" required;
        /// Who paid, where the client says so.
        payer: Option<EvmAddress> => "payer" optional;
        /// When the payment was made.
        issued_at: IsoTime => "issuedAt" required;
        /// New for each payment.
        nonce: Nonce => "nonce" required;
        /// What shows that it was made.
        proof: Proof => "proof" required;
    }
}

wire! {
    /// "Response Header (X-PAYMENT-RESPONSE)".
    pub struct PaymentResponse {
        /// Whether access was granted.
        ok: bool => "ok" required;
        /// The challenge that was paid.
        challenge_id: ChallengeId => "challengeId" required;
        /// What was paid for.
        resource: ResourceName => "resource" required;
        /// What the payment grants beyond this answer.
        entitlement: Option<EntitlementNotice> => "entitlement" optional;
    }
}

wire! {
    /// `entitlement` of a [`PaymentResponse`].
    pub struct EntitlementNotice {
        /// How the client presents it.
        carrier: Carrier => "type" required;
        /// How long it is good.
        ttl_seconds: u64 => "ttlSeconds" required;
    }
}

wire! {
    /// The body of a refusal: `{error, message}`, and with 402 the fresh challenge's members beside them.
    pub struct RefusalBody {
        /// The machine code.
        error: Code => "error" required;
        /// What was wrong, for people.
        message: Box<str> => "message" required;
    }
}

impl RefusalBody {
    /// A refusal with a fresh challenge beside it, so that the client can go on.
    ///
    /// # Errors
    /// If the challenge cannot be written as JSON.
    pub fn with_challenge(mut self, challenge: &Challenge) -> Result<Self, serde_json::Error> {
        let members: Members = RawJson::of(challenge)?.read()?;
        for (key, value) in members.iter().filter(|(key, _)| !matches!(*key, "error" | "message")) {
            self.rest.insert(key, value.clone());
        }
        Ok(self)
    }
}

/// How an entitlement is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// The cookie `402_access`.
    Cookie,
    /// `Authorization: Bearer`, issued in `X-PAYMENT-TOKEN`.
    Bearer,
}

impl Carrier {
    const EXPECTED: &'static str = "`cookie` or `bearer`";

    /// The name on the wire.
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
