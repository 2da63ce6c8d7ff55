//! SIGKILL at each point between claim, store, send, mark, observe, confirm and answer, on a SQLite file and on a PostgreSQL
//! database with two and three processes: every payment reaches its true end, the ledger equals the chain's transfers, and
//! none is settled twice. And SIGKILL at random under load.
//!
//! The points are seen from outside: rows in the ledger, calls at the node, the answer. The processes are real ones. What
//! is so in the end is judged from the chain's own blocks and logs.
//!
//! `KILLS=50` kills so often at each point, and 20 times as often at random (docs/proof.md).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

#[path = "crash/judge.rs"]
mod judge;
#[path = "crash/scene.rs"]
mod scene;
#[path = "crash/store.rs"]
mod store;
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::judge::judge;
use crate::scene::{Point, Scene, settled};
use crate::support::{payment, post, tls};

/// Kills at each point, if nothing else is said.
const KILLS: usize = 8;

fn kills() -> usize {
    std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS)
}

/// Kills so often at each of these points.
async fn killed_at(points: &[Point], replicas: usize) {
    let (mut scene, mut told, began) = (Scene::new(replicas).await, BTreeMap::new(), Instant::now());
    let mut slowest = Duration::ZERO;
    for &point in points {
        for turn in 0..kills() {
            let (_, request) = payment(1 + turn % 4, scene.chain.time()).await;
            let body = serde_json::to_string(&request).unwrap();
            // A server of ours: it names its request, so that it may ask again however far it came.
            let name = format!("{point:?} {turn}");
            let (first, other) = scene.killed_at(point, turn, &body, &name).await;
            let restarted = Instant::now();
            let after = settled(|| scene.url(other), &body, &name).await;
            slowest = slowest.max(restarted.elapsed());
            if let Some((status, first)) = first {
                if first["success"] == true {
                    assert_eq!(first["transaction"], after["transaction"], "I4 {name}: the same receipt");
                } else {
                    let unknown = status == 503 || first["errorReason"] == "settlement_pending";
                    assert!(unknown, "I5 {name}: {status} {first}");
                }
            }
            let (_, stranger) = post(&scene.url(turn % replicas), &request).await.unwrap();
            assert_ne!(stranger["success"], true, "I2 {name}: {stranger}");
            assert_eq!(stranger["transaction"], after["transaction"], "I2 {name}");
            told.insert(name, after["transaction"].as_str().unwrap().to_owned());
            assert_eq!(scene.chain.transfers().len(), told.len(), "I1 {point:?} {turn}: one transfer a payment");
        }
    }
    judge(&scene.chain, &scene.store, &told).await;
    println!("{replicas}: {} kills in {:?}, the slowest known after {slowest:?}", told.len(), began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_point_it_settles_each_payment_once() {
    tls();
    killed_at(&Point::ALL, 1).await;
}

/// Each half of the points has its own chain and database: most of the time is spent waiting for a process to take a lane
/// over.
fn replicas_killed_at_every_point(replicas: usize) {
    tls();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let points: Vec<Point> = Point::ALL.into_iter().skip(half).step_by(2).collect();
            scope.spawn(move || tokio::runtime::Runtime::new().unwrap().block_on(killed_at(&points, replicas)));
        }
    });
}

#[test]
fn two_replicas_killed_at_every_point_settle_each_payment_once() {
    replicas_killed_at_every_point(2);
}

#[test]
fn three_replicas_killed_at_every_point_settle_each_payment_once() {
    replicas_killed_at_every_point(3);
}

/// The number of callers at once.
const CALLERS: usize = 6;

/// Kills processes at random moments while callers pay one payment after the other.
async fn killed_at_random(replicas: usize, kills: usize) {
    tls();
    let began = Instant::now();
    let mut scene = Scene::new(replicas).await;
    let urls = Arc::new(Mutex::new((0..replicas).map(|process| scene.url(process)).collect::<Vec<_>>()));
    let (over, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::new())));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (urls, over, told) = (Arc::clone(&urls), Arc::clone(&over), Arc::clone(&told));
            let chain = scene.chain.clone();
            tokio::spawn(async move {
                for turn in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let (_, request) = payment(1 + caller % 4, chain.time()).await;
                    let (body, name) = (serde_json::to_string(&request).unwrap(), format!("{caller} {turn}"));
                    // Whoever gets no answer asks another one.
                    let next = Mutex::new(caller + turn);
                    let url = || {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        urls.lock().unwrap()[*next % replicas].clone()
                    };
                    let answer = settled(url, &body, &name).await;
                    told.lock().unwrap().insert(name, answer["transaction"].as_str().unwrap().to_owned());
                }
            })
        })
        .collect();
    let mut random = 0x2026_1130_u64;
    let mut below = |most: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % most
    };
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_micros(below(400_000))).await;
        let victim = usize::try_from(below(10)).unwrap() % replicas;
        scene.kill(victim).await;
        urls.lock().unwrap()[victim] = scene.url(victim);
    }
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let told = told.lock().unwrap().clone();
    judge(&scene.chain, &scene.store, &told).await;
    println!("{replicas}: {kills} kills at random, {} payments, in {:?}", told.len(), began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_under_load_it_settles_each_payment_once() {
    killed_at_random(1, 2 * kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_killed_at_random_under_load_settle_each_payment_once() {
    killed_at_random(3, if kills() > KILLS { 20 * kills() } else { 2 * kills() }).await;
}
