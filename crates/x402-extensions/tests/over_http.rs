//! Offers and receipts over HTTP: from the seller's layer to the paying client and its book.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod stage;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::Value;
use x402_extensions::offer_receipt::{
    INVALID_OFFER, IssuerKey, KeepReceipt, KeptReceipt, KnownKeys, OfferIssuer, ReceiptBook, SignerTrust,
};
use x402_http::client::{ClientError, Clock, PayError, Receipt, ReceiptRefusals};
use x402_types::extension::{PaymentIdentifier, Required, SettledClaim};
use x402_types::{Extension, Fault, RawJson, Refusal};

use crate::stage::{PAYEE, PAYER, SIGNER, Stage, TRANSACTION, ask, buy, get, key, offer, paying, payment, required};

#[derive(Default)]
struct Shelf(Mutex<Vec<KeptReceipt>>);

#[async_trait]
impl KeepReceipt for Shelf {
    async fn keep(&self, receipt: &KeptReceipt) -> Result<(), Fault> {
        self.0.lock().unwrap().push(receipt.clone());
        Ok(())
    }
}

fn issuer() -> OfferIssuer {
    OfferIssuer::new(IssuerKey::eip712(key(SIGNER))).with_transaction()
}

#[tokio::test]
async fn a_purchase_leaves_a_receipt_that_proves_it() {
    let stage = Stage::new();
    let layer = stage.seller().with_extension(issuer()).charge([offer("$0.01"), offer("$0.02")]).unwrap();
    let service = stage.serve(&layer);
    let shelf = Arc::new(Shelf::default());
    let payer = stage.payer(PAYER).with_extension(ReceiptBook::new(shelf.clone()));
    let response = buy(&payer, &service, "/data?city=Rome").await.unwrap();
    assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"content"[..]));
    assert!(response.extensions().get::<ReceiptRefusals>().is_none());
    let Receipt(settled) = response.extensions().get().unwrap();
    assert!(settled.extensions.get("offer-receipt").is_some());
    let kept = shelf.0.lock().unwrap().pop().unwrap();
    let proof = kept.prove(&KnownKeys::new()).unwrap();
    let (receipt, offered) = (&proof.receipt, proof.offer.as_ref().unwrap());
    assert!(receipt.signer.is(&key(SIGNER).address().to_string()) && !proof.is_signed_by_payee());
    assert_eq!(&*receipt.payload.payer, key(PAYER).address().to_string());
    assert_eq!(receipt.payload.transaction.as_deref(), Some(TRANSACTION));
    assert_eq!(
        (&*receipt.payload.resource_url, offered.amount.to_string()),
        ("https://api.example.com/data", "10000".into())
    );
}

/// A declaration that a seller sends as it is written.
#[derive(Debug)]
struct AsWritten(&'static str, &'static str);

impl Extension for AsWritten {
    fn name(&self) -> &str {
        self.0
    }
    fn declare(&self, _: &Required<'_>) -> Option<RawJson> {
        serde_json::from_str(self.1).ok()
    }
}

/// `auth-hints` and `http-message-signatures` decide nothing here, and reach the facilitator byte for byte as the seller wrote
/// them: spaces, the order of members, numbers and escapes, members that nobody knows.
#[tokio::test]
async fn what_nobody_acts_on_is_forwarded_as_it_is_written() {
    let hints = r#"{"schema": {}, "info":{"authRequirements":[{"acceptIndexes":[0],"methods":[{"type":"oauth2" , "tokenTypes":["bearer"],
        "n": 1.50, "\u0061": "\/"}]}]},"x-own":null}"#;
    let signatures = r#"{"info":{"registrationUrl":"https://network.example.com/agents","signatureSchemes":["ed25519"],"tags":["web-bot-auth"]},"schema":{"type":"object"}}"#;
    let stage = Stage::new();
    let seller = stage
        .seller()
        .with_extension(AsWritten("auth-hints", hints))
        .with_extension(AsWritten("http-message-signatures", signatures))
        .with_extension(issuer());
    let service = stage.serve(&seller.charge([offer("$0.01")]).unwrap());
    assert_eq!(buy(&stage.payer(PAYER), &service, "/data").await.unwrap().status(), 200);
    let received = stage.bank.received.lock().unwrap().clone();
    for (name, written) in [("auth-hints", hints), ("http-message-signatures", signatures)] {
        assert_eq!(received.get(name).map(RawJson::as_str), Some(written), "{name}");
    }
}

