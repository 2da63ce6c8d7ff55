//! What a facilitator's answer to `settle` means for the resource.
//!
//! Unknown is never taken for failed, and nothing but a plain success for paid.

use x402_types::v2::SettleResponse;
use x402_types::{ErrorReason, Fault, NetworkName, RawJson, Terms};

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

/// `resumed`: settlement was begun for this very request before. `keeps_requests`: [`Facilitator::keeps_requests`].
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
        // A replayed answer tells of a settlement made before. Where this server did not begin it for this
        // request, the answer was somebody else's.
        return if replayed(&response) && !resumed {
            Settlement::Duplicate(response)
        } else {
            Settlement::Made(response)
        };
    }
    let reason = response.error_reason.as_ref();
    let unknown = reason.and_then(ErrorReason::row).is_some_and(|row| row.status >= 500);
    if unknown {
        let fault =
            response.error_reason.as_ref().filter(|code| **code != ErrorReason::SETTLEMENT_PENDING).map(|code| {
                let words = response.error_message.as_deref().unwrap_or_default();
                Fault::unreachable("facilitator", format_args!("it answered {code}: {words}"))
            });
        return Settlement::Unknown(Some(response), fault);
    }
    // Our own earlier attempt may be what used the authorization, emptied the wallet or outlived the time.
    if resumed && !reason.is_some_and(|reason| reason.is_final_for_begun(keeps_requests)) {
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
        network: named(network, terms),
        amount: None,
        extra: Default::default(),
        extensions: Default::default(),
        rest: Default::default(),
    }
}

/// The network as the payer's version writes it, where the facilitator wrote none or the same one otherwise. Another
/// network stays as it is.
fn named(network: NetworkName, terms: &Terms) -> NetworkName {
    match network.chain_id() {
        Some(other) if other != terms.network => network,
        _ => terms.network_name(),
    }
}

/// What the payer may see: all of it but `extensionResponses`, which is between facilitator and server. The network is
/// named in the payer's version, whatever the facilitator wrote.
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
