//! Budgets on SQLite and on PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/mod.rs"]
mod support;

use futures_util::future::join_all;
use x402_store::budgets::{BudgetCharge, BudgetLine, Budgets, Measure, NoRoom};
use x402_store::postgres::PostgresBudgets;
use x402_store::sqlite::{Database, SqliteBudgets};
use x402_types::{AtomicAmount, PaymentKey};

const ALL: &str = "eip155:1 0xab network";
const GAS: &str = "eip155:1 gas payer";

fn amount(text: &str) -> AtomicAmount {
    text.parse().unwrap()
}

fn line(rule: &str, of: &str, measure: Measure, part: &str, most: &str) -> BudgetLine {
    BudgetLine { rule: rule.to_owned(), of: of.to_owned(), measure, amount: amount(part), most: amount(most) }
}

fn charge(payment: u8, day: u64, lines: &[BudgetLine]) -> BudgetCharge {
    BudgetCharge { payment: PaymentKey::from_bytes(&[payment]), day, lines: lines.to_vec() }
}

async fn counts_each_payment_once_and_all_lines_or_none(store: &dyn Budgets) {
    let money = |part: &str| line(ALL, "", Measure::Money, part, "100");
    let gas = |part: &str| line(GAS, "0xpayer", Measure::Gas, part, "10");
    assert_eq!(store.count(charge(1, 7, &[money("60"), gas("4")])).await, Ok(Ok(())));
    // The same payment again, whatever it would be counted with now.
    assert_eq!(store.count(charge(1, 7, &[money("60"), gas("4")])).await, Ok(Ok(())));
    assert_eq!(store.count(charge(1, 8, &[money("99"), gas("9")])).await, Ok(Ok(())));
    assert_eq!(store.used(7, ALL, "").await, Ok(amount("60")));
    assert_eq!(store.used(8, ALL, "").await, Ok(AtomicAmount::ZERO));
    // The second line has no room, so that the first is not counted either.
    let over = |rule: &str, left: &str| Ok(Err(NoRoom { rule: rule.to_owned(), left: amount(left) }));
    assert_eq!(store.count(charge(2, 7, &[money("40"), gas("7")])).await, over(GAS, "6"));
    assert_eq!(store.count(charge(2, 7, &[money("41")])).await, over(ALL, "40"));
    assert_eq!(store.used(7, ALL, "").await, Ok(amount("60")));
    // Exactly what is left, and nothing more: also not of a line that does not exist yet.
    assert_eq!(store.count(charge(2, 7, &[money("40"), gas("6")])).await, Ok(Ok(())));
    assert_eq!(store.count(charge(3, 7, &[money("1")])).await, over(ALL, "0"));
    assert_eq!(store.count(charge(3, 7, &[line(GAS, "0xnew", Measure::Gas, "11", "10")])).await, over(GAS, "10"));

    // A correction is of one measure, and of the payment that was counted.
    store.correct(&PaymentKey::from_bytes(&[2]), Measure::Gas, amount("1")).await.unwrap();
    store.correct(&PaymentKey::from_bytes(&[9]), Measure::Gas, amount("5")).await.unwrap();
    assert_eq!(store.used(7, GAS, "0xpayer").await, Ok(amount("5")));
    assert_eq!(store.used(7, ALL, "").await, Ok(amount("100")));
    for _ in 0..2 {
        store.correct(&PaymentKey::from_bytes(&[1]), Measure::Money, AtomicAmount::ZERO).await.unwrap();
        assert_eq!(store.used(7, ALL, "").await, Ok(amount("40")), "a correction may be repeated");
    }
    // A real cost may be above what was reserved, and above the budget.
    store.correct(&PaymentKey::from_bytes(&[2]), Measure::Gas, amount("50")).await.unwrap();
    assert_eq!(store.count(charge(4, 7, &[gas("1")])).await, over(GAS, "0"));
}

