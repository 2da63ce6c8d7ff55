//! "Resource entitlement", the client's side: entitlements are kept by origin and resource, and presented where the
//! resource was bought.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use url::Url;
use x402_challenge::COOKIE as NAME;
use x402_codec::challenge::X_PAYMENT_TOKEN;
use x402_types::UnixSeconds;
use x402_types::challenge::{Carrier, EntitlementNotice, ResourceName};

use super::OpenEntitlement;

/// The capacity. Beyond it, a new entitlement is forgotten: its resource is paid again within the budget.
const KEPT: usize = 10_000;

/// An origin, and the resource that it sold.
type Title = (String, ResourceName);

#[derive(Clone, Default)]
pub(super) struct Entitlements(Arc<Mutex<Rows>>);

#[derive(Default)]
struct Rows {
    titles: HashMap<Title, Kept>,
    /// The resource sold at each origin and path.
    places: HashMap<(String, String), ResourceName>,
}

struct Kept {
    carrier: Carrier,
    /// The token in the form in which it is presented, marked sensitive.
    token: HeaderValue,
    until: UnixSeconds,
}

impl Entitlements {
    /// Keeps the entitlement that a response grants for a resource, and returns it for a journal.
    pub(super) fn keep(
        &self,
        url: &Url,
        resource: ResourceName,
        notice: &EntitlementNotice,
        headers: &HeaderMap,
        now: UnixSeconds,
    ) -> Option<OpenEntitlement> {
        let token = granted(notice.carrier, headers)?;
        let text = token.to_str().ok()?.to_owned();
        let until = now.plus(notice.ttl_seconds);
        self.insert(url, resource.clone(), Kept { carrier: notice.carrier, token, until }, now);
        Some(OpenEntitlement::new(resource, notice.carrier, text, until))
    }

    /// Keeps an entitlement that an earlier process bought.
    pub(super) fn restore(&self, url: &Url, open: &OpenEntitlement, now: UnixSeconds) {
        let Ok(mut token) = HeaderValue::try_from(open.token.as_str()) else { return };
        token.set_sensitive(true);
        self.insert(url, open.resource.clone(), Kept { carrier: open.carrier, token, until: open.until }, now);
    }

    fn insert(&self, url: &Url, resource: ResourceName, kept: Kept, now: UnixSeconds) {
        let mut rows = self.rows();
        if rows.titles.len() >= KEPT {
            rows.forget(now);
        }
        if rows.titles.len() < KEPT {
            rows.places.insert(place(url), resource.clone());
            rows.titles.insert((origin(url), resource), kept);
        }
    }

    /// Presents the entitlement for this origin and path, and returns its resource.
    pub(super) fn present_here(&self, url: &Url, headers: &mut HeaderMap, now: UnixSeconds) -> Option<ResourceName> {
        let resource = self.rows().places.get(&place(url))?.clone();
        self.present(url, &resource, headers, now).then_some(resource)
    }

    /// Presents the entitlement for this resource, unless the caller's request has credentials of its own.
    pub(super) fn present(
        &self,
        url: &Url,
        resource: &ResourceName,
        headers: &mut HeaderMap,
        now: UnixSeconds,
    ) -> bool {
        let rows = self.rows();
        let Some(kept) = rows.titles.get(&(origin(url), resource.clone())).filter(|kept| now < kept.until) else {
            return false;
        };
        match kept.carrier {
            Carrier::Bearer if headers.contains_key(AUTHORIZATION) => false,
            Carrier::Bearer => {
                headers.insert(AUTHORIZATION, kept.token.clone());
                true
            }
            Carrier::Cookie => add_cookie(headers, &kept.token),
        }
    }

    /// Forgets an entitlement that was refused.
    pub(super) fn forget(&self, url: &Url, resource: &ResourceName) {
        self.rows().titles.remove(&(origin(url), resource.clone()));
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn forget(&mut self, now: UnixSeconds) {
        self.titles.retain(|_, kept| now < kept.until);
        let titles = &self.titles;
        self.places.retain(|(origin, _), resource| titles.contains_key(&(origin.clone(), resource.clone())));
    }
}

/// Returns the token that a response grants, in the form in which it is presented.
fn granted(carrier: Carrier, headers: &HeaderMap) -> Option<HeaderValue> {
    let text = match carrier {
        Carrier::Bearer => format!("Bearer {}", headers.get(&X_PAYMENT_TOKEN)?.to_str().ok()?),
        Carrier::Cookie => headers.get_all(SET_COOKIE).iter().find_map(|value| {
            let pair = value.to_str().ok()?.split(';').next()?.trim();
            let (name, value) = pair.split_once('=')?;
            (name == NAME && !value.is_empty()).then(|| pair.to_owned())
        })?,
    };
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Adds a cookie to the single `Cookie` line of RFC 6265 §5.4.
fn add_cookie(headers: &mut HeaderMap, pair: &HeaderValue) -> bool {
    let Some(others) = headers.get(COOKIE) else {
        headers.insert(COOKIE, pair.clone());
        return true;
    };
    let (Ok(others), Ok(pair)) = (others.to_str(), pair.to_str()) else { return false };
    let theirs = others.split(';').any(|other| other.trim().split('=').next() == Some(NAME));
    let Ok(mut joined) = HeaderValue::try_from(format!("{others}; {pair}")) else { return false };
    if theirs {
        return false;
    }
    joined.set_sensitive(true);
    headers.insert(COOKIE, joined);
    true
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn place(url: &Url) -> (String, String) {
    (origin(url), url.path().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(had: Option<&'static str>) -> (bool, Option<String>) {
        let mut headers = HeaderMap::new();
        if let Some(had) = had {
            headers.insert(COOKIE, HeaderValue::from_static(had));
        }
        let added = add_cookie(&mut headers, &HeaderValue::from_static("402_access=t"));
        (added, headers.get(COOKIE).map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_cookie_stands_beside_the_callers_own() {
        assert_eq!(cookies(None), (true, Some("402_access=t".to_owned())));
        assert_eq!(cookies(Some("a=b")), (true, Some("a=b; 402_access=t".to_owned())));
        assert_eq!(cookies(Some("a=b; 402_access=mine")), (false, Some("a=b; 402_access=mine".to_owned())));
    }

    #[test]
    fn only_its_own_cookie_is_kept() {
        let mut headers = HeaderMap::new();
        for line in ["x402_access=a", "402_access=", "402_access=t; Max-Age=3600; Path=/; Secure; HttpOnly"] {
            headers.append(SET_COOKIE, HeaderValue::from_static(line));
        }
        assert_eq!(granted(Carrier::Cookie, &headers).unwrap(), "402_access=t");
        assert_eq!(granted(Carrier::Bearer, &headers), None);
    }
}
