//! Those who ask, and what they were told.

use std::collections::BTreeMap;

use x402_facilitator_core::{Ledger, Outcome, Payment, SlotId, TxId};
use x402_types::{AtomicAmount, Claim, Fault, Identity, PaymentKey, RawJson, Refusal, SchemeName, Terms};

use crate::bugs::Bug;
use crate::chain::REVERTING;
use crate::mechanisms::{Signed, network};
use crate::process::Process;
use crate::world::{ACCOUNTS, CALM, Chance, END, World, name};

/// Who was told what, and who is asking.
#[derive(Debug, Default)]
pub struct Log {
    pub told: BTreeMap<PaymentKey, Vec<(String, Outcome)>>,
    /// By process, payment and request: how many wait, and when one last stopped.
    waiting: BTreeMap<(usize, PaymentKey, String), (u64, u64)>,
    /// By process: how many of its statements have answered late with what they saw before.
    pub old: BTreeMap<usize, u64>,
}

/// A request to come.
#[derive(Debug, Clone)]
pub struct Ask {
    pub at: u64,
    pub claim: Claim,
}

pub fn claim(scheme: SchemeName, signed: &Signed, amount: u64, request: &str) -> Claim {
    Claim::of_payload(
        Terms::new(scheme, network(), AtomicAmount::from(amount), "token", "shop"),
        RawJson::of(signed).unwrap(),
    )
    .with_identity(Identity::new("shop", request.to_owned()))
}

/// The claims of a run: some of each scheme, and some authorizations offered under two.
pub fn claims(chance: &mut Chance) -> Vec<Claim> {
    let mut claims = Vec::new();
    for nonce in 0..6 + chance.below(10) {
        let (scheme, payer) = match chance.below(10) {
            0..4 => (SchemeName::EXACT, 100 + chance.below(4)),
            4..6 => (SchemeName::UPTO, 200 + chance.below(4)),
            _ => (SchemeName::NVM_ERC4337, 300 + chance.below(3)),
        };
        let max = 1 + chance.below(9);
        let amount = if scheme == SchemeName::EXACT { max } else { chance.below(max + 1) };
        let before = 400 + chance.below(1_200);
        let signed = Signed { payer, nonce, max, before, only: chance.below(ACCOUNTS), order: chance.percent(80) };
        let request = if nonce % 5 < 2 { "key:first" } else { "first" };
        claims.push(claim(scheme.clone(), &signed, amount, request));
        if scheme == SchemeName::EXACT && chance.percent(30) {
            claims.push(claim(SchemeName::UPTO, &signed, max - 1, "under another scheme"));
        }
    }
    if chance.percent(40) {
        let before = 400 + chance.below(1_200);
        let signed = Signed { payer: REVERTING, nonce: 0, max: 5, before, only: 0, order: false };
        claims.push(claim(SchemeName::EXACT, &signed, 5, "reverts"));
    }
    claims
}

/// When each claim is asked for, by whom and how often.
pub fn asks(chance: &mut Chance, claims: &[Claim]) -> Vec<Ask> {
    let mut asks = Vec::new();
    for claim in claims {
        let start = chance.below(300);
        for _ in 0..=chance.below(4) {
            let later = chance.below(2) * chance.below(300);
            asks.push(Ask { at: start + later, claim: claim.clone() });
        }
        let other = with_request(claim, "other");
        if chance.percent(20) {
            asks.push(Ask { at: start + chance.below(100), claim: other.clone() });
        }
        if claim.terms.scheme == SchemeName::UPTO && chance.percent(50) {
            let mut more = with_request(claim, "more");
            more.terms.amount = AtomicAmount::from(crate::mechanisms::signed(claim).max);
            asks.push(Ask { at: start + chance.below(40), claim: more });
        }
        if chance.percent(70) {
            let at = 300 + chance.below(CALM - 300);
            asks.push(Ask { at, claim: claim.clone() });
        }
        for at in [CALM + 1_000, END - 200] {
            asks.push(Ask { at, claim: claim.clone() });
            asks.push(Ask { at, claim: other.clone() });
        }
    }
    asks
}

fn with_request(claim: &Claim, request: &str) -> Claim {
    let identity = claim.identity.clone().with_request(request.to_owned());
    claim.clone().with_identity(identity)
}

/// Whether the caller named its request itself.
pub fn is_named(request: &str) -> bool {
    request.starts_with("key:")
}

/// Counts who waits, as long as it lives: a crash or a hang-up ends it.
struct Waits {
    world: World,
    who: (usize, PaymentKey, String),
}

