//! The meaning of a facilitator's answer to `settle` for the resource.
//!
//! An unknown result is never treated as failed, and nothing except a plain success as paid.

use x402_types::v2::SettleResponse;
use x402_types::{ErrorReason, Fault, NetworkName, RawJson, Terms};

/// The state of a settlement after the facilitator's answer.
#[derive(Debug)]
pub(super) enum Settlement {
    /// The money moved for this request.
    Made(SettleResponse),
    /// The money can never move. The payer may try another payment.
    Failed(SettleResponse),
    /// The money moved, or moves, for another request.
    Duplicate(SettleResponse),
    /// The outcome is not known yet.
    Unknown(Option<SettleResponse>, Option<Fault>),
}

/// Interprets the response. `resumed` means that settlement was begun for this same request before; `keeps_requests` is
/// [`Facilitator::keeps_requests`].
///
/// [`Facilitator::keeps_requests`]: x402_facilitator_core::Facilitator::keeps_requests
pub(super) fn judge(
    answer: Result<SettleResponse, Fault>,
    terms: &Terms,
    resumed: bool,
    keeps_requests: bool,
) -> Settlement {
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
        // A replayed answer reports an earlier settlement. If this server did not begin it for this request, the answer
        // belongs to another caller.
        return if replayed(&response) && !resumed {
            Settlement::Duplicate(response)
        } else {
            Settlement::Made(response)
        };
    }
    let reason = response.error_reason.as_ref();
    let unknown = reason.is_some_and(ErrorReason::is_undecided);
    if unknown {
        let fault =
            response.error_reason.as_ref().filter(|code| **code != ErrorReason::SETTLEMENT_PENDING).map(|code| {
                let words = response.error_message.as_deref().unwrap_or_default();
                Fault::unreachable("facilitator", format_args!("it answered {code}: {words}"))
            });
        return Settlement::Unknown(Some(response), fault);
    }
    // A transaction that left is decided by the chain alone: a facilitator that stopped waiting may call it failed while it
    // is mined, and another one of the same payment may have made it revert.
    let is_sent = !response.transaction.is_empty() && reason == Some(&ErrorReason::INVALID_TRANSACTION_STATE);
    if is_sent && !keeps_requests {
        return Settlement::Unknown(Some(response), None);
    }
    // This server's own earlier attempt may have used the authorization, emptied the wallet or outlasted the time.
    let is_shared = reason.is_some_and(|reason| reason.is_shared_in(terms.version));
    if resumed && (is_shared || !reason.is_some_and(|reason| reason.is_final_for_begun(keeps_requests))) {
        return Settlement::Unknown(Some(response), None);
    }
    if reason.is_some_and(|reason| *reason == ErrorReason::DUPLICATE_SETTLEMENT) {
        Settlement::Duplicate(response)
    } else {
        Settlement::Failed(response)
    }
}

fn replayed(response: &SettleResponse) -> bool {
    let mark = response.extensions.get("replayed").or_else(|| response.rest.get("replayed"));
    mark.is_some_and(|mark| mark.as_str() == "true")
}

/// Builds the response for a payer whose payment has an unknown result: `settlement_pending` if there is a transaction
/// to look up, which the specification requires with that code.
pub(super) fn unknown_response(known: Option<SettleResponse>, terms: &Terms) -> SettleResponse {
    let (transaction, payer, network) = match known {
        Some(known) => (known.transaction, known.payer, known.network),
        None => Default::default(),
    };
    let reason =
        if transaction.is_empty() { ErrorReason::UNEXPECTED_SETTLE_ERROR } else { ErrorReason::SETTLEMENT_PENDING };
    SettleResponse { payer, transaction, ..SettleResponse::failed(reason, named(network, terms)) }
}

/// Returns the network as the payer's version writes it, if the facilitator wrote none or the same one in another form.
/// Another network stays as it is.
fn named(network: NetworkName, terms: &Terms) -> NetworkName {
    match network.chain_id() {
        Some(other) if other != terms.network => network,
        _ => terms.network_name(),
    }
}

/// Returns the part that the payer may see: all but `extensionResponses`, which is between facilitator and server. The
/// network is named in the payer's version, whatever the facilitator wrote.
pub(super) fn for_the_payer(mut response: SettleResponse, terms: &Terms) -> SettleResponse {
    const PRIVATE: &str = "extensionResponses";
    response.network = named(response.network, terms);
    if response.rest.get(PRIVATE).is_some() {
        let mut rest = x402_types::Members::new();
        for (key, value) in response.rest.iter().filter(|(key, _)| *key != PRIVATE) {
            rest.insert(key, RawJson::clone(value));
        }
        response.rest = rest;
    }
    response
}
