//! The statement that the account signs: [smart accounts
//! v0.3](https://docs.nevermined.app/docs/specs/x402-smart-accounts) §3.3 `signature`, §8.1 and §8.4, as EIP-712 typed
//! data.
//!
//! "Cross-network attacks MUST be prevented by including the network in signed data": the chain is part of the domain.
//! There is no verifying contract; the member `from` takes its place.

use std::borrow::Cow;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::{Eip712Domain, SolStruct, sol};

sol! {
    struct SessionKey {
        string id;
        bytes32 hash;
    }
}

mod v2 {
    use super::SessionKey;

    alloy_sol_types::sol! {
        struct PaymentPayload {
            address from;
            string sessionKeysProvider;
            SessionKey[] sessionKeys;
            uint256 planId;
        }
    }
}

mod v3 {
    use super::SessionKey;

    alloy_sol_types::sol! {
        struct PaymentPayload {
            address from;
            string sessionKeysProvider;
            SessionKey[] sessionKeys;
            uint256 planId;
            string agentId;
            string resourceUrl;
            string httpVerb;
            bytes32 nonce;
        }
    }
}

/// The name and version of the domain, in addition to the chain. Peers agree on them; they are not secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementDomain {
    name: Cow<'static, str>,
    version: Cow<'static, str>,
}

/// The statement that the account signs: which session keys may be used for which plan and, with [`StatementBinding`], for which
/// request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The smart account.
    pub from: Address,
    /// The provider of the session keys, as it was written.
    pub provider: String,
    /// The keys in the order of the wire.
    pub keys: Vec<NamedKey>,
    /// The id of the plan.
    pub plan: U256,
    /// The single request for which the statement is valid. Without it, the statement is a bearer token for every
    /// seller of the plan.
    pub binding: Option<StatementBinding>,
}

/// A session key as the statement contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// `order`, `redeem`, … as it was written.
    pub id: String,
    /// The `keccak256` of the key's text.
    pub hash: B256,
}

/// The one request for which a statement is valid. Strings are signed without normalisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementBinding {
    /// The agent; empty if the offer names none.
    pub agent_id: String,
    /// The resource of the request.
    pub resource_url: String,
    /// The method, in upper case.
    pub http_verb: String,
    /// A nonce of 32 random bytes.
    pub nonce: B256,
}

impl Default for StatementDomain {
    /// Returns the domain `nvm:erc4337`, version `1`.
    fn default() -> Self {
        Self { name: Cow::Borrowed("nvm:erc4337"), version: Cow::Borrowed("1") }
    }
}

impl StatementDomain {
    /// Creates another domain, for peers that agreed on it.
    #[must_use]
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: Cow::Owned(name.into()), version: Cow::Owned(version.into()) }
    }
}

impl NamedKey {
    /// Creates the entry of a key whose text is known. It has the same signature as the hash alone.
    #[must_use]
    pub fn of_text(id: impl Into<String>, text: &str) -> Self {
        Self { id: id.into(), hash: keccak256(text) }
    }
}

