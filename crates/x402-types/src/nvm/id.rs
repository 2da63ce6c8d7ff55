//! §3.3: "256-bit plan identifier", "256-bit agent identifier". Both are decimal strings.

use core::fmt;
use core::str::FromStr;

use ruint::aliases::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{AtomicAmount, Malformed};

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        ///
        /// The range is 0 to 2^256-1. There is one spelling: decimal digits without a sign or leading zero, a string on
        /// the wire.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(U256);

        impl $name {
            /// The grammar that a string must match.
            pub const EXPECTED: &'static str =
                "a 256-bit identifier: a decimal string without sign or leading zero, at most 2^256-1";

            /// Returns the identifier as an integer.
            #[must_use]
            pub const fn value(self) -> U256 {
                self.0
            }
        }

        impl From<U256> for $name {
            fn from(value: U256) -> Self {
                Self(value)
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(s: &str) -> Result<Self, Malformed> {
                // Identifiers have the grammar of amounts.
                s.parse::<AtomicAmount>().map(|n| Self(n.value())).map_err(|_| Malformed::new(Self::EXPECTED))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::parsed::deserialize(deserializer, Self::EXPECTED)
            }
        }
    };
}

id! {
    /// The identifier of a plan. An order buys credits of the plan, a redemption spends them.
    PlanId
}
id! {
    /// The identifier of the agent within a plan that serves the request.
    AgentId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_has_one_spelling() {
        let example = "44742763076047497640080230236781474129970992727896593861997347135613135571071";
        assert_eq!(example.parse::<PlanId>().unwrap().to_string(), example);
        let most = U256::MAX.to_string();
        assert_eq!(most.parse::<AgentId>().unwrap().value(), U256::MAX);
        let over = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
        for bad in ["", "0x1", "01", "+1", "-1", "1 ", "1e3", "did:nv:1", over] {
            assert_eq!(bad.parse::<PlanId>(), Err(Malformed::new(PlanId::EXPECTED)), "{bad}");
        }
        assert!(serde_json::from_str::<PlanId>("1").is_err());
    }
}
