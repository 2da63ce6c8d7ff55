//! The facilitator of a server in this process, without HTTP. The dialect that serves the terms writes the answers.

use std::sync::Arc;

use async_trait::async_trait;
use x402_facilitator_core::{Facilitator, KEEPS_REQUESTS, PaymentRequest};
use x402_types::v2::{SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{Claim, Entry, Fault, Members, RawJson, Refusal, Terms};

use super::Engine;
use crate::dialect::Dialect;

impl Engine {
    /// Settles the payment of a claim as [`Facilitator::settle`] does, for a caller that does not name its request.
    ///
    /// # Errors
    /// Its outcome could not be determined: it is unknown, not failed.
    pub async fn settle_claim(&self, claim: &Claim) -> Result<SettleResponse, Fault> {
        self.settle_in(self.dialect_for(&claim.terms)?.as_ref(), claim, false).await
    }

    async fn settle_in(&self, dialect: &dyn Dialect, claim: &Claim, may_replay: bool) -> Result<SettleResponse, Fault> {
        match self.settle_as(claim, may_replay, dialect).await {
            Ok(settled) => Ok(dialect.settle_response(&claim.terms, Ok(&settled))),
            Err(Refusal::Rejection(rejection)) => Ok(dialect.settle_response(&claim.terms, Err(&rejection))),
            Err(Refusal::Fault(fault)) => Err(fault),
        }
    }

    /// Reads the claim of a payment, with the identity of its request, and passes it to the extensions.
    async fn claim(&self, dialect: &dyn Dialect, request: &PaymentRequest) -> Result<Claim, Refusal> {
        let claim = dialect.claim(request)?;
        match self.extensions().on_claim(&claim).await {
            Ok(_) => Ok(claim),
            Err(Refusal::Rejection(rejection)) => Err(self.of_payer(&claim, rejection).into()),
            Err(fault) => Err(fault),
        }
    }

    fn dialect_for(&self, terms: &Terms) -> Result<&Arc<dyn Dialect>, Fault> {
        let served = self.dialects().iter().find(|dialect| dialect.serves(terms));
        served.ok_or_else(|| Fault::broken(format_args!("no dialect serves {}", terms.scheme)))
    }
}

#[async_trait]
impl Facilitator for Engine {
    async fn verify(&self, request: &PaymentRequest) -> Result<VerifyResponse, Fault> {
        let dialect = self.dialect_for(&request.claim.terms)?.as_ref();
        let verified = match self.claim(dialect, request).await {
            Ok(claim) => self.check(&claim).await.map(|verified| verified.verdict().payer.clone()),
            Err(refusal) => Err(refusal),
        };
        match verified {
            Ok(payer) => Ok(dialect.verify_response(&request.claim.terms, Ok(&payer))),
            Err(Refusal::Rejection(rejection)) => Ok(dialect.verify_response(&request.claim.terms, Err(&rejection))),
            Err(Refusal::Fault(fault)) => Err(fault),
        }
    }

    async fn settle(&self, request: &PaymentRequest) -> Result<SettleResponse, Fault> {
        let dialect = self.dialect_for(&request.claim.terms)?.as_ref();
        match self.claim(dialect, request).await {
            // A server in this process names its requests by their identity, in place of `Idempotency-Key`.
            Ok(claim) => self.settle_in(dialect, &claim, !claim.identity.request.is_empty()).await,
            Err(Refusal::Rejection(rejection)) => Ok(dialect.settle_response(&request.claim.terms, Err(&rejection))),
            Err(Refusal::Fault(fault)) => Err(fault),
        }
    }

    fn keeps_requests(&self) -> bool {
        true
    }

    async fn supported(&self) -> Result<SupportedResponse, Fault> {
        let mut rest = Members::new();
        rest.insert(KEEPS_REQUESTS, RawJson::of(&true).map_err(Fault::broken)?);
        Ok(SupportedResponse {
            kinds: self.settlement.kinds().iter().cloned().map(Entry::Known).collect(),
            extensions: self.extensions().iter().map(|extension| extension.name().to_owned()).collect(),
            signers: self.signers.clone(),
            rest,
        })
    }
}
