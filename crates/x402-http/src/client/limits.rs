//! The client's limits for one payment.

use x402_types::{Asset, Assets, AtomicAmount, ChainId, Dollars, Terms};

use super::NotPayable;

/// The limits for one payment: its amount, assets and flows.
///
/// The default is one dollar per payment in the assets of the default table, in the flows `authorization` and
/// `upfront`, by authorizations that are valid for one hour at most.
#[derive(Debug, Clone)]
pub struct SpendLimits {
    assets: Assets,
    per_payment: Dollars,
    listed: Vec<(ChainId, String, AtomicAmount)>,
    flows: Vec<String>,
    longest: u64,
}

/// One hour, in seconds.
const LONGEST: u64 = 3_600;

impl Default for SpendLimits {
    fn default() -> Self {
        Self {
            assets: Assets::default(),
            per_payment: Dollars::ONE,
            listed: Vec::new(),
            flows: Vec::new(),
            longest: LONGEST,
        }
    }
}

impl SpendLimits {
    /// Limits the amount of a payment, in known assets that represent dollars.
    #[must_use]
    pub const fn with_cap(mut self, cap: Dollars) -> Self {
        self.per_payment = cap;
        self
    }

    /// Sets the known assets, instead of the default table.
    #[must_use]
    pub fn with_assets(mut self, assets: Assets) -> Self {
        self.assets = assets;
        self
    }

    /// Allows payments in this asset, at most `cap` atomic units each, whatever its value.
    #[must_use]
    pub fn with_asset(mut self, network: ChainId, asset: &str, cap: AtomicAmount) -> Self {
        self.listed.push((network, asset.to_owned(), cap));
        self
    }

    /// Allows this payment flow in addition to `authorization` and `upfront`.
    #[must_use]
    pub fn with_flow(mut self, flow: &str) -> Self {
        self.flows.push(flow.to_owned());
        self
    }

    /// Limits the validity of authorizations: entries with a longer `maxTimeoutSeconds` are not paid. The default is
    /// one hour.
    ///
    /// A shorter authorization is not signed instead: the server may refuse it, and would have a signed payment.
    #[must_use]
    pub const fn with_longest_authorization(mut self, seconds: u64) -> Self {
        self.longest = seconds;
        self
    }

    /// Returns the decimals of a known asset that represents dollars.
    pub(super) fn dollar_decimals(&self, terms: &Terms) -> Option<u8> {
        self.known_dollar(terms).map(|asset| asset.decimals)
    }

    fn known_dollar(&self, terms: &Terms) -> Option<&Asset> {
        self.assets.find(terms.network, &terms.asset).filter(|asset| asset.dollar)
    }

    /// Checks whether terms may be paid, and returns whether they use the preferred flow.
    pub(super) fn check(&self, terms: &Terms) -> Result<bool, NotPayable> {
        let flow = match terms.extra.get("paymentFlow") {
            None => "authorization".to_owned(),
            Some(flow) => flow.read::<String>().map_err(|_| NotPayable::UnknownFlow)?,
        };
        // "Clients must not build a payment for an unknown flow."
        if !matches!(flow.as_str(), "authorization" | "upfront") && !self.flows.contains(&flow) {
            return Err(NotPayable::UnknownFlow);
        }
        let cap = self.cap(terms).ok_or(NotPayable::UnknownAsset)?;
        if terms.amount > cap {
            return Err(NotPayable::OverCap { amount: terms.amount, cap });
        }
        let seconds = terms.max_timeout_seconds.get();
        if seconds > self.longest {
            return Err(NotPayable::TooLong { seconds, limit: self.longest });
        }
        Ok(flow == "authorization")
    }

    fn cap(&self, terms: &Terms) -> Option<AtomicAmount> {
        let same = |asset: &str| match terms.network.namespace() {
            "eip155" => asset.eq_ignore_ascii_case(&terms.asset),
            _ => *asset == terms.asset,
        };
        let listed = self.listed.iter().find(|(network, asset, _)| *network == terms.network && same(asset));
        // A cap that no amount of the token can express lets nothing be paid in it.
        let dollars = |asset: &Asset| self.per_payment.to_atomic(asset.decimals).unwrap_or(AtomicAmount::ZERO);
        listed.map(|(_, _, cap)| *cap).or_else(|| self.known_dollar(terms).map(dollars))
    }
}
