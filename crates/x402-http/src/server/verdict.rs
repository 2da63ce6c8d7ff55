//! What a facilitator's answer to `settle` means for the resource.
//!
//! Unknown is never taken for failed, and nothing but a plain success for paid.

use x402_types::nvm::Code;
use x402_types::v2::SettleResponse;
use x402_types::{ErrorReason, Fault, RawJson, Terms};

/// What is known after settlement was asked for.
#[derive(Debug)]
pub(super) enum Settlement {
    /// The money moved for this request.
    Made(SettleResponse),
    /// It can never move. The payer may try another payment.
    Failed(SettleResponse),
    /// It moved, or moves, for another request.
    Duplicate(SettleResponse),
    /// Not known yet.
    Unknown(Option<SettleResponse>, Option<Fault>),
}

/// `resumed`: settlement was begun for this very request before.
pub(super) fn judge(answer: Result<SettleResponse, Fault>, terms: &Terms, resumed: bool) -> Settlement {
    let response = match answer {
        Err(fault) => return Settlement::Unknown(None, Some(fault)),
        Ok(response) => response,
    };
    if response.success {
        let elsewhere = response.network.chain_id().is_some_and(|network| network != terms.network);
        if elsewhere {
            let fault = Fault::broken("the facilitator settled on another network");
            return Settlement::Unknown(Some(response), Some(fault));
        }
        // A replayed answer tells of a settlement made before. Where this server did not begin it for this
        // request, the answer was somebody else's.
        return if replayed(&response) && !resumed {
            Settlement::Duplicate(response)
        } else {
            Settlement::Made(response)
        };
    }
    let reason = response.error_reason.as_ref();
    let unknown = reason.and_then(ErrorReason::row).is_some_and(|row| row.status == 503);
    let spent = reason.is_some_and(|r| *r == ErrorReason::DUPLICATE_SETTLEMENT);
    // Our own earlier attempt may be what used the authorization, and the balance.
    let maybe_ours = spent
        || reason.is_some_and(|reason| {
            [
                ErrorReason::NONCE_ALREADY_USED,
                ErrorReason::INSUFFICIENT_FUNDS,
                ErrorReason::TRANSACTION_SIMULATION_FAILED,
                Code::InvalidPayload.reason(),
                Code::InsufficientBalance.reason(),
                Code::InvalidUserOperation.reason(),
            ]
            .contains(reason)
        });
    if unknown || (resumed && maybe_ours) {
        Settlement::Unknown(Some(response), None)
    } else if spent {
        Settlement::Duplicate(response)
    } else {
        Settlement::Failed(response)
    }
}

fn replayed(response: &SettleResponse) -> bool {
    let mark = response.extensions.get("replayed").or_else(|| response.rest.get("replayed"));
    mark.is_some_and(|mark| mark.as_str() == "true")
}

/// The answer for a payer whose payment's outcome is not known: `settlement_pending` where there is a transaction to
/// look at, which the specification demands with that code.
pub(super) fn unknown_response(known: Option<SettleResponse>, terms: &Terms) -> SettleResponse {
    let (transaction, payer, network) = match known {
        Some(known) => (known.transaction, known.payer, known.network),
        None => Default::default(),
    };
    let reason =
        if transaction.is_empty() { ErrorReason::UNEXPECTED_SETTLE_ERROR } else { ErrorReason::SETTLEMENT_PENDING };
    SettleResponse {
        success: false,
        error_reason: Some(reason),
        error_message: None,
        payer,
        transaction,
        network: if network.as_str().is_empty() { terms.network.into() } else { network },
        amount: None,
        extra: Default::default(),
        extensions: Default::default(),
        rest: Default::default(),
    }
}

/// What the payer may see: all of it but `extensionResponses`, which is between facilitator and server.
pub(super) fn for_the_payer(mut response: SettleResponse) -> SettleResponse {
    const PRIVATE: &str = "extensionResponses";
    if response.rest.get(PRIVATE).is_some() {
        let mut rest = x402_types::Members::new();
        for (key, value) in response.rest.iter().filter(|(key, _)| *key != PRIVATE) {
            rest.insert(key, RawJson::clone(value));
        }
        response.rest = rest;
    }
    response
}
