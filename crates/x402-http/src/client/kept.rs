//! The open payments of this process: those whose result is not known, and those that bought no answer yet.

use std::collections::HashMap;

use x402_types::{Fault, UnixSeconds};

use super::flight::{Purchase, Signed};
use super::{OpenPayment, PayError, Payer};

/// Open payments by their requests. Parallel calls of one request are purchases of their own, so a request may have
/// several.
#[derive(Default)]
pub(super) struct Kept {
    of: HashMap<Purchase, Vec<Signed>>,
    number: usize,
}

impl Kept {
    fn keep(&mut self, purchase: Purchase, signed: Signed) {
        self.of.entry(purchase).or_default().push(signed);
        self.number = self.number.saturating_add(1);
    }

    /// Takes the first payment of a request for which this holds.
    fn take(&mut self, purchase: &Purchase, which: impl Fn(&Signed) -> bool) -> Option<Signed> {
        let of = self.of.get_mut(purchase)?;
        let at = of.iter().position(which)?;
        let taken = of.remove(at);
        if of.is_empty() {
            self.of.remove(purchase);
        }
        self.number = self.number.saturating_sub(1);
        Some(taken)
    }

    fn first(&self, purchase: &Purchase) -> Option<&Signed> {
        self.of.get(purchase)?.first()
    }
}

impl Payer {
    /// Returns the payments that this process keeps: their results are not known, or they bought no answer yet. Those of
    /// calls that are running are not among them, nor those that only the journal has.
    #[must_use]
    pub fn open_payments(&self) -> Vec<OpenPayment> {
        let kept = self.kept();
        let all = kept.of.iter().flat_map(|(purchase, of)| of.iter().map(move |signed| signed.open(purchase)));
        all.flatten().collect()
    }

    /// Ends an open payment, so that the next call of its request is a new purchase. The first payment may have been made
    /// all the same: it stays counted in the budget. A payment that a running call presents is kept again by that call.
    ///
    /// # Errors
    /// The journal failed; the call may be repeated.
    pub async fn pay_anew(&self, open: &OpenPayment) -> Result<(), Fault> {
        {
            let mut kept = self.kept();
            let purchase = kept.of.keys().find(|purchase| open.is_of(purchase)).cloned();
            if let Some(purchase) = purchase {
                kept.take(&purchase, |signed| signed.header.1.as_bytes() == open.value.as_bytes());
            }
        }
        self.forget(Some(open.clone())).await
    }

    /// Takes an open payment of the same request, signed by this process or an earlier one, that may be presented.
    ///
    /// # Errors
    /// `EarlierUnknown`: there is one that may not be presented any more, and its result is unknown; the journal failed.
    pub(super) async fn take_kept(&self, purchase: &Purchase) -> Result<Option<Signed>, PayError> {
        let now = self.clock.now();
        let shown = self.kept().take(purchase, |kept| kept.is_shown(now));
        if shown.is_some() {
            return Ok(shown);
        }
        if self.journal.is_some() {
            // The journal decides, from which a person may have removed it.
            while let Some(over) = self.take_any(purchase) {
                self.let_go(over.open(purchase));
            }
            return self.journaled(purchase).await;
        }
        match self.kept().first(purchase).map(|over| over.open(purchase)) {
            Some(open) => Err(open.map_or(PayError::NoTerms, |open| PayError::EarlierUnknown(Box::new(open)))),
            None => Ok(None),
        }
    }

    fn take_any(&self, purchase: &Purchase) -> Option<Signed> {
        self.kept().take(purchase, |_| true)
    }

    /// Takes the payment of this request that bought an entitlement, if this process keeps one.
    #[cfg(feature = "challenge")]
    pub(super) fn take_entitled(&self, purchase: &Purchase) -> Option<Signed> {
        self.kept().take(purchase, |kept| kept.entitlement().is_some())
    }

    /// Keeps a payment whose call is over.
    pub(super) fn keep(&self, purchase: Purchase, signed: Signed) {
        let mut kept = self.kept();
        if self.journal.is_some() && kept.number >= self.most_open {
            self.let_go(signed.open(&purchase));
        } else {
            // Nothing is forgotten: calls that ran beside each other may keep a few more than the limit.
            kept.keep(purchase, signed);
        }
    }

    /// Checks that one more payment could be kept. A journal has room of its own.
    ///
    /// # Errors
    /// `TooManyOpen`.
    pub(super) fn check_room(&self) -> Result<(), PayError> {
        let full = self.journal.is_none() && self.kept().number >= self.most_open;
        if full { Err(PayError::TooManyOpen { limit: self.most_open }) } else { Ok(()) }
    }
}

impl Signed {
    /// Returns whether the payment is presented at this time. A server takes up a challenge's payment that was begun in
    /// time, also long after the challenge is over.
    fn is_shown(&self, now: UnixSeconds) -> bool {
        #[cfg(feature = "challenge")]
        if self.challenge.is_some() {
            return true;
        }
        self.lasts(now)
    }
}
