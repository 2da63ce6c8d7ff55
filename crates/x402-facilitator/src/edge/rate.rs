//! Rates of requests: [GCRA](https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm), by the crate `governor`.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};

/// The most addresses whose rate is remembered. Addresses that have their whole burst again are forgotten first.
const MOST_ADDRESSES: usize = 65_536;

fn quota((each_second, burst): (NonZeroU32, NonZeroU32)) -> Quota {
    Quota::per_second(each_second).allow_burst(burst)
}

fn wait(until: &NotUntil<<DefaultClock as Clock>::Instant>) -> Duration {
    until.wait_time_from(DefaultClock::default().now())
}

/// The rate of one caller.
#[derive(Debug)]
pub(crate) struct Rate(DefaultDirectRateLimiter);

impl Rate {
    pub(crate) fn new(rate: (NonZeroU32, NonZeroU32)) -> Self {
        Self(RateLimiter::direct(quota(rate)))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// There were too many: the time after which one is admitted again.
    pub(crate) fn count(&self) -> Result<(), Duration> {
        self.0.check().map_err(|until| wait(&until))
    }
}

/// The rates of addresses.
#[derive(Debug)]
pub(crate) struct AddressRates(DefaultKeyedRateLimiter<IpAddr>);

impl AddressRates {
    pub(crate) fn new(rate: (NonZeroU32, NonZeroU32)) -> Self {
        Self(RateLimiter::keyed(quota(rate)))
    }

    /// Counts a request of an address.
    ///
    /// # Errors
    /// There were too many: the time after which one is admitted again.
    pub(crate) fn count(&self, address: IpAddr) -> Result<(), Duration> {
        if self.0.len() >= MOST_ADDRESSES {
            self.0.retain_recent();
            if self.0.len() >= MOST_ADDRESSES {
                return Err(Duration::from_secs(1));
            }
        }
        self.0.check_key(&network(address)).map_err(|until| wait(&until))
    }
}

/// Returns what counts as one address: of IPv6 the first 64 bits, which one host has as a whole.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    #[test]
    fn a_burst_is_admitted_and_then_nothing_before_its_time() {
        let rate = Rate::new((ONE, NonZeroU32::new(3).unwrap()));
        assert_eq!([(); 3].map(|()| rate.count()), [Ok(()); 3]);
        let wait = rate.count().unwrap_err();
        assert!(wait <= Duration::from_secs(1) && wait > Duration::ZERO, "{wait:?}");
    }

    #[test]
    fn addresses_are_counted_apart_and_a_v6_network_as_one() {
        let rates = AddressRates::new((ONE, ONE));
        let count = |text: &str| rates.count(text.parse().unwrap()).is_ok();
        assert!(count("192.0.2.1") && !count("192.0.2.1") && count("192.0.2.2"));
        assert!(!count("::ffff:192.0.2.1"), "the same address in another notation");
        assert!(count("2001:db8:0:1::1") && !count("2001:db8:0:1:ffff::2") && count("2001:db8:0:2::1"));
    }
}
