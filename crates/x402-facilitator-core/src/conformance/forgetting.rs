//! The cost of forgetting, measured by the ledger's own steps.

use std::sync::Arc;

use x402_types::{AuthorizationKind, ChainId, Fault, PaymentKey, UnixSeconds};

use super::samples::{NETWORK, lane, owner, payment, proven, receipt, slot, step};
use super::{Broken, Subject, Violation, ensure, same};
use crate::{Ledger, Next, OnceKey, Payment, Slot, Step, Write};

/// The number of payments that may be forgotten.
const OVER: u32 = 10_000;
/// The number of payments in the small ledger and in the large one.
const KEPT: [u32; 2] = [20_000, 200_000];
/// The number of payments that are forgotten at once.
const AT_ONCE: usize = 1_000;

/// Checks that forgetting a row costs the same however many rows are kept: forgetting 10,000 of 200,000 payments takes
/// about as many steps as 10,000 of 20,000. `steps` counts those that the newest ledger of the subject has made, in any
/// unit except time: for example a database's virtual machine instructions.
/// # Errors
/// The rule is violated.
pub async fn forgets_by_the_row(subject: &dyn Subject, steps: &(dyn Fn() -> u64 + Sync)) -> Result<(), Violation> {
    let rule = "forgetting costs the same per row however many are kept";
    forgets(subject, steps).await.map_err(|Broken(what)| Violation { rule, what })
}

async fn forgets(subject: &dyn Subject, steps: &(dyn Fn() -> u64 + Sync)) -> Result<(), Broken> {
    let mut taken = Vec::new();
    for kept in KEPT {
        let ledger = subject.empty().await;
        let (payments, slots) = (0..kept).map(over_or_kept).unzip();
        subject.fill(&ledger, payments, slots).await?;
        let before = steps();
        for _ in 0..OVER / 1_000 {
            same(&ledger.forget(UnixSeconds(101), AT_ONCE).await?, &AT_ONCE, "what was forgotten at once")?;
        }
        taken.push(steps().saturating_sub(before));
        same(&ledger.forget(UnixSeconds(101), AT_ONCE).await?, &0, "what was left")?;
        ensure(ledger.read(&key(0)).await?.is_none(), "a payment that is over")?;
        ensure(ledger.read(&key(OVER)).await?.is_some(), "a payment that is kept")?;
    }
    let (&[small, large], rows) = (taken.as_slice(), u64::from(OVER)) else { return Ok(()) };
    ensure(small >= rows, &format!("{small} steps for {rows} rows: nothing is counted"))?;
    ensure(
        large <= small.saturating_add(small / 4),
        &format!("{small} steps in a small ledger, {large} in a large one"),
    )
}

/// Returns an answered payment with a proven step, its once key and a used slot.
fn over_or_kept(number: u32) -> (Payment, Slot) {
    let carrier = Slot { used: true, ..slot(&lane("a"), number.into(), &[]) };
    let carrier = Slot { payments: vec![key(number)], ..carrier };
    let carried = Step {
        once_key: OnceKey(number.to_be_bytes().to_vec()),
        carriers: vec![carrier.id.clone()],
        ..step(1, proven(1))
    };
    let payment = Payment {
        key: key(number),
        steps: vec![carried],
        answer: Some(Ok(receipt(1))),
        keep_until: UnixSeconds(if number < OVER { 100 } else { 10_000 }),
        ..payment(1)
    };
    (payment, carrier)
}

fn key(number: u32) -> PaymentKey {
    let nonce: Vec<u8> = number.to_be_bytes().repeat(8);
    PaymentKey::new(AuthorizationKind::Eip3009, ChainId::eip155(NETWORK), &[1; 20], &[2; 20], &nonce)
}

/// Stores rows as a worker does.
pub(super) async fn fill(ledger: &Arc<dyn Ledger>, payments: Vec<Payment>, slots: Vec<Slot>) -> Result<(), Fault> {
    let lease = ledger.lease(&lane("a"), &owner("one"), 1_000_000).await?;
    let lease = lease.ok_or_else(|| Fault::store("a free lane was not leased"))?;
    let mut claimed = Vec::new();
    for payment in payments {
        let row = ledger.claim(Payment { steps: Vec::new(), answer: None, ..payment.clone() }).await?;
        claimed.push(Payment { version: row.version, ..payment });
    }
    let to = slots.iter().map(|slot| slot.id.nonce.saturating_add(1)).max();
    let next = to.map(|to| Next { from: 0, to });
    ledger.commit(Write { lease: Some(lease), next, payments: claimed, slots }).await.map_err(Fault::store)
}
