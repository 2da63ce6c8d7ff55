//! Grants on SQLite and PostgreSQL do what grants in memory do, and outlive the process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;

use x402_http::server::{Claimed, GrantLock, GrantState, Grants, MemoryGrants, Standing};
use x402_store::postgres::PostgresGrants;
use x402_store::sqlite::{Database, SqliteGrants};
use x402_types::{AuthorizationKind, ChainId, PaymentKey};

fn key(nonce: u8) -> PaymentKey {
    PaymentKey::new(AuthorizationKind::Eip3009, ChainId::eip155(84532), &[1; 20], &[2; 20], &[nonce; 32])
}

fn on_disk(path: &Path) -> SqliteGrants {
    SqliteGrants::new(Database::open(path).unwrap())
}

type Named = (&'static str, Arc<dyn Grants>);

async fn in_database(url: &str) -> PostgresGrants {
    PostgresGrants::start(support::open(url).await).await.unwrap()
}

/// All stores, and the directory of the one on disk.
async fn stores() -> (tempfile::TempDir, Vec<Named>) {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = on_disk(&directory.path().join("grants.sqlite"));
    let postgres = in_database(&support::empty_database().await).await;
    let memory: Named = ("memory", Arc::new(MemoryGrants::default()));
    (directory, vec![memory, ("sqlite", Arc::new(sqlite)), ("postgres", Arc::new(postgres))])
}

/// One operation on the key, by its letter's lock where it needs one, and what comes of it.
#[derive(Debug)]
enum Do {
    /// Claims for a request: `Open` keeps the lock under that letter.
    Open(char, &'static str),
    /// The same, of a key that is pending for the request.
    TakeUp(char, &'static str),
    Taken(&'static str),
    Pend(char),
    Grant(char),
    Free(char),
    Release(char),
    /// None of the three writes is this lock's to make any more.
    Lost(char),
    Look(Option<(GrantState, &'static str, bool)>),
}

#[tokio::test]
async fn all_stores_follow_one_table() {
    use Do::{Free, Grant, Look, Lost, Open, Pend, Release, TakeUp, Taken};
    use GrantState::{Granted, Open as IsOpen, Pending};
    let table: &[(&str, &[Do])] = &[
        ("a free key", &[Look(None), Open('a', "r"), Look(Some((IsOpen, "r", true)))]),
        ("held by one", &[Open('a', "r"), Taken("r"), Taken("other"), Look(Some((IsOpen, "r", true)))]),
        ("let go while open, it is free", &[Open('a', "r"), Release('a'), Look(None), Lost('a'), Open('b', "other")]),
        (
            "letting go twice lets go of nobody else's",
            &[
                Open('a', "r"),
                Release('a'),
                Open('b', "other"),
                Release('a'),
                Look(Some((IsOpen, "other", true))),
                Lost('a'),
                Look(Some((IsOpen, "other", true))),
            ],
        ),
        ("freed while open", &[Open('a', "r"), Free('a'), Look(None), Lost('a'), Open('b', "other")]),
        (
            "pending and held",
            &[
                Open('a', "r"),
                Pend('a'),
                Look(Some((Pending, "r", true))),
                Taken("r"),
                Taken("other"),
                Pend('a'),
                Look(Some((Pending, "r", true))),
            ],
        ),
        (
            "pending and let go, the same request alone takes it up",
            &[
                Open('a', "r"),
                Pend('a'),
                Release('a'),
                Look(Some((Pending, "r", false))),
                Taken("other"),
                Lost('a'),
                TakeUp('b', "r"),
                Look(Some((Pending, "r", true))),
                Taken("r"),
                Lost('a'),
                Release('a'),
                Look(Some((Pending, "r", true))),
                Pend('b'),
                Grant('b'),
                Look(Some((Granted, "r", false))),
            ],
        ),
        ("pending and freed", &[Open('a', "r"), Pend('a'), Free('a'), Look(None), Lost('a'), Open('b', "other")]),
        (
            "taken up and freed",
            &[Open('a', "r"), Pend('a'), Release('a'), TakeUp('b', "r"), Free('b'), Look(None), Open('c', "other")],
        ),
        (
            "granted, never again",
            &[
                Open('a', "r"),
                Pend('a'),
                Grant('a'),
                Look(Some((Granted, "r", false))),
                Taken("r"),
                Taken("other"),
                Lost('a'),
                Release('a'),
                Look(Some((Granted, "r", false))),
            ],
        ),
        ("granted at once", &[Open('a', "r"), Grant('a'), Look(Some((Granted, "r", false))), Taken("r"), Lost('a')]),
    ];
    let (_directory, stores) = stores().await;
    for (store, grants) in stores {
        for (number, (name, operations)) in table.iter().enumerate() {
            let key = key(u8::try_from(number).unwrap());
            let mut locks: Vec<(char, GrantLock)> = Vec::new();
            for operation in *operations {
                let at = format!("{store}: {name}: {operation:?}");
                let of = |letter: &char| locks.iter().find(|(of, _)| of == letter).unwrap().1.clone();
                match operation {
                    Open(letter, request) => match grants.claim(&key, request).await.unwrap() {
                        Claimed::Open(lock) => locks.push((*letter, lock)),
                        other => panic!("{at}: {other:?}"),
                    },
                    TakeUp(letter, request) => match grants.claim(&key, request).await.unwrap() {
                        Claimed::Pending(lock) => locks.push((*letter, lock)),
                        other => panic!("{at}: {other:?}"),
                    },
                    Taken(request) => assert_eq!(grants.claim(&key, request).await.unwrap(), Claimed::Taken, "{at}"),
                    Pend(letter) => assert_eq!(grants.pend(&of(letter)).await, Ok(()), "{at}"),
                    Grant(letter) => assert_eq!(grants.grant(&of(letter)).await, Ok(()), "{at}"),
                    Free(letter) => assert_eq!(grants.free(&of(letter)).await, Ok(()), "{at}"),
                    Release(letter) => grants.release(&of(letter)),
                    Lost(letter) => {
                        let lock = of(letter);
                        assert!(grants.pend(&lock).await.is_err(), "{at}");
                        assert!(grants.grant(&lock).await.is_err(), "{at}");
                        assert!(grants.free(&lock).await.is_err(), "{at}");
                    }
                    Look(expected) => {
                        let expected = expected.map(|(state, request, held)| Standing {
                            state,
                            request: request.to_owned(),
                            held,
                        });
                        assert_eq!(grants.look(&key).await.unwrap(), expected, "{at}");
                    }
                }
            }
        }
    }
}

async fn open(grants: &dyn Grants, key: &PaymentKey, request: &str) -> GrantLock {
    match grants.claim(key, request).await.unwrap() {
        Claimed::Open(lock) => lock,
        other => panic!("{other:?}"),
    }
}

/// Opens a store as a process does that starts after the last one was killed.
#[async_trait::async_trait]
trait Restart {
    async fn grants(&self) -> Arc<dyn Grants>;
}

struct OnDisk(tempfile::TempDir);

#[async_trait::async_trait]
impl Restart for OnDisk {
    async fn grants(&self) -> Arc<dyn Grants> {
        Arc::new(on_disk(&self.0.path().join("grants.sqlite")))
    }
}

struct InDatabase(String);

#[async_trait::async_trait]
impl Restart for InDatabase {
    async fn grants(&self) -> Arc<dyn Grants> {
        let database = support::open(&self.0).await;
        // The time of the one before is over.
        support::session(&self.0).await.batch_execute("DELETE FROM x402_grant_holders").await.unwrap();
        Arc::new(PostgresGrants::start(database).await.unwrap())
    }
}

async fn a_restart_keeps_what_was_begun_and_drops_what_was_not(restart: &dyn Restart) {
    let [opened, pending, granted, freed] = [1, 2, 3, 4].map(key);
    {
        let grants = restart.grants().await;
        open(&*grants, &opened, "r").await;
        let lock = open(&*grants, &pending, "r").await;
        grants.pend(&lock).await.unwrap();
        let lock = open(&*grants, &granted, "r").await;
        grants.pend(&lock).await.unwrap();
        grants.grant(&lock).await.unwrap();
        let lock = open(&*grants, &freed, "r").await;
        grants.pend(&lock).await.unwrap();
        grants.free(&lock).await.unwrap();
    }
    let grants = restart.grants().await;
    let standing = |state| Some(Standing { state, request: "r".into(), held: false });
    assert_eq!(grants.look(&opened).await.unwrap(), None);
    assert_eq!(grants.look(&pending).await.unwrap(), standing(GrantState::Pending));
    assert_eq!(grants.look(&granted).await.unwrap(), standing(GrantState::Granted));
    assert_eq!(grants.look(&freed).await.unwrap(), None);
    assert_eq!(grants.claim(&granted, "r").await.unwrap(), Claimed::Taken);
    assert_eq!(grants.claim(&pending, "other").await.unwrap(), Claimed::Taken);
    let Claimed::Pending(lock) = grants.claim(&pending, "r").await.unwrap() else { panic!("it is the request's") };
    grants.grant(&lock).await.unwrap();
    assert_eq!(restart.grants().await.look(&pending).await.unwrap(), standing(GrantState::Granted));
    open(&*grants, &opened, "other").await;
}

#[tokio::test]
async fn a_restart_on_sqlite() {
    a_restart_keeps_what_was_begun_and_drops_what_was_not(&OnDisk(tempfile::tempdir().unwrap())).await;
}

#[tokio::test]
async fn a_restart_on_postgres() {
    let url = support::empty_database().await;
    drop(support::open(&url).await);
    a_restart_keeps_what_was_begun_and_drops_what_was_not(&InDatabase(url)).await;
}

/// How many of so many parallel claims win; `Taken` is what the others get.
async fn winners(grants: &Arc<dyn Grants>, key: &PaymentKey, claims: usize) -> Vec<Claimed> {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..claims {
        let (grants, key) = (Arc::clone(grants), key.clone());
        running.spawn(async move { grants.claim(&key, "r").await.unwrap() });
    }
    let all = running.join_all().await;
    assert_eq!(all.len(), claims);
    all.into_iter().filter(|claimed| *claimed != Claimed::Taken).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_claims_one_wins() {
    let (_directory, stores) = stores().await;
    for (store, grants) in stores {
        for (number, claims) in [(1, 2), (2, 200)] {
            let key = key(number);
            let won = winners(&grants, &key, claims).await;
            let [Claimed::Open(lock)] = &won[..] else { panic!("{store}: {won:?}") };
            grants.pend(lock).await.unwrap();
            grants.release(lock);
            let won = winners(&grants, &key, claims).await;
            let [Claimed::Pending(lock)] = &won[..] else { panic!("{store}: {won:?}") };
            grants.grant(lock).await.unwrap();
            assert_eq!(winners(&grants, &key, claims).await, [], "{store}");
        }
    }
}

#[tokio::test]
async fn a_claim_that_is_given_up_half_way_holds_nothing() {
    let (_directory, stores) = stores().await;
    for (store, grants) in stores {
        let key = key(1);
        for _ in 0..20 {
            let mut claim = grants.claim(&key, "r");
            // Asked once: the key is held and the store is being read.
            if let std::task::Poll::Ready(done) = futures_util::poll!(&mut claim) {
                let Claimed::Open(lock) = done.unwrap() else { panic!("{store}: nobody holds it") };
                grants.release(&lock);
            }
            drop(claim);
        }
        // A claim that is on its way to a database is finished first, and then given up.
        at_last(async || matches!(grants.claim(&key, "other").await.unwrap(), Claimed::Open(_))).await;
    }
}

/// Waits until a condition holds, for half a minute at most.
async fn at_last(condition: impl AsyncFn() -> bool) {
    for _ in 0..6_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("it never came");
}

#[tokio::test]
async fn of_two_processes_on_one_database_one_holds_a_payment() {
    let url = support::empty_database().await;
    let (one, two) = (in_database(&url).await, in_database(&url).await);
    let (first, second) = (key(1), key(2));
    let held = Some(Standing { state: GrantState::Open, request: "r".into(), held: true });
    let lock = open(&one, &first, "r").await;
    assert_eq!(two.claim(&first, "r").await.unwrap(), Claimed::Taken);
    assert_eq!(two.look(&first).await.unwrap(), held);
    // What is let go here is free there.
    one.release(&lock);
    at_last(async || two.look(&first).await.unwrap().is_none()).await;
    let lock = open(&two, &first, "other").await;
    assert!(one.look(&first).await.unwrap().is_some_and(|standing| standing.held));
    two.grant(&lock).await.unwrap();
    assert_eq!(one.claim(&first, "other").await.unwrap(), Claimed::Taken);

    // A process that was stopped for too long has lost what it held, and learns it at its next write.
    let opened = open(&one, &key(3), "r").await;
    let pending = open(&one, &second, "r").await;
    one.pend(&pending).await.unwrap();
    assert_eq!(two.claim(&second, "r").await.unwrap(), Claimed::Taken);
    let late = "UPDATE x402_grant_holders SET until = CURRENT_TIMESTAMP WHERE holder IN
                (SELECT holder FROM x402_grants WHERE state = 'pending')";
    support::session(&url).await.batch_execute(late).await.unwrap();
    assert_eq!(two.claim(&second, "other").await.unwrap(), Claimed::Taken, "it is the request's");
    let Claimed::Pending(taken) = two.claim(&second, "r").await.unwrap() else { panic!("its holder is gone") };
    assert!(one.pend(&pending).await.is_err());
    assert!(one.grant(&pending).await.is_err());
    assert!(one.free(&pending).await.is_err());
    two.grant(&taken).await.unwrap();
    // What nobody took meanwhile is still its own.
    one.pend(&opened).await.unwrap();
    one.grant(&opened).await.unwrap();
}

#[tokio::test]
async fn a_process_that_ends_frees_what_it_held() {
    let url = support::empty_database().await;
    let (one, two) = (in_database(&url).await, in_database(&url).await);
    open(&one, &key(1), "r").await;
    drop(one);
    at_last(async || two.look(&key(1)).await.unwrap().is_none()).await;
    open(&two, &key(1), "other").await;
}

#[tokio::test]
async fn a_place_is_a_path_or_a_url() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grants.sqlite").display().to_string();
    for (place, engine) in [(path, "SqliteGrants"), (support::empty_database().await, "PostgresGrants")] {
        let first = x402_store::open_grants(&place).await.unwrap();
        assert!(format!("{first:?}").starts_with(engine), "{first:?}");
        let lock = open(&*first, &key(1), "r").await;
        first.grant(&lock).await.unwrap();
        let again = x402_store::open_grants(&place).await.unwrap();
        assert_eq!(again.claim(&key(1), "r").await.unwrap(), Claimed::Taken);
    }
    for (place, named) in [
        ("mysql://shop:hunter2@localhost/shop", "postgres://"),
        ("postgres://shop:hunter2@127.0.0.1:1/shop", "127.0.0.1:1/shop"),
        ("postgres://shop:hunter2@db.example/shop", "sslmode"),
    ] {
        let error = x402_store::open_grants(place).await.unwrap_err().to_string();
        assert!(error.contains(named) && !error.contains("hunter2"), "{place}: {error}");
    }
}
