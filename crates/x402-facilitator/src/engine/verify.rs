//! The verification of a payment, and the payer of a refused one.

use x402_facilitator_core::Verified;
use x402_types::hooks::PaymentEvent;
use x402_types::{Claim, Refusal, Rejection};

use super::Engine;
use crate::clock::now;

impl Engine {
    /// Checks a payment.
    ///
    /// # Errors
    /// The payment is not good, or the answer could not be determined.
    pub async fn check(&self, claim: &Claim) -> Result<Verified, Refusal> {
        let Some(payment) = self.hooked(claim) else { return self.checked(claim).await };
        let verified = match self.before_verify(&payment).await {
            Ok(()) => self.checked(claim).await,
            Err(refusal) => Err(self.refusal_of_payer(claim, refusal)),
        };
        self.observe(
            &payment,
            &match &verified {
                Ok(verified) => PaymentEvent::Verified { payer: Some(&verified.verdict().payer) },
                Err(refusal) => PaymentEvent::NotVerified { refusal },
            },
        );
        verified
    }

    async fn checked(&self, claim: &Claim) -> Result<Verified, Refusal> {
        let verified = self.settlement.verify(claim, now()).await;
        verified.map_err(|refusal| self.refusal_of_payer(claim, refusal))
    }

    /// Adds the payer to a refusal, as [`Engine::of_payer`] does.
    pub(super) fn refusal_of_payer(&self, claim: &Claim, refusal: Refusal) -> Refusal {
        match refusal {
            Refusal::Rejection(rejection) => self.of_payer(claim, rejection).into(),
            fault @ Refusal::Fault(_) => fault,
        }
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
