//! "Resource entitlement": what a payment grants beyond its own answer, bound to a resource and to a time.

use core::fmt;

use sha2::{Digest, Sha256};
use x402_types::challenge::{Carrier, ChallengeId, EntitlementNotice, ResourceName};
use x402_types::{Members, UnixSeconds};

use crate::store::Spent;

/// The name of the cookie.
pub const COOKIE: &str = "402_access";

/// What the client presents: whoever has it has access, so it is never shown, and stores hold its hash only.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

/// What a store knows of a token: its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl Token {
    /// A new token: a UUIDv4 of 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(ChallengeId::from_random(bytes).as_str().into())
    }

    /// The token of a request: `Authorization: Bearer`, else the cookie. The values as they stand in the headers.
    #[must_use]
    pub fn presented(authorization: Option<&str>, cookie: Option<&str>) -> Option<Self> {
        bearer(authorization.unwrap_or_default()).or_else(|| from_cookie(cookie.unwrap_or_default()))
    }

    /// The value of `Set-Cookie`.
    #[must_use]
    pub fn set_cookie(&self, ttl_seconds: u64) -> String {
        format!("{COOKIE}={}; Max-Age={ttl_seconds}; Path=/; SameSite=lax; Secure; HttpOnly", self.0)
    }

    /// The value of `X-PAYMENT-TOKEN`, presented again as `Authorization: Bearer`.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What a store knows of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }

    fn read(text: &str) -> Option<Self> {
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fits.then(|| Self(text.into()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// RFC 9110 §11.1: the scheme's name in any case.
fn bearer(authorization: &str) -> Option<Token> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") { Token::read(token.trim_start()) } else { None }
}

/// RFC 6265 §4.2.1. A name given twice is refused: which of them another reader takes is not known.
fn from_cookie(cookie: &str) -> Option<Token> {
    let mut values = cookie
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value);
    let value = values.next()?;
    if values.next().is_some() { None } else { Token::read(value) }
}

/// How often an entitlement is good, within its time. The request that pays is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// Once.
    Once,
    /// As often as wanted: a subscription.
    Unlimited,
    /// So many times.
    Count(u32),
}

/// What a route grants with a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// New for each payment.
    pub token: Token,
    /// How it is presented.
    pub carrier: Carrier,
    /// How often it is good.
    pub allowance: Allowance,
    /// How long it is good.
    pub ttl_seconds: u64,
}

impl Grant {
    /// What a store keeps of it.
    #[must_use]
    pub fn entitlement(&self, resource: ResourceName, now: UnixSeconds) -> Entitlement {
        let left = match self.allowance {
            Allowance::Once => Some(1),
            Allowance::Unlimited => None,
            Allowance::Count(uses) => Some(uses),
        };
        Entitlement { token: self.token.hash(), resource, expires_at: now.plus(self.ttl_seconds), left }
    }

    /// What `X-PAYMENT-RESPONSE` says of it.
    #[must_use]
    pub const fn notice(&self) -> EntitlementNotice {
        EntitlementNotice { carrier: self.carrier, ttl_seconds: self.ttl_seconds, rest: Members::new() }
    }
}

/// An entitlement as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entitlement {
    /// The token's hash.
    pub token: TokenHash,
    /// The resource it is for, compared as it stands.
    pub resource: ResourceName,
    /// The first second in which it is not good any more.
    pub expires_at: UnixSeconds,
    /// How often it is still good; `None`: as often as wanted.
    pub left: Option<u32>,
}

impl Entitlement {
    /// Uses it once, for a store that holds the row alone.
    pub fn spend(&mut self, resource: &ResourceName, now: UnixSeconds) -> Spent {
        if self.resource != *resource || self.expires_at <= now {
            return Spent::Refused;
        }
        match self.left {
            None => Spent::Good { left: None },
            Some(left) => match left.checked_sub(1) {
                None => Spent::Refused,
                Some(left) => {
                    self.left = Some(left);
                    Spent::Good { left: self.left }
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_as_existing_servers_write_it() {
        let token = Token::from_random(0x919108f7_52d1_4320_9bac_f847db4148a8_u128.to_be_bytes());
        let cookie =
            "402_access=919108f7-52d1-4320-9bac-f847db4148a8; Max-Age=3600; Path=/; SameSite=lax; Secure; HttpOnly";
        assert_eq!(token.set_cookie(3600), cookie);
        let back = "a=b; 402_access=919108f7-52d1-4320-9bac-f847db4148a8; x=402_access";
        assert_eq!(Token::presented(None, Some(back)), Some(token.clone()));
        assert_eq!(Token::presented(Some(&format!("bearer {}", token.reveal())), None), Some(token.clone()));
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn what_is_no_token() {
        for cookie in
            ["", "402_access", "402_access=", "402_access=a; 402_access=b", "x402_access=a", "402_access=a\"b"]
        {
            assert_eq!(Token::presented(None, Some(cookie)), None, "{cookie:?}");
        }
        for value in ["", "Bearer", "Bearer ", "Basic abc", "Bearer a b", &format!("Bearer {}", "a".repeat(129))] {
            assert_eq!(Token::presented(Some(value), None), None, "{value:?}");
        }
    }
}
