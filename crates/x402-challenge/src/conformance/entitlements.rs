//! The rules for entitlements.

use std::sync::Arc;

use x402_types::UnixSeconds;

use super::samples::{NOW, by, entitlement, held, issued, resource};
use super::{Broken, Subject, ensure, same};
use crate::{Confirmation, Confirmed, Entitlement, ProofKey, Spent, Store, TokenHash};

const TOKEN: TokenHash = TokenHash([9; 32]);

async fn granted(subject: &dyn Subject, left: Option<u32>) -> Result<Arc<dyn Store>, Broken> {
    let store = subject.empty().await;
    store.issue(issued(1)?).await?;
    let hold = held(&store, 1, 1, NOW).await?;
    let with = Confirmation { entitlement: Some(entitlement(9, left)?), ..Confirmation::default() };
    same(&store.confirm(&hold, with).await?, &Confirmed::Paid, "the confirmation")?;
    Ok(subject.reopened(store).await)
}

pub(super) async fn with_payment(subject: &dyn Subject) -> Result<(), Broken> {
    let store = granted(subject, None).await?;
    for _ in 0..3 {
        same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Good { left: None }, "a use")?;
    }
    same(&store.spend(&TokenHash([8; 32]), &resource()?, NOW).await?, &Spent::Refused, "a token of nobody")?;
    let key = ProofKey("onchain:0x01".into());
    for n in [2, 3] {
        store.issue(issued(n)?).await?;
        let hold = held(&store, n, n, NOW).await?;
        store.confirm(&hold, Confirmation { entitlement: Some(entitlement(n, None)?), ..by(&key) }).await?;
    }
    let refused = store.spend(&TokenHash([3; 32]), &resource()?, NOW).await?;
    same(&refused, &Spent::Refused, "a payment that was not confirmed grants nothing")
}

pub(super) async fn counted(subject: &dyn Subject) -> Result<(), Broken> {
    let store = granted(subject, Some(2)).await?;
    same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Good { left: Some(1) }, "the first use")?;
    let store = subject.reopened(store).await;
    same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Good { left: Some(0) }, "the last use")?;
    same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Refused, "one more")
}

pub(super) async fn ends(subject: &dyn Subject) -> Result<(), Broken> {
    let store = granted(subject, None).await?;
    let last = store.spend(&TOKEN, &resource()?, NOW.plus(3599)).await?;
    same(&last, &Spent::Good { left: None }, "the last second")?;
    same(&store.spend(&TOKEN, &resource()?, NOW.plus(3600)).await?, &Spent::Refused, "the first second after")?;
    store.forget(NOW.plus(3600)).await?;
    same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Refused, "what was forgotten")
}

pub(super) async fn one_resource(subject: &dyn Subject) -> Result<(), Broken> {
    let store = granted(subject, Some(1)).await?;
    let other = "urn:res:abc1234".parse()?;
    same(&store.spend(&TOKEN, &other, NOW).await?, &Spent::Refused, "another resource")?;
    same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Good { left: Some(0) }, "which counted nothing")
}

pub(super) async fn revoked(subject: &dyn Subject) -> Result<(), Broken> {
    let store = granted(subject, None).await?;
    ensure(store.revoke(&TOKEN).await?, "it is known")?;
    let store = subject.reopened(store).await;
    same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Refused, "a use")?;
    ensure(!store.revoke(&TOKEN).await?, "it is not known any more")
}

pub(super) async fn looked_at(subject: &dyn Subject) -> Result<(), Broken> {
    let store = granted(subject, Some(1)).await?;
    for _ in 0..3 {
        same(&store.look(&TOKEN, &resource()?, NOW).await?, &Spent::Good { left: Some(1) }, "a look")?;
    }
    same(&store.look(&TOKEN, &"urn:res:abc1234".parse()?, NOW).await?, &Spent::Refused, "another resource")?;
    same(&store.look(&TokenHash([8; 32]), &resource()?, NOW).await?, &Spent::Refused, "a token of nobody")?;
    same(&store.look(&TOKEN, &resource()?, NOW.plus(3600)).await?, &Spent::Refused, "the first second after")?;
    same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Good { left: Some(0) }, "the use")?;
    same(&store.look(&TOKEN, &resource()?, NOW).await?, &Spent::Refused, "what is used up")
}

pub(super) async fn given_back(subject: &dyn Subject) -> Result<(), Broken> {
    let store = granted(subject, Some(1)).await?;
    store.spend(&TOKEN, &resource()?, NOW).await?;
    store.give_back(&TOKEN).await?;
    let store = subject.reopened(store).await;
    same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Good { left: Some(0) }, "the use that came back")?;
    same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Refused, "one more")?;
    store.give_back(&TokenHash([8; 32])).await?;
    ensure(store.revoke(&TOKEN).await?, "it is known")?;
    store.give_back(&TOKEN).await?;
    same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Refused, "a revoked one stays revoked")?;
    let store = granted(subject, None).await?;
    store.give_back(&TOKEN).await?;
    same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Good { left: None }, "an uncounted one")
}

pub(super) async fn granted_alone(subject: &dyn Subject) -> Result<(), Broken> {
    let store = subject.empty().await;
    let first = entitlement(9, Some(2))?;
    ensure(store.grant(&first).await?, "it is new")?;
    let store = subject.reopened(store).await;
    same(&store.spend(&TOKEN, &resource()?, NOW).await?, &Spent::Good { left: Some(1) }, "a use")?;
    let later = Entitlement { expires_at: first.expires_at.plus(60), left: Some(9), ..first.clone() };
    ensure(!store.grant(&later).await?, "a second one under the token is not new")?;
    ensure(!store.grant(&first).await?, "an earlier end is not new either")?;
    let store = subject.reopened(store).await;
    let last = UnixSeconds(first.expires_at.0.saturating_add(59));
    same(
        &store.spend(&TOKEN, &resource()?, last).await?,
        &Spent::Good { left: Some(0) },
        "uses are kept, the end moved",
    )?;
    same(&store.spend(&TOKEN, &resource()?, last.plus(1)).await?, &Spent::Refused, "after the later end")?;
    store.forget(later.expires_at).await?;
    ensure(store.grant(&first).await?, "what was forgotten is new again")
}
