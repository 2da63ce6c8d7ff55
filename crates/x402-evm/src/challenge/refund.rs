//! Refunds by EIP-3009: the seller signs, a facilitator settles, and the token itself accepts it once.

use core::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use x402_challenge::{ProofError, Refund, RefundPayment, body_sha256};
use x402_facilitator_core::Facilitator;
use x402_types::challenge::Networks;
use x402_types::{MakePayment, Refusal, SigningContext, TimeoutSeconds};

use super::settle::{payment_request, refused, settle};
use super::terms::{Known, Sum};
use crate::token::Tokens;

/// Pays back from the seller's account. The authorization's nonce is derived from the refunded proof, so that the token
/// refuses a second refund of it, even if a store or a facilitator loses its data. It is valid for five minutes from
/// `Refund::asked_at`; one that was not settled by then is refused, and after an hour another may be requested.
#[derive(Clone)]
pub struct ExactRefund {
    seller: Arc<dyn MakePayment>,
    facilitator: Arc<dyn Facilitator>,
    known: Known,
}

impl ExactRefund {
    /// Creates refunds from this account, settled by this facilitator, with the default networks and tokens.
    #[must_use]
    pub fn new(seller: Arc<dyn MakePayment>, facilitator: Arc<dyn Facilitator>) -> Self {
        Self { seller, facilitator, known: Known::default() }
    }

    /// Sets other networks and tokens.
    #[must_use]
    pub fn with_known(mut self, networks: Networks, tokens: Tokens) -> Self {
        self.known = Known { networks, tokens };
        self
    }
}

impl fmt::Debug for ExactRefund {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExactRefund").field("known", &self.known).finish_non_exhaustive()
    }
}

/// The prefix of the proof's key in the hash that gives the nonce.
const PREFIX: &str = "x402.v1\nrefund\n";

#[async_trait]
impl RefundPayment for ExactRefund {
    async fn refund(&self, refund: &Refund) -> Result<Box<str>, ProofError> {
        let sum = Sum {
            network: &refund.network,
            asset: refund.asset,
            pay_to: refund.to,
            amount: refund.amount,
            timeout: TimeoutSeconds::DEFAULT,
        };
        let terms = self.known.terms(sum).map_err(ProofError::Unmoved)?;
        let nonce = body_sha256(format!("{PREFIX}{}", refund.proof.0).as_bytes());
        let context = SigningContext { now: refund.asked_at, entropy: nonce.0, url: "", method: "" };
        let made = self.seller.make_payment(&terms, &context).await.map_err(|refusal| match refusal {
            Refusal::Rejection(rejection) => refused(rejection.words()),
            Refusal::Fault(fault) => ProofError::Unmoved(fault),
        })?;
        let request =
            payment_request(terms, made.payload, &refund.proof.0, nonce.to_string()).map_err(ProofError::Unmoved)?;
        // Any call may be a repetition: a crash leaves no trace except the one in the token.
        Ok(settle(&*self.facilitator, &request, true).await?.transaction.into())
    }
}
