//! The stores in memory, for tests and demonstrations.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use x402_types::nvm::PlanId;
use x402_types::{Fault, UnixSeconds};

use crate::money::MAX_SAFE;
use crate::stores::{
    Books, Card, CardCharge, Cards, ChargeEnd, ChargeState, CreditMove, Delegations, MoveKind, NewCharge, PaymentHash,
};
use crate::{Delegation, DelegationId};

/// Delegations, books and cards in memory.
#[derive(Debug, Default)]
pub struct MemoryCards(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    delegations: Vec<Delegation>,
    charges: Vec<CardCharge>,
    credits: BTreeMap<(PlanId, String), u64>,
    moves: BTreeMap<String, bool>,
    customers: BTreeMap<String, String>,
    cards: Vec<Card>,
}

impl State {
    fn delegation(&mut self, id: &DelegationId) -> Option<&mut Delegation> {
        self.delegations.iter_mut().find(|delegation| delegation.id == *id)
    }

    fn charge(&mut self, payment: &PaymentHash) -> Option<&mut CardCharge> {
        self.charges.iter_mut().find(|charge| charge.payment == *payment)
    }
}

impl MemoryCards {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Delegations for MemoryCards {
    async fn create(&self, delegation: Delegation) -> Result<bool, Fault> {
        let mut state = self.state();
        if state.delegation(&delegation.id).is_some() {
            return Err(Fault::store("a delegation with this id is there"));
        }
        let is_its = |card: &&Card| card.user == delegation.owner && card.method == delegation.payment_method;
        let usable = state.cards.iter().find(is_its).is_some_and(|card| !card.removed);
        if usable {
            state.delegations.push(delegation);
        }
        Ok(usable)
    }

    async fn read(&self, id: &DelegationId) -> Result<Option<Delegation>, Fault> {
        Ok(self.state().delegation(id).cloned())
    }

    async fn list(&self, owner: &str) -> Result<Vec<Delegation>, Fault> {
        Ok(self.state().delegations.iter().filter(|delegation| delegation.owner == owner).cloned().collect())
    }

    async fn revoke(&self, id: &DelegationId, owner: &str, now: UnixSeconds) -> Result<bool, Fault> {
        let mut state = self.state();
        let found = state.delegation(id).filter(|delegation| delegation.owner == owner);
        Ok(found.map(|delegation| delegation.revoked_at.get_or_insert(now)).is_some())
    }

    async fn reserve(&self, charge: NewCharge, now: UnixSeconds) -> Result<CardCharge, Fault> {
        let mut state = self.state();
        if let Some(known) = state.charge(&charge.payment) {
            return Ok(known.clone());
        }
        let delegation = state.delegation(&charge.delegation);
        let delegation = delegation.ok_or_else(|| Fault::broken("a charge of an unknown delegation"))?;
        let counted = delegation.count(charge.cents, now);
        let state_of = counted.map_or_else(ChargeState::Refused, |()| ChargeState::Counted);
        let charge = CardCharge::new(charge, state_of, now);
        state.charges.push(charge.clone());
        Ok(charge)
    }

    async fn release(&self, payment: &PaymentHash, end: ChargeEnd) -> Result<(), Fault> {
        let mut state = self.state();
        let charge = state.charge(payment).ok_or_else(|| Fault::broken("no charge of this payment"))?;
        if charge.state != ChargeState::Counted {
            return Ok(());
        }
        charge.state = ChargeState::Released;
        charge.end = Some(end);
        let (id, cents) = (charge.delegation.clone(), charge.cents);
        if let Some(delegation) = state.delegation(&id) {
            delegation.take_back(cents);
        }
        Ok(())
    }

    async fn record(&self, payment: &PaymentHash, end: ChargeEnd) -> Result<(), Fault> {
        let mut state = self.state();
        state.charge(payment).ok_or_else(|| Fault::broken("no charge of this payment"))?.end = Some(end);
        Ok(())
    }

    async fn charge(&self, payment: &PaymentHash) -> Result<Option<CardCharge>, Fault> {
        Ok(self.state().charge(payment).cloned())
    }

    async fn charges(&self, id: &DelegationId) -> Result<Vec<CardCharge>, Fault> {
        Ok(self.state().charges.iter().filter(|charge| charge.delegation == *id).cloned().collect())
    }
}

#[async_trait]
impl Books for MemoryCards {
    async fn credits(&self, plan: PlanId, holder: &str) -> Result<u64, Fault> {
        Ok(self.state().credits.get(&(plan, holder.to_owned())).copied().unwrap_or_default())
    }

    async fn post(&self, entry: &CreditMove) -> Result<(), Fault> {
        let mut state = self.state();
        if state.moves.contains_key(&entry.id) {
            return Ok(());
        }
        let balance = state.credits.entry((entry.plan, entry.holder.clone())).or_default();
        let after = match entry.kind {
            MoveKind::Mint => balance.checked_add(entry.credits).filter(|after| *after <= MAX_SAFE),
            MoveKind::Burn => balance.checked_sub(entry.credits),
        };
        if let Some(after) = after {
            *balance = after;
        }
        state.moves.insert(entry.id.clone(), after.is_some());
        Ok(())
    }

    async fn posted(&self, id: &str) -> Result<Option<bool>, Fault> {
        Ok(self.state().moves.get(id).copied())
    }
}

#[async_trait]
impl Cards for MemoryCards {
    async fn customer(&self, user: &str) -> Result<Option<String>, Fault> {
        Ok(self.state().customers.get(user).cloned())
    }

    async fn put_customer(&self, user: &str, customer: &str) -> Result<String, Fault> {
        Ok(self.state().customers.entry(user.to_owned()).or_insert_with(|| customer.to_owned()).clone())
    }

    async fn enrol(&self, card: Card) -> Result<(), Fault> {
        let mut state = self.state();
        if !state.cards.iter().any(|known| known.method == card.method) {
            state.cards.push(card);
        }
        Ok(())
    }

    async fn card(&self, user: &str, method: &str) -> Result<Option<Card>, Fault> {
        Ok(self.state().cards.iter().find(|card| card.user == user && card.method == method).cloned())
    }

    async fn cards(&self, user: &str) -> Result<Vec<Card>, Fault> {
        Ok(self.state().cards.iter().filter(|card| card.user == user).cloned().collect())
    }

    async fn remove(&self, user: &str, method: &str, now: UnixSeconds) -> Result<bool, Fault> {
        let mut state = self.state();
        let Some(card) = state.cards.iter_mut().find(|card| card.user == user && card.method == method) else {
            return Ok(false);
        };
        card.removed = true;
        for delegation in state.delegations.iter_mut().filter(|it| it.owner == user && it.payment_method == method) {
            delegation.revoked_at.get_or_insert(now);
        }
        Ok(true)
    }
}
