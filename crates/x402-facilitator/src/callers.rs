//! The callers of a facilitator, distinguished by their bearer tokens.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

use crate::config::BearerHash;
use crate::dialect::NotAdmitted;
use crate::edge::Rate;

/// The callers of a facilitator. Without any, everyone may call, all as the same caller. Clones share one list, which can
/// be replaced while requests are answered: each request is admitted by the list that is there when it arrives.
#[derive(Clone, Default)]
pub struct Callers(Arc<RwLock<Arc<[Caller]>>>);

/// A caller: its name, and the hash of its token.
#[derive(Clone)]
pub struct Caller {
    name: String,
    token: BearerHash,
    rate: Option<Arc<Rate>>,
}

impl Caller {
    /// Creates a caller with the hash of its token.
    #[must_use]
    pub fn new(name: impl Into<String>, token: BearerHash) -> Self {
        Self { name: name.into(), token, rate: None }
    }

    /// Limits the caller's requests: the average in a second, and the burst.
    #[must_use]
    pub fn with_rate(mut self, rate: (NonZeroU32, NonZeroU32)) -> Self {
        self.rate = Some(Arc::new(Rate::new(rate)));
        self
    }

    /// Returns the caller's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.list().iter().map(|caller| &caller.name)).finish()
    }
}

/// The list would be empty: everyone could call, who could not before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the last caller cannot be removed while it runs: everyone could call")]
pub struct NoCallerLeft;

impl Callers {
    /// Creates the list of these callers.
    #[must_use]
    pub fn new(callers: impl IntoIterator<Item = Caller>) -> Self {
        Self(Arc::new(RwLock::new(callers.into_iter().collect())))
    }

    /// Adds a caller.
    pub fn add(&self, caller: Caller) {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *list = list.iter().cloned().chain([caller]).collect();
    }

    /// Replaces the whole list for the requests from here on.
    ///
    /// # Errors
    /// There are callers, and the new list has none.
    pub fn replace(&self, callers: impl IntoIterator<Item = Caller>) -> Result<(), NoCallerLeft> {
        let callers: Arc<[Caller]> = callers.into_iter().collect();
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if callers.is_empty() && !list.is_empty() {
            return Err(NoCallerLeft);
        }
        *list = callers;
        Ok(())
    }

    /// Returns the callers as they are now.
    #[must_use]
    pub fn list(&self) -> Arc<[Caller]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the name of the caller whose token a request has, or an empty name if there are no callers, and counts the
    /// request.
    ///
    /// # Errors
    /// The request has no token of a caller, or the caller had too many requests.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<String, NotAdmitted> {
        let list = self.list();
        if list.is_empty() {
            return Ok(String::new());
        }
        let sent = headers.get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
        let sent = BearerHash::of_bytes(sent.strip_prefix(b"Bearer ").unwrap_or_default());
        // Every hash is compared as a whole, so that the time taken reveals nothing about them.
        let is_its = |caller: &Caller| bool::from(caller.token.as_bytes().ct_eq(sent.as_bytes()));
        let known = list.iter().fold(None, |known, caller| if is_its(caller) { Some(caller) } else { known });
        let caller = known.ok_or(NotAdmitted::Unauthorized)?;
        caller.rate.as_ref().map_or(Ok(()), |rate| rate.count()).map_err(NotAdmitted::TooMany)?;
        Ok(caller.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        headers
    }

    #[test]
    fn the_list_is_replaced_for_all_clones_and_never_by_nothing() {
        let caller = |name: &str| Caller::new(name, BearerHash::of(&format!("{name}-token")));
        let callers = Callers::default();
        let clone = callers.clone();
        assert_eq!(clone.admit(&HeaderMap::new()).ok().as_deref(), Some(""));
        callers.add(caller("alice"));
        assert_eq!(clone.admit(&HeaderMap::new()).ok(), None);
        assert_eq!(clone.admit(&with("alice-token")).ok().as_deref(), Some("alice"));
        callers.replace([caller("bob"), caller("carol")]).unwrap();
        for (token, name) in
            [("alice-token", None), ("bob-token", Some("bob")), ("carol-token", Some("carol")), ("", None)]
        {
            assert_eq!(clone.admit(&with(token)).ok().as_deref(), name, "{token}");
        }
        assert_eq!(callers.replace([]), Err(NoCallerLeft));
        assert_eq!(clone.admit(&with("bob-token")).ok().as_deref(), Some("bob"));
    }
}