async fn has_all_of_256_bits_and_lists_the_greatest(store: &dyn Budgets) {
    const MOST: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    let rule = "eip155:1 0xcd payer";
    for (payment, of, part) in [(50, "a", "9"), (51, "b", "10"), (52, "c", MOST), (53, "d", "100")] {
        let lines = [line(rule, of, Measure::Money, part, MOST)];
        assert_eq!(store.count(charge(payment, 7, &lines)).await, Ok(Ok(())), "{of}");
    }
    let lines = [line(rule, "c", Measure::Money, "1", MOST)];
    let over = NoRoom { rule: rule.to_owned(), left: AtomicAmount::ZERO };
    assert_eq!(store.count(charge(54, 7, &lines)).await, Ok(Err(over)));
    let greatest = store.greatest(7, rule, 3).await.unwrap();
    let expected = [("c", MOST), ("d", "100"), ("b", "10")];
    assert_eq!(greatest, expected.map(|(of, used)| (of.to_owned(), amount(used))));
}

async fn forgets_what_is_older_than_a_day(store: &dyn Budgets) {
    let rule = "eip155:1 0xef network";
    let lines = [line(rule, "", Measure::Money, "1", "2")];
    store.count(charge(60, 20, &lines)).await.unwrap().unwrap();
    store.count(charge(61, 21, &lines)).await.unwrap().unwrap();
    assert_eq!(store.used(20, rule, "").await, Ok(amount("1")), "yesterday's payments may still be corrected");
    store.count(charge(62, 22, &lines)).await.unwrap().unwrap();
    assert_eq!(store.used(20, rule, "").await, Ok(AtomicAmount::ZERO));
    // A payment of a forgotten day is counted as a new one, and its correction no longer changes that day.
    store.correct(&PaymentKey::from_bytes(&[60]), Measure::Money, amount("7")).await.unwrap();
    assert_eq!(store.used(20, rule, "").await, Ok(AtomicAmount::ZERO));
    assert_eq!(store.used(22, rule, "").await, Ok(amount("1")));
}

async fn all(store: &dyn Budgets) {
    counts_each_payment_once_and_all_lines_or_none(store).await;
    has_all_of_256_bits_and_lists_the_greatest(store).await;
    forgets_what_is_older_than_a_day(store).await;
}

#[tokio::test]
async fn in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let database = Database::open(file.path()).unwrap();
    all(&SqliteBudgets::new(database.clone())).await;
    drop(database);
    let again = SqliteBudgets::new(Database::open(file.path()).unwrap());
    assert_eq!(again.used(22, "eip155:1 0xef network", "").await, Ok(amount("1")));
}

#[tokio::test]
async fn in_a_database() {
    let url = support::empty_database().await;
    all(&PostgresBudgets::new(support::open(&url).await)).await;
    let again = PostgresBudgets::new(support::open(&url).await);
    assert_eq!(again.used(22, "eip155:1 0xef network", "").await, Ok(amount("1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_one_budget_and_count_a_payment_that_both_have_once() {
    let url = support::empty_database().await;
    let stores = [PostgresBudgets::new(support::open(&url).await), PostgresBudgets::new(support::open(&url).await)];
    // Two lines, which the processes name in different orders.
    let lines = [line(ALL, "", Measure::Money, "1", "20"), line(GAS, "0xpayer", Measure::Gas, "2", "1000")];
    let reversed = [lines[1].clone(), lines[0].clone()];
    let counted = (0..60_u8).map(|n| {
        let (store, lines) = if n % 2 == 0 { (&stores[0], &lines) } else { (&stores[1], &reversed) };
        // Each payment comes to both.
        store.count(charge(n / 2, 7, lines))
    });
    let counted = join_all(counted).await;
    let refused = counted.iter().filter(|result| matches!(result, Ok(Err(over)) if over.rule == ALL)).count();
    let taken = counted.iter().filter(|result| matches!(result, Ok(Ok(())))).count();
    assert_eq!((taken, refused), (40, 20), "{counted:?}");
    assert_eq!(stores[0].used(7, ALL, "").await, Ok(amount("20")));
    assert_eq!(stores[1].used(7, GAS, "0xpayer").await, Ok(amount("40")));
}
