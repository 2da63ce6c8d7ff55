//! The facilitators of a seller, in the order of their precedence: the first one that serves a payment's scheme, network
//! and version gets it, and keeps it.

use std::sync::{Arc, Mutex, PoisonError};

use x402_facilitator_core::Facilitator;
use x402_types::{Fault, Offer, Terms, UnixSeconds, Version};

use super::served::{NotServed, Served, agrees, serves};
use super::{Checkout, Dialect, IncidentStep};

/// The facilitators, and what each of them serves.
#[derive(Clone)]
pub(super) struct Facilitators {
    listed: Vec<Listed>,
    /// Whether an offer that none of them serves is refused.
    pub(super) refuses: bool,
}

/// A facilitator of the list.
#[derive(Clone)]
pub(super) struct Listed {
    /// The name under which grants remember that this one began a payment; empty for the first.
    pub(super) name: Box<str>,
    pub(super) facilitator: Arc<dyn Facilitator>,
    served: Served,
    retry: Arc<Mutex<Retry>>,
}

/// The time before which `/supported` is not requested again after a failure, and the next pause in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Retry {
    after: UnixSeconds,
    pause: u64,
}

/// The longest pause between two requests for `/supported` of a facilitator that does not answer, in seconds.
const LONGEST_PAUSE: u64 = 60;
/// The longest name of a facilitator.
const LONGEST_NAME: usize = 64;
/// The character between a request's identity and the name of the facilitator that began it. No identity has it.
const BETWEEN: char = '\n';

impl Facilitators {
    pub(super) fn one(facilitator: Arc<dyn Facilitator>) -> Self {
        Self { listed: vec![Listed::new("", facilitator)], refuses: false }
    }

    /// Adds a facilitator behind the others. Returns whether its name is usable.
    pub(super) fn add(&mut self, name: &str, facilitator: Arc<dyn Facilitator>) -> bool {
        let known = self.listed.iter().any(|listed| *listed.name == *name);
        let usable = !known && name.len() <= LONGEST_NAME && name.bytes().all(|byte| byte.is_ascii_graphic());
        if usable {
            self.listed.push(Listed::new(name, facilitator));
        }
        usable
    }

    /// Returns whether one of them has to be chosen for a payment.
    pub(super) fn are_several(&self) -> bool {
        self.listed.len() > 1
    }

    pub(super) fn get(&self, at: usize) -> Option<&Listed> {
        self.listed.get(at)
    }

    /// Returns the place of the facilitator with this name.
    pub(super) fn place_of(&self, name: &str) -> Option<usize> {
        self.listed.iter().position(|listed| *listed.name == *name)
    }

    /// Finds the first offer that none of them serves; `None` as long as the kinds of one of them are unknown.
    pub(super) fn missing<D: Dialect + ?Sized>(&self, offers: &[Offer], dialects: &[Arc<D>]) -> Option<NotServed> {
        let kinds: Vec<_> = self.listed.iter().map(|listed| listed.served.kinds()).collect::<Option<_>>()?;
        offers.iter().enumerate().find_map(|(entry, offer)| {
            let mut versions = dialects.iter().filter_map(|dialect| dialect.kind_of(&offer.terms));
            let served =
                |version| kinds.iter().flat_map(|kinds| kinds.iter()).any(|kind| serves(kind, version, &offer.terms));
            let version = versions.find(|version| !served(*version))?;
            Some(NotServed { entry, version })
        })
    }

    /// Refuses from here on what none of them serves, and forgets the kinds that were read before.
    pub(super) fn refuse(&mut self) {
        self.refuses = true;
        for listed in &mut self.listed {
            (listed.served, listed.retry) = (Served::default(), Arc::default());
        }
    }

    /// Requests the kinds that are unknown yet, and returns the faults.
    pub(super) async fn read_all(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for listed in &self.listed {
            faults.extend(listed.served.read(&*listed.facilitator).await.err());
        }
        faults
    }

    /// Returns whether the kinds of at least one of them are known.
    pub(super) fn any_read(&self) -> bool {
        self.listed.iter().any(|listed| listed.served.kinds().is_some())
    }
}

impl Listed {
    fn new(name: &str, facilitator: Arc<dyn Facilitator>) -> Self {
        Self { name: name.into(), facilitator, served: Served::default(), retry: Arc::default() }
    }

    /// Requests the kinds, unless they are known or the last failure was a moment ago.
    async fn read(&self, now: UnixSeconds) -> Result<(), Fault> {
        if self.served.kinds().is_some() {
            return Ok(());
        }
        {
            // Other requests do not wait for the same answer.
            let mut retry = self.retry.lock().unwrap_or_else(PoisonError::into_inner);
            if now < retry.after {
                return Ok(());
            }
            retry.pause = retry.pause.saturating_mul(2).clamp(1, LONGEST_PAUSE);
            retry.after = UnixSeconds(now.0.saturating_add(retry.pause));
        }
        self.served.read(&*self.facilitator).await
    }
}

impl<D: Dialect + ?Sized> Checkout<D> {
    /// Returns the places of the facilitators that serve these terms, in the order of their precedence. The kinds of a seller's only
    /// facilitator are not read for it.
    pub(super) async fn serving(&self, terms: &Terms, version: Version, url: &str) -> Result<Vec<usize>, Fault> {
        let listed = &self.facilitators.listed;
        if !self.facilitators.are_several() {
            return Ok(vec![0]);
        }
        let now = self.clock.now();
        let mut unread = false;
        for listed in listed {
            if let Err(fault) = listed.read(now).await {
                self.report(url, IncidentStep::Supported, &fault);
            }
            unread |= listed.served.kinds().is_none();
        }
        let serving = |listed: &Listed| {
            let kinds = listed.served.kinds().unwrap_or_default();
            kinds.iter().any(|kind| serves(kind, version, terms) && agrees(kind, terms))
        };
        let places: Vec<_> = (0..listed.len()).filter(|at| listed.get(*at).is_some_and(serving)).collect();
        if places.is_empty() {
            let what = format_args!("{} on {} in version {}", terms.scheme, terms.network, version.number());
            return Err(match unread {
                true => Fault::unreachable("facilitator", format_args!("none that answers serves {what}")),
                false => Fault::broken(format_args!("no facilitator serves {what}")),
            });
        }
        Ok(places)
    }
}

/// Returns the name of a request in the grants: its identity, and the name of the facilitator that gets the payment.
pub(super) fn tagged(identity: &str, name: &str) -> String {
    if name.is_empty() {
        return identity.to_owned();
    }
    format!("{identity}{BETWEEN}{name}")
}

/// Splits the name of a request in the grants.
pub(super) fn untagged(request: &str) -> (&str, &str) {
    request.split_once(BETWEEN).unwrap_or((request, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_facilitator() {
        assert_eq!(tagged("a1", ""), "a1");
        assert_eq!(untagged("a1"), ("a1", ""));
        assert_eq!(untagged(&tagged("a1", "second")), ("a1", "second"));
    }
}
