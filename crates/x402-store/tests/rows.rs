//! The ledger's rows, byte for byte as they stand in the file. A row of a released format must always be read:
//! `rows/format-1.json` is never changed. A new format gets a file of its own beside it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;

use rusqlite::{Connection, params};
use x402_facilitator_core::{
    Attempt, LaneId, Ledger, OnceKey, OwnerId, Parcel, Payment, Receipt, RequestId, Slot, SlotId, Step, StepName,
    StepProof, StepState, TxId, Write,
};
use x402_store::sqlite::{Database, SqliteLedger};
use x402_types::v2::ResourceInfo;
use x402_types::{
    AtomicAmount, ChainId, Claim, ErrorReason, Identity, Members, PaymentKey, RawJson, SchemeName, Terms, UnixSeconds,
};

const FORMAT_1: &str = include_str!("rows/format-1.json");

fn network() -> ChainId {
    ChainId::eip155(84_532)
}

fn lane() -> LaneId {
    LaneId::new(network(), "0x90f79bf6eb2c4f870365e785982e1f101e93b906")
}

fn members(name: &str, json: &str) -> Members {
    let mut members = Members::new();
    members.insert(name, RawJson::parse(json.to_owned()).unwrap());
    members
}

fn claim() -> Claim {
    let asset = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
    let pay_to = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
    let terms = Terms::new(SchemeName::EXACT, network(), AtomicAmount::from(10_000), asset, pay_to)
        .with_extra(members("name", "\"USDC\""));
    // Numbers and spellings are the payer's, byte for byte.
    let payload = RawJson::parse(r#"{"n":1.50, "s":"\u0041"}"#.to_owned()).unwrap();
    Claim::of_payload(terms, payload)
        .with_resource(ResourceInfo::of("https://api.example.com/weather"))
        .with_extensions(members("x", "[1]"))
        .with_identity(Identity::new("shop", "key:42"))
}

fn payment(number: u8) -> Payment {
    let request = RequestId { owner: OwnerId::from("one"), number: u64::MAX };
    let key = PaymentKey::from_bytes(&[1, number, 0xff]);
    let mut payment = Payment::from_row(key, claim(), format!("0x{number}"), lane(), request);
    (payment.claimed, payment.due) = (UnixSeconds(1_699_999_990), UnixSeconds(1_700_000_000));
    (payment.keep_until, payment.version) = (UnixSeconds(u64::MAX), 1);
    payment
}

fn step(state: StepState) -> Step {
    let mut step = Step::new(StepName::new("transfer"), OnceKey(vec![0, 0xab]));
    step.parcels = vec![Parcel::new([7; 32], vec![1, 0xfe])];
    step.carriers = vec![slot_id(5)];
    step.state = state;
    step
}

fn slot_id(nonce: u64) -> SlotId {
    SlotId { lane: lane(), nonce }
}

/// A payment in every state that a row may have.
fn payments() -> Vec<Payment> {
    let mut rows: Vec<Payment> = (0..8).map(payment).collect();
    let mut proof = StepProof::new(TxId::from("0x01"), AtomicAmount::from(9_999));
    proof.extra = members("block", "7");
    let mut exclusive = step(StepState::Ready);
    exclusive.exclusive = Some(OnceKey(vec![0xcd]));
    let open = [exclusive, step(StepState::InFlight), step(StepState::Unaccounted)];
    let decided = [step(StepState::Proven(proof)), step(StepState::Dead(ErrorReason::AUTHORIZATION_CANCELED))];
    for (row, step) in rows.iter_mut().skip(1).zip(open.into_iter().chain(decided)) {
        row.steps.push(step);
    }
    let mut receipt = Receipt::new(Some(TxId::from("0x01")), network(), "0x6".to_owned()).of_amount(9_999.into());
    (receipt.extra, receipt.extensions) = (members("remaining", "3"), members("y", "null"));
    rows[6].answer = Some(Ok(receipt));
    (rows[6].untold, rows[6].reopened, rows[6].waits) = (true, 2, 3);
    rows[7].answer = Some(Err(ErrorReason::INSUFFICIENT_FUNDS));
    rows[7].claim.resource = None;
    rows[7].claim.extensions = Members::new();
    rows
}

fn slots() -> Vec<Slot> {
    let mut full = Slot::new(slot_id(5));
    full.payments = vec![PaymentKey::from_bytes(&[1, 2, 0xff])];
    full.attempts = vec![
        Attempt::new(TxId::from("0x02"), vec![2, 0xff], 1),
        Attempt::new(TxId::from("0x03"), Vec::new(), u128::MAX),
    ];
    full.opened = UnixSeconds(1_699_999_999);
    full.taken = Some(TxId::from("0x02"));
    (full.used, full.resends, full.due, full.version) = (true, 4, UnixSeconds(1_700_000_010), 1);
    let mut empty = Slot::new(slot_id(6));
    empty.version = 1;
    vec![full, empty]
}

fn insert(file: &Connection, payment: &Payment, row: &str) {
    const SQL: &str = "INSERT INTO payments VALUES (?1, ?2, 1, NULL, 0, 0, ?3)";
    file.execute(SQL, params![payment.key.as_bytes(), payment.lane.as_str(), row]).unwrap();
}

fn texts(path: &Path, sql: &str) -> Vec<String> {
    let file = Connection::open(path).unwrap();
    let mut statement = file.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test]
async fn what_is_written_is_format_1() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    let ledger = SqliteLedger::new(Database::open(&path).unwrap());
    for payment in payments() {
        ledger.claim(payment).await.unwrap();
    }
    let lease = ledger.lease(&lane(), &OwnerId::from("one"), 60).await.unwrap();
    let new = |mut slot: Slot| {
        slot.version = 0;
        slot
    };
    let slots = slots().into_iter().map(new).collect();
    ledger.commit(Write { lease, slots, ..Write::default() }).await.unwrap();

    let mut rows = texts(&path, "SELECT row FROM payments ORDER BY key");
    rows.extend(texts(&path, "SELECT row FROM slots ORDER BY nonce"));
    let expected: Vec<&str> = FORMAT_1.lines().collect();
    assert_eq!(rows, expected, "\n{}\n", rows.join("\n"));
}