impl Statement {
    /// Computes the digest that is signed, or that the account wraps once more before it is signed.
    #[must_use]
    pub fn digest(&self, domain: &StatementDomain, chain_id: u64) -> B256 {
        let domain = Eip712Domain::new(
            Some(domain.name.clone()),
            Some(domain.version.clone()),
            Some(U256::from(chain_id)),
            None,
            None,
        );
        let keys = self.keys.iter().map(|key| SessionKey { id: key.id.clone(), hash: key.hash }).collect();
        match &self.binding {
            None => v2::PaymentPayload {
                from: self.from,
                sessionKeysProvider: self.provider.clone(),
                sessionKeys: keys,
                planId: self.plan,
            }
            .eip712_signing_hash(&domain),
            Some(binding) => v3::PaymentPayload {
                from: self.from,
                sessionKeysProvider: self.provider.clone(),
                sessionKeys: keys,
                planId: self.plan,
                agentId: binding.agent_id.clone(),
                resourceUrl: binding.resource_url.clone(),
                httpVerb: binding.http_verb.clone(),
                nonce: binding.nonce,
            }
            .eip712_signing_hash(&domain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::zerodev::{KernelVersion, wrapped_digest};
    use alloy_primitives::{address, b256};

    const CHAIN: u64 = 84532;
    const AGENT: &str = "80918427023170428029540261117198154464497879145267720259488529685089104529015";

    /// Returns the example of smart accounts v0.3 §3.2.
    fn example() -> Statement {
        let key = |id: &str, hash| NamedKey { id: id.to_owned(), hash };
        Statement {
            from: address!("D4f58B60330bC59cB0A07eE6A1A66ad64244eC8c"),
            provider: "zerodev".to_owned(),
            keys: vec![
                key("order", b256!("20a13d82dd9ee289fc5e5a90f4011c8dc03f8f5d5223aafd6b5cd67e3b1ab425")),
                key("redeem", b256!("68e8e34d659149087451cafc89a7320114072e49fd89657ccba14cad82c0a533")),
            ],
            plan: "44742763076047497640080230236781474129970992727896593861997347135613135571071".parse().unwrap(),
            binding: None,
        }
    }

    fn bound() -> Statement {
        let binding = StatementBinding {
            agent_id: AGENT.to_owned(),
            resource_url: format!("/api/v1/agents/{AGENT}/tasks"),
            http_verb: "POST".to_owned(),
            nonce: B256::repeat_byte(0xab),
        };
        Statement { binding: Some(binding), ..example() }
    }

    #[test]
    fn the_types_have_the_hashes_of_the_decisions() {
        let hash = |statement: &Statement| {
            let keys = Vec::new();
            match &statement.binding {
                None => v2::PaymentPayload {
                    from: Address::ZERO,
                    sessionKeysProvider: String::new(),
                    sessionKeys: keys,
                    planId: U256::ZERO,
                }
                .eip712_type_hash(),
                Some(_) => v3::PaymentPayload {
                    from: Address::ZERO,
                    sessionKeysProvider: String::new(),
                    sessionKeys: keys,
                    planId: U256::ZERO,
                    agentId: String::new(),
                    resourceUrl: String::new(),
                    httpVerb: String::new(),
                    nonce: B256::ZERO,
                }
                .eip712_type_hash(),
            }
        };
        assert_eq!(hash(&example()), b256!("af19fd11d90ab94ffeb4968544e5718cb3123f17bd82110616e823fc5b04d2f6"));
        assert_eq!(hash(&bound()), b256!("d43a7385fcc3f57f14e811ec6d39211ad1bef1e6468d1596df35d61104523e79"));
    }

    /// Checks `nvm-erc4337-decisions.md` §2 "Golden".
    #[test]
    fn the_document_s_example_has_the_digests_of_the_decisions() {
        let golden = [
            (
                example(),
                b256!("eec1030d51c8a6c453790ad1cfa4fab123c92c644907cce0d44f18780c0b99ab"),
                b256!("87a53bb0cb7bf55588ed6269bb779368ea2a8ed7aa4eda723b09ba4b02e83283"),
            ),
            (
                bound(),
                b256!("c2c50feea3c62a7e0051c64be87fd56242b7eeb27e0de0eb3b1a927d3edaad5b"),
                b256!("4d6a91e2b4621ee219f71b3f6e7d6d54dead528c6827ecdb7cf3e84b94fb6141"),
            ),
        ];
        for (statement, digest, wrapped) in golden {
            assert_eq!(statement.digest(&StatementDomain::default(), CHAIN), digest);
            assert_eq!(wrapped_digest(digest, statement.from, KernelVersion::V031, CHAIN), wrapped);
        }
    }

    #[test]
    fn every_member_and_the_domain_change_the_digest() {
        let digest = |statement: &Statement| statement.digest(&StatementDomain::default(), CHAIN);
        let change: [&dyn Fn(&mut Statement); 11] = [
            &|s| s.from = Address::ZERO,
            &|s| s.provider.push('x'),
            &|s| s.keys.reverse(),
            &|s| s.keys[0].id.push('x'),
            &|s| s.keys[1].hash = B256::ZERO,
            &|s| drop(s.keys.pop()),
            &|s| s.plan = U256::ZERO,
            &|s| s.binding = None,
            &|s| s.binding.as_mut().unwrap().nonce = B256::ZERO,
            &|s| s.binding.as_mut().unwrap().http_verb = "post".to_owned(),
            &|s| s.binding.as_mut().unwrap().resource_url.push('/'),
        ];
        for (i, change) in change.iter().enumerate() {
            let mut other = bound();
            change(&mut other);
            assert_ne!(digest(&other), digest(&bound()), "{i}");
        }
        assert_ne!(bound().digest(&StatementDomain::default(), 8453), digest(&bound()));
        assert_ne!(bound().digest(&StatementDomain::new("Nevermined-MPP", "1"), CHAIN), digest(&bound()));
        assert_ne!(bound().digest(&StatementDomain::new("nvm:erc4337", "2"), CHAIN), digest(&bound()));
    }

    /// Checks the keccak256 of a text against `cast keccak` of `abc`.
    #[test]
    fn a_key_is_signed_by_the_hash_of_its_text() {
        let hash = b256!("4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");
        assert_eq!(NamedKey::of_text("redeem", "abc"), NamedKey { id: "redeem".to_owned(), hash });
    }
}
