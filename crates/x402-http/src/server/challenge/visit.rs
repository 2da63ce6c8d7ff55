//! The handler's run for a request that was paid by challenge, or that came with an entitlement.

use async_trait::async_trait;
use http::request::Parts;
use http::response;
use x402_challenge::{EntitlementGrant, TokenHash};

use super::super::answer::{Answer, is_unserved};
use super::super::own::Visit;
use super::answer;
use super::ask::Access;
use super::route::ChallengeRoute;

/// A request that was let in.
pub(super) struct ChallengeVisit {
    route: ChallengeRoute,
    access: Access,
    grant: Option<EntitlementGrant>,
    /// The entitlement of which a use was counted.
    counted: Option<TokenHash>,
    /// The request, where the payment is metered: the answer to a refused settlement needs it once more.
    metered: Option<Parts>,
}

impl ChallengeVisit {
    pub(super) fn new(route: &ChallengeRoute, access: Access, grant: Option<EntitlementGrant>) -> Self {
        Self { route: route.clone(), access, grant, counted: None, metered: None }
    }

    /// Sets the entitlement of which a use was counted: it is given back if the request is not served.
    pub(super) fn counting(self, counted: Option<TokenHash>) -> Self {
        Self { counted, ..self }
    }
}

#[async_trait]
impl Visit for ChallengeVisit {
    fn enter(&mut self, request: &mut Parts) {
        request.extensions.insert(self.access.clone());
        if matches!(&self.access, Access::Paid(granted) if granted.meter.is_some()) {
            self.metered = Some(request.clone());
        }
    }

    async fn leave(self: Box<Self>, response: &mut response::Parts) -> Result<(), Box<Answer>> {
        let unserved = is_unserved(response.status);
        let granted = match &self.access {
            Access::Paid(granted) => granted,
            Access::Entitled { .. } => {
                if let Some(token) = self.counted.filter(|_| unserved)
                    && let Err(fault) = self.route.give_back(&token).await
                {
                    response.extensions.insert(fault);
                }
                return Ok(());
            }
        };
        if let Some(request) = &self.metered {
            if unserved {
                // Nothing moved and nothing will. The answer states it only if it is stored.
                match self.route.waive(granted).await {
                    Ok(()) => answer::attach_waived(&mut response.headers, granted),
                    Err(fault) => drop(response.extensions.insert(fault)),
                }
                return Ok(());
            }
            if let Some(fault) = self.route.settle(request, granted).await? {
                // The counted use is in the store, and is settled by a later attempt.
                response.extensions.insert(fault);
            }
        }
        answer::attach(&mut response.headers, granted, self.grant.as_ref());
        Ok(())
    }
}
