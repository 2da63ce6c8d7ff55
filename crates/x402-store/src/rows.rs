//! The ledger's rows as they are stored: types of their own, so that a member added to a type of the core changes no
//! row. Their members keep the names that format 1 began with; a new member needs a default, or a new format.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use x402_facilitator_core::{
    Attempt, LaneId, OnceKey, OwnerId, Parcel, Payment, Receipt, RequestId, Slot, SlotId, Step, StepName, StepProof,
    StepState, TxId,
};
use x402_types::v2::ResourceInfo;
use x402_types::{
    AtomicAmount, ChainId, Claim, ErrorReason, Identity, Members, PaymentKey, RawJson, SchemeName, Terms,
    TimeoutSeconds, UnixSeconds, Version,
};

/// Bytes: lower-case hex without a prefix, so that an operator can read a row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hex(Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |half: u8| char::from(if half < 10 { b'0' + half } else { b'a' + half - 10 });
        let mut text = String::with_capacity(self.0.len().saturating_mul(2));
        text.extend(self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)]));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes = pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect();
        let bytes: Option<Vec<u8>> = if rest.is_empty() { bytes } else { None };
        bytes.map(Self).ok_or_else(|| de::Error::custom("expected lower-case hex"))
    }
}

/// The 32 bytes of a parcel's name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Hex", into = "Hex")]
struct Hex32([u8; 32]);

impl TryFrom<Hex> for Hex32 {
    type Error = &'static str;

    fn try_from(hex: Hex) -> Result<Self, Self::Error> {
        hex.0.try_into().map(Self).map_err(|_| "expected 32 bytes")
    }
}

impl From<Hex32> for Hex {
    fn from(hex: Hex32) -> Self {
        Self(hex.0.to_vec())
    }
}

impl From<&PaymentKey> for Hex {
    fn from(key: &PaymentKey) -> Self {
        Self(key.as_bytes().to_vec())
    }
}

impl From<Hex> for PaymentKey {
    fn from(hex: Hex) -> Self {
        Self::from_bytes(&hex.0)
    }
}

impl From<OnceKey> for Hex {
    fn from(key: OnceKey) -> Self {
        Self(key.0)
    }
}

