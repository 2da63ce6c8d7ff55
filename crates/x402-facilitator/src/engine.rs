//! The settlement machine with a clock and tasks: what `x402-facilitator-core` leaves to the process that runs it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinSet;
use x402_facilitator_core::{
    Facilitator, InFlightRequest, KEEPS_REQUESTS, LaneId, Ledger, Outcome, Pace, Presented, Settlement, Verified,
};
use x402_store::sqlite::Database;
use x402_types::nvm::Requirements;
use x402_types::v2::{SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{
    Assets, ChainId, Claim, Entry, Fault, Members, PaymentPayload, RawJson, Refusal, Rejection, SchemeName, UnixSeconds,
};

use crate::clock::now;
use crate::lane::Lane;
use crate::nvm;

/// Answered payments forgotten in one go.
const FORGET_AT_ONCE: usize = 1_000;
/// How often what may be forgotten is.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How long `/health` waits for the writer.
const WRITER_ANSWERS: Duration = Duration::from_secs(2);

/// A facilitator in this process: verifies, claims, and settles in tasks of its own, so that a caller who hangs up
/// changes nothing.
pub struct Engine {
    settlement: Settlement,
    ledger: Arc<dyn Ledger>,
    signers: Members,
    assets: Assets,
    /// Callers that are told a success again although they name no request.
    replaying: BTreeSet<String>,
    lease_seconds: u64,
    wait: Duration,
    claims: watch::Sender<()>,
    blocks: watch::Sender<()>,
    nonces: watch::Sender<()>,
    moves: watch::Sender<()>,
    /// The lanes with unfinished payments.
    unfinished: watch::Sender<BTreeSet<LaneId>>,
    /// The file that holds the ledger, where there is one.
    database: Option<Database>,
    seen: Mutex<Seen>,
}

/// What was last seen of the networks and their signers.
#[derive(Default)]
struct Seen {
    /// The time of the newest block of each network.
    heads: BTreeMap<ChainId, UnixSeconds>,
    /// The lanes that could not pay for a transaction.
    unfunded: BTreeSet<LaneId>,
}

/// How well an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Seconds since the ledger's file last took a change; `None` where the ledger is in memory.
    pub last_commit: Option<u64>,
    /// How old the newest block of each network is that was seen, in seconds by this machine's clock.
    pub heads: BTreeMap<ChainId, u64>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("settlement", &self.settlement).finish_non_exhaustive()
    }
}

/// The tasks of an engine.
#[derive(Debug)]
pub struct Running {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Running {
    /// Waits until a task ends, which it never does while all is well.
    pub async fn broken(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if !matches!(&ended, Err(error) if error.is_cancelled()) {
                return;
            }
        }
    }

    /// Finishes the settlements that run, for so long at most. What is left is taken up at the next start.
    pub async fn finish(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(grace, async { while self.tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!("settlements still run; the next start takes them up");
        }
    }
}

impl Engine {
    /// An engine over a machine and the ledger that the machine has.
    #[must_use]
    pub fn new(settlement: Settlement, ledger: Arc<dyn Ledger>) -> Self {
        Self {
            settlement,
            ledger,
            signers: Members::new(),
            assets: Assets::none(),
            replaying: BTreeSet::new(),
            lease_seconds: 15,
            wait: Duration::from_secs(30),
            claims: watch::Sender::new(()),
            blocks: watch::Sender::new(()),
            nonces: watch::Sender::new(()),
            moves: watch::Sender::new(()),
            unfinished: watch::Sender::default(),
            database: None,
            seen: Mutex::default(),
        }
    }

    /// With the addresses that settle, by network, for `/supported`.
    #[must_use]
    pub fn with_signers(mut self, signers: Members) -> Self {
        self.signers = signers;
        self
    }

    /// With the tokens that are served, for dialects that do not name a token's EIP-712 domain.
    #[must_use]
    pub fn with_assets(mut self, assets: Assets) -> Self {
        self.assets = assets;
        self
    }

    /// With callers that are told a success again although they name no request: each serves one request a body, and
    /// asks again only for that.
    #[must_use]
    pub fn with_replaying(mut self, callers: impl IntoIterator<Item = String>) -> Self {
        self.replaying = callers.into_iter().collect();
        self
    }

    /// With the file that holds the ledger: [`Engine::health`] asks its writer, and the end of its threads is the end of
    /// what [`Engine::start`] started.
    #[must_use]
    pub fn with_database(mut self, database: Database) -> Self {
        self.database = Some(database);
        self
    }

    /// With how long a lane's lease lasts and how long `/settle` waits.
    #[must_use]
    pub const fn with_patience(mut self, lease_seconds: u64, wait: Duration) -> Self {
        self.lease_seconds = lease_seconds;
        self.wait = wait;
        self
    }

