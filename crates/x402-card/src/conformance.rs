//! The rules that every store of cards keeps, as functions that a store's own tests call.

use x402_types::UnixSeconds;
use x402_types::nvm::PlanId;

use crate::stores::{
    Books, Card, Cards, ChargeEnd, ChargeResult, ChargeState, CreditMove, Delegations, MoveKind, NewCharge,
};
use crate::{Cents, Currency, Delegation, DelegationId, NewDelegation, NotCounted};

/// A rule that a store breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenStore(pub String);

impl From<x402_types::Fault> for BrokenStore {
    fn from(fault: x402_types::Fault) -> Self {
        Self(fault.to_string())
    }
}

impl From<x402_types::Malformed> for BrokenStore {
    fn from(malformed: x402_types::Malformed) -> Self {
        Self(malformed.to_string())
    }
}

fn equal<T: PartialEq + core::fmt::Debug>(what: &str, is: &T, wanted: &T) -> Result<(), BrokenStore> {
    if is == wanted { Ok(()) } else { Err(BrokenStore(format!("{what}: {is:?}, expected {wanted:?}"))) }
}

const NOW: UnixSeconds = UnixSeconds(1_000);

fn record(id: &str, limit: u64) -> Result<Delegation, BrokenStore> {
    let mut record = Delegation::new(NewDelegation {
        id: id.parse()?,
        owner: "user".to_owned(),
        customer: "cus_1".to_owned(),
        payment_method: "pm_1".to_owned(),
        currency: Currency::Eur,
        limit: Cents::try_from(limit)?,
        created_at: UnixSeconds(1),
        expires_at: UnixSeconds(9_000),
    });
    record.api_key = Some("key".to_owned());
    record.max_charges = Some(3);
    record.plan = Some(PlanId::from(x402_types::U256::MAX));
    record.merchant = Some("acct_1".to_owned());
    Ok(record)
}

fn new(payment: u8, id: &DelegationId, cents: u64) -> Result<NewCharge, BrokenStore> {
    Ok(NewCharge { payment: [payment; 32], delegation: id.clone(), cents: Cents::try_from(cents)? })
}

