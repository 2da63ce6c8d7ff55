//! Section "Scheme and networks": `network` is the processor's name, not CAIP-2.

use crate::{ChainId, NetworkName};

/// A processor of card payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Processor {
    /// The processor Stripe.
    Stripe,
    /// The processor Braintree.
    Braintree,
    /// The processor Visa.
    Visa,
}

impl Processor {
    /// Every processor that has a name.
    pub const ALL: [Self; 3] = [Self::Stripe, Self::Braintree, Self::Visa];

    /// Returns the name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Braintree => "braintree",
            Self::Visa => "visa",
        }
    }

    /// Returns the processor with this name on the wire.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|processor| processor.as_str() == name)
    }

    /// Returns the processor of a network inside of this workspace.
    #[must_use]
    pub fn of_network(network: ChainId) -> Option<Self> {
        if network.namespace() == Self::NAMESPACE { Self::of_name(network.reference()) } else { None }
    }

    /// Returns the network inside of this workspace, `card:stripe`; it is never written.
    #[must_use]
    pub fn network(self) -> Option<ChainId> {
        format!("{}:{}", Self::NAMESPACE, self.as_str()).parse().ok()
    }

    /// Returns the network on the wire.
    #[must_use]
    pub fn network_name(self) -> NetworkName {
        self.as_str().into()
    }

    const NAMESPACE: &'static str = "card";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_has_one_name_outside_and_one_network_inside() {
        for processor in Processor::ALL {
            let network = processor.network().unwrap();
            assert_eq!(Processor::of_network(network), Some(processor));
            assert_eq!(Processor::of_name(processor.as_str()), Some(processor));
            // The name is no network of any other scheme, of neither version.
            assert_eq!(processor.network_name().chain_id(), None);
        }
        for name in ["", "Stripe", "stripe ", "card:stripe", "vgs", "erc4337"] {
            assert_eq!(Processor::of_name(name), None, "{name:?}");
        }
        for network in ["card:paypal", "eip155:1", "cards:stripe"] {
            assert_eq!(Processor::of_network(network.parse().unwrap()), None, "{network}");
        }
    }
}
