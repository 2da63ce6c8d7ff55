//! Session keys in memory, on SQLite and on PostgreSQL: encrypted where they are stored.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/mod.rs"]
mod support;

use x402_store::postgres::PostgresSessionKeys;
use x402_store::session_keys::{KeyName, MemorySessionKeys, SessionKeys};
use x402_store::sqlite::{Database, SealKey, SqliteSessionKeys, WriteError};
use x402_types::{ChainId, Fault};

fn name(text: &str) -> KeyName {
    KeyName {
        network: ChainId::eip155(84532),
        account: [7; 20],
        provider: "zerodev".to_owned(),
        hash: [*text.as_bytes().first().unwrap(); 32],
    }
}

fn seal(byte: &str) -> SealKey {
    SealKey::from_hex(&byte.repeat(32)).unwrap()
}

const SECRET: &str = "dGhlIHByaXZhdGUga2V5IG9mIGEgc2Vzc2lvbg==";

async fn a_key_is_found_by_its_whole_name(store: &dyn SessionKeys) {
    let key = name("c2VjcmV0");
    store.register(&key, "shop", "c2VjcmV0").await.unwrap();
    store.register(&key, "other", "c2VjcmV0").await.unwrap();
    assert_eq!(store.read(&key).await.unwrap().unwrap().as_str(), "c2VjcmV0");
    for other in [
        KeyName { network: ChainId::eip155(8453), ..key.clone() },
        KeyName { account: [0; 20], ..key.clone() },
        KeyName { provider: "safe".to_owned(), ..key.clone() },
        name("b3RoZXI="),
    ] {
        assert_eq!(store.read(&other).await, Ok(None), "{other:?}");
    }
    store.remove(&key, "other").await.unwrap();
    assert!(store.read(&key).await.unwrap().is_some(), "another caller's");
    store.remove(&key, "shop").await.unwrap();
    store.remove(&key, "shop").await.unwrap();
    assert_eq!(store.read(&key).await, Ok(None));
    assert!(!format!("{store:?}").contains("c2VjcmV0"));
}

/// Checks stores that are durable: one seal key opens what it sealed, another one does not.
async fn only_its_seal_key_opens_a_key(store: &dyn SessionKeys, again: &dyn SessionKeys, wrong: &dyn SessionKeys) {
    store.register(&name(SECRET), "shop", SECRET).await.unwrap();
    assert!(wrong.read(&name(SECRET)).await.is_err());
    assert_eq!(again.read(&name(SECRET)).await.unwrap().unwrap().as_str(), SECRET);
}

async fn a_key_heals_when_it_is_registered_again(before: &dyn SessionKeys, after: &dyn SessionKeys) {
    let key = name("c2VjcmV0");
    before.register(&key, "shop", "c2VjcmV0").await.unwrap();
    assert!(after.read(&key).await.is_err());
    after.register(&key, "other", "c2VjcmV0").await.unwrap();
    assert_eq!(after.read(&key).await.unwrap().unwrap().as_str(), "c2VjcmV0");
    assert!(before.read(&key).await.is_err());
    // The row belongs to the caller that registered it again; a row that can be decrypted is unchanged.
    after.register(&key, "shop", "c2VjcmV0").await.unwrap();
    after.remove(&key, "shop").await.unwrap();
    assert!(after.read(&key).await.unwrap().is_some(), "another caller's");
    after.remove(&key, "other").await.unwrap();
    assert_eq!(after.read(&key).await, Ok(None));
}

#[tokio::test]
async fn in_memory() {
    a_key_is_found_by_its_whole_name(&MemorySessionKeys::default()).await;
}

#[tokio::test]
async fn in_a_file_nothing_stands_in_clear_and_only_its_key_opens_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let database = Database::open(file.path()).unwrap();
    let open = |byte: &str| SqliteSessionKeys::new(database.clone(), &seal(byte)).unwrap();
    let store = open("ab");
    a_key_is_found_by_its_whole_name(&store).await;
    only_its_seal_key_opens_a_key(&store, &open("ab"), &open("cd")).await;
    for entry in std::fs::read_dir(file.path().parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().starts_with(&*file.path().to_string_lossy()) {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "{}", path.display());
        }
    }
    // A row that is moved to another name cannot be decrypted there.
    let other = KeyName { account: [0; 20], ..name(SECRET) };
    let account = other.account;
    let moved = database.write(move |transaction| {
        transaction.execute("UPDATE session_keys SET account = ?1", [account])?;
        Ok::<_, WriteError<Fault>>(())
    });
    moved.await.unwrap();
    assert!(store.read(&other).await.is_err());
}

#[tokio::test]
async fn in_a_database_nothing_stands_in_clear_and_only_its_key_opens_it() {
    let url = support::empty_database().await;
    let database = support::open(&url).await;
    let open = |byte: &str| PostgresSessionKeys::new(database.clone(), &seal(byte)).unwrap();
    let store = open("ab");
    a_key_is_found_by_its_whole_name(&store).await;
    only_its_seal_key_opens_a_key(&store, &open("ab"), &open("cd")).await;
    let client = support::session(&url).await;
    let rows = client.query("SELECT sealed FROM x402_session_keys", &[]).await.unwrap();
    let sealed: Vec<u8> = rows.first().unwrap().get(0);
    assert!(!sealed.windows(8).any(|window| SECRET.as_bytes().windows(8).any(|clear| clear == window)));
    client.batch_execute("UPDATE x402_session_keys SET account = decode(repeat('00', 20), 'hex')").await.unwrap();
    assert!(store.read(&KeyName { account: [0; 20], ..name(SECRET) }).await.is_err());
}

#[tokio::test]
async fn a_key_that_is_registered_again_heals_after_the_seal_key_was_changed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let sqlite = Database::open(file.path()).unwrap();
    let open = |byte: &str| SqliteSessionKeys::new(sqlite.clone(), &seal(byte)).unwrap();
    a_key_heals_when_it_is_registered_again(&open("ab"), &open("cd")).await;
    let postgres = support::open(&support::empty_database().await).await;
    let open = |byte: &str| PostgresSessionKeys::new(postgres.clone(), &seal(byte)).unwrap();
    a_key_heals_when_it_is_registered_again(&open("ab"), &open("cd")).await;
}
