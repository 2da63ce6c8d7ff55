//! The verification of a payment, and the payer of a refused one.

use x402_facilitator_core::Verified;
use x402_types::{Claim, Refusal, Rejection};

use super::Engine;
use crate::clock::now;

impl Engine {
    /// Checks a payment.
    ///
    /// # Errors
    /// The payment is not good, or the answer could not be determined.
    pub async fn check(&self, claim: &Claim) -> Result<Verified, Refusal> {
        self.settlement.verify(claim, now()).await.map_err(|refusal| match refusal {
            Refusal::Rejection(rejection) => self.of_payer(claim, rejection).into(),
            fault @ Refusal::Fault(_) => fault,
        })
    }

    /// Adds the payer to a refusal if the payload could be read, whichever rule refused it.
    pub(crate) fn of_payer(&self, claim: &Claim, rejection: Rejection) -> Rejection {
        if rejection.payer.is_some() {
            return rejection;
        }
        match self.settlement.payer(claim) {
            Some(payer) => rejection.of(payer),
            None => rejection,
        }
    }
}
