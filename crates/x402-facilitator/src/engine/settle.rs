//! The settlement of a payment, and the wait for its end.

use x402_facilitator_core::Outcome;
use x402_types::{Claim, Fault, Refusal};

use super::Engine;
use crate::clock::now;
use crate::dialect::{Dialect, Settled};

impl Engine {
    /// Settles a payment for a caller, and waits for its end as long as is configured. A success is answered once. A
    /// caller that named its request (`may_replay`) may get it again: the claim's identity is that name.
    ///
    /// # Errors
    /// The payment is refused; or its outcome could not be found out: it is unknown, not failed.
    pub(crate) async fn settle_as(
        &self,
        claim: &Claim,
        may_replay: bool,
        dialect: &dyn Dialect,
    ) -> Result<Settled, Refusal> {
        let may_replay = may_replay || self.replaying.contains(&claim.identity.caller);
        let request = self.settlement.begin_request();
        let request = if may_replay { request.named() } else { request };
        // The subscription precedes the first look, so that no move is missed between look and wait.
        let mut moves = self.moves.subscribe();
        let mut outcome = match self.settlement.settle(&request, claim, now()).await {
            Ok(outcome) => outcome,
            Err(Refusal::Rejection(rejection)) => return Err(self.of_payer(claim, rejection).into()),
            Err(Refusal::Fault(fault)) => return Err(fault.into()),
        };
        self.claims.send_replace(());
        let deadline = tokio::time::Instant::now() + self.patience.wait;
        let key = self.settlement.key(claim).map_err(Fault::broken)?;
        while !outcome.is_final() {
            let moved = tokio::time::timeout_at(deadline, moves.changed()).await;
            // One more look after the deadline: the end may have coincided with it, and may come from another process.
            outcome = self.settlement.look(&request, &key).await?;
            if moved.is_err() {
                break;
            }
        }
        if let Outcome::Pending { transaction: None, .. } = outcome {
            // `settlement_pending` names the transaction to watch; nothing was sent yet, so there is none.
            return Err(Fault::unreachable("the settlement", "nothing was sent yet").into());
        }
        if let (Outcome::Settled { receipt, .. }, false) = (&mut outcome, self.extensions.is_empty()) {
            let mut response = receipt.to_response(claim.terms.version, false);
            self.extensions.on_receipt(claim, &mut response);
            receipt.extensions = response.extensions;
        }
        // Nothing may wait or fail between the moment that a success is stored as reported and its answer.
        let row = match outcome {
            Outcome::Settled { .. } => None,
            _ if !dialect.tells_steps() => None,
            _ => self.settlement.payment(&key).await?,
        };
        Ok(Settled { outcome, row })
    }
}
