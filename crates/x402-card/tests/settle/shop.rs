//! A facilitator with the double as its processor, and a clock that the test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use x402_card::double::{Double, DoubleCalls, DoubleRequest};
use x402_card::stores::{Books as _, Card, CardCharge, Cards as _, Delegations as _};
use x402_card::{
    BasisPoints, CardAccount, CardMechanism, CardParts, CardPlan, CardPlans, CardRail, Cents, Currency, Delegation,
    DelegationId, MemoryCards, Merchant, NewDelegation, Now, TokenClaims, TokenKeys, TokenSigner, lanes,
};
use x402_facilitator_core::{
    InFlightRequest, LaneId, Lease, Ledger, MemoryLedger, Outcome, OwnerId, Payment, Settlement,
};
use x402_types::nvm::PlanId;
use x402_types::nvm::card::{CardPayload, CardRequirements, Processor};
use x402_types::{Claim, Fault, Identity, PaymentKey, RawJson, Refusal, UnixSeconds};

pub const START: u64 = 1_767_225_600;
pub const ISSUER: &str = "https://facilitator.example";
pub const SELLER: &str = "acct_Seller01";

pub fn cents(cents: u64) -> Cents {
    Cents::try_from(cents).unwrap()
}

pub fn plan_id(id: u64) -> PlanId {
    id.to_string().parse().unwrap()
}

/// 1001: 7.00 usd for 10 credits, to a seller; 1002: 7.00 eur; 1003: 5.00 usd for each request; 1004: as 1001, whose
/// price is over every limit here.
pub fn plans() -> CardPlans {
    let merchant = || Merchant::new(SELLER, BasisPoints::try_from(250).unwrap());
    CardPlans::new([
        CardPlan::new(plan_id(1001), Currency::Usd, cents(700), 10).with_bounds(1, 100).with_merchant(merchant()),
        CardPlan::new(plan_id(1002), Currency::Eur, cents(700), 10),
        CardPlan::new(plan_id(1003), Currency::Usd, cents(500), 0),
        CardPlan::new(plan_id(1004), Currency::Usd, cents(90_000), 10),
        CardPlan::new(plan_id(1005), Currency::Usd, cents(700), 9_007_199_254_740_991),
    ])
    .unwrap()
}

pub struct Shop {
    pub double: Arc<Double>,
    pub stores: Arc<MemoryCards>,
    pub ledger: Arc<MemoryLedger>,
    pub settlement: Settlement,
    pub signer: TokenSigner,
    pub clock: Arc<AtomicU64>,
    lanes: Vec<LaneId>,
    processes: u32,
}

pub type Delegated = (DelegationId, String);

impl Shop {
    pub fn new() -> Self {
        let clock = Arc::new(AtomicU64::new(START));
        let double = Arc::new(Double::default());
        double.add_account(SELLER);
        let time = Arc::clone(&clock);
        let ledger = Arc::new(MemoryLedger::new(move || UnixSeconds(time.load(Ordering::Relaxed))));
        let stores = Arc::new(MemoryCards::default());
        let signer = TokenSigner::new("k1", &[7; 32]).unwrap();
        let lanes = lanes(Processor::Stripe, 1).unwrap();
        let settlement = machine(&double, &stores, &ledger, &signer, &clock, &lanes, 0);
        Self { double, stores, ledger, settlement, signer, clock, lanes, processes: 0 }
    }

    /// The process dies and another one starts: memory is lost, and the lease of the dead one ends.
    pub fn restart(&mut self) {
        self.processes += 1;
        self.wait(61);
        let Self { double, stores, ledger, signer, clock, lanes, processes, .. } = &*self;
        self.settlement = machine(double, stores, ledger, signer, clock, lanes, *processes);
    }

    pub fn now(&self) -> UnixSeconds {
        UnixSeconds(self.clock.load(Ordering::Relaxed))
    }

