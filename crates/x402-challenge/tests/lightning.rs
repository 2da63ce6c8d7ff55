//! Published BOLT11 invoices with their preimages.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

use core::time::Duration;
use std::sync::Arc;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use x402_challenge::lightning::{INVOICE, VerifyLightning, asset, pay_to};
use x402_challenge::{Bind, ChallengeOffer, Charge, CheckError, Gate, MemoryStore, Proofs, answer};
use x402_types::challenge::{Challenge, Code, Payment, Proof, ProofKind};
use x402_types::{Members, TimeoutSeconds, UnixSeconds};

mod common;
use common::{REQUEST, block_on, refused};

/// An invoice that was paid, with what its source says of it.
#[derive(Debug, Clone, Copy)]
struct Paid {
    invoice: &'static str,
    preimage: &'static str,
    network: &'static str,
    /// In millisatoshi.
    amount: u64,
    node: &'static str,
    created_at: u64,
    expiry: u64,
}

/// The example in the README of github.com/fiatjaf/invoicewithdescriptionhash, with `lightning-cli decodepay` of it. It
/// has the hash of a description.
const MAINNET: Paid = Paid {
    invoice: "lnbc50n1p385acapp57zs4m53hr3q8qh4p0s3t8h0534k2p9ef4dxtegn5536tshgp9w9shp5ra6xfth28fyun634lkk02xyryxwdsp73f92a80gauqae3p7j8pxscqzysxqyjw5qrzjq29zewx4rezd04lpprpwsz5cesrfz30qtfkjqfw0249a3pn0uv5exzdefqqqxecqqqqqqqqqqqqqphqqjqsp5alv2yackqwd5xksfq8l2665dryhd84h7hqqn5yv8h9w2yl2zcsaq9qxsqysgqez655js80ue2qk9dafgv3eg0am0cqetz3sekx44zt3dk09j27v5s2sjma88tnjkz5u3lx57uuyszza908umd949zz26jz2wglsnfysqqpulunp",
    preimage: "f0e8ca8ddb3c49974a80620fecbf15b26c8645e3d77dcaa3649267cbd68de03a",
    network: "lightning:bitcoin:mainnet",
    amount: 5000,
    node: "02c16cca44562b590dd279c942200bdccfd4f990c3a69fad620c10ef2f8228eaff",
    created_at: 1_652_193_053,
    expiry: 604_800,
};

/// "validate preimage" of github.com/getAlby/js-lightning-tools, `src/bolt11/Invoice.test.ts`. Its node and time are what
/// a bech32 decoder of ten lines of Python reads in its members `n` and `timestamp`.
const SIGNET: Paid = Paid {
    invoice: "lntbs1u1pn495zkdqqnp4qvm5zrv3xj48gy00qxa4njj9kkwc948ul053pxe7v5phulpkkjmvzpp507kr6wlmy9mp0zclumet2w4edxlwpc9sz044v5890569kzycwxjqsp5pusvsaaczett7tmlhulaqa5gnqk74xzxyfmdxrhfjjs82587dm5s9qyysgqcqpcxqyz5vqrzjqv4wssly6lgh0u236qs6eqzykp3ka3etrn3lln09cpr53ke9z74s8apyqqqqqqqpj5qqqqqqqqqqqqqq2qrzjq03slkn33pafzmh42j9y6q4sdlsy42s63h57ysf5eel3888hn46hnapyqqqqqqqq5sqqqqlgqqqq86qqjqrk3pm9hs43rvr7ljfa7vx74s6xxwnzcg6ju8sue69sxlftd9ksuk0k0g0uz3ju9dwmhva2hu4rpl8hezllfy944y5trl5kzk7e4n2pcpjqs23j",
    preimage: "a7b9eab23a1d8442733f78bdfd408349d3dc29f75afb5b037f44ec7ee3835615",
    network: "lightning:bitcoin:signet",
    amount: 100_000,
    node: "0337410d9134aa7411ef01bb59ca45b59d82d4fcfbe9109b3e65037e7c36b4b6c1",
    created_at: 1_733_480_534,
    expiry: 86_400,
};

fn offer(paid: &Paid, meta: Option<&str>) -> ChallengeOffer {
    let mut members = Members::new();
    if let Some(invoice) = meta {
        members.insert_text(INVOICE, invoice);
    }
    ChallengeOffer {
        network: paid.network.parse().unwrap(),
        asset: asset(),
        pay_to: pay_to(paid.node).unwrap(),
        amount: paid.amount.into(),
        charge: Charge::Exact,
        timeout: TimeoutSeconds::try_from(300).unwrap(),
        resource: "urn:res:abc123".parse().unwrap(),
        meta: Some(members),
        bind: Bind::default(),
    }
}

struct Shop {
    gate: Gate,
    offer: ChallengeOffer,
    now: UnixSeconds,
}

