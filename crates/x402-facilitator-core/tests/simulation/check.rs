//! What must be so when a run has ended.

use std::collections::BTreeMap;

use x402_facilitator_core::{Attempt, Ledger, MAX_PARCELS, MemoryLedger, Outcome, Payment, StepState};
use x402_types::{AtomicAmount, AuthorizationKind, Claim, SchemeName};

use crate::chain::{Done, Effect, State, of};
use crate::client::is_named;
use crate::mechanisms::{ORDER, Signed, key_of, purchase, signed};
use crate::rails::{lane, transaction};
use crate::world::{ACCOUNTS, Inner, name};

/// Adds what is not so to the violations, and what happened to the tally.
pub fn check(world: &mut Inner, ledger: &MemoryLedger, claims: &[Claim], next: &[u64]) {
    let truth = world.truth();
    let rows = ledger.all_payments();
    let mut bad = Vec::new();
    for row in &rows {
        ended_truly(row, &truth, &mut bad);
    }
    for claim in claims {
        happened_once(claim, &rows, &truth, &mut bad);
    }
    for (number, next) in (0..ACCOUNTS).zip(next) {
        let head = of(&world.head().nonces, &number);
        let open = ledger.all_slots().iter().any(|slot| slot.id.lane == lane(number) && !slot.used);
        if head < *next || open {
            bad.push(format!("I7 lane {number} is stuck at {head}, next {next}"));
        }
    }
    for row in &rows {
        cost_little(row, ledger, &truth, &mut bad);
        traveled_alone(row, ledger, &mut bad);
    }
    told_truly(world, &rows, &mut bad);
    world.violations.append(&mut bad);
    world.violations.sort();
    world.violations.dedup();
    count(world, ledger, &rows);
}

/// The effects on the final chain that a row is about.
fn effects(row: &Payment, truth: &State) -> Vec<Done> {
    let Signed { payer, nonce, .. } = signed(&row.claim);
    let effect = if row.claim.terms.scheme == SchemeName::NVM_ERC4337 {
        Effect::Redeemed(purchase(&row.key))
    } else {
        Effect::Pulled { payer, nonce }
    };
    truth.effects.iter().filter(|(found, _)| *found == effect).map(|(_, done)| *done).collect()
}

/// "At most 3 transactions a payment": of each of its steps, in final blocks.
fn cost_little(row: &Payment, ledger: &MemoryLedger, truth: &State, bad: &mut Vec<String>) {
    let slots = ledger.all_slots();
    for step in &row.steps {
        let landed = slots.iter().filter(|slot| {
            let by = |attempt: &Attempt| truth.landed.iter().any(|hash| transaction(*hash) == attempt.tx);
            step.carriers.contains(&slot.id) && slot.attempts.iter().any(by)
        });
        let landed = landed.count();
        if landed > MAX_PARCELS {
            bad.push(format!("I7 {} cost {landed} transactions for one step", name(&row.key)));
        }
    }
}

/// What failed to land once is sent alone: it may be what makes the others revert.
fn traveled_alone(row: &Payment, ledger: &MemoryLedger, bad: &mut Vec<String>) {
    let slots = ledger.all_slots();
    for again in row.steps.iter().flat_map(|step| step.carriers.iter().skip(1)) {
        if slots.iter().any(|slot| slot.id == *again && slot.payments.len() > 1) {
            bad.push(format!("I7 {} failed once and shared a transaction again", name(&row.key)));
        }
    }
}

fn ended_truly(row: &Payment, truth: &State, bad: &mut Vec<String>) {
    let key = name(&row.key);
    let effects = effects(row, truth);
    match &row.answer {
        None => bad.push(format!("I7 {key} never ended: {:?}", row.steps.last().map(|step| (&step.name, &step.state)))),
        Some(Err(reason)) => {
            if !effects.is_empty() {
                bad.push(format!("I5 {key} failed ({reason}), but it happened"));
            }
        }
        Some(Ok(receipt)) => {
            let proven = match effects.as_slice() {
                [] => receipt.transaction.is_none() && receipt.amount == Some(AtomicAmount::ZERO),
                [done] => {
                    receipt.transaction == Some(transaction(done.tx)) && receipt.amount == Some(done.amount.into())
                }
                _ => false,
            };
            if !proven {
                bad.push(format!("I6 {key} has a receipt for {:?}, the chain has {effects:?}", receipt.transaction));
            }
        }
    }
    let orders = truth.effects.iter().filter(|(effect, _)| *effect == Effect::Ordered(purchase(&row.key))).count();
    if orders > 1 {
        bad.push(format!("I8 {key} ordered {orders} times"));
    }
    if (orders == 1) != row.proven(&ORDER).is_some() {
        bad.push(format!("I8 {key} ordered {orders} times, and its row says otherwise"));
    }
}

