//! `lightning`: a [BOLT11](https://github.com/lightning/bolts/blob/master/11-payment-encoding.md) invoice of the seller
//! and the preimage of its payment hash, which only its payer knows. Such a proof is verified offline.
//!
//! `docs/adr/0006-lightning-challenges.md` defines the challenge: the network is `lightning:bitcoin:` and `mainnet`,
//! `testnet`, `signet` or `regtest`; the asset is the zero address, which means the coin itself; amounts are
//! millisatoshi; `payTo` is the EVM address of the node's public key ([`pay_to`]). The invoice is in `meta.invoice`, or
//! names the challenge in its description.

use core::time::Duration;

use alloy_primitives::{Address, keccak256};
use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef, Currency};
use sha2::{Digest, Sha256};
use x402_types::challenge::{BodySha256, Challenge, Code, Network, Proof, ProofKind};
use x402_types::{AtomicAmount, EvmAddress, Malformed, UnixSeconds};

use crate::proof::{Evidence, ProofError, Proven, VerifyProof};
use crate::refused::ChallengeRefusal;
use crate::store::ProofKey;

/// The names of the networks that Lightning challenges may use.
pub const NETWORKS: [&str; 4] =
    ["lightning:bitcoin:mainnet", "lightning:bitcoin:testnet", "lightning:bitcoin:signet", "lightning:bitcoin:regtest"];

/// The member of a challenge's `meta` that holds the invoice.
pub const INVOICE: &str = "invoice";

fn currency(network: &Network) -> Option<Currency> {
    let [mainnet, testnet, signet, regtest] = NETWORKS;
    match network.as_str() {
        name if name == mainnet => Some(Currency::Bitcoin),
        name if name == testnet => Some(Currency::BitcoinTestnet),
        name if name == signet => Some(Currency::Signet),
        name if name == regtest => Some(Currency::Regtest),
        _ => None,
    }
}

/// Returns the `asset` of a challenge that is paid by Lightning: the zero address.
#[must_use]
pub fn asset() -> EvmAddress {
    Address::ZERO.into()
}

/// Returns the `payTo` of a node: the EVM address of its public key, 33 bytes in hex. The key is a point on secp256k1,
/// as an account's is, so that the address identifies the node.
///
/// # Errors
/// The text is not a public key.
pub fn pay_to(node_id: &str) -> Result<EvmAddress, Malformed> {
    node_id.parse().map(|key| address(&key)).map_err(|_| Malformed::new("a node id: 66 hex digits"))
}

fn address(key: &PublicKey) -> EvmAddress {
    let point = key.serialize_uncompressed();
    let hash = keccak256(point.get(1..).unwrap_or_default());
    Address::from_word(hash).into()
}

/// Verifies `lightning` proofs.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerifyLightning;

#[async_trait]
impl VerifyProof for VerifyLightning {
    fn kind(&self) -> ProofKind {
        ProofKind::Lightning
    }

    async fn verify(&self, evidence: &Evidence<'_>, _: UnixSeconds) -> Result<Proven, ProofError> {
        let (challenge, payment) = (&evidence.issued.challenge, evidence.payment);
        let key = check(challenge, evidence.issued.issued_at, payment.paid_amount, &payment.proof)?;
        Ok(Proven { amount: payment.paid_amount, key: Some(key) })
    }
}

pub(crate) fn check(
    challenge: &Challenge,
    issued_at: UnixSeconds,
    paid: AtomicAmount,
    proof: &Proof,
) -> Result<ProofKey, ChallengeRefusal> {
    let refuse = |code, why: &str| Err(ChallengeRefusal::new(code, why));
    let Some(currency) = currency(&challenge.network) else {
        return refuse(Code::Mismatch, "proof.type: the challenge's network is not paid by Lightning");
    };
    if challenge.asset.unchecked() != Address::ZERO {
        return refuse(Code::Mismatch, "proof.type: the challenge's asset is not paid by Lightning");
    }
    let bad = |why: &str| refuse(Code::VerificationFailed, why);
    let text = proof.invoice.as_deref().unwrap_or_default();
    // Parsing verifies the signature; the payee's key is in the invoice or is recovered from the signature.
    let Ok(invoice) = text.parse::<Bolt11Invoice>() else {
        return bad("proof.invoice: not a BOLT11 invoice");
    };
    if invoice.currency() != currency {
        return bad("proof.invoice: of another network");
    }
    if address(&invoice.get_payee_pub_key()).unchecked() != challenge.pay_to.unchecked() {
        return bad("proof.invoice: not the challenge's payTo");
    }
    if !is_for(&invoice, text, challenge) {
        return bad("proof.invoice: not issued for this challenge");
    }
    // An invoice without a sum can be paid with any amount.
    if invoice.amount_milli_satoshis().is_none_or(|amount| AtomicAmount::from(amount) < paid) {
        return bad("proof.invoice: less than paidAmount");
    }
    if invoice.would_expire(Duration::from_secs(issued_at.0)) {
        return bad("proof.invoice: expired before the challenge was issued");
    }
    let preimage: BodySha256 = match proof.preimage.as_deref().unwrap_or_default().parse() {
        Ok(preimage) => preimage,
        Err(_) => return bad("proof.preimage: expected 64 hex digits"),
    };
    let hash: [u8; 32] = Sha256::digest(preimage.0).into();
    if AsRef::<[u8]>::as_ref(invoice.payment_hash()) != hash.as_slice() {
        return bad("proof.preimage: not that of the invoice's payment hash");
    }
    Ok(ProofKey(format!("lightning:{}", BodySha256(hash)).into()))
}

/// Returns whether the invoice was issued for this challenge. An invoice that the seller issued for something else, and
/// that another buyer paid, must not pay a challenge.
fn is_for(invoice: &Bolt11Invoice, text: &str, challenge: &Challenge) -> bool {
    if let Some(issued) = challenge.meta.as_ref().and_then(|meta| meta.text(INVOICE)) {
        return issued.eq_ignore_ascii_case(text);
    }
    let id = challenge.challenge_id.as_str();
    match invoice.description() {
        Bolt11InvoiceDescriptionRef::Direct(description) => description.as_inner().0 == id,
        Bolt11InvoiceDescriptionRef::Hash(hash) => {
            AsRef::<[u8]>::as_ref(&hash.0) == Sha256::digest(id.as_bytes()).as_slice()
        }
    }
}