    /// Starts a task a lane, and one that forgets what need not be kept.
    #[must_use]
    pub fn start(self: &Arc<Self>) -> Running {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for lane in self.settlement.lanes() {
            tasks.spawn(Lane::new(Arc::clone(self), lane.clone()).run(stop.subscribe()));
        }
        let (engine, mut stopped) = (Arc::clone(self), stop.subscribe());
        tasks.spawn(async move {
            while !*stopped.borrow() {
                match engine.ledger.forget(now(), FORGET_AT_ONCE).await {
                    Ok(FORGET_AT_ONCE) => continue,
                    Ok(_) => {}
                    Err(fault) => tracing::warn!(%fault, "nothing was forgotten"),
                }
                tokio::select! { _ = stopped.changed() => {} () = tokio::time::sleep(FORGET_EVERY) => {} }
            }
        });
        if let Some(database) = self.database.clone() {
            let mut stopped = stop.subscribe();
            tasks.spawn(async move {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => {}
                    () = database.stopped() => tracing::error!("a thread of the ledger has ended"),
                }
            });
        }
        Running { tasks, stop }
    }

    /// A new block: what waits for the chain is looked at.
    pub fn new_block(&self) {
        self.blocks.send_replace(());
    }

    /// The account nonces as of the newest block are there: what is in the air is looked at.
    pub fn new_nonces(&self) {
        self.nonces.send_replace(());
    }

    pub(crate) fn moved(&self) {
        self.moves.send_replace(());
    }

    pub(crate) fn claims(&self) -> watch::Receiver<()> {
        self.claims.subscribe()
    }

    pub(crate) fn blocks(&self) -> watch::Receiver<()> {
        self.blocks.subscribe()
    }

    /// Whether a lane has unfinished payments, as its worker sees it.
    pub(crate) fn note_unfinished(&self, lane: &LaneId, any: bool) {
        self.unfinished.send_if_modified(|lanes| {
            let changed = lanes.contains(lane) != any;
            match (changed, any) {
                (false, _) => {}
                (true, true) => drop(lanes.insert(lane.clone())),
                (true, false) => drop(lanes.remove(lane)),
            }
            changed
        });
    }

    pub(crate) fn unfinished(&self) -> watch::Receiver<BTreeSet<LaneId>> {
        self.unfinished.subscribe()
    }

    pub(crate) fn nonces(&self) -> watch::Receiver<()> {
        self.nonces.subscribe()
    }

    pub(crate) fn ledger(&self) -> &dyn Ledger {
        self.ledger.as_ref()
    }

    pub(crate) const fn lease_seconds(&self) -> u64 {
        self.lease_seconds
    }

    pub(crate) fn pace(&self) -> Pace {
        self.settlement.pace()
    }

    pub(crate) const fn assets(&self) -> &Assets {
        &self.assets
    }

    /// The machine.
    #[must_use]
    pub const fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// Whether the ledger answers, its writer, too, and how old what is known of it and the networks is.
    ///
    /// # Errors
    /// It does not, or its last change could not be stored.
    pub async fn health(&self) -> Result<Health, Fault> {
        for lane in self.settlement.lanes() {
            self.ledger.due(lane, now(), 1).await?;
        }
        let last_commit = match &self.database {
            None => None,
            Some(database) => {
                let asked = tokio::time::timeout(WRITER_ANSWERS, database.check_writer()).await;
                Some(asked.map_err(|_| Fault::store("the writer does not answer"))??.as_secs())
            }
        };
        let now = now();
        let heads = self.seen().heads.iter().map(|(network, time)| (*network, now.0.saturating_sub(time.0))).collect();
        Ok(Health { last_commit, heads })
    }

    /// The signers that cannot pay for a transaction, as far as is known, and what is missing. They take no new payments.
    #[must_use]
    pub fn unfunded(&self) -> Vec<(LaneId, Fault)> {
        self.settlement.unfunded()
    }

    /// Says of each signer once that it ran out of gas, and that it has some again.
    pub fn note_funds(&self) {
        let unfunded = self.unfunded();
        let now: BTreeSet<LaneId> = unfunded.iter().map(|(lane, _)| lane.clone()).collect();
        let before = std::mem::replace(&mut self.seen().unfunded, now.clone());
        for (lane, fault) in unfunded.iter().filter(|(lane, _)| !before.contains(lane)) {
            tracing::error!(%lane, %fault, "a signer has no gas; it takes no new payments");
        }
        for lane in before.difference(&now) {
            tracing::info!(%lane, "a signer has gas again");
        }
    }

