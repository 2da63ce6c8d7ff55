//! What must be so when a run has ended, judged from the chain's own logs.

use alloy_primitives::{Address, B256, U256, hex};
use alloy_provider::Provider;
use alloy_rpc_types_eth::{Filter, TransactionRequest};
use x402_devchain::{ACCOUNTS, TOKEN};
use x402_evm::chain::TRANSFER;
use x402_evm::permit2::{PERMIT2, nonce_bitmap_call};
use x402_facilitator_core::{MemoryLedger, Outcome, Payment, StepState};
use x402_types::ErrorReason;

use crate::payments::{PAYEE, Pay, SPECIAL, settle_call};
use crate::world::{Told, World};

/// A transfer to the payee in a final block.
struct Transfer {
    transaction: B256,
    token: Address,
    from: Address,
    value: U256,
}

async fn transfers(world: &World) -> Vec<Transfer> {
    let filter = Filter::new()
        .address(vec![TOKEN, SPECIAL])
        .event_signature(TRANSFER)
        .topic2(ACCOUNTS[PAYEE].address.into_word())
        .from_block(0)
        .to_block(world.chain.final_block_number());
    let logs = world.chain.provider().get_logs(&filter).await.unwrap();
    let transfer = |log: alloy_rpc_types_eth::Log| Transfer {
        transaction: log.transaction_hash.unwrap(),
        token: log.address(),
        from: Address::from_word(log.topics()[1]),
        value: U256::from_be_slice(&log.data().data),
    };
    logs.into_iter().map(transfer).collect()
}

async fn is_used(world: &World, pay: &Pay) -> bool {
    let nonce = pay.permit.nonce;
    let call = nonce_bitmap_call(pay.permit.from, nonce >> 8);
    let call = TransactionRequest::default().to(PERMIT2).input(call.into());
    let word = U256::from_be_slice(&world.chain.provider().call(call).await.unwrap());
    word.bit((nonce & U256::from(255)).to())
}

pub async fn check(world: &World, ledger: &MemoryLedger, pays: &[Pay]) {
    let transfers = transfers(world).await;
    let rows = ledger.all_payments();
    let outsiders = world.with(|inner| inner.outsiders.clone());
    for (number, pay) in pays.iter().enumerate() {
        let rows: Vec<&Payment> =
            rows.iter().filter(|row| settle_call(&row.claim).authorization == pay.permit).collect();
        let amount = pay.claim.terms.amount.value();
        let hits: Vec<&Transfer> = transfers
            .iter()
            .filter(|it| (it.token, it.from, it.value) == (pay.permit.token, pay.permit.from, amount))
            .collect();
        let odd = pay.permit.token == SPECIAL && is_used(world, pay).await;
        settled_once(world, number, &rows, &hits);
        for row in &rows {
            ended_truly(world, number, row, &hits, odd);
        }
        if pay.is_above() && (!rows.is_empty() || !hits.is_empty()) {
            world.violation(format!("maximum of payment {number} was exceeded by a claim, and it was kept"));
        }
        // Every transfer is told, or somebody else's.
        for hit in &hits {
            let told = |row: &&&Payment| {
                let spent = row.spent_by.as_ref().map(|tx| tx.as_str().to_owned());
                let paid = row.answer.as_ref().and_then(|answer| answer.as_ref().ok()?.transaction.clone());
                let ours = hex::encode_prefixed(hit.transaction);
                spent.as_deref() == Some(&ours) || paid.is_some_and(|tx| tx.as_str() == ours)
            };
            if rows.iter().find(told).is_none() && !outsiders.contains(&hit.transaction) {
                world
                    .violation(format!("I16 payment {number} moved money by {}, and nobody was told", hit.transaction));
            }
        }
        told_truly(world, number, pay, &rows);
    }
    let known = |hit: &&Transfer| {
        pays.iter().any(|pay| {
            let amount = pay.claim.terms.amount.value();
            let part = pay.permit.token == SPECIAL && hit.value < amount;
            (hit.token, hit.from) == (pay.permit.token, pay.permit.from) && (hit.value == amount || part)
        })
    };
    for hit in transfers.iter().filter(|hit| !known(hit) && hit.from != Address::ZERO) {
        world.violation(format!("I16 {} of {} moved for no payment", hit.value, hit.from));
    }
    for slot in ledger.all_slots().iter().filter(|slot| !slot.used) {
        world.violation(format!("I7 slot {} of {} is open", slot.id.nonce, slot.id.lane));
    }
}

