//! Whether a payment is good, and who would have paid where it is not.

use x402_facilitator_core::Verified;
use x402_types::{Claim, Refusal, Rejection};

use super::Engine;
use crate::clock::now;

impl Engine {
    /// The payment, checked.
    ///
    /// # Errors
    /// It is not good, or it could not be found out.
    pub async fn check(&self, claim: &Claim) -> Result<Verified, Refusal> {
        self.settlement.verify(claim, now()).await.map_err(|refusal| match refusal {
            Refusal::Rejection(rejection) => self.of_payer(claim, rejection).into(),
            fault @ Refusal::Fault(_) => fault,
        })
    }

    /// The refusal with the payer, where the payload could be read: whichever rule refused it.
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