#[tokio::test]
async fn format_1_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    let ledger = SqliteLedger::new(Database::open(&path).unwrap());
    let file = Connection::open(&path).unwrap();
    let mut rows = FORMAT_1.lines();
    for (payment, row) in payments().iter().zip(&mut rows) {
        insert(&file, payment, row);
    }
    for (slot, row) in slots().iter().zip(&mut rows) {
        let nonce = i64::try_from(slot.id.nonce).unwrap();
        file.execute("INSERT INTO slots VALUES (?1, ?2, 1, 1, ?3)", params![lane().as_str(), nonce, row]).unwrap();
    }
    for payment in payments() {
        assert_eq!(ledger.read(&payment.key).await.unwrap().unwrap(), payment);
    }
    assert_eq!(ledger.slots(&[slot_id(5), slot_id(6)]).await.unwrap(), slots());
}

/// Members that a row may lack: those that were added after format 0, and those that are left out where they are empty.
#[tokio::test]
async fn a_row_without_the_members_that_came_later_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    let ledger = SqliteLedger::new(Database::open(&path).unwrap());
    let mut row: serde_json::Value = serde_json::from_str(FORMAT_1.lines().nth(6).unwrap()).unwrap();
    for member in ["untold", "waits", "claimed"] {
        assert!(row["row"].as_object_mut().unwrap().remove(member).is_some(), "{member}");
    }
    let file = Connection::open(&path).unwrap();
    insert(&file, &payment(6), &row.to_string());
    let read = ledger.read(&payment(6).key).await.unwrap().unwrap();
    assert_eq!(
        (read.untold, read.waits, read.claimed, read.reopened),
        (false, 0, UnixSeconds(0), 2),
        "an older process may have told it"
    );
}
