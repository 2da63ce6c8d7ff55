//! Malformed, forged and foreign artifacts: each is refused, and the refusal names the member.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};
use x402_extensions::keys::{Ed25519Key, JwsAlgorithm, PublicKey};
use x402_extensions::offer_receipt::{
    ArtifactError, ArtifactPayload, INVALID_OFFER, INVALID_RECEIPT, IssuerKey, KeepReceipt, KeptReceipt, KnownKeys,
    OfferIssuer, OfferPayload, ReceiptBook, ReceiptFault, ReceiptPayload, SignedArtifact, SignerTrust,
    UNTRUSTED_SIGNER,
};
use x402_types::extension::{Moment, PaidRequest, Required, SettledClaim, echo};
use x402_types::v2::{PaymentPayload, ResourceInfo, SettleResponse};
use x402_types::{
    AtomicAmount, Claim, ErrorReason, Extension, Fault, Offer, RawJson, Refusal, Rejection, SigningContext, Terms,
    UnixSeconds,
};

const SIGNER: &str = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
const ANOTHER: &str = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6";
const URL: &str = "https://api.example.com/data?city=Rome";
const PAYEE: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
const PAYER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const NOW: UnixSeconds = UnixSeconds(1_795_923_767);

fn key() -> IssuerKey {
    IssuerKey::eip712(SIGNER.parse().unwrap())
}

fn terms(amount: u64) -> Terms {
    let asset = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
    let network = "eip155:84532".parse().unwrap();
    Terms::new("exact".parse().unwrap(), network, AtomicAmount::from(amount), asset, PAYEE)
}

fn offer() -> Value {
    let payload = OfferPayload::new("https://api.example.com/data", &terms(1_000)).with_valid_until(NOW);
    serde_json::from_str(&key().sign(payload).unwrap().to_json()).unwrap()
}

fn receipt() -> Value {
    let payload = ReceiptPayload::new("https://api.example.com/data", terms(1).network, PAYER, NOW);
    serde_json::from_str(&key().sign(payload).unwrap().to_json()).unwrap()
}

fn parse<P: ArtifactPayload>(json: &Value) -> Result<SignedArtifact<P>, ArtifactError> {
    SignedArtifact::parse(json.to_string().as_bytes())
}

/// The values that every member gets in turn.
fn bad_values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!([]),
        json!({}),
        json!(""),
        json!("x".repeat(3_000)),
        json!("a\nb"),
    ]
}

#[test]
fn every_member_is_checked() {
    let all = ["version", "resourceUrl", "scheme", "network", "asset", "payTo", "amount", "validUntil"];
    check_members::<OfferPayload>(&offer(), &all, &["validUntil"]);
    let all = ["version", "network", "resourceUrl", "payer", "issuedAt", "transaction"];
    check_members::<ReceiptPayload>(&receipt(), &all, &["transaction"]);
}

fn check_members<P: ArtifactPayload + std::fmt::Debug>(artifact: &Value, members: &[&str], optional: &[&str]) {
    assert!(parse::<P>(artifact).is_ok());
    for member in members {
        let mut absent = artifact.clone();
        absent["payload"].as_object_mut().unwrap().remove(*member);
        assert_eq!(parse::<P>(&absent).is_ok(), optional.contains(member), "{member}");
        for value in bad_values() {
            let mut changed = artifact.clone();
            changed["payload"][*member] = value.clone();
            // An empty transaction is an absent one.
            let allowed = *member == "transaction" && value == "";
            assert_eq!(parse::<P>(&changed).is_ok(), allowed, "{member}: {value}");
        }
    }
    let mut more = artifact.clone();
    more["payload"]["discount"] = json!("all");
    assert_eq!(parse::<P>(&more).unwrap_err(), ArtifactError::Unknown { member: "discount".into() });
    let mut newer = artifact.clone();
    newer["payload"]["version"] = json!(2);
    assert_eq!(parse::<P>(&newer).unwrap_err(), ArtifactError::Version);
    for member in ["format", "payload", "signature"] {
        for value in [Value::Null, json!(1), json!([]), json!(""), json!("x".repeat(3_000))] {
            let mut changed = artifact.clone();
            changed[member] = value.clone();
            assert!(parse::<P>(&changed).is_err(), "{member}: {value}");
        }
        let mut absent = artifact.clone();
        absent.as_object_mut().unwrap().remove(member);
        assert!(parse::<P>(&absent).is_err(), "{member}");
    }
    for index in [json!(null), json!(-1), json!("0"), json!(1.0)] {
        let mut changed = artifact.clone();
        changed["acceptIndex"] = index.clone();
        assert!(parse::<P>(&changed).is_err(), "{index}");
    }
}