/// One permit moves money once, and pays one payment.
fn settled_once(world: &World, number: usize, rows: &[&Payment], hits: &[&Transfer]) {
    let paid = rows.iter().filter(|row| matches!(&row.answer, Some(Ok(receipt)) if receipt.transaction.is_some()));
    let paid = paid.count();
    if paid > 1 {
        world.violation(format!("I1 {paid} payments were settled by the one permit of payment {number}"));
    }
    if hits.len() > 1 {
        world.violation(format!("I1 the permit of payment {number} moved money {} times", hits.len()));
    }
}

fn ended_truly(world: &World, number: usize, row: &Payment, hits: &[&Transfer], odd: bool) {
    let shown = |transaction: &str| hits.len() == 1 && hex::encode_prefixed(hits[0].transaction) == transaction;
    match &row.answer {
        // What such a token made of it is no payment, and no failure.
        None if odd => world.tally("unknown"),
        None => {
            let step = row.steps.last().map(|step| (step.name.as_str(), step.state.clone()));
            world.violation(format!("I7 payment {number} never ended: {step:?}"));
        }
        Some(Err(reason)) => {
            world.tally("failed");
            let spent = row.spent_by.as_ref().is_some_and(|by| shown(by.as_str()));
            if !hits.is_empty() && !spent {
                world.violation(format!("I5 payment {number} failed ({reason}), but it was made"));
            }
        }
        Some(Ok(receipt)) => match &receipt.transaction {
            Some(transaction) => {
                world.tally("settled");
                if !shown(transaction.as_str()) {
                    let found = hits.iter().map(|hit| hit.transaction).collect::<Vec<_>>();
                    world.violation(format!(
                        "I6 payment {number} has a receipt for {transaction}, the chain has {found:?}"
                    ));
                }
            }
            None => {
                world.tally("settled for nothing");
                if !row.claim.terms.amount.is_zero() {
                    world.violation(format!("I6 payment {number} is told as made without a transaction"));
                }
            }
        },
    }
    for step in &row.steps {
        if matches!(step.state, StepState::Dead(_)) {
            world.tally("step dead");
        }
    }
}

/// Success for one request, told as new once; and nobody gets more than was permitted.
fn told_truly(world: &World, number: usize, pay: &Pay, rows: &[&Payment]) {
    let told = world.with(|inner| inner.told.clone());
    let mut fresh = 0;
    for (_, request, told) in told.iter().filter(|(of, ..)| *of == number) {
        match told {
            Told::Refused(reason) => {
                world.tally("refused");
                if pay.is_above() && *reason != ErrorReason::UPTO_EXCEEDS_AMOUNT && !is_late(reason) {
                    world.tally("refused for another reason than the maximum");
                }
            }
            Told::Outcome(_) if pay.is_above() => {
                world.violation(format!("maximum of payment {number} was exceeded, and {request} was told {told:?}"));
            }
            Told::Outcome(Outcome::Settled { replayed, .. }) => {
                fresh += u32::from(!replayed);
                world.tally(if *replayed { "told again" } else { "told as new" });
                if !rows.iter().any(|row| row.identity().request == *request) {
                    world.violation(format!("I2 payment {number} was granted to {request}"));
                }
            }
            Told::Outcome(Outcome::Failed { reason, .. }) => {
                let paid = rows.iter().any(|row| {
                    row.identity().request == *request && row.reopened == 0 && matches!(row.answer, Some(Ok(_)))
                });
                if paid {
                    world.violation(format!("I5 payment {number} was told as failed ({reason}), and was made"));
                }
            }
            Told::Outcome(_) => {}
        }
    }
    if fresh > 1 {
        world.violation(format!("I2 the permit of payment {number} was told as new {fresh} times"));
    }
}

fn is_late(reason: &ErrorReason) -> bool {
    *reason == ErrorReason::PERMIT2_DEADLINE_EXPIRED
}