    pub fn wait(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    fn call(&self, target: &str, body: String) -> serde_json::Value {
        let request = DoubleRequest {
            method: "POST".to_owned(),
            target: target.to_owned(),
            body,
            authorization: "Bearer sk_test_enrol".to_owned(),
            key: None,
        };
        let answer = self.double.handle(&request, self.now()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// Enrols a card for a user, as the browser and the facilitator do together.
    pub async fn enrol(&self, user: &str, test_method: &str) -> Card {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let customer = text(&self.call("/v1/customers", String::new())["id"]);
        let setup = self.call("/v1/setup_intents", format!("customer={customer}&usage=off_session"));
        let confirm = format!("/v1/setup_intents/{}/confirm", text(&setup["id"]));
        let method = text(&self.call(&confirm, format!("payment_method={test_method}"))["payment_method"]);
        let card = Card::new(user, &customer, &method, "visa", "4242");
        self.stores.enrol(card.clone()).await.unwrap();
        card
    }

    /// Creates a delegation of a fresh card.
    pub async fn delegate(&self, user: &str, test_method: &str, limit: u64) -> Delegated {
        self.delegate_with(user, test_method, limit, |_| {}).await
    }

    pub async fn delegate_with(
        &self,
        user: &str,
        test_method: &str,
        limit: u64,
        change: impl FnOnce(&mut Delegation),
    ) -> Delegated {
        let card = self.enrol(user, test_method).await;
        let mut random = [0; 16];
        random[..8].copy_from_slice(&(self.double.requests().len() as u64).to_be_bytes());
        let mut delegation = Delegation::new(NewDelegation {
            id: DelegationId::of_random(random),
            owner: user.to_owned(),
            customer: card.customer,
            payment_method: card.method,
            currency: Currency::Usd,
            limit: cents(limit),
            created_at: self.now(),
            expires_at: self.now().plus(86_400),
        });
        change(&mut delegation);
        assert!(self.stores.create(delegation.clone()).await.unwrap());
        let token = self.token(&delegation, |_| {});
        (delegation.id, token)
    }

    pub fn token(&self, delegation: &Delegation, change: impl FnOnce(&mut TokenClaims)) -> String {
        let mut claims = TokenClaims::of(delegation, ISSUER, self.now());
        change(&mut claims);
        claims.to_token(&self.signer).unwrap()
    }

    pub fn claim(&self, token: &str, plan: u64, credits: u64, request: &str) -> Claim {
        let entry = CardRequirements::new(Processor::Stripe, plan_id(plan));
        let payload = RawJson::of(&CardPayload::new(token)).unwrap();
        let claim = Claim::of_payload(entry.to_terms(credits.into()).unwrap(), payload);
        claim.with_identity(Identity::new("shop", request))
    }

    /// Settles, and works the lane until the end, for at most so many seconds of the clock.
    pub async fn settle_for(&self, claim: &Claim, seconds: u64) -> Result<Outcome, Refusal> {
        let request = self.settlement.begin_request().named();
        let outcome = self.settlement.settle(&request, claim, self.now()).await?;
        Ok(self.work(&request, &self.settlement.key(claim)?, outcome, seconds).await?)
    }

    pub async fn settle(&self, claim: &Claim) -> Result<Outcome, Refusal> {
        self.settle_for(claim, 600).await
    }

    async fn work(
        &self,
        request: &InFlightRequest,
        key: &PaymentKey,
        mut outcome: Outcome,
        seconds: u64,
    ) -> Result<Outcome, Fault> {
        let end = self.now().plus(seconds);
        let mut still = 0;
        while !outcome.is_final() && self.now() < end {
            let before = self.row(key).await.steps;
            self.round(key).await;
            outcome = self.settlement.look(request, key).await?;
            // Nothing moves now: the next moment may, or a much later one.
            still = if self.row(key).await.steps == before { still + 1 } else { 0 };
            if still > 2 {
                self.wait(if still > 1_000 { 600 } else { 1 });
            }
        }
        Ok(outcome)
    }

    /// The number of changes of intents whose path ends so.
    pub fn changes(&self, end: &str) -> usize {
        self.changed(end).len()
    }

    /// The positions of such calls.
    pub fn changed(&self, end: &str) -> Vec<usize> {
        let calls = self.double.requests().into_iter().enumerate();
        let of = |target: &str| target.starts_with("/v1/payment_intents/") && target.ends_with(end);
        calls.filter(|(_, call)| of(&call.target)).map(|(at, _)| at).collect()
    }

    pub async fn lease(&self) -> Lease {
        self.ledger.lease(&self.lanes[0], self.settlement.owner(), 60).await.unwrap().unwrap()
    }

    /// One round of the lane. Faults of the processor are its own.
    pub async fn round(&self, key: &PaymentKey) {
        let lease = self.lease().await;
        let _ = self.settlement.advance(&lease, key, self.now()).await;
        let _ = self.settlement.carry(&lease, self.now()).await;
    }

    pub async fn row(&self, key: &PaymentKey) -> Payment {
        self.ledger.read(key).await.unwrap().unwrap()
    }

    pub async fn steps(&self, claim: &Claim) -> Vec<String> {
        let row = self.row(&self.settlement.key(claim).unwrap()).await;
        row.steps.iter().map(|step| step.name.to_string()).collect()
    }

    pub async fn counted(&self, id: &DelegationId) -> (u64, u64) {
        let record = self.stores.read(id).await.unwrap().unwrap();
        (record.spent.value(), record.charges)
    }

    pub async fn credits(&self, user: &str, plan: u64) -> u64 {
        self.stores.credits(plan_id(plan), user).await.unwrap()
    }

    pub async fn charges(&self, id: &DelegationId) -> Vec<CardCharge> {
        self.stores.charges(id).await.unwrap()
    }
}

fn machine(
    double: &Arc<Double>,
    stores: &Arc<MemoryCards>,
    ledger: &Arc<MemoryLedger>,
    signer: &TokenSigner,
    clock: &Arc<AtomicU64>,
    lanes: &[LaneId],
    process: u32,
) -> Settlement {
    let time = Arc::clone(clock);
    let now: Now = Arc::new(move || UnixSeconds(time.load(Ordering::Relaxed)));
    let calls = Arc::new(DoubleCalls::new(Arc::clone(double), Arc::clone(&now)));
    let account = Arc::new(CardAccount::new(calls, "main", false));
    let rail = CardRail::new(Arc::clone(&account), stores.clone() as _, stores.clone() as _, lanes.to_vec(), now);
    let mechanism = CardMechanism::new(CardParts {
        issuer: ISSUER.to_owned(),
        keys: TokenKeys::new().with_signer(signer).unwrap(),
        plans: plans(),
        account,
        delegations: stores.clone() as _,
        books: stores.clone() as _,
        cards: stores.clone() as _,
        ledger: ledger.clone() as _,
        lanes: lanes.to_vec(),
    });
    Settlement::new(OwnerId::from(format!("process {process}")), Arc::clone(ledger) as _)
        .with_rail(Arc::new(rail))
        .unwrap()
        .with_mechanism(Arc::new(mechanism.unwrap()))
        .unwrap()
}

/// The reason of a failure.
pub fn failed(outcome: Result<Outcome, Refusal>) -> String {
    match outcome {
        Ok(Outcome::Failed { reason, .. }) => reason.as_str().to_owned(),
        Err(Refusal::Rejection(rejection)) => rejection.reason.as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// The receipt's members.
pub fn receipt(outcome: &Result<Outcome, Refusal>) -> (String, String, Option<String>, Option<String>) {
    match outcome {
        Ok(Outcome::Settled { receipt, .. }) => {
            let text = |name: &str| receipt.extra.get(name).and_then(|value| value.read::<String>().ok());
            (
                receipt.transaction.as_ref().unwrap().to_string(),
                text("creditsRedeemed").unwrap(),
                text("remainingBalance"),
                text("orderTx"),
            )
        }
        other => panic!("{other:?}"),
    }
}