impl Waits {
    fn new(process: &Process, key: &PaymentKey, claim: &Claim) -> Self {
        let who = (process.number, key.clone(), claim.identity.request.clone());
        process.world.with(|world| world.log.waiting.entry(who.clone()).or_default().0 += 1);
        Self { world: process.world.clone(), who }
    }

    /// Whether anybody else waited for the same here since then.
    fn others_since(&self, start: u64) -> bool {
        let (count, stopped) = self.world.with(|world| world.log.waiting.get(&self.who).copied().unwrap_or_default());
        count > 1 || stopped >= start
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.world.with(|world| {
            let now = world.now;
            if let Some(entry) = world.log.waiting.get_mut(&self.who) {
                *entry = (entry.0.saturating_sub(1), now.max(1));
            }
        });
    }
}

/// One request: settles, and looks again for a while.
pub async fn ask(process: Process, claim: Claim) {
    let Process { world, settlement, .. } = &process;
    let Ok(key) = settlement.key(&claim) else { return };
    let waits = Waits::new(&process, &key, &claim);
    let call = settlement.begin_request();
    let named = is_named(&claim.identity.request) || process.bug == Bug::AllNamed;
    let call = if named { call.named() } else { call };
    let start = world.now().0;
    let old = || world.with(|world| world.log.old.get(&process.number).copied());
    let before = old();
    let mut told = settlement.settle(&call, &claim, process.now()).await;
    for turn in 0.. {
        match &told {
            Err(Refusal::Rejection(rejection)) => {
                // An answer that comes late was true when the ledger was asked: another process may have claimed it since.
                let is_late = old() != before;
                if !is_late && row(&process, &key).await.is_some_and(|row| row.claim == claim && has_left(&row)) {
                    world.violation(format!("I5 {} refused ({rejection}) while it is on its way", name(&key)));
                }
                return;
            }
            Err(Refusal::Fault(fault @ Fault::Broken { .. })) => world.violation(format!("{}: {fault}", name(&key))),
            Err(Refusal::Fault(_)) => return,
            Ok(outcome) => {
                if matches!(outcome, Outcome::Duplicate { .. })
                    && row(&process, &key).await.is_some_and(|row| row.claim == claim)
                    && !waits.others_since(start)
                {
                    world.violation(format!("I4 {} turned its own request away", name(&key)));
                }
                let entry = (claim.identity.request.clone(), outcome.clone());
                world.with(|world| world.log.told.entry(key.clone()).or_default().push(entry));
                if outcome.is_final() {
                    return;
                }
            }
        }
        call.begin_waiting();
        // What is looked at is heard: nobody asks and turns away, and nobody leaves while a success is being stored for him.
        if turn >= 5 && call.end_waiting() {
            break;
        }
        let place = process.wakes.begin(&key);
        for _ in 0..3 {
            world.pause(5).await;
            if place.woken().is_some() {
                world.tally("woken");
                break;
            }
        }
        let known = taken(&process, &key).await;
        // Whatever woke it: it waits for its own payment.
        let moved = place.woken().filter(|_| process.bug == Bug::WokenByAnother);
        let looked = settlement.look(&call, moved.as_ref().unwrap_or(&key)).await;
        if !known.is_empty() && matches!(looked, Ok(Outcome::Pending { transaction: None, .. })) {
            world.violation(format!("I5 {} is pending without a hash", name(&key)));
        }
        // Whoever is told a hash can look for it: a node has said that it has it.
        for tx in taken(&process, &key).await {
            if !world.with(|world| world.taken.contains(&tx)) {
                world.violation(format!("I5 {} names {tx}, which no node took", name(&key)));
            }
        }
        told = looked.map_err(Refusal::from);
    }
    world.tally("answered pending");
}

fn has_left(row: &Payment) -> bool {
    row.steps.iter().any(|step| !step.carriers.is_empty())
}

/// The transactions that may be named for it, as the test sees them.
async fn taken(process: &Process, key: &PaymentKey) -> Vec<TxId> {
    let Some(row) = row(process, key).await else { return Vec::new() };
    let ids: Vec<SlotId> = row.steps.into_iter().flat_map(|step| step.carriers).collect();
    let slots = process.ledger.ledger.slots(&ids).await.unwrap_or_default();
    slots.into_iter().filter_map(|slot| slot.taken).collect()
}

/// The row, as the test sees it.
async fn row(process: &Process, key: &PaymentKey) -> Option<Payment> {
    process.ledger.ledger.read(key).await.unwrap_or_default()
}
