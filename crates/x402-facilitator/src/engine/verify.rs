//! The verification of a payment, and the payer of a refused one.

use alloy_primitives::Address;
use x402_facilitator_core::Verified;
use x402_types::{Claim, EvmAddress, Refusal, Rejection};

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
        let key = match self.settlement.key(claim) {
            Ok(key) => key,
            // A payload that cannot be settled here may have been read all the same.
            Err(Rejection { payer: Some(payer), .. }) => return rejection.of(payer),
            Err(_) => return rejection,
        };
        match key.payer().and_then(|payer| <[u8; 20]>::try_from(payer).ok()) {
            Some(payer) => rejection.of(EvmAddress::from(Address::from(payer)).as_str()),
            None => rejection,
        }
    }
}
