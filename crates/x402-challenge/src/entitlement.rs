//! "Resource entitlement": access that a payment grants beyond its own response, limited to a resource and a time.

use core::fmt;

use sha2::{Digest, Sha256};
use x402_types::challenge::{Carrier, ChallengeId, EntitlementNotice, ResourceName};
use x402_types::{Members, UnixSeconds};

use crate::store::Spent;

/// The name of the cookie.
pub const COOKIE: &str = "402_access";

/// The secret that the client presents. Whoever has it has access, so it is never displayed, and stores keep only its
/// hash.
#[derive(Clone, PartialEq, Eq)]
pub struct EntitlementToken(Box<str>);

/// The SHA-256 of a token, which is all that a store knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl EntitlementToken {
    /// Creates a token: a UUIDv4 of 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(ChallengeId::from_random(bytes).as_str().into())
    }

    /// Extracts the token from a request's header values: from `Authorization: Bearer`, otherwise from the cookie.
    #[must_use]
    pub fn presented(authorization: Option<&str>, cookie: Option<&str>) -> Option<Self> {
        bearer(authorization.unwrap_or_default()).or_else(|| from_cookie(cookie.unwrap_or_default()))
    }

    /// Formats the value of `Set-Cookie`.
    #[must_use]
    pub fn set_cookie(&self, ttl_seconds: u64) -> String {
        format!("{COOKIE}={}; Max-Age={ttl_seconds}; Path=/; SameSite=lax; Secure; HttpOnly", self.0)
    }

    /// Returns the value of `X-PAYMENT-TOKEN`, which the client presents as `Authorization: Bearer`.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Computes the hash that a store keeps.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }

    fn read(text: &str) -> Option<Self> {
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fits.then(|| Self(text.into()))
    }
}

impl fmt::Debug for EntitlementToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EntitlementToken(..)")
    }
}

/// Parses the header; RFC 9110 §11.1 matches the scheme's name in any case.
fn bearer(authorization: &str) -> Option<EntitlementToken> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") { EntitlementToken::read(token.trim_start()) } else { None }
}

/// Parses the cookies as RFC 6265 §4.2.1 has them. A name that occurs twice is refused, since it is unknown which of
/// the two another parser uses.
fn from_cookie(cookie: &str) -> Option<EntitlementToken> {
    let mut values = cookie
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value);
    let value = values.next()?;
    if values.next().is_some() { None } else { EntitlementToken::read(value) }
}

/// The number of uses of an entitlement within its lifetime. The request that pays is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// A single use.
    Once,
    /// Any number of uses: a subscription.
    Unlimited,
    /// A fixed number of uses.
    Count(u32),
}

/// The entitlement that a route grants with a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitlementGrant {
    /// The token, which is fresh for each payment.
    pub token: EntitlementToken,
    /// The form in which the client presents the token.
    pub carrier: Carrier,
    /// The number of uses.
    pub allowance: Allowance,
    /// The lifetime in seconds.
    pub ttl_seconds: u64,
}

impl EntitlementGrant {
    /// Converts to the row that a store keeps.
    #[must_use]
    pub fn entitlement(&self, resource: ResourceName, now: UnixSeconds) -> Entitlement {
        let left = match self.allowance {
            Allowance::Once => Some(1),
            Allowance::Unlimited => None,
            Allowance::Count(uses) => Some(uses),
        };
        Entitlement { token: self.token.hash(), resource, expires_at: now.plus(self.ttl_seconds), left }
    }

    /// Converts to the notice in `X-PAYMENT-RESPONSE`.
    #[must_use]
    pub const fn notice(&self) -> EntitlementNotice {
        EntitlementNotice { carrier: self.carrier, ttl_seconds: self.ttl_seconds, rest: Members::new() }
    }
}

/// An entitlement as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entitlement {
    /// The hash of the token.
    pub token: TokenHash,
    /// The resource that the entitlement is for, compared byte for byte.
    pub resource: ResourceName,
    /// The first second in which the entitlement is expired.
    pub expires_at: UnixSeconds,
    /// The number of remaining uses; `None` means any number.
    pub left: Option<u32>,
}

impl Entitlement {
    /// Returns whether the entitlement is valid for this request, and what is left of it. Nothing is counted.
    #[must_use]
    pub fn look(&self, resource: &ResourceName, now: UnixSeconds) -> Spent {
        if self.resource != *resource || self.expires_at <= now || self.left == Some(0) {
            return Spent::Refused;
        }
        Spent::Good { left: self.left }
    }

    /// Uses the entitlement once. The caller must hold the row exclusively.
    pub fn spend(&mut self, resource: &ResourceName, now: UnixSeconds) -> Spent {
        if self.look(resource, now) == Spent::Refused {
            return Spent::Refused;
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        Spent::Good { left: self.left }
    }

    /// Returns a counted use whose request was not served. The caller must hold the row exclusively.
    pub fn give_back(&mut self) {
        self.left = self.left.map(|left| left.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_as_existing_servers_write_it() {
        let token = EntitlementToken::from_random(0x919108f7_52d1_4320_9bac_f847db4148a8_u128.to_be_bytes());
        let cookie =
            "402_access=919108f7-52d1-4320-9bac-f847db4148a8; Max-Age=3600; Path=/; SameSite=lax; Secure; HttpOnly";
        assert_eq!(token.set_cookie(3600), cookie);
        let back = "a=b; 402_access=919108f7-52d1-4320-9bac-f847db4148a8; x=402_access";
        assert_eq!(EntitlementToken::presented(None, Some(back)), Some(token.clone()));
        assert_eq!(EntitlementToken::presented(Some(&format!("bearer {}", token.reveal())), None), Some(token.clone()));
        assert_eq!(format!("{token:?}"), "EntitlementToken(..)");
    }

    #[test]
    fn what_is_no_token() {
        for cookie in
            ["", "402_access", "402_access=", "402_access=a; 402_access=b", "x402_access=a", "402_access=a\"b"]
        {
            assert_eq!(EntitlementToken::presented(None, Some(cookie)), None, "{cookie:?}");
        }
        for value in ["", "Bearer", "Bearer ", "Basic abc", "Bearer a b", &format!("Bearer {}", "a".repeat(129))] {
            assert_eq!(EntitlementToken::presented(Some(value), None), None, "{value:?}");
        }
    }
}
