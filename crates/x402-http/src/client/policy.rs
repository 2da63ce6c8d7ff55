//! The buyer's own rules for what is paid, beside the limits of a payment: policies refuse entries, and a selector chooses
//! among those that are left.

use core::fmt;
use std::sync::Arc;

use x402_types::{AtomicAmount, ChainId, SchemeName, Terms};

use super::NotPayable;

/// A rule that refuses entries of a 402 document, each with a reason. A payer pays an entry that all of its policies
/// permit.
#[derive(Clone)]
pub struct PayPolicy {
    name: Box<str>,
    permits: Arc<Permits>,
}

type Permits = dyn Fn(&Terms) -> Result<(), Box<str>> + Send + Sync;
type Select = dyn Fn(&[&Terms]) -> Option<usize> + Send + Sync;

impl PayPolicy {
    /// Creates a policy from a function, which returns why it refuses an entry. [`NotPayable::Policy`] has the name and the
    /// reason.
    ///
    /// ```
    /// use x402_http::client::PayPolicy;
    ///
    /// let known = PayPolicy::new("known sellers", |terms| match terms.pay_to.as_str() {
    ///     "0x90F79bf6EB2c4f870365E785982E1f101E93b906" => Ok(()),
    ///     other => Err(format!("expected the library, found {other}").into()),
    /// });
    /// # let _ = known;
    /// ```
    pub fn new(name: &str, permits: impl Fn(&Terms) -> Result<(), Box<str>> + Send + Sync + 'static) -> Self {
        Self { name: name.into(), permits: Arc::new(permits) }
    }

    /// Permits only these networks.
    pub fn networks(networks: impl IntoIterator<Item = ChainId>) -> Self {
        let networks: Vec<_> = networks.into_iter().collect();
        Self::new("networks", move |terms| match networks.contains(&terms.network) {
            true => Ok(()),
            false => Err(format!("expected {}, found {}", list(&networks), terms.network).into()),
        })
    }

    /// Permits only these schemes.
    pub fn schemes(schemes: impl IntoIterator<Item = SchemeName>) -> Self {
        let schemes: Vec<_> = schemes.into_iter().collect();
        Self::new("schemes", move |terms| match schemes.contains(&terms.scheme) {
            true => Ok(()),
            false => Err(format!("expected {}, found {}", list(&schemes), terms.scheme).into()),
        })
    }

    /// Permits only these assets. An asset that is not known must also be listed in the
    /// [limits](super::SpendLimits::with_asset), which name its cap.
    pub fn assets<A: Into<String>>(assets: impl IntoIterator<Item = (ChainId, A)>) -> Self {
        let assets: Vec<_> = assets.into_iter().map(|(network, asset)| (network, asset.into())).collect();
        Self::new("assets", move |terms| {
            let same = |(network, asset): &(ChainId, String)| {
                *network == terms.network && network.same_account(asset, &terms.asset)
            };
            match assets.iter().any(same) {
                true => Ok(()),
                false => Err(format!("expected one of the listed assets, found {}", terms.asset).into()),
            }
        })
    }

    /// Permits at most so many atomic units of whatever asset. The [cap in dollars](super::SpendLimits::with_cap) holds
    /// beside it.
    #[must_use]
    pub fn at_most(amount: AtomicAmount) -> Self {
        Self::new("amount", move |terms| match terms.amount <= amount {
            true => Ok(()),
            false => Err(format!("expected at most {amount}, found {}", terms.amount).into()),
        })
    }

    /// Checks these terms.
    pub(super) fn check(&self, terms: &Terms) -> Result<(), NotPayable> {
        (self.permits)(terms).map_err(|why| NotPayable::Policy { policy: self.name.clone(), why })
    }
}

impl fmt::Debug for PayPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PayPolicy").field(&self.name).finish()
    }
}

/// The choice among the entries that can be paid. Without one the payer takes the first entry, with those of the flow
/// `authorization` and of the scheme that was added first before all others.
#[derive(Clone)]
pub struct Selector(Arc<Select>);

impl Selector {
    /// Creates a selector from a function: it gets the entries in the order in which they would be taken without it, and
    /// returns the index of one of them, or `None` to pay none. If the chosen entry is over a budget, the function is
    /// called again for the others.
    ///
    /// ```
    /// use x402_http::client::Selector;
    ///
    /// let last = Selector::new(|entries| entries.len().checked_sub(1));
    /// # let _ = last;
    /// ```
    pub fn new(select: impl Fn(&[&Terms]) -> Option<usize> + Send + Sync + 'static) -> Self {
        Self(Arc::new(select))
    }

    /// Prefers networks in this order, and all others after them.
    pub fn networks(networks: impl IntoIterator<Item = ChainId>) -> Self {
        let networks: Vec<_> = networks.into_iter().collect();
        Self::by(move |terms| networks.iter().position(|network| *network == terms.network))
    }

    /// Prefers schemes in this order, and all others after them.
    pub fn schemes(schemes: impl IntoIterator<Item = SchemeName>) -> Self {
        let schemes: Vec<_> = schemes.into_iter().collect();
        Self::by(move |terms| schemes.iter().position(|scheme| *scheme == terms.scheme))
    }

    fn by(rank: impl Fn(&Terms) -> Option<usize> + Send + Sync + 'static) -> Self {
        Self::new(move |entries| {
            let ranked = entries.iter().enumerate().map(|(at, terms)| (rank(terms).unwrap_or(usize::MAX), at));
            ranked.min().map(|(_, at)| at)
        })
    }

    /// Returns the index of the entry to pay.
    pub(super) fn select(&self, entries: &[&Terms]) -> Option<usize> {
        (self.0)(entries).filter(|at| *at < entries.len())
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Selector")
    }
}

fn list(names: &[impl fmt::Display]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}