/// One authorization moves money once, for one payment, whatever it is offered as.
fn happened_once(claim: &Claim, rows: &[Payment], truth: &State, bad: &mut Vec<String>) {
    let signed = signed(claim);
    let same = |row: &&Payment| {
        let of_row = crate::mechanisms::signed(&row.claim);
        (of_row.payer, of_row.nonce) == (signed.payer, signed.nonce)
    };
    let settled: Vec<_> = rows
        .iter()
        .filter(same)
        .filter(|row| matches!(&row.answer, Some(Ok(receipt)) if receipt.transaction.is_some()))
        .collect();
    let who = format!("{}/{}", signed.payer, signed.nonce);
    if settled.len() > 1 {
        bad.push(format!("I1 {} payments were settled by the authorization {who}", settled.len()));
    }
    let pulled = Effect::Pulled { payer: signed.payer, nonce: signed.nonce };
    let redeemed = Effect::Redeemed(purchase(&key_of(AuthorizationKind::NvmErc4337, &signed)));
    let times = truth.effects.iter().filter(|(effect, _)| *effect == pulled || *effect == redeemed).count();
    if times > 1 {
        bad.push(format!("I1 {who} was settled {times} times"));
    }
    if times > 0 && rows.iter().find(same).is_none() {
        bad.push(format!("I3 {who} was settled without a row"));
    }
}

/// Success for one request only, told as new once, and always the same.
fn told_truly(world: &Inner, rows: &[Payment], bad: &mut Vec<String>) {
    let rows: BTreeMap<_, _> = rows.iter().map(|row| (&row.key, row)).collect();
    for (key, told) in &world.log.told {
        let Some(row) = rows.get(key) else {
            bad.push(format!("I3 {} was answered and has no row", name(key)));
            continue;
        };
        let key = name(key);
        let (mut fresh, mut unnamed, mut spent) = (0, 0, false);
        for (request, outcome) in told {
            match outcome {
                Outcome::Settled { receipt, replayed } => {
                    fresh += u32::from(!replayed);
                    unnamed += u32::from(!is_named(request));
                    if *request != row.identity().request {
                        bad.push(format!("I2 {key} was granted to {request}"));
                    }
                    if row.answer != Some(Ok(receipt.clone())) {
                        bad.push(format!("I4 {key} was answered with different receipts"));
                    }
                }
                Outcome::Spent { transaction, .. } => {
                    spent |= *request == row.identity().request;
                    if is_named(request) {
                        bad.push(format!("I4 {key} was kept from {request}, which has a name"));
                    }
                    if !matches!(&row.answer, Some(Ok(receipt)) if receipt.transaction == *transaction) {
                        bad.push(format!("I4 {key} was told as spent by {transaction:?}"));
                    }
                }
                Outcome::Failed { .. } if *request != row.identity().request => {
                    bad.push(format!("I2 {key} was answered to {request}"));
                }
                Outcome::Failed { .. } if matches!(row.answer, Some(Ok(_))) && row.reopened == 0 => {
                    bad.push(format!("I5 {key} was told as failed, and settled"));
                }
                Outcome::Failed { .. } | Outcome::Pending { .. } | Outcome::Duplicate { .. } => {}
            }
        }
        if fresh > 1 {
            bad.push(format!("I2 {key} was told as new {fresh} times"));
        }
        if unnamed > 1 {
            bad.push(format!("I2 {key} was told {unnamed} times to callers without a name"));
        }
        // Only what strikes between the write and the caller can lose a success.
        let struck = ["crash", "future dropped", "answer lost", "took effect late"]
            .iter()
            .any(|what| world.tally.contains_key(what));
        if spent && fresh == 0 && !struck {
            bad.push(format!("I4 {key} was told to nobody"));
        }
    }
}

fn count(world: &mut Inner, ledger: &MemoryLedger, rows: &[Payment]) {
    for row in rows {
        world.tally(match &row.answer {
            Some(Ok(_)) if row.proven(&ORDER).is_some() => "settled with an order",
            Some(Ok(_)) => "settled",
            Some(Err(_)) => "failed",
            None => "open",
        });
        for step in &row.steps {
            if step.parcels.len() > 1 {
                world.tally("step rebuilt");
            }
            if step.parcels.len() == MAX_PARCELS {
                world.tally("step out of parcels");
            }
            if matches!(step.state, StepState::Dead(_)) {
                world.tally("step dead");
            }
        }
        if row.reopened > 0 {
            world.tally("reopened");
        }
    }
    for slot in ledger.all_slots() {
        if slot.attempts.len() > 1 {
            world.tally("fee raised");
        }
        match slot.payments.len() {
            0 => world.tally("empty transaction"),
            1 => {}
            _ => world.tally("shared transaction"),
        }
    }
    let told: Vec<Outcome> = world.log.told.values().flatten().map(|(_, outcome)| outcome.clone()).collect();
    for outcome in told {
        match outcome {
            Outcome::Settled { replayed: true, .. } => world.tally("told again"),
            Outcome::Settled { .. } => world.tally("told as new"),
            Outcome::Spent { .. } => world.tally("told spent"),
            Outcome::Duplicate { .. } => world.tally("told duplicate"),
            Outcome::Failed { .. } => world.tally("told failed"),
            Outcome::Pending { .. } => {}
        }
    }
}

/// The lanes' next nonces.
pub async fn next_nonces(ledger: &MemoryLedger) -> Vec<u64> {
    let mut next = Vec::new();
    for number in 0..ACCOUNTS {
        next.push(ledger.lane(&lane(number), 0).await.unwrap().next);
    }
    next
}