/// Another payer that learned an id is refused with 409 before it is verified, and gets no part of the first one's answer.
#[tokio::test]
async fn an_id_of_another_payer_is_in_use() {
    let stage = Stage::new();
    let seller = stage.seller().with_extension(PaymentIdentifier::required());
    let service = stage.serve(&seller.charge([offer("$0.01")]).unwrap());
    let document = required(&ask(&service, get("/data")).await);
    let mut named = document["extensions"].clone();
    named["payment-identifier"]["info"]["id"] = "pay_0123456789abcdef".into();
    let now = Clock::now(&*stage.clock);
    let owner = payment(PAYER, &document, Some(named.clone()), (now, 1)).await;
    assert_eq!(ask(&service, paying("/data", &owner)).await.status(), 200);
    let verified = stage.bank.verified.load(Ordering::SeqCst);
    let stranger = payment(SIGNER, &document, Some(named), (now, 2)).await;
    let refused = ask(&service, paying("/data", &stranger)).await;
    assert_eq!(refused.status(), 409);
    assert!(!refused.headers().contains_key("payment-response") && &refused.body()[..] != b"content");
    assert_eq!((stage.bank.verified.load(Ordering::SeqCst), stage.settled(), stage.served()), (verified, 1, 1));
    // The owner gets its answer again, without another payment.
    let again = ask(&service, paying("/data", &owner)).await;
    assert_eq!((again.status().as_u16(), &again.body()[..]), (200, &b"content"[..]));
    assert_eq!((stage.settled(), stage.served()), (1, 1));
}

/// Servers of the TypeScript SDK leave the transaction out, whether it was asked for or not.
#[tokio::test]
async fn a_receipt_without_its_transaction_is_kept_and_proves_the_rest() {
    let stage = Stage::new();
    let issuer = OfferIssuer::new(IssuerKey::eip712(key(SIGNER)));
    let service = stage.serve(&stage.seller().with_extension(issuer).charge([offer("$0.01")]).unwrap());
    let shelf = Arc::new(Shelf::default());
    let payer = stage.payer(PAYER).with_extension(ReceiptBook::new(shelf.clone()));
    let response = buy(&payer, &service, "/data").await.unwrap();
    assert!(response.extensions().get::<ReceiptRefusals>().is_none());
    let kept = shelf.0.lock().unwrap().pop().unwrap();
    let receipt = kept.prove(&KnownKeys::new()).unwrap().receipt;
    assert_eq!((receipt.payload.transaction, kept.transaction.as_str()), (None, TRANSACTION));
    assert_eq!(&*receipt.payload.payer, key(PAYER).address().to_string());
}

#[tokio::test]
async fn a_402_is_signed_again_in_the_middle_of_its_offers_validity() {
    let stage = Stage::new();
    let layer = stage.seller().with_extension(issuer().with_validity(60)).charge([offer("$0.01")]).unwrap();
    let service = stage.serve(&layer);
    let until = async |path: &str| {
        let document = required(&ask(&service, get(path)).await);
        document["extensions"]["offer-receipt"]["info"]["offers"][0]["payload"]["validUntil"].as_u64().unwrap()
    };
    let first = until("/data").await;
    stage.clock.pass(29);
    assert_eq!(until("/data").await, first, "kept");
    stage.clock.pass(1);
    assert_eq!(until("/data").await, first + 30);
    // Another path is another resource.
    stage.clock.pass(1);
    assert_eq!(until("/other").await, first + 31);
    // A payment under an offer of an earlier document is taken: the seller believes its own terms.
    let payer = stage.payer(PAYER).with_extension(ReceiptBook::new(Arc::new(Shelf::default())));
    assert_eq!(buy(&payer, &service, "/data").await.unwrap().status(), 200);
    assert_eq!((stage.settled(), stage.served()), (1, 1));
}