    pub(crate) fn note_head(&self, network: ChainId, time: UnixSeconds) {
        self.seen().heads.insert(network, time);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names in the log every unfinished payment that nothing here can finish, because its scheme, network, token or
    /// plan was taken out of the configuration, for example. Answers how many.
    ///
    /// # Errors
    /// The ledger failed.
    pub async fn name_unserved(&self) -> Result<usize, Fault> {
        let mut unserved = 0;
        for row in self.ledger.unanswered(&[]).await? {
            let terms = &row.claim.terms;
            let lane = &row.lane;
            let why = match self.settlement.key(&row.claim) {
                Err(rejection) => rejection.to_string(),
                Ok(_) if !self.settlement.lanes().any(|served| served == lane) => "no signer for its lane".to_owned(),
                Ok(_) => continue,
            };
            unserved += 1;
            tracing::warn!(
                key = %row.key, scheme = %terms.scheme, network = %terms.network, %lane, %why,
                "a payment is not finished, and nothing here can finish it"
            );
        }
        Ok(unserved)
    }

    /// Whether the payment is good.
    ///
    /// # Errors
    /// It could not be found out.
    pub async fn verify_claim(&self, claim: &Claim) -> Result<VerifyResponse, Fault> {
        let by_plan = is_by_plan(claim);
        match self.check(claim).await {
            Ok(verified) if by_plan => {
                Ok(nvm::verdict(Ok(verified.verdict().payer.clone()), &claim.terms.network.into()))
            }
            Ok(verified) => Ok(valid(verified.verdict().payer.clone())),
            Err(Refusal::Rejection(rejection)) if by_plan => {
                Ok(nvm::verdict(Err(nvm::refusal(rejection)), &claim.terms.network.into()))
            }
            Err(Refusal::Rejection(rejection)) => Ok(invalid(rejection)),
            Err(Refusal::Fault(fault)) => Err(fault),
        }
    }

    /// The payment, checked.
    ///
    /// # Errors
    /// It is not good, or it could not be found out.
    pub async fn check(&self, claim: &Claim) -> Result<Verified, Refusal> {
        self.settlement.verify(claim, now()).await.map_err(|refusal| match refusal {
            Refusal::Rejection(rejection) => self.of_payer(claim, rejection).into(),
            fault @ Refusal::Fault(_) => fault,
        })
    }

    /// The refusal with the payer, where the payload could be read: whichever rule refused it.
    pub(crate) fn of_payer(&self, claim: &Claim, rejection: Rejection) -> Rejection {
        if rejection.payer.is_some() {
            return rejection;
        }
        match self.settlement.payer(claim) {
            Some(payer) => rejection.of(payer),
            None => rejection,
        }
    }

    /// Settles the payment, and waits for its end as long as is configured. Success is told once, whoever asks.
    ///
    /// # Errors
    /// Its outcome could not be found out: it is unknown, not failed.
    pub async fn settle_claim(&self, claim: &Claim) -> Result<SettleResponse, Fault> {
        self.settle_for(self.settlement.begin_request(), claim).await
    }

    /// The same for a caller that named its request: the claim's identity is that name, and under it a success may be
    /// told again.
    ///
    /// # Errors
    /// Its outcome could not be found out: it is unknown, not failed.
    pub async fn settle_named(&self, claim: &Claim) -> Result<SettleResponse, Fault> {
        self.settle_for(self.settlement.begin_request().named(), claim).await
    }

    async fn settle_for(&self, request: InFlightRequest, claim: &Claim) -> Result<SettleResponse, Fault> {
        let request = if self.replaying.contains(&claim.identity.caller) { request.named() } else { request };
        // Subscribed before the first look, so that no move is missed between look and wait.
        let mut moves = self.moves.subscribe();
        let mut outcome = match self.settlement.settle(&request, claim, now()).await {
            Ok(outcome) => outcome,
            Err(Refusal::Rejection(rejection)) => {
                let rejection = self.of_payer(claim, rejection);
                if is_by_plan(claim) {
                    return Ok(nvm::refused(&nvm::refusal(rejection), claim.terms.network));
                }
                return Ok(refused(rejection, claim));
            }
            Err(Refusal::Fault(fault)) => return Err(fault),
        };
        self.claims.send_replace(());
        let deadline = tokio::time::Instant::now() + self.wait;
        let key = self.settlement.key(claim).map_err(Fault::broken)?;
        while !outcome.is_final() {
            let moved = tokio::time::timeout_at(deadline, moves.changed()).await;
            // Once more after the deadline: the end may have come with it, from another process too.
            outcome = self.settlement.look(&request, &key).await?;
            if moved.is_err() {
                break;
            }
        }
        if let Outcome::Pending { transaction: None, .. } = outcome {
            // `settlement_pending` says where to look; nothing has left yet, so there is nothing to look at.
            return Err(Fault::unreachable("the settlement", "nothing was sent yet"));
        }
        // Nothing may wait or fail between a success that was stored as told and its answer.
        if is_by_plan(claim) {
            let row = match outcome {
                Outcome::Settled { .. } => None,
                _ => self.settlement.payment(&key).await?,
            };
            return Ok(nvm::answer(&outcome, row.as_ref(), claim.terms.network));
        }
        Ok(outcome.to_response(&claim.terms))
    }
}

/// Whether the answers have the form of the Smart Accounts Extension.
fn is_by_plan(claim: &Claim) -> bool {
    claim.terms.scheme == SchemeName::NVM_ERC4337
}

fn valid(payer: String) -> VerifyResponse {
    VerifyResponse {
        is_valid: true,
        invalid_reason: None,
        invalid_message: None,
        payer: Some(payer),
        extra: Members::new(),
        extensions: Members::new(),
        rest: Members::new(),
    }
}

/// What was wrong, for people: the rule's own words, or those of its code.
fn words(rejection: &Rejection) -> String {
    let of_code = || rejection.reason.row().map_or_else(|| rejection.reason.as_str(), |row| row.text);
    rejection.message.as_deref().unwrap_or_else(of_code).to_owned()
}

/// A refusal as `/verify` says it.
pub(crate) fn invalid(rejection: Rejection) -> VerifyResponse {
    VerifyResponse {
        is_valid: false,
        invalid_message: Some(words(&rejection)),
        invalid_reason: Some(rejection.reason),
        payer: rejection.payer.map(String::from),
        extra: Members::new(),
        extensions: Members::new(),
        rest: Members::new(),
    }
}

/// A refusal as `/settle` says it: nothing was sent.
pub(crate) fn refused(rejection: Rejection, claim: &Claim) -> SettleResponse {
    let resource = x402_types::v2::ResourceInfo::of("");
    let network = match claim.terms.version {
        x402_types::Version::V1 => claim.terms.to_v1(&resource).network,
        x402_types::Version::V2 => claim.terms.network.into(),
    };
    SettleResponse { network, ..undecided(rejection) }
}

/// A refusal as `/settle` says it before the terms are known.
pub(crate) fn undecided(rejection: Rejection) -> SettleResponse {
    SettleResponse {
        // Not ours: the one that used the authorization before.
        transaction: rejection.details.text("transaction").unwrap_or_default(),
        success: false,
        error_message: Some(words(&rejection)),
        error_reason: Some(rejection.reason),
        payer: rejection.payer.map(String::from),
        network: x402_types::NetworkName::default(),
        amount: None,
        extra: Members::new(),
        extensions: Members::new(),
        rest: Members::new(),
    }
}

#[async_trait]
impl Facilitator for Engine {
    async fn verify(&self, presented: &Presented) -> Result<VerifyResponse, Fault> {
        match claim(presented) {
            Ok(claim) => self.verify_claim(&claim).await,
            Err(rejection) => Ok(nvm::verdict(Err(rejection), &presented.terms.network.into())),
        }
    }