#[test]
fn a_signature_of_eip712_has_one_spelling() {
    let good = offer();
    let text = good["signature"].as_str().unwrap().trim_start_matches("0x").to_owned();
    let v = text.get(128..).unwrap();
    let compact = text.get(..128).unwrap();
    let low = if v == "1b" { "00" } else { "01" };
    let high_s = format!("{}{}1b", text.get(..64).unwrap(), "f".repeat(64));
    for bad in [
        text.clone(),
        format!("0x{compact}"),
        format!("0x{compact}{low}"),
        format!("0x{text}00"),
        format!("0x{high_s}"),
        format!("0x{}1b", "00".repeat(64)),
    ] {
        let mut changed = good.clone();
        changed["signature"] = json!(bad);
        assert!(parse::<OfferPayload>(&changed).is_err(), "{bad}");
    }
}

/// A JWS with this header and payload, signed by the test key over whatever they are.
fn jws(header: &str, body: &str) -> Value {
    let key = Ed25519Key::from_seed(&[7; 32]).unwrap();
    let encode =
        |bytes: &[u8]| x402_codec::base64::encode(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_");
    let text = format!("{}.{}", encode(header.as_bytes()), encode(body.as_bytes()));
    json!({"format": "jws", "signature": format!("{text}.{}", encode(&key.sign(text.as_bytes())))})
}

fn did() -> String {
    PublicKey::Ed25519(*Ed25519Key::from_seed(&[7; 32]).unwrap().public()).to_did().unwrap()
}

#[test]
fn a_jws_is_verified_by_the_key_that_its_identifier_contains() {
    let body = receipt()["payload"].to_string();
    let verify = |header: &str, body: &str| {
        parse::<ReceiptPayload>(&jws(header, body)).and_then(|signed| signed.verify(&KnownKeys::new()))
    };
    let did = did();
    let good = verify(&format!(r#"{{"alg":"EdDSA","kid":"{did}"}}"#), &body).unwrap();
    assert!(good.signer.is(&did) && !good.signer.is("did:web:api.example.com"));
    // Another order, spaces and escapes are signed as they are: the SDK's control characters verify as well as RFC 8785's.
    let spaced = body.replace(',', " , ").replace("https:", "https\\u003a");
    assert!(verify(&format!(r#"{{"kid":"{did}", "alg":"EdDSA"}}"#), &spaced).is_ok());

    for header in [
        r#"{"alg":"none","kid":"KID"}"#,
        r#"{"alg":"HS256","kid":"KID"}"#,
        r#"{"kid":"KID"}"#,
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","kid":""}"#,
        r#"{"alg":"EdDSA","kid":null}"#,
        r#"{"alg":"EdDSA","kid":"KID","crit":["exp"]}"#,
        r#"{"alg":"EdDSA","kid":"KID","b64":false}"#,
        r#"{"alg":"EdDSA","alg":"EdDSA","kid":"KID"}"#,
        r#"{"alg":"EdDSA","kid":"KID","jwk":"x"}"#,
        "[]",
        "null",
    ] {
        assert!(verify(&header.replace("KID", &did), &body).is_err(), "{header}");
    }
    // The key decides on the algorithm.
    let other = verify(&format!(r#"{{"alg":"ES256K","kid":"{did}"}}"#), &body);
    assert_eq!(other.unwrap_err(), ArtifactError::NotSigned);
    for kid in
        ["did:web:api.example.com#key-1", "did:key:z", "did:key:f00", "key-1", "did:jwk:e30", "did:pkh:eip155:1:0x"]
    {
        let refused = verify(&format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#), &body);
        assert!(matches!(refused, Err(ArtifactError::Key(_))), "{kid}: {refused:?}");
    }
    for body in ["{}", "[]", "", "{\"version\":1}"] {
        assert!(verify(&format!(r#"{{"alg":"EdDSA","kid":"{did}"}}"#), body).is_err(), "{body}");
    }
}

#[test]
fn a_key_in_the_header_proves_nothing_about_its_identifier() {
    let body = receipt()["payload"].to_string();
    let public = *Ed25519Key::from_seed(&[7; 32]).unwrap().public();
    let x = x402_codec::base64::encode(&public).trim_end_matches('=').replace('+', "-").replace('/', "_");
    let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#);
    let web = "did:web:api.example.com";
    let signed =
        parse::<ReceiptPayload>(&jws(&format!(r#"{{"alg":"EdDSA","kid":"{web}#k","jwk":{jwk}}}"#), &body)).unwrap();
    let claimed = signed.verify(&KnownKeys::new()).unwrap();
    assert!(!claimed.signer.is(web), "the artifact brought the key itself: {}", claimed.signer);
    let known = KnownKeys::new().with(&format!("{web}#k"), PublicKey::Ed25519(public));
    assert!(signed.verify(&known).unwrap().signer.is(web));
    let another = PublicKey::Ed25519(*Ed25519Key::from_seed(&[8; 32]).unwrap().public());
    let known = KnownKeys::new().with(&format!("{web}#k"), another);
    assert_eq!(signed.verify(&known).unwrap_err(), ArtifactError::OtherKey);
    let did = another.to_did().unwrap();
    let signed =
        parse::<ReceiptPayload>(&jws(&format!(r#"{{"alg":"EdDSA","kid":"{did}","jwk":{jwk}}}"#), &body)).unwrap();
    assert_eq!(signed.verify(&KnownKeys::new()).unwrap_err(), ArtifactError::OtherKey);
}

#[test]
fn a_compact_jws_has_one_spelling() {
    let good = jws(&format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, did()), &receipt()["payload"].to_string());
    let text = good["signature"].as_str().unwrap();
    let mut parts = text.split('.');
    let (header, body, signature) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    for bad in [
        format!("{text}."),
        format!("{header}.{body}"),
        format!("{header}..{signature}"),
        format!("{header}=.{body}.{signature}"),
        format!("{header}.{body}.{signature}=="),
        format!("{header}.{body}. {signature}"),
        format!("{header}.{body}.{}", signature.replace(['-', '_'], "+") + "+"),
        format!("{header}.{body}.{}", signature.get(..80).unwrap()),
        String::new(),
    ] {
        let changed = json!({"format": "jws", "signature": bad});
        assert!(parse::<ReceiptPayload>(&changed).is_err(), "{bad}");
    }
    let mut beside = good.clone();
    beside["payload"] = receipt()["payload"].clone();
    assert!(parse::<ReceiptPayload>(&beside).is_err(), "a second payload that nothing signs");
}

/// Keeps receipts in memory; fails if it is told to.
#[derive(Default)]
struct Shelf {
    kept: Mutex<Vec<KeptReceipt>>,
    fails: bool,
}

#[async_trait]
impl KeepReceipt for Shelf {
    async fn keep(&self, receipt: &KeptReceipt) -> Result<(), Fault> {
        if self.fails {
            return Err(Fault::store("disk full"));
        }
        self.kept.lock().unwrap().push(receipt.clone());
        Ok(())
    }
}

fn never(_: &Claim) -> Result<x402_types::PaymentKey, Rejection> {
    unreachable!()
}

fn declaration(issuer: &OfferIssuer, url: &str, amounts: &[u64]) -> RawJson {
    let offers: Vec<_> = amounts.iter().map(|amount| Offer { terms: terms(*amount), key: Arc::new(never) }).collect();
    issuer.declare(&Required::new(&ResourceInfo::of(url), &offers, Moment::at(NOW))).unwrap()
}

fn on_terms(book: &ReceiptBook, declared: &RawJson, paid: &Terms, now: UnixSeconds) -> Result<(), ErrorReason> {
    let context = SigningContext { now, entropy: [0; 32], url: URL, method: "GET" };
    let info = echo::info(declared).unwrap();
    book.on_terms(&info, paid, &context).map_err(|rejection| rejection.reason)
}

#[test]
fn a_buyer_pays_under_an_offer_for_its_terms_alone() {
    let book = ReceiptBook::new(Arc::new(Shelf::default()));
    let issuer = OfferIssuer::new(key()).with_validity(60);
    let declared = declaration(&issuer, "https://api.example.com/data", &[1_000, 2_000]);
    assert_eq!(on_terms(&book, &declared, &terms(1_000), NOW), Ok(()));
    assert_eq!(on_terms(&book, &declared, &terms(2_000), UnixSeconds(NOW.0 + 60)), Ok(()));
    let invalid = Err(INVALID_OFFER);
    assert_eq!(on_terms(&book, &declared, &terms(2_000), UnixSeconds(NOW.0 + 61)), invalid, "it ended");
    assert_eq!(on_terms(&book, &declared, &terms(3_000), NOW), invalid, "no offer has this amount");
    assert_eq!(on_terms(&book, &declared, &terms(1_000).with_pay_to(PAYER), NOW), invalid);
    let elsewhere = declaration(&issuer, "https://api.example.com/other", &[1_000]);
    assert_eq!(on_terms(&book, &elsewhere, &terms(1_000), NOW), invalid);
    let other_origin = declaration(&issuer, "http://api.example.com/data", &[1_000]);
    assert_eq!(on_terms(&book, &other_origin, &terms(1_000), NOW), invalid);
    let none = RawJson::parse(r#"{"info":{},"schema":{}}"#.into()).unwrap();
    assert_eq!(on_terms(&book, &none, &terms(1_000), NOW), Ok(()), "the seller signed nothing");
    for offers in ["null", "1", "{}", "[1]", "[{}]", &format!("[{}]", vec!["{}"; 33].join(","))] {
        let text = format!(r#"{{"info":{{"offers":{offers}}}}}"#);
        assert_eq!(on_terms(&book, &RawJson::parse(text).unwrap(), &terms(1_000), NOW), invalid, "{offers}");
    }
    let everlasting = declaration(&OfferIssuer::new(key()).without_end(), "https://api.example.com/data", &[1_000]);
    assert_eq!(on_terms(&book, &everlasting, &terms(1_000), UnixSeconds(u64::MAX)), Ok(()));
}

#[test]
fn a_buyer_may_insist_on_the_signer() {
    let declared = declaration(&OfferIssuer::new(key()), "https://api.example.com/data", &[1_000]);
    let strict = |names: &[&str]| {
        let names = names.iter().map(|name| Box::from(*name)).collect();
        ReceiptBook::new(Arc::new(Shelf::default())).with_trust(SignerTrust::PayeeOr(names))
    };
    let signer = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
    assert_eq!(on_terms(&strict(&[]), &declared, &terms(1_000), NOW), Err(UNTRUSTED_SIGNER));
    assert_eq!(on_terms(&strict(&[signer]), &declared, &terms(1_000), NOW), Ok(()));
    // The payee's own key needs no list.
    let payee = IssuerKey::eip712(ANOTHER.parse().unwrap());
    let declared = declaration(&OfferIssuer::new(payee), "https://api.example.com/data", &[1_000]);
    assert_eq!(on_terms(&strict(&[]), &declared, &terms(1_000), NOW), Ok(()));
}

/// A payment for 1,000 under this declaration, and a settlement with this value of the extension.
fn paid(declared: &RawJson, receipt: Option<RawJson>) -> (PaymentPayload, SettleResponse) {
    let json = json!({"x402Version": 2, "accepted": terms(1_000).to_v2(), "payload": {},
        "extensions": {"offer-receipt": declared}});
    let mut settled: SettleResponse = serde_json::from_value(
        json!({"success": true, "payer": PAYER, "transaction": "0xabab", "network": "eip155:84532"}),
    )
    .unwrap();
    if let Some(receipt) = receipt {
        settled.extensions.insert("offer-receipt", receipt);
    }
    (serde_json::from_value(json).unwrap(), settled)
}

/// The receipt that an issuer adds to the settlement of a payment for this URL.
fn receipt_of(issuer: &OfferIssuer, url: &str, change: impl FnOnce(&mut Terms, &mut SettleResponse)) -> RawJson {
    let mut offered = terms(1_000);
    let (_, mut settled) = paid(&RawJson::null(), None);
    change(&mut offered, &mut settled);
    let claim = Claim::of_payload(offered, RawJson::null());
    let resource = ResourceInfo::of(url);
    issuer.on_receipt(&SettledClaim::new(&claim, Some(&resource), &settled, NOW)).unwrap()
}

async fn read(book: &ReceiptBook, declared: &RawJson, receipt: RawJson, now: UnixSeconds) -> Result<(), Refusal> {
    let (payment, settled) = paid(declared, Some(receipt));
    book.on_paid(&PaidRequest::new(&payment, &settled, URL, "GET", now)).await
}

fn code(refused: Result<(), Refusal>) -> ErrorReason {
    match refused.unwrap_err() {
        Refusal::Rejection(rejection) => rejection.reason,
        Refusal::Fault(fault) => panic!("{fault}"),
    }
}

#[tokio::test]
async fn a_receipt_of_this_payment_is_kept_and_every_other_one_refused() {
    let shelf = Arc::new(Shelf::default());
    let book = ReceiptBook::new(Arc::clone(&shelf) as Arc<dyn KeepReceipt>);
    let (issuer, url) = (OfferIssuer::new(key()).with_transaction(), "https://api.example.com/data");
    let declared = declaration(&issuer, url, &[1_000]);
    let good = receipt_of(&issuer, url, |_, _| {});
    read(&book, &declared, good.clone(), NOW).await.unwrap();
    let kept = shelf.kept.lock().unwrap().pop().unwrap();
    assert_eq!((kept.url.as_str(), kept.method.as_str(), kept.transaction.as_str()), (URL, "GET", "0xabab"));
    // A third party reads the file and nothing else.
    let file = serde_json::to_string(&kept).unwrap();
    let proof = KeptReceipt::parse(file.as_bytes()).unwrap().prove(&KnownKeys::new()).unwrap();
    assert_eq!(proof.offer.as_ref().unwrap().amount, AtomicAmount::from(1_000));
    assert_eq!((&*proof.receipt.payload.payer, proof.is_signed_by_payee()), (PAYER, false));

    let none = RawJson::parse(r#"{"info":{}}"#.into()).unwrap();
    let forged = RawJson::parse(good.as_str().replace(PAYER, PAYEE)).unwrap();
    let another = OfferIssuer::new(IssuerKey::eip712(ANOTHER.parse().unwrap()));
    for (receipt, now, why) in [
        (none, NOW, "no receipt"),
        (forged, NOW, "another payer, under the old signature"),
        (receipt_of(&issuer, url, |_, settled| settled.payer = Some(PAYEE.into())), NOW, "another payer, signed"),
        (receipt_of(&issuer, url, |terms, _| terms.network = "eip155:8453".parse().unwrap()), NOW, "another network"),
        (receipt_of(&issuer, "https://api.example.com/other", |_, _| {}), NOW, "another resource"),
        (receipt_of(&issuer, url, |_, settled| settled.transaction = "0xcdcd".into()), NOW, "another transaction"),
        (receipt_of(&another, url, |_, _| {}), NOW, "re-signed by another key than the offer"),
        (good.clone(), UnixSeconds(NOW.0 + 3_601), "old"),
        (good.clone(), UnixSeconds(NOW.0 - 301), "of the future"),
    ] {
        assert_eq!(code(read(&book, &declared, receipt, now).await), INVALID_RECEIPT, "{why}");
    }
    assert!(shelf.kept.lock().unwrap().is_empty());
    // Without an offer there is no signer to compare with.
    read(&book, &RawJson::null(), receipt_of(&another, url, |_, _| {}), NOW).await.unwrap();
    let strict =
        ReceiptBook::new(Arc::clone(&shelf) as Arc<dyn KeepReceipt>).with_trust(SignerTrust::PayeeOr(Vec::new()));
    let untrusted = read(&strict, &RawJson::null(), receipt_of(&issuer, url, |_, _| {}), NOW).await;
    assert_eq!(code(untrusted), UNTRUSTED_SIGNER);
    let full = ReceiptBook::new(Arc::new(Shelf { fails: true, ..Shelf::default() }));
    assert!(matches!(read(&full, &declared, good, NOW).await, Err(Refusal::Fault(Fault::Store { .. }))));
}

#[tokio::test]
async fn a_kept_receipt_is_no_proof_after_a_change() {
    let shelf = Arc::new(Shelf::default());
    let book = ReceiptBook::new(Arc::clone(&shelf) as Arc<dyn KeepReceipt>);
    let (issuer, url) = (OfferIssuer::new(key()), "https://api.example.com/data");
    let declared = declaration(&issuer, url, &[1_000]);
    read(&book, &declared, receipt_of(&issuer, url, |_, _| {}), NOW).await.unwrap();
    let kept = shelf.kept.lock().unwrap().pop().unwrap();
    let file = serde_json::to_string(&kept).unwrap();
    let prove = |text: &str| KeptReceipt::parse(text.as_bytes()).unwrap().prove(&KnownKeys::new());
    assert!(prove(&file).is_ok());
    // The amount of the offer is signed, so that another amount has another signer.
    let raised = prove(&file.replace(r#""amount":"1000""#, r#""amount":"9000""#));
    assert!(matches!(raised, Err(ReceiptFault::OtherSigner { .. } | ReceiptFault::Artifact(_))), "{raised:?}");
    let other = declaration(&issuer, "https://api.example.com/other", &[1_000]);
    let offers: Vec<RawJson> = echo::info(&other).unwrap().get("offers").unwrap().read().unwrap();
    let mut exchanged = serde_json::to_value(&kept).unwrap();
    exchanged["offer"] = offers[0].read().unwrap();
    let exchanged = prove(&exchanged.to_string());
    assert!(matches!(exchanged, Err(ReceiptFault::Other { member: "resourceUrl", .. })), "{exchanged:?}");
    // A bare receipt is a proof of less.
    let bare = prove(kept.receipt.as_str()).unwrap();
    assert_eq!((bare.offer, &*bare.receipt.payload.payer), (None, PAYER));
    for bad in ["", "{}", "[]", "null", r#"{"receipt":1}"#, r#"{"receipt":{},"url":1}"#] {
        let read = KeptReceipt::parse(bad.as_bytes());
        assert!(read.is_err() || read.unwrap().prove(&KnownKeys::new()).is_err(), "{bad}");
    }
}

#[test]
fn a_key_of_p256_is_read_with_both_coordinates_alone() {
    for kid in [
        // The P-256 key of did:key's test vectors, in the compressed form that needs a square root.
        "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169",
        "did:key:zUnknown",
        "did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc",
    ] {
        assert!(PublicKey::of_did(kid).is_err(), "{kid}");
    }
    assert_eq!(JwsAlgorithm::of("none"), None);
}
