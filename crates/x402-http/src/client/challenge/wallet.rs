//! The parts that pay challenges: the kinds of proof, the networks' names, the bought entitlements.

use core::fmt;
use std::sync::Arc;

use http::HeaderMap;
use url::Url;
use x402_challenge::{MakeProof, answer, body_sha256, host};
use x402_codec::{challenge as codec, header};
use x402_types::challenge::{Challenge, Networks, Proof, ResourceName};
use x402_types::{AmountRule, Assets, SchemeName, SigningContext, Terms, UnixSeconds};

use super::super::exchange::Leg;
use super::super::flight::{Purchase, Signed};
use super::super::payer::NotSigned;
use super::super::{NotPayable, PayError, Payer};
use super::OpenChallenge;
use super::entitlements::Entitlements;

/// The parts of a [`Payer`] that this dialect needs.
#[derive(Clone, Default)]
pub(in super::super) struct Wallet {
    proofs: Arc<[Arc<dyn MakeProof>]>,
    networks: Arc<Networks>,
    pub(super) entitlements: Entitlements,
}

impl Payer {
    /// Pays also challenges of the `x402.v1` dialect, with the first of these kinds of proof that can. Granted
    /// entitlements are kept, and presented again. If a version 2 offer can be paid, it is preferred.
    #[must_use]
    pub fn with_proofs(mut self, proofs: impl IntoIterator<Item = Arc<dyn MakeProof>>) -> Self {
        self.wallet.proofs = proofs.into_iter().collect();
        self
    }

    /// Sets the names of networks in that dialect; otherwise the default table is used.
    #[must_use]
    pub fn with_networks(mut self, networks: Networks) -> Self {
        self.wallet.networks = Arc::new(networks);
        self
    }

    /// Signs a payment of a challenge, within the limits and the budget.
    pub(super) async fn sign_challenge(
        &self,
        challenge: &Challenge,
        purchase: &Purchase,
        leg: &Leg,
    ) -> Result<Signed, PayError> {
        self.check_room()?;
        let now = self.clock.now();
        self.sign_one_challenge(challenge, purchase, leg, now).await.map_err(|why| match why {
            NotSigned::Entry(reason) => PayError::NothingPayable(vec![reason]),
            NotSigned::Whole(error) => error,
        })
    }

    async fn sign_one_challenge(
        &self,
        challenge: &Challenge,
        purchase: &Purchase,
        leg: &Leg,
        now: UnixSeconds,
    ) -> Result<Signed, NotSigned> {
        let (terms, maker) = self.acceptable_challenge(challenge, leg)?;
        self.before_payment(&terms, purchase).await?;
        let reserved = self.reserve(&terms, purchase, now).await?;
        let nonce = self.clock.entropy().and_then(|bytes| bytes.first_chunk().copied()).ok_or(PayError::Entropy)?;
        let entropy = self.clock.entropy().ok_or(PayError::Entropy)?;
        let payment = answer(challenge, Proof::new(maker.kind()), nonce, now);
        let context = SigningContext { now, entropy, url: purchase.url.as_str(), method: purchase.method.as_str() };
        let made = maker.make_proof(challenge, payment, &context).await?;
        let header = (header::X_PAYMENT.clone(), codec::encode_payment(&made.payment).map_err(PayError::from)?);
        // A server accepts the payment no longer than its challenge lasts.
        let valid_until = made.valid_until.min(now.plus(terms.max_timeout_seconds.get()));
        let challenge = Some(OpenChallenge::new(challenge.challenge_id.clone()));
        let mut signed = Signed {
            header,
            valid_until,
            reservation: None,
            rule: AmountRule::Equal,
            sent: false,
            paid: false,
            settled: None,
            challenge,
        };
        // The payment is noted before it is sent: after a crash the next process sends the same one.
        self.note(signed.open(purchase)).await?;
        signed.reservation = Some(reserved.keep());
        Ok(signed)
    }

    fn acceptable_challenge(
        &self,
        challenge: &Challenge,
        leg: &Leg,
    ) -> Result<(Terms, &Arc<dyn MakeProof>), NotPayable> {
        // `upto` takes at most the requested amount: all of it is reserved.
        if ![SchemeName::EXACT, SchemeName::UPTO].contains(&challenge.scheme) {
            return Err(NotPayable::NoScheme);
        }
        bound(challenge, leg).map_err(NotPayable::Bound)?;
        let terms = x402_challenge::terms(challenge, &self.wallet.networks, &Assets::none());
        let unreadable = || NotPayable::Unreadable("its network or amount is not known".into());
        let terms = terms.ok_or_else(unreadable)?;
        let maker = self.wallet.proofs.iter().find(|maker| maker.can_pay(challenge)).ok_or(NotPayable::NoScheme)?;
        self.allows(&terms)?;
        Ok((terms, maker))
    }
}

impl Wallet {
    pub(in super::super) fn takes_challenges(&self) -> bool {
        !self.proofs.is_empty()
    }

    /// Presents the entitlement that was bought at this URL, if there is one, and returns its resource.
    pub(in super::super) fn present(
        &self,
        url: Option<&Url>,
        headers: &mut HeaderMap,
        now: UnixSeconds,
    ) -> Option<ResourceName> {
        self.entitlements.present_here(url?, headers, now)
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wallet").field("networks", &self.networks).finish_non_exhaustive()
    }
}

/// Finds the part in which a challenge's binding differs from the request: "Binding to request context".
///
/// A challenge for another request is not paid: the server may have obtained it from another seller, to have this client
/// pay for it.
fn bound(challenge: &Challenge, leg: &Leg) -> Result<(), &'static str> {
    let bind = &challenge.bind;
    let method = if leg.parts.method == http::Method::HEAD { "GET" } else { leg.parts.method.as_str() };
    // A server may bind `HEAD` as it is.
    if ![method, leg.parts.method.as_str()].contains(&bind.method.as_str()) {
        return Err("method");
    }
    let sent = leg.parts.headers.get(http::header::HOST).map(|value| value.to_str().unwrap_or_default());
    let asked = sent.or_else(|| leg.parts.uri.authority().map(|authority| authority.as_str()));
    let asked = host(asked.unwrap_or_default()).map_err(|_| "host")?;
    if host(bind.host.as_str()).ok() != Some(asked) {
        return Err("host");
    }
    let (path, query) = (leg.parts.uri.path(), leg.parts.uri.query());
    let with_query = query.map(|query| format!("{path}?{query}"));
    if bind.path.as_str() != path && Some(bind.path.as_str()) != with_query.as_deref() {
        return Err("path");
    }
    if bind.body_sha256.is_some_and(|hash| hash != body_sha256(&leg.body)) {
        return Err("bodySha256");
    }
    Ok(())
}