    async fn settle(&self, presented: &Presented) -> Result<SettleResponse, Fault> {
        match claim(presented) {
            // A server in this process names its requests, as one does by `Idempotency-Key`.
            Ok(claim) if !claim.identity.request.is_empty() => self.settle_named(&claim).await,
            Ok(claim) => self.settle_claim(&claim).await,
            Err(rejection) => Ok(nvm::refused(&rejection, presented.terms.network)),
        }
    }

    fn keeps_requests(&self) -> bool {
        true
    }

    async fn supported(&self) -> Result<SupportedResponse, Fault> {
        let mut rest = Members::new();
        rest.insert(KEEPS_REQUESTS, RawJson::of(&true).map_err(Fault::broken)?);
        Ok(SupportedResponse {
            kinds: self.settlement.kinds().iter().cloned().map(Entry::Known).collect(),
            extensions: Vec::new(),
            signers: self.signers.clone(),
            rest,
        })
    }
}

fn claim(presented: &Presented) -> Result<Claim, Rejection> {
    let mut claim = match &*presented.payment {
        PaymentPayload::Nvm(payment) => {
            let entry = Requirements::try_from(&presented.terms)
                .map_err(|why| x402_types::nvm::Code::InvalidPayload.because(format!("accepted: {why}")))?;
            nvm::claim(payment.clone(), [&entry].into_iter(), &presented.resource, presented.terms.amount)?
        }
        payment => Claim::new(presented.terms.clone(), payment.clone()),
    };
    claim.identity = presented.identity.clone();
    Ok(claim)
}

/// A list of addresses as a member of `signers`.
pub(crate) fn addresses(list: &[String]) -> Result<RawJson, Fault> {
    RawJson::of(list).map_err(Fault::broken)
}