impl Shop {
    /// Asks for that invoice's sum as it stands in `meta`, if it does.
    fn new(paid: &Paid, meta: Option<&str>) -> Self {
        let proofs = Proofs::default().with(Arc::new(VerifyLightning)).unwrap();
        let gate = Gate::new(Arc::new(MemoryStore::default()), proofs);
        Self { gate, offer: offer(paid, meta), now: UnixSeconds(paid.created_at + 10) }
    }

    fn challenge(&self, n: u8) -> Challenge {
        block_on(self.gate.issue(&self.offer, &REQUEST, [n; 16], self.now)).unwrap()
    }

    fn payment(&self, n: u8, paid: &Paid) -> Payment {
        let proof = Proof {
            invoice: Some(paid.invoice.into()),
            preimage: Some(paid.preimage.into()),
            ..Proof::new(ProofKind::Lightning)
        };
        answer(&self.challenge(n), proof, [n; 16], self.now)
    }

    fn check(&self, payment: &Payment) -> Result<(), CheckError> {
        block_on(self.gate.check_payment(payment.clone(), &self.offer, &REQUEST, None, self.now)).map(drop)
    }

    fn refused(&self, payment: &Payment) -> (Code, String) {
        refused(self.check(payment))
    }
}

#[test]
fn an_invoice_and_its_preimage_pay_once() {
    let shop = Shop::new(&MAINNET, Some(MAINNET.invoice));
    let payment = shop.payment(1, &MAINNET);
    assert_eq!(shop.check(&payment), Ok(()));
    assert_eq!(shop.refused(&payment).0, Code::Replay);
    // The payment hash is used once, whatever challenge shows it.
    assert_eq!(shop.refused(&shop.payment(2, &MAINNET)), (Code::VerificationFailed, "proof".into()));
    // In capitals, as QR codes have it.
    let shop = Shop::new(&MAINNET, Some(MAINNET.invoice));
    let mut capitals = shop.payment(1, &MAINNET);
    capitals.proof.invoice = Some(MAINNET.invoice.to_ascii_uppercase().into());
    capitals.proof.preimage = Some(MAINNET.preimage.to_ascii_uppercase().into());
    assert_eq!(shop.check(&capitals), Ok(()));
}

#[test]
fn another_network_and_an_invoice_that_names_its_node() {
    let shop = Shop::new(&SIGNET, Some(SIGNET.invoice));
    assert_eq!(shop.check(&shop.payment(1, &SIGNET)), Ok(()));
}