/// The stored form of a payment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredPayment {
    key: Hex,
    claim: StoredClaim,
    payer: String,
    lane: String,
    steps: Vec<StoredStep>,
    answer: Option<Result<StoredReceipt, ErrorReason>>,
    call: StoredRequestId,
    /// The value is `false` in rows that were written before this member existed: an older process may have returned
    /// the success, so it is not returned again.
    #[serde(default)]
    untold: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spent_by: Option<String>,
    reopened: u32,
    #[serde(default)]
    claimed: UnixSeconds,
    due: UnixSeconds,
    #[serde(default)]
    waits: u32,
    keep_until: UnixSeconds,
    version: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredClaim {
    terms: StoredTerms,
    payload: RawJson,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource: Option<ResourceInfo>,
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    extensions: Members,
    identity: StoredIdentity,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredTerms {
    version: Version,
    scheme: SchemeName,
    network: ChainId,
    amount: AtomicAmount,
    asset: String,
    pay_to: String,
    max_timeout_seconds: TimeoutSeconds,
    extra: Members,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredIdentity {
    caller: String,
    request: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredRequestId {
    owner: String,
    number: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredStep {
    name: String,
    guard: Hex,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alone: Option<Hex>,
    parcels: Vec<StoredParcel>,
    carriers: Vec<StoredSlotId>,
    state: StoredState,
}

#[derive(Debug, Serialize, Deserialize)]
enum StoredState {
    Ready,
    Carried,
    Loose,
    Proven(StoredProof),
    Dead(ErrorReason),
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredProof {
    tx: String,
    amount: AtomicAmount,
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    extra: Members,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredReceipt {
    transaction: Option<String>,
    network: ChainId,
    payer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<AtomicAmount>,
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    extra: Members,
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    extensions: Members,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredParcel {
    id: Hex32,
    bytes: Hex,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredSlotId {
    lane: String,
    nonce: u64,
}

/// The stored form of a slot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredSlot {
    id: StoredSlotId,
    cargo: Vec<Hex>,
    attempts: Vec<StoredAttempt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken: Option<String>,
    #[serde(default)]
    opened: UnixSeconds,
    used: bool,
    turns: u32,
    due: UnixSeconds,
    version: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredAttempt {
    tx: String,
    bytes: Hex,
    /// `u128` as decimal text: JSON readers that buffer lose what does not fit into 64 bits.
    #[serde(with = "decimal")]
    fee: u128,
}

/// `u128` as decimal text.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Cow;

    pub(super) fn serialize<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl From<&Payment> for StoredPayment {
    fn from(payment: &Payment) -> Self {
        Self {
            key: (&payment.key).into(),
            claim: (&payment.claim).into(),
            payer: payment.payer.clone(),
            lane: payment.lane.to_string(),
            steps: payment.steps.iter().map(Into::into).collect(),
            answer: payment.answer.as_ref().map(|answer| answer.as_ref().map(Into::into).map_err(Clone::clone)),
            call: StoredRequestId { owner: payment.request.owner.to_string(), number: payment.request.number },
            untold: payment.untold,
            spent_by: payment.spent_by.as_ref().map(ToString::to_string),
            reopened: payment.reopened,
            claimed: payment.claimed,
            due: payment.due,
            waits: payment.waits,
            keep_until: payment.keep_until,
            version: payment.version,
        }
    }
}

impl From<StoredPayment> for Payment {
    fn from(stored: StoredPayment) -> Self {
        let StoredPayment { key, claim, payer, lane, steps, answer, call, .. } = stored;
        let request = RequestId { owner: OwnerId::from(call.owner), number: call.number };
        let mut payment = Self::from_row(key.into(), claim.into(), payer, lane.into(), request);
        payment.steps = steps.into_iter().map(Into::into).collect();
        payment.answer = answer.map(|answer| answer.map(Into::into));
        payment.untold = stored.untold;
        payment.spent_by = stored.spent_by.map(Into::into);
        payment.reopened = stored.reopened;
        payment.claimed = stored.claimed;
        payment.due = stored.due;
        payment.waits = stored.waits;
        payment.keep_until = stored.keep_until;
        payment.version = stored.version;
        payment
    }
}

impl From<&Claim> for StoredClaim {
    fn from(claim: &Claim) -> Self {
        let Terms { version, scheme, network, amount, asset, pay_to, max_timeout_seconds, extra, .. } =
            claim.terms.clone();
        let Identity { caller, request, .. } = claim.identity.clone();
        Self {
            terms: StoredTerms { version, scheme, network, amount, asset, pay_to, max_timeout_seconds, extra },
            payload: claim.payload.clone(),
            resource: claim.resource.clone(),
            extensions: claim.extensions.clone(),
            identity: StoredIdentity { caller, request },
        }
    }
}

impl From<StoredClaim> for Claim {
    fn from(stored: StoredClaim) -> Self {
        let StoredClaim { terms, payload, resource, extensions, identity } = stored;
        let StoredTerms { version, scheme, network, amount, asset, pay_to, max_timeout_seconds, extra } = terms;
        let StoredIdentity { caller, request } = identity;
        let terms = Terms::new(scheme, network, amount, asset, pay_to)
            .with_version(version)
            .with_max_timeout_seconds(max_timeout_seconds)
            .with_extra(extra);
        let identity = Identity::new(caller, request);
        let mut claim = Self::of_payload(terms, payload).with_extensions(extensions).with_identity(identity);
        claim.resource = resource;
        claim
    }
}

impl From<&Step> for StoredStep {
    fn from(step: &Step) -> Self {
        Self {
            name: step.name.to_string(),
            guard: step.once_key.clone().into(),
            alone: step.exclusive.clone().map(Into::into),
            parcels: step.parcels.iter().map(Into::into).collect(),
            carriers: step.carriers.iter().map(Into::into).collect(),
            state: match &step.state {
                StepState::Ready => StoredState::Ready,
                StepState::InFlight => StoredState::Carried,
                StepState::Unaccounted => StoredState::Loose,
                StepState::Proven(proof) => StoredState::Proven(proof.into()),
                StepState::Dead(reason) => StoredState::Dead(reason.clone()),
            },
        }
    }
}

impl From<StoredStep> for Step {
    fn from(stored: StoredStep) -> Self {
        let StoredStep { name, guard, alone, parcels, carriers, state } = stored;
        let mut step = Self::new(StepName::from(name), OnceKey(guard.0));
        step.exclusive = alone.map(|key| OnceKey(key.0));
        step.parcels = parcels.into_iter().map(Into::into).collect();
        step.carriers = carriers.into_iter().map(Into::into).collect();
        step.state = match state {
            StoredState::Ready => StepState::Ready,
            StoredState::Carried => StepState::InFlight,
            StoredState::Loose => StepState::Unaccounted,
            StoredState::Proven(proof) => StepState::Proven(proof.into()),
            StoredState::Dead(reason) => StepState::Dead(reason),
        };
        step
    }
}

impl From<&StepProof> for StoredProof {
    fn from(proof: &StepProof) -> Self {
        Self { tx: proof.tx.to_string(), amount: proof.amount, extra: proof.extra.clone() }
    }
}

impl From<StoredProof> for StepProof {
    fn from(stored: StoredProof) -> Self {
        let mut proof = Self::new(stored.tx.into(), stored.amount);
        proof.extra = stored.extra;
        proof
    }
}

impl From<&Receipt> for StoredReceipt {
    fn from(receipt: &Receipt) -> Self {
        Self {
            transaction: receipt.transaction.as_ref().map(ToString::to_string),
            network: receipt.network,
            payer: receipt.payer.clone(),
            amount: receipt.amount,
            extra: receipt.extra.clone(),
            extensions: receipt.extensions.clone(),
        }
    }
}

impl From<StoredReceipt> for Receipt {
    fn from(stored: StoredReceipt) -> Self {
        let mut receipt = Self::new(stored.transaction.map(TxId::from), stored.network, stored.payer);
        receipt.amount = stored.amount;
        receipt.extra = stored.extra;
        receipt.extensions = stored.extensions;
        receipt
    }
}

impl From<&Parcel> for StoredParcel {
    fn from(parcel: &Parcel) -> Self {
        Self { id: Hex32(parcel.id), bytes: Hex(parcel.bytes.clone()) }
    }
}

impl From<StoredParcel> for Parcel {
    fn from(stored: StoredParcel) -> Self {
        Self::new(stored.id.0, stored.bytes.0)
    }
}

impl From<&SlotId> for StoredSlotId {
    fn from(id: &SlotId) -> Self {
        Self { lane: id.lane.to_string(), nonce: id.nonce }
    }
}

impl From<StoredSlotId> for SlotId {
    fn from(stored: StoredSlotId) -> Self {
        Self { lane: LaneId::from(stored.lane), nonce: stored.nonce }
    }
}

impl From<&Slot> for StoredSlot {
    fn from(slot: &Slot) -> Self {
        Self {
            id: (&slot.id).into(),
            cargo: slot.payments.iter().map(Into::into).collect(),
            attempts: slot.attempts.iter().map(Into::into).collect(),
            taken: slot.taken.as_ref().map(ToString::to_string),
            opened: slot.opened,
            used: slot.used,
            turns: slot.resends,
            due: slot.due,
            version: slot.version,
        }
    }
}

impl From<StoredSlot> for Slot {
    fn from(stored: StoredSlot) -> Self {
        let mut slot = Self::new(stored.id.into());
        slot.payments = stored.cargo.into_iter().map(Into::into).collect();
        slot.attempts = stored.attempts.into_iter().map(Into::into).collect();
        slot.taken = stored.taken.map(TxId::from);
        slot.opened = stored.opened;
        slot.used = stored.used;
        slot.resends = stored.turns;
        slot.due = stored.due;
        slot.version = stored.version;
        slot
    }
}

impl From<&Attempt> for StoredAttempt {
    fn from(attempt: &Attempt) -> Self {
        Self { tx: attempt.tx.to_string(), bytes: Hex(attempt.bytes.clone()), fee: attempt.fee }
    }
}

impl From<StoredAttempt> for Attempt {
    fn from(stored: StoredAttempt) -> Self {
        Self::new(stored.tx.into(), stored.bytes.0, stored.fee)
    }
}
