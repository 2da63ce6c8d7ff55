//! `onchain`: the proof is the hash of a transaction in which the client has paid.
//!
//! A transaction is public and does not name a challenge: any client that presents it first is served. The theft is
//! limited by the challenge's conditions: the exact amount, a block that is not older than the challenge, and the
//! payer, if the payment names one.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::B256;
use async_trait::async_trait;
use x402_challenge::{Evidence, ProofError, ProofKey, Proven, VerifyProof};
use x402_types::challenge::{Networks, ProofKind};
use x402_types::{ChainId, Fault, UnixSeconds};

use super::settle::refused;
use crate::chain::ReadReceipts;
use crate::eip3009::AUTHORIZATION_USED;

/// Verifies `onchain` proofs on the chains that it reads. Each chain determines the depth from which a block counts.
#[derive(Clone, Default)]
pub struct VerifyOnchain {
    networks: Networks,
    chains: BTreeMap<ChainId, Arc<dyn ReadReceipts>>,
}

impl VerifyOnchain {
    /// Creates a verifier without a chain: every proof meets a fault.
    #[must_use]
    pub fn new(networks: Networks) -> Self {
        Self { networks, chains: BTreeMap::new() }
    }

    /// Reads also this chain.
    #[must_use]
    pub fn with_chain(mut self, chain: Arc<dyn ReadReceipts>) -> Self {
        self.chains.insert(chain.network(), chain);
        self
    }
}

impl fmt::Debug for VerifyOnchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VerifyOnchain").field(&self.chains.keys()).finish()
    }
}

#[async_trait]
impl VerifyProof for VerifyOnchain {
    fn kind(&self) -> ProofKind {
        ProofKind::Onchain
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        let (challenge, payment) = (&evidence.issued.challenge, evidence.payment);
        let network = self.networks.caip2(&challenge.network);
        let chain = network.and_then(|network| self.chains.get(&network)).ok_or_else(|| {
            ProofError::Unmoved(Fault::broken(format_args!("no chain for the network `{}`", challenge.network)))
        })?;
        let hash = payment.proof.tx_hash.as_deref().unwrap_or_default();
        let hash: B256 = hash.parse().map_err(|_| refused("proof.txHash: expected `0x` and 64 hex digits"))?;
        // No known block proves that money moved.
        let unseen = || ProofError::Unmoved(Fault::unreachable("the chain", "it has no such transaction yet"));
        let mined = chain.mined(hash).await.map_err(ProofError::Unmoved)?.ok_or_else(unseen)?;
        if !mined.success {
            return Err(refused("proof.txHash: the transaction reverted"));
        }
        if mined.at < evidence.issued.issued_at {
            return Err(refused("proof.txHash: the transaction is older than the challenge"));
        }
        let (token, pay_to) = (challenge.asset.unchecked(), challenge.pay_to.unchecked());
        let pays = mined.transfers.iter().find(|moved| {
            let from = payment.payer.is_none_or(|payer| payer.unchecked() == moved.from);
            from && moved.token == token && moved.to == pay_to && moved.value == payment.paid_amount.value()
        });
        let Some(pays) = pays else {
            return Err(refused("proof.txHash: no transfer of paidAmount in the token to payTo is in the transaction"));
        };
        // An authorization made the transfer for the seller that required it, where it counts as an `exact` payment.
        if pays.beside.contains(&Some(AUTHORIZATION_USED)) {
            return Err(refused("proof.txHash: a transfer by an EIP-3009 authorization, which is not presented so"));
        }
        // The transaction may still disappear: the same payment must be sent again until its block is deep enough.
        if mined.block > chain.head().await.map_err(ProofError::Unknown)?.finalized {
            return Err(ProofError::Unknown(Fault::unreachable("the chain", "the transaction is not final yet")));
        }
        let key = ProofKey(format!("onchain:{}:{hash}", chain.network()).into());
        Ok(Proven { amount: payment.paid_amount, key: Some(key) })
    }
}