/// Account 0 of the mnemonic `test test … junk`, whose public key and address are published everywhere.
#[test]
fn an_address_names_a_node() {
    let key = "038318535b54105d4a7aae60c08fc45f9687181b4fdfc625bd1a753fa7397fed75";
    assert_eq!(pay_to(key).unwrap().as_str(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    for bad in ["", "zz", &key[2..], &format!("05{}", &key[2..]), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"] {
        assert!(pay_to(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn what_is_refused() {
    let failed = |field: &str| (Code::VerificationFailed, field.to_owned());
    let other = "lightning:bitcoin:regtest";
    for (asked, meta, now, expected) in [
        // Of another network, to another node, for more, and not for this challenge.
        (Paid { network: other, ..MAINNET }, MAINNET.invoice, 10, failed("proof.invoice")),
        (Paid { node: SIGNET.node, ..MAINNET }, MAINNET.invoice, 10, failed("proof.invoice")),
        (Paid { amount: 5001, ..MAINNET }, MAINNET.invoice, 10, failed("proof.invoice")),
        (MAINNET, SIGNET.invoice, 10, failed("proof.invoice")),
        (MAINNET, "", 10, failed("proof.invoice")),
        // Its last second is inclusive.
        (MAINNET, MAINNET.invoice, MAINNET.expiry + 1, failed("proof.invoice")),
        // Not asked for by Lightning.
        (Paid { network: "evm:base:mainnet", ..MAINNET }, MAINNET.invoice, 10, (Code::Mismatch, "proof.type".into())),
    ] {
        let meta = Some(meta).filter(|meta| !meta.is_empty());
        let shop = Shop { now: UnixSeconds(asked.created_at + now), ..Shop::new(&asked, meta) };
        assert_eq!(shop.refused(&shop.payment(1, &MAINNET)), expected, "{asked:?} {meta:?} {now}");
    }
    let in_time = UnixSeconds(MAINNET.created_at + MAINNET.expiry);
    let shop = Shop { now: in_time, ..Shop::new(&MAINNET, Some(MAINNET.invoice)) };
    assert_eq!(shop.check(&shop.payment(1, &MAINNET)), Ok(()));

    let mut shop = Shop::new(&MAINNET, Some(MAINNET.invoice));
    shop.offer.asset = "0x036CbD53842c5426634e7929541eC2318f3dCF7e".parse().unwrap();
    assert_eq!(shop.refused(&shop.payment(1, &MAINNET)), (Code::Mismatch, "proof.type".into()));
}

#[test]
fn a_preimage_that_is_not_the_invoices() {
    let shop = Shop::new(&MAINNET, Some(MAINNET.invoice));
    let good = shop.payment(1, &MAINNET);
    let payment_hash = "f0a15dd2371c40705ea17c22b3ddf48d6ca09729ab4cbca274a474b85d012b8b";
    for preimage in [SIGNET.preimage, payment_hash, &"00".repeat(32), "f0e8", ""] {
        let mut bad = good.clone();
        bad.proof.preimage = Some(preimage.into());
        assert_eq!(shop.refused(&bad), (Code::VerificationFailed, "proof.preimage".into()), "{preimage:?}");
    }
    assert_eq!(shop.check(&good), Ok(()));
}

/// One character of a published invoice changed, everywhere: the checksum or the signature fails.
#[test]
fn a_changed_invoice_is_refused() {
    let shop = Shop::new(&MAINNET, Some(MAINNET.invoice));
    let good = shop.payment(1, &MAINNET);
    for at in (0..MAINNET.invoice.len()).step_by(7) {
        let mut text = MAINNET.invoice.as_bytes().to_vec();
        text[at] = if text[at] == b'q' { b'p' } else { b'q' };
        let mut bad = good.clone();
        bad.proof.invoice = Some(String::from_utf8(text).unwrap().into());
        assert_eq!(shop.refused(&bad), (Code::VerificationFailed, "proof.invoice".into()), "{at}");
    }
    for text in ["lnbc", "lnbc1", "0", &MAINNET.invoice[..100], &format!("{} ", MAINNET.invoice)] {
        let mut bad = good.clone();
        bad.proof.invoice = Some(text.into());
        assert_eq!(shop.refused(&bad).0, Code::VerificationFailed, "{text:?}");
    }
}

/// What LDK makes of a description, for [`PREIMAGE`].
fn made(described: Description<'_>, amount: Option<u64>) -> String {
    let key = SecretKey::from_slice(&[7; 32]).unwrap();
    let hash = sha256::Hash::hash(&PREIMAGE);
    let builder = InvoiceBuilder::new(Currency::Regtest);
    let builder = match described {
        Description::Text(text) => builder.description(text.into()),
        Description::HashOf(text) => builder.description_hash(sha256::Hash::hash(text.as_bytes())),
    };
    let builder = builder
        .payment_hash(hash)
        .payment_secret(PaymentSecret([9; 32]))
        .duration_since_epoch(Duration::from_secs(MADE_AT))
        .min_final_cltv_expiry_delta(144);
    let builder = match amount {
        Some(amount) => builder.amount_milli_satoshis(amount),
        None => builder,
    };
    let secp = Secp256k1::new();
    builder.build_signed(|digest| secp.sign_ecdsa_recoverable(digest, &key)).unwrap().to_string()
}

enum Description<'d> {
    Text(&'d str),
    HashOf(&'d str),
}

const PREIMAGE: [u8; 32] = [5; 32];
const MADE_AT: u64 = 1_760_875_200;

/// The invoice that is not in `meta` names the challenge, by its id or the hash of it.
#[test]
fn an_invoice_that_names_the_challenge() {
    let key = SecretKey::from_slice(&[7; 32]).unwrap().public_key(&Secp256k1::new()).to_string();
    let node: &'static str = key.leak();
    let preimage: &'static str = "05".repeat(32).leak();
    let asked = Paid {
        invoice: "",
        preimage,
        network: "lightning:bitcoin:regtest",
        amount: 1000,
        node,
        created_at: MADE_AT,
        expiry: 3600,
    };
    let other = "919108f7-52d1-4320-9bac-f847db4148a8";
    for (good, of) in [(true, "text"), (true, "hash"), (false, "other"), (false, "other hash"), (false, "no sum")] {
        let shop = Shop::new(&asked, None);
        let mut payment = shop.payment(1, &asked);
        let id = payment.challenge_id.to_string();
        let (described, amount) = match of {
            "text" => (Description::Text(&id), Some(1000)),
            "hash" => (Description::HashOf(&id), Some(1001)),
            "other" => (Description::Text(other), Some(1000)),
            "other hash" => (Description::HashOf(other), Some(1000)),
            _ => (Description::Text(&id), None),
        };
        payment.proof.invoice = Some(made(described, amount).into());
        let expected = (Code::VerificationFailed, "proof.invoice".to_owned());
        if good {
            assert_eq!(shop.check(&payment), Ok(()), "{of}");
        } else {
            assert_eq!(shop.refused(&payment), expected, "{of}");
        }
    }
}