/// Checks the rules of delegations and cards on an empty store.
///
/// # Errors
/// The first rule that is broken.
pub async fn delegations<S: Delegations + Cards>(store: &S) -> Result<(), BrokenStore> {
    let record = record("d1", 1_000)?;
    equal("a delegation without a card", &store.create(record.clone()).await?, &false)?;
    equal("a customer", &store.customer("user").await?, &None)?;
    equal("the first customer", &store.put_customer("user", "cus_1").await?, &"cus_1".to_owned())?;
    equal("the second customer", &store.put_customer("user", "cus_2").await?, &"cus_1".to_owned())?;
    let card = Card::new("user", "cus_1", "pm_1", "visa", "4242");
    store.enrol(card.clone()).await?;
    equal("the card of another user", &store.card("other", "pm_1").await?, &None)?;
    equal("the cards", &store.cards("user").await?, &vec![card.clone()])?;
    equal("a delegation", &store.create(record.clone()).await?, &true)?;
    equal("what was created", &store.read(&record.id).await?, &Some(record.clone()))?;
    equal("the list", &store.list("user").await?, &vec![record.clone()])?;
    equal("another's list", &store.list("other").await?, &Vec::new())?;

    let counted = store.reserve(new(1, &record.id, 400)?, NOW).await?;
    equal("the first charge", &counted.state, &ChargeState::Counted)?;
    let again = store.reserve(new(1, &record.id, 999)?, NOW).await?;
    equal("the same payment again", &again, &counted)?;
    let refused = store.reserve(new(2, &record.id, 601)?, NOW).await?;
    equal("over the limit", &refused.state, &ChargeState::Refused(NotCounted::Limit))?;
    let still = store.reserve(new(2, &record.id, 1)?, NOW).await?;
    equal("a refusal stays", &still, &refused)?;
    let counts = |record: Option<Delegation>| record.map(|record| (record.spent.value(), record.charges));
    equal("the counter", &counts(store.read(&record.id).await?), &Some((400, 1)))?;

    let mut end = ChargeEnd::new(ChargeResult::Succeeded, Some("pi_1".to_owned()));
    store.record(&[1; 32], end.clone()).await?;
    equal("a result", &store.charge(&[1; 32]).await?.and_then(|charge| charge.end), &Some(end.clone()))?;
    end.result = ChargeResult::Refunded;
    end.refund = Some("re_1".to_owned());
    end.failure = Some("MINT_FAILED".to_owned());
    store.release(&[1; 32], end.clone()).await?;
    store.release(&[1; 32], ChargeEnd::new(ChargeResult::Failed, None)).await?;
    let released = store.charge(&[1; 32]).await?;
    equal("taken back", &released.as_ref().map(|charge| charge.state), &Some(ChargeState::Released))?;
    equal("the first end", &released.and_then(|charge| charge.end), &Some(end))?;
    equal("the counter again", &counts(store.read(&record.id).await?), &Some((0, 0)))?;
    store.release(&[2; 32], ChargeEnd::new(ChargeResult::Failed, None)).await?;
    equal("a refusal is not taken back", &counts(store.read(&record.id).await?), &Some((0, 0)))?;
    equal("the charges", &store.charges(&record.id).await?.len(), &2)?;

    equal("another's revocation", &store.revoke(&record.id, "other", NOW).await?, &false)?;
    equal("a revocation", &store.revoke(&record.id, "user", NOW).await?, &true)?;
    equal("a later revocation", &store.revoke(&record.id, "user", NOW.plus(9)).await?, &true)?;
    let revoked = store.read(&record.id).await?.and_then(|record| record.revoked_at);
    equal("the time of the first", &revoked, &Some(NOW))?;
    let after = store.reserve(new(3, &record.id, 1)?, NOW).await?;
    let inactive = NotCounted::Inactive(crate::DelegationStatus::Revoked);
    equal("a charge after it", &after.state, &ChargeState::Refused(inactive))?;

    let second = self::record("d2", 1_000)?;
    store.create(second.clone()).await?;
    equal("another's card", &store.remove("other", "pm_1", NOW).await?, &false)?;
    equal("a removed card", &store.remove("user", "pm_1", NOW).await?, &true)?;
    let of_card = store.read(&second.id).await?.and_then(|record| record.revoked_at);
    equal("its delegations", &of_card, &Some(NOW))?;
    store.enrol(card).await?;
    equal("enrolled again", &store.card("user", "pm_1").await?.map(|card| card.removed), &Some(true))?;
    equal("a delegation of a removed card", &store.create(self::record("d3", 1)?).await?, &false)
}

/// Checks the rules of the books on an empty store.
///
/// # Errors
/// The first rule that is broken.
pub async fn books<S: Books>(store: &S) -> Result<(), BrokenStore> {
    let plan = PlanId::from(x402_types::U256::MAX);
    let entry = |id: &str, credits, kind| CreditMove::new(id.to_owned(), plan, "user".to_owned(), credits, kind);
    equal("no credits", &store.credits(plan, "user").await?, &0)?;
    store.post(&entry("b0", 1, MoveKind::Burn)).await?;
    equal("a burn of nothing", &store.posted("b0").await?, &Some(false))?;
    store.post(&entry("m1", 10, MoveKind::Mint)).await?;
    store.post(&entry("m1", 10, MoveKind::Mint)).await?;
    equal("a move acts once", &store.credits(plan, "user").await?, &10)?;
    store.post(&entry("b0", 1, MoveKind::Burn)).await?;
    equal("a refusal stays", &store.credits(plan, "user").await?, &10)?;
    store.post(&entry("b1", 10, MoveKind::Burn)).await?;
    store.post(&entry("b1", 10, MoveKind::Burn)).await?;
    equal("a burn acts once", &store.credits(plan, "user").await?, &0)?;
    equal("made", &(store.posted("m1").await?, store.posted("b1").await?), &(Some(true), Some(true)))?;
    equal("an unknown move", &store.posted("b2").await?, &None)?;
    store.post(&entry("m2", crate::money::MAX_SAFE, MoveKind::Mint)).await?;
    store.post(&entry("m3", 1, MoveKind::Mint)).await?;
    equal("more than the books count", &store.posted("m3").await?, &Some(false))?;
    equal("the most", &store.credits(plan, "user").await?, &crate::money::MAX_SAFE)?;
    equal("another holder", &store.credits(plan, "other").await?, &0)
}
