//! Payments whose settlement began under terms that are no longer offered: a price that depends on the request, or on
//! the time, may change while the result is unknown.

use x402_codec::{Limits, body};
use x402_types::{Members, Offer, PaymentPayload, Terms};

/// Returns the offer that a payment of version 2 accepted, with the key function of the current offer of the same
/// scheme, network, asset and members of `extra`. It proves nothing: only a payment whose settlement began for the same
/// request, which [`bound`] binds to these terms, was made for an offer of this server.
pub(super) fn accepted_offer(raw: &str, limits: &Limits, offers: &[Offer]) -> Option<Offer> {
    let PaymentPayload::V2(payment) = *body::payment(raw, limits).ok()? else { return None };
    let mut terms = Terms::from(payment.accepted);
    let offer = offers.iter().find(|offer| {
        let offered = &offer.terms;
        offered.scheme == terms.scheme
            && offered.network == terms.network
            && offered.network.same_account(&offered.asset, &terms.asset)
    })?;
    // The payer may have added members, which were no part of the offer.
    let mut extra = Members::new();
    for (name, _) in offer.terms.extra.iter() {
        extra.insert(name, terms.extra.get(name)?.clone());
    }
    terms.extra = extra;
    Some(Offer { terms, key: offer.key.clone() })
}

/// Returns the text by which a request is bound to the terms that its payment accepted. A payment of version 1
/// accepts none.
pub(super) fn bound(terms: &Terms) -> String {
    if !terms.version.echoes_terms() {
        return String::new();
    }
    // The spelling of an account in hexadecimal digits has no meaning.
    let account = |text: &str| match terms.network.namespace() {
        "eip155" => text.to_ascii_lowercase(),
        _ => text.to_owned(),
    };
    let Terms { scheme, network, amount, max_timeout_seconds, extra, .. } = terms;
    let (asset, pay_to) = (account(&terms.asset), account(&terms.pay_to));
    let members = (scheme, network, amount, asset, pay_to, max_timeout_seconds, extra);
    // Each of the members was written as JSON before.
    serde_json::to_string(&members).unwrap_or_default()
}
