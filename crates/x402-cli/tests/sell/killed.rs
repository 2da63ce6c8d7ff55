//! SIGKILL at random moments: nothing that was paid is lost, and nothing is served twice. The chain's transfers and what the
//! upstream gave out are the judges.
//!
//! `KILLS=1000` kills more often (docs/proof.md).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::stage::{Stage, payment, request};
use crate::upstream::Upstream;

fn kills() -> usize {
    std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(50)
}

/// An answer of the shop, if one came.
async fn ask(url: &str, payment: &str) -> Option<(u16, String)> {
    let response = request(url, &[("payment-signature", payment)]).await.ok()?;
    let status = response.status().as_u16();
    Some((status, response.text().await.ok()?))
}

/// Asks until the ticket comes; a payment that has an id never loses it.
async fn ticket(url: &str, payment: &str) -> String {
    for _ in 0..600 {
        match ask(url, payment).await {
            Some((200, ticket)) => return ticket,
            Some((status, said)) => assert!(matches!(status, 409 | 503), "{status}: {said}"),
            None => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a payment without its ticket");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_it_loses_nothing_and_serves_nothing_twice() {
    let upstream = Upstream::start();
    // Its port changes with each start, its name does not.
    let mut stage = Stage::new("killed", &upstream.url, &["--origin", "https://shop.example"]).await;
    let mut random = 0x2026_1201_u64;
    let mut below = |most: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % most
    };
    let (mut tickets, mut first_answers) = (BTreeSet::new(), 0);
    for turn in 0..kills() {
        let id = format!("payment-identifier-{turn:08}");
        let paid = payment(&stage.url("/ticket"), Some(&id)).await;
        let url = stage.url("/ticket");
        let sent = paid.clone();
        let first = tokio::spawn(async move { ask(&url, &sent).await });
        tokio::time::sleep(Duration::from_micros(below(120_000))).await;
        stage.restart();
        let first = first.await.unwrap();
        let url = stage.url("/ticket");
        let mine = ticket(&url, &paid).await;
        if let Some((status, before)) = first {
            assert!(status == 200 && before == mine, "{status}: {before} and {mine}");
            first_answers += 1;
        }
        assert_eq!(ticket(&url, &paid).await, mine, "the same answer again");
        assert!(tickets.insert(mine), "one ticket for two payments");
        assert_eq!(stage.paid(), tickets.len(), "one transfer a payment");
    }
    println!("{} kills, {first_answers} of them after the answer; {} tickets given out", kills(), upstream.count());
}

/// Without an id nobody gets an answer again, so that a payment is served at most once, however often it is shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_without_an_id_is_served_at_most_once_over_restarts() {
    let upstream = Upstream::start();
    let mut stage = Stage::new("killed-unnamed", &upstream.url, &["--origin", "https://shop.example"]).await;
    let (mut served, mut delay) = (0, 0);
    for _ in 0..12 {
        let paid = payment(&stage.url("/ticket"), None).await;
        let (url, sent) = (stage.url("/ticket"), paid.clone());
        let first = tokio::spawn(async move { ask(&url, &sent).await });
        delay += 10;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        stage.restart();
        let mut tickets: Vec<String> = Vec::new();
        tickets.extend(first.await.unwrap().filter(|(status, _)| *status == 200).map(|(_, ticket)| ticket));
        for _ in 0..4 {
            let again = ask(&stage.url("/ticket"), &paid).await;
            tickets.extend(again.filter(|(status, _)| *status == 200).map(|(_, ticket)| ticket));
        }
        assert!(tickets.len() <= 1, "{tickets:?}");
        served += tickets.len();
    }
    assert!(served > 0 && served <= stage.paid());
}
