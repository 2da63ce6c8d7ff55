//! Smart Accounts Extension, steps 6 and 22: what a server asks of a facilitator for a payment out of a plan.

use x402_codec::{base64, body};
use x402_facilitator_core::Presented;
use x402_types::nvm::{FacilitatorRequest, PaymentRequired, Receipt, Requirements, Token};
use x402_types::v2::SettleResponse;
use x402_types::{Entry, Fault, Members};

/// The body of `/verify` and `/settle`: the payer's text byte for byte, in base64, beside the server's own entry.
pub(super) fn request(presented: &Presented) -> Result<FacilitatorRequest, Fault> {
    Ok(FacilitatorRequest {
        payment_required: PaymentRequired {
            error: None,
            resource: (*presented.resource).clone(),
            accepts: vec![Entry::Known(Requirements::try_from(&presented.terms).map_err(Fault::broken)?)],
            extensions: Members::new(),
            rest: Members::new(),
        },
        token: Token::Base64(base64::encode(presented.raw.as_bytes())),
        max_amount: Some(presented.terms.amount),
        agent_request_id: presented.verified_as.clone(),
        rest: Members::new(),
    })
}

pub(super) fn body(presented: &Presented) -> Result<Vec<u8>, Fault> {
    body::write(&request(presented)?).map_err(Fault::broken)
}

/// The receipt with both names of its transaction, whichever the facilitator wrote.
pub(super) fn receipt(response: SettleResponse) -> Result<SettleResponse, Fault> {
    Receipt::from_response(&response)
        .map(SettleResponse::from)
        .map_err(|error| Fault::unreachable(super::SERVICE, format_args!("a receipt that cannot be read: {error}")))
}
