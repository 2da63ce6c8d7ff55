//! Whether a payment is good, and who would have paid where it is not.

use alloy_primitives::Address;
use x402_facilitator_core::Verified;
use x402_types::{Claim, EvmAddress, Refusal, Rejection};

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
        let key = match self.settlement.key(claim) {
            Ok(key) => key,
            // What cannot be settled here may have been read all the same.
            Err(Rejection { payer: Some(payer), .. }) => return rejection.of(payer),
            Err(_) => return rejection,
        };
        match key.payer().and_then(|payer| <[u8; 20]>::try_from(payer).ok()) {
            Some(payer) => rejection.of(EvmAddress::from(Address::from(payer)).as_str()),
            None => rejection,
        }
    }
}