/// Changes the value of the extension on its way out of the seller.
#[derive(Debug)]
struct Forging(OfferIssuer, &'static str, &'static str);

impl Extension for Forging {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn declare(&self, required: &Required<'_>) -> Option<RawJson> {
        let text = self.0.declare(required)?.as_str().replace(self.1, self.2);
        RawJson::parse(text).ok()
    }
    fn not_compared(&self) -> &[&str] {
        self.0.not_compared()
    }
    fn on_receipt(&self, settled: &SettledClaim<'_>) -> Option<RawJson> {
        RawJson::parse(self.0.on_receipt(settled)?.as_str().replace(self.1, self.2)).ok()
    }
}

#[tokio::test]
async fn nothing_is_paid_under_an_offer_that_does_not_hold() {
    for (from, to) in [
        (r#""amount":"10000""#, r#""amount":"10""#),
        ("/data", "/other"),
        (r#""format":"eip712""#, r#""format":"jws""#),
        (r#""version":1"#, r#""version":2"#),
    ] {
        let stage = Stage::new();
        let seller = stage.seller().with_extension(Forging(issuer(), from, to));
        let service = stage.serve(&seller.charge([offer("$0.01")]).unwrap());
        let payer = stage.payer(PAYER).with_extension(ReceiptBook::new(Arc::new(Shelf::default())));
        let refused = buy(&payer, &service, "/data").await.unwrap_err();
        let ClientError::Pay(PayError::ExtensionRefused { name, why }) = refused else { panic!("{refused}") };
        assert_eq!((&*name, why.reason), ("offer-receipt", INVALID_OFFER), "{from}");
        assert_eq!((stage.settled(), stage.served()), (0, 0));
        // A client without the extension does not read offers.
        assert_eq!(buy(&stage.payer(PAYER), &service, "/data").await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_receipt_that_does_not_hold_is_beside_the_answer_that_was_paid() {
    let stage = Stage::new();
    let payer_text: &'static str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
    let seller =
        stage.seller().with_extension(Forging(issuer(), payer_text, "0x90F79bf6EB2c4f870365E785982E1f101E93b906"));
    let service = stage.serve(&seller.charge([offer("$0.01")]).unwrap());
    let shelf = Arc::new(Shelf::default());
    let payer = stage.payer(PAYER).with_extension(ReceiptBook::new(shelf.clone()));
    let response = buy(&payer, &service, "/data").await.unwrap();
    assert_eq!((response.status().as_u16(), stage.settled()), (200, 1));
    let ReceiptRefusals(refusals) = response.extensions().get().unwrap();
    let [(name, Refusal::Rejection(why))] = &refusals[..] else { panic!("{refusals:?}") };
    assert_eq!((&**name, why.reason.as_str()), ("offer-receipt", "invalid_signed_receipt"));
    assert!(shelf.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_buyer_that_insists_on_the_payees_signature_gets_it() {
    let stage = Stage::new();
    let payee = OfferIssuer::new(IssuerKey::eip712(key(PAYEE)));
    let service = stage.serve(&stage.seller().with_extension(payee).charge([offer("$0.01")]).unwrap());
    let shelf = Arc::new(Shelf::default());
    let book = ReceiptBook::new(shelf.clone()).with_trust(SignerTrust::PayeeOr(Vec::new()));
    assert_eq!(buy(&stage.payer(PAYER).with_extension(book), &service, "/data").await.unwrap().status(), 200);
    let kept = shelf.0.lock().unwrap().pop().unwrap();
    assert!(kept.prove(&KnownKeys::new()).unwrap().is_signed_by_payee());
    let _: Value = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
}
