//! The payments of a run, each with a sum of its own, so that a transfer shows which of them it is.

use alloy_primitives::{Address, B256, U256, uint};
use x402_devchain::{ACCOUNTS, TestToken, signer};
use x402_evm::permit2::{ByPermit2, Payer, Permit, PermitPayload, SettleCall};
use x402_evm::token::Tokens;
use x402_types::{
    Asset, Assets, AtomicAmount, ChainId, Claim, Identity, MakePayment, SigningContext, TimeoutSeconds, TransferMethod,
};

use crate::approvals::{self, Flaw};
use crate::world::World;

pub const CHAIN: u64 = 84_532;
/// A token that can begin to take a fee.
pub const SPECIAL: Address = Address::repeat_byte(0x77);
pub const PAYEE: usize = 3;
/// The accounts that settle.
pub const LANES: [usize; 2] = [0, 5];
/// The payers who have approved Permit2.
pub const OPEN: [usize; 2] = [1, 2];
/// The payers who sign an approval.
pub const SPONSORED: [usize; 4] = [4, 6, 7, 8];
/// Somebody else, who settles what he has seen.
pub const OUTSIDER: usize = 9;
/// The order of secp256k1.
const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);

/// A payment that somebody may ask for.
pub struct Pay {
    pub payer: usize,
    pub permit: Permit,
    pub claim: Claim,
    /// The claim with the other spelling of the signature.
    pub twin: Option<Claim>,
    pub flaw: Flaw,
}

impl Pay {
    /// The claim of one spelling for a request.
    pub fn asked(&self, twin: bool, request: &str) -> Claim {
        let claim = self.twin.as_ref().filter(|_| twin).unwrap_or(&self.claim);
        claim.clone().with_identity(Identity::new("shop", request.to_owned()))
    }

    /// Whether more is asked for than the payer has permitted.
    pub fn is_above(&self) -> bool {
        self.claim.terms.amount > self.permit.amount
    }
}

pub fn network() -> ChainId {
    ChainId::eip155(CHAIN)
}

pub fn tokens() -> Tokens {
    let mut assets = Assets::default();
    let mut special = Asset::new(network(), SPECIAL, "ODD", TestToken::TransferFirst.name(), "1", 6);
    special.transfer = TransferMethod::Permit2;
    assets.add(special);
    Tokens::for_permit2(&assets)
}

/// The payments of a run: some of each kind, and of each sponsored payer one.
pub async fn payments(world: &World) -> Vec<Pay> {
    let mut pays = Vec::new();
    let count = world.with(|inner| 5 + inner.chance.below(4));
    for number in 0..count {
        let (payer, upto, special) = world.with(|inner| {
            let chance = &mut inner.chance;
            (OPEN[chance.below(2) as usize], chance.percent(45), chance.percent(30))
        });
        pays.push(pay(world, number, payer, upto, special, None).await);
    }
    for (at, payer) in SPONSORED.into_iter().enumerate() {
        let (upto, flaw) = world.with(|inner| {
            let chance = &mut inner.chance;
            let flaw = if chance.percent(35) { Flaw::ALL[chance.below(7) as usize] } else { Flaw::None };
            (chance.percent(40), flaw)
        });
        pays.push(pay(world, count + at as u64, payer, upto, false, Some(flaw)).await);
    }
    pays
}

async fn pay(world: &World, number: u64, payer: usize, upto: bool, special: bool, flaw: Option<Flaw>) -> Pay {
    let to = ACCOUNTS[PAYEE].address;
    let (price, offers) = ("$0.01".parse().unwrap(), ByPermit2::default());
    let by = signer(payer).unwrap();
    let (lane, share, twin, above, entropy) = world.with(|inner| {
        let chance = &mut inner.chance;
        (chance.below(2), chance.below(4), chance.percent(60), chance.percent(25), chance.next())
    });
    let mut terms = match upto {
        true => offers.upto(network(), to, price, ACCOUNTS[LANES[lane as usize]].address).unwrap().terms,
        false => offers.exact(network(), to, price).unwrap().terms,
    };
    if special {
        terms.asset = SPECIAL.to_string();
    }
    let most = 10_000 + number * 1_000 + share;
    terms.amount = AtomicAmount::from(most);
    terms.max_timeout_seconds = TimeoutSeconds::try_from(90).unwrap();
    let entropy = B256::from(U256::from(entropy)).0;
    let context = SigningContext { now: world.now(), entropy, url: "https://shop.example/", method: "GET" };
    let made = Payer::new(by.clone()).with_any_token().make_payment(&terms, &context).await.unwrap();
    let PermitPayload { authorization: permit, signature } = PermitPayload::read(&made.payload).unwrap();
    if upto {
        // What was used: nothing, a part, all, or more than was permitted.
        let used = match share {
            _ if above => most + 1,
            0 => 0,
            1 => most,
            _ => most / 2,
        };
        terms.amount = AtomicAmount::from(used);
    }
    let mut claim = Claim::of_payload(terms, made.payload);
    if let Some(flaw) = flaw {
        let signed = approvals::sign(world, payer, permit.token, most, flaw);
        claim = approvals::beside(claim, by.address(), permit.token, most, &signed);
    }
    let other = PermitPayload { authorization: permit, signature: other_half(&signature).into() };
    let twin = (twin && flaw.is_none()).then(|| claim.clone().with_payload(other.to_json()));
    Pay { payer, permit, claim, twin, flaw: flaw.unwrap_or(Flaw::None) }
}

/// The other spelling of a signature: n - s, and the other parity.
fn other_half(signature: &[u8]) -> Vec<u8> {
    let s = ORDER - U256::from_be_slice(&signature[32..64]);
    [&signature[..32], &s.to_be_bytes::<32>(), &[27 + 28 - signature[64]]].concat()
}

/// The call that settles what a claim says.
pub fn settle_call(claim: &Claim) -> SettleCall {
    let PermitPayload { authorization, signature } = PermitPayload::read(&claim.payload).unwrap();
    SettleCall { authorization, amount: claim.terms.amount, signature, permit2612: None }
}
