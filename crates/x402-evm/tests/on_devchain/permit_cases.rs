//! The recorded cases of `vectors/permit2.json`, payments with one fault each, beside what both SDKs' facilitators answered.
//! The table in `docs/interop.md` is made of this run: `UPDATE_GOLDEN=1` rewrites it. A line that differs has its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use alloy_primitives::{Address, B256, U256, hex, keccak256};
use alloy_sol_types::{SolCall, SolValue, sol};
use serde_json::Value;
use x402_devchain::{ACCOUNTS, DevChain, MiningMode, TOKEN, TestToken, signer};
use x402_evm::chain::RpcChain;
use x402_evm::exact::{ExactMechanism, ExactPolicy};
use x402_evm::permit2::{PERMIT2, PermitMechanism, PermitScheme};
use x402_evm::rail::EoaRail;
use x402_evm::token::Tokens;
use x402_facilitator_core::{Mechanism, NextStep, Observation, Rail, StepState};
use x402_types::{
    AmountRule, Asset, Assets, Claim, ErrorReason, PaymentPayload, Refusal, Rejection, Terms, TransferMethod,
    UnixSeconds, v2,
};

use crate::permit::Permits;
use crate::stage::{PAYER, PRICE, Stage};
use crate::wallet::{wallet_code, wallet_of};

sol! {
    function invalidateUnorderedNonces(uint256 wordPos, uint256 mask) external;
}

/// The account of the recorded facilitator.
const FACILITATOR: usize = 2;
/// The plain token of the recordings, here one with EIP-3009 and without a permit.
const PLAIN: Address = Address::repeat_byte(0x11);
/// A second of the day of the recordings, before the deadlines that were 10 s away then.
pub(crate) const DAY: u64 = 1_796_000_000;

/// The reason of each line in which ours is not the answer of both SDKs.
const REASONS: &[(&str, &str)] = &[
    ("ok_amount_json_number", "numbers are strings in the document, and one spelling of a payment is accepted"),
    ("allowance_none", "settle repeats the checks of verify, so the code is the same and no gas is burned"),
    ("balance_short_and_allowance_none", "settle repeats the checks of verify"),
    ("nonce_invalidated_by_owner", "Permit2's nonce is read, and has a code that neither SDK can give"),
    ("amount_zero", "`permit2_invalid_amount` is the proxy's own word, at verify as at settle"),
    ("payload_without_authorization", "a payload that cannot be read is `invalid_payload`, not a server error"),
    ("payload_amount_not_numeric", "a payload that cannot be read is `invalid_payload`, not a server error"),
    ("eip2612_value_max", "the proxy's own code, at verify as at settle"),
    ("eip2612_value_below_permitted", "the proxy's own code, at verify as at settle"),
    ("eip2612_wrong_domain_name", "settle repeats the simulation, so the code is the same and no gas is burned"),
    ("eip2612_format_signature_64_bytes", "a permit needs 65 bytes: the format is refused as such"),
    ("eip2612_field_missing_version", "settle repeats the checks of verify"),
    ("eip2612_balance_short", "settle repeats the checks of verify"),
    ("erc20approval_tx_parse_failed", "settle repeats the checks of verify"),
    ("erc20approval_field_missing_version", "settle repeats the checks of verify"),
    ("erc20approval_tx_wrong_chain", "the whole transaction is checked before anything is sent"),
    ("erc20approval_payer_has_no_eth", "the payer's ether is read before anything is sent"),
    ("upto_settle_fraction", "an amount that is no number is refused, not a server error"),
    ("upto_settle_hex", "numbers are decimal in the document, and the Python SDK refuses it, too"),
    ("upto_verify_amount_above_permitted", "more than was authorized has one code, at verify as at settle"),
    ("upto_asset_is_eoa", "only configured tokens are served, so the chain is not asked"),
    ("upto_balance_covers_actual_only", "what was used is settled if it is covered, as the Python SDK does"),
];

/// The reason of a line in which an SDK has other words for the code that is ours.
const OTHER_WORDS: &str = "one fault, one code: [error codes](error-codes.md) has the SDKs' words for it";

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../x402-testkit/vectors/permit2.json")).unwrap()
}

/// A facilitator of all methods, with the recorded account, that accepts deadlines in the far future as the SDKs do.
pub(crate) struct Bench {
    pub(crate) permits: Permits,
    eip3009: ExactMechanism<RpcChain>,
}

pub(crate) fn bench(time: u64) -> Bench {
    let chain = DevChain::builder().time(time).time_step(1).block_time(MiningMode::Manual).build().unwrap();
    chain.mine(1);
    chain.put_token(TestToken::Oz, PLAIN).unwrap();
    let network = "eip155:84532".parse().unwrap();
    let reader = RpcChain::new(chain.client(), network, 0).with_freshness(std::time::Duration::ZERO);
    let reader = std::sync::Arc::new(reader);
    let rail = EoaRail::new(reader.clone(), signer(FACILITATOR).unwrap()).unwrap();
    let mut assets = Assets::default();
    let mut plain = Asset::new(network, PLAIN, "PLAIN", "Plain", "1", 6);
    plain.transfer = TransferMethod::Permit2;
    assets.add(plain);
    let policy = || ExactPolicy::default().with_skew(None).with_longest(u64::MAX);
    let permit = |scheme| {
        let tokens = Tokens::for_permit2(&assets);
        PermitMechanism::new(scheme, reader.clone(), tokens, rail.lanes()).with_policy(policy())
    };
    let (exact, upto) = (permit(PermitScheme::Exact), permit(PermitScheme::Upto));
    let eip3009 = ExactMechanism::new(reader.clone(), Tokens::new(&assets), rail.lanes()).with_policy(policy());
    let mechanism = ExactMechanism::new(reader.clone(), Tokens::default(), rail.lanes());
    let now = UnixSeconds(chain.time());
    Bench { permits: Permits { stage: Stage { chain, reader, mechanism, rail, now }, exact, upto }, eip3009 }
}

impl Bench {
    /// Puts the chain into a recorded state.
    async fn prepare(&self, state: &str, permit: &Value) {
        let Permits { stage, .. } = &self.permits;
        let payer = ACCOUNTS[PAYER].address;
        let maximum = U256::MAX;
        match state {
            "no allowance to Permit2" => {}
            "payer has 0 wei" => stage.chain.set_ether_of(payer, U256::ZERO),
            "allowance(payer,Permit2)=max on USDC" => self.permits.approve(PAYER, TOKEN, maximum).await,
            "allowance(payer,Permit2)=10000 on USDC" => self.permits.approve(PAYER, TOKEN, U256::from(PRICE)).await,
            "allowance(payer,Permit2)=max on plain token" => self.permits.approve(PAYER, PLAIN, maximum).await,
            "balance(payer)=5000" => stage.chain.set_balance_of(payer, U256::from(5_000)),
            "balance(payer)=9999" => stage.chain.set_balance_of(payer, U256::from(9_999)),
            "payer EOA delegated (EIP-7702) to a contract without isValidSignature" => {
                let code = [&hex!("ef0100")[..], TOKEN.as_slice()].concat();
                stage.chain.set_code(payer, code.into()).unwrap();
            }
            "payer called invalidateUnorderedNonces for this nonce" => {
                let nonce = U256::from_str_radix(permit["nonce"].as_str().unwrap(), 10).unwrap();
                let (word, mask) = (nonce >> 8, U256::from(1) << (nonce & U256::from(255)));
                let data = invalidateUnorderedNoncesCall { wordPos: word, mask }.abi_encode();
                stage.other(PAYER, PERMIT2, data.into()).await;
                stage.chain.mine(1);
            }
            "payer is a deployed EIP-1271 wallet owned by anvil#1, with max allowance" => {
                let wallet: Address = permit["from"].as_str().unwrap().parse().unwrap();
                stage.chain.set_code(wallet, wallet_code()).unwrap();
                wallet_of(stage, wallet, payer, 0);
                stage.chain.set_balance_of(wallet, U256::from(PRICE));
                let slot = keccak256((PERMIT2, keccak256((wallet, U256::from(2)).abi_encode())).abi_encode());
                stage.chain.set_storage(TOKEN, slot.into(), B256::repeat_byte(0xff));
            }
            other => panic!("a state that this test does not know: {other}"),
        }
    }

    /// Finds the mechanism of a claim as the facilitator does.
    pub(crate) fn mechanism(&self, claim: &Claim) -> Result<&dyn Mechanism, Rejection> {
        if claim.terms.scheme == PermitScheme::Upto.name() {
            return Ok(&self.permits.upto);
        }
        match (self.permits.exact.is_own(claim), self.eip3009.is_own(claim)) {
            (true, false) => Ok(&self.permits.exact),
            (false, true) => Ok(&self.eip3009),
            _ => Err(Rejection::new(ErrorReason::UNSUPPORTED_PAYLOAD_TYPE)),
        }
    }

    /// Returns the claim and the answer to it: `valid`, or the code.
    pub(crate) async fn verify(&self, payment: &Value, requirements: &Value) -> (Option<Claim>, String) {
        let unreadable = |text: &str| (None, format!("400 {text}"));
        let Ok(payment) = serde_json::from_value::<v2::PaymentPayload>(payment.clone()) else {
            return unreadable("invalid_payload");
        };
        let Ok(requirements) = serde_json::from_value::<v2::PaymentRequirements>(requirements.clone()) else {
            return unreadable("invalid_payment_requirements");
        };
        let terms = Terms::from(requirements);
        // As the facilitator's routes do, before a scheme is asked.
        if payment.accepted.scheme != terms.scheme {
            return (None, ErrorReason::INVALID_SCHEME.to_string());
        }
        if payment.accepted.network != terms.network {
            return (None, ErrorReason::INVALID_NETWORK.to_string());
        }
        let payment = PaymentPayload::V2(payment);
        let upto = terms.scheme == PermitScheme::Upto.name();
        let rule = if upto { AmountRule::AtMost } else { AmountRule::Equal };
        if !payment.settles(&terms, rule) && !payment.is_exceeded_by(&terms, rule) {
            return unreadable("invalid_payment_requirements");
        }
        let claim = Claim::new(terms, payment);
        let verdict = match self.mechanism(&claim) {
            Ok(mechanism) => match mechanism.key(&claim) {
                Ok(_) => mechanism.verify(&claim, self.permits.now()).await.map(drop),
                Err(why) => return unreadable(why.reason.as_str()),
            },
            Err(why) => Err(why.into()),
        };
        match verdict {
            Ok(()) => (Some(claim), "valid".to_owned()),
            Err(Refusal::Rejection(why)) => (None, why.reason.to_string()),
            Err(Refusal::Fault(fault)) => panic!("{fault:?}"),
        }
    }

    /// Returns the answer to a settlement, after the checks that it repeats: `settles` with the amount, or the code.
    async fn settle(&self, payment: &Value, requirements: &Value) -> String {
        let (claim, answer) = self.verify(payment, requirements).await;
        let Some(claim) = claim else { return answer };
        let token = claim.terms.asset.parse::<Address>().unwrap_or(TOKEN);
        let payee: Address = claim.terms.pay_to.parse().unwrap();
        let balance = || async move { self.permits.balance(token, payee).await };
        let before = balance().await;
        let mut payment = self.permits.payment(&claim).await;
        if let NextStep::Settled(receipt) = self.permits.of(&claim).plan(&payment, self.permits.now()).await.unwrap() {
            assert_eq!(receipt.transaction, None);
            return "settles 0".to_owned();
        }
        let mut proof = None;
        // A signed approval is a step before the settlement.
        for nonce in 0..2 {
            let attempt = self.permits.carry(&mut payment, nonce).await;
            self.permits.stage.chain.mine(1);
            let seen = self.permits.observe(&payment, &[attempt.tx]).await;
            let Observation::Proven(proven) = seen else { panic!("{seen:?}") };
            payment.steps.last_mut().unwrap().state = StepState::Proven(proven.clone());
            proof = Some(proven);
            if matches!(self.permits.planned(&payment).await, NextStep::Settled(_)) {
                break;
            }
        }
        let proof = proof.unwrap();
        assert_eq!(balance().await - before, proof.amount.value());
        format!("settles {}", proof.amount)
    }
}

/// The recorded answer of an SDK.
fn theirs(case: &Value, sdk: &str) -> [String; 2] {
    let case = &case[sdk];
    let code = |answer: &Value, name: &str| match answer[name].as_str() {
        Some(code) => code.split([':', '\n']).next().unwrap().to_owned(),
        // Recorded is what was thrown, or an answer that names no code; a case that was not recorded has no line.
        None => {
            assert!(answer.is_object(), "{sdk} was not asked: {answer}");
            "server error".to_owned()
        }
    };
    let verify = match case["verify"]["isValid"].as_bool() {
        Some(true) => "valid".to_owned(),
        _ => code(&case["verify"], "invalidReason"),
    };
    let settle = match case["settle"]["success"].as_bool() {
        Some(true) => format!("settles {}", case["payToReceived"].as_str().unwrap()),
        _ => code(&case["settle"], "errorReason"),
    };
    [verify, settle]
}

/// Returns the code as this project writes it.
fn own_words(code: &str) -> String {
    ErrorReason::of_peer(ErrorReason::from_wire(code)).to_string()
}

#[tokio::test]
async fn every_case_is_answered_as_the_sdks_do_or_for_a_reason() {
    let (vectors, mut ours) = (vectors(), Vec::new());
    let cases = vectors["facilitatorCases"].as_array().unwrap();
    // As many as `vectors/permit2.md` counts: a case that is taken out is missed.
    assert_eq!(cases.len(), 55);
    for case in cases {
        let permit = &case["paymentPayload"]["payload"]["permit2Authorization"];
        let time = match case["id"].as_str().unwrap() {
            "deadline_in_10s_ok" => permit["deadline"].as_str().unwrap().parse::<u64>().unwrap() - 11,
            _ => DAY,
        };
        let bench = bench(time);
        for state in case["chainState"].as_array().unwrap() {
            bench.prepare(state.as_str().unwrap(), permit).await;
        }
        let (payment, asked) = (&case["paymentPayload"], &case["verifyRequirements"]);
        let (_, verify) = bench.verify(payment, asked).await;
        let mut settled = asked.clone();
        if let Some(amount) = case.get("settleAmount") {
            settled["amount"] = amount.clone();
        }
        ours.push([verify, bench.settle(payment, &settled).await]);
    }
    compare("permit2", cases, &ours, REASONS);
}

/// Compares our answers with the recorded ones, and the table of all of them with the document's.
pub(crate) fn compare(mark: &str, cases: &[Value], ours: &[[String; 2]], reasons: &[(&str, &str)]) {
    let rows = explained(cases, ours, reasons).unwrap_or_else(|why| panic!("{}", why.join("\n")));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/interop.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (begin, end) = (format!("<!-- {mark}:begin -->\n"), format!("<!-- {mark}:end -->"));
    let (_, rest) = text.split_once(&begin).unwrap();
    let (written, _) = rest.split_once(&end).unwrap();
    let table = format!("\n| Case | TypeScript | Python | Ours | Reason |\n| --- | --- | --- | --- | --- |\n{rows}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, text.replacen(&format!("{begin}{written}{end}"), &format!("{begin}{table}{end}"), 1))
            .unwrap();
        return;
    }
    assert_eq!(written, table, "docs/interop.md differs; UPDATE_GOLDEN=1 rewrites it");
}

/// Returns a line for each case, or what is wrong: a case without an answer, or one that is there twice; an answer that
/// differs and has no reason; a reason that is empty, that explains nothing, or whose case is not there.
fn explained(cases: &[Value], ours: &[[String; 2]], reasons: &[(&str, &str)]) -> Result<String, Vec<String>> {
    let (mut rows, mut wrong) = (String::new(), Vec::new());
    if cases.len() != ours.len() {
        wrong.push(format!("{} cases have {} answers", cases.len(), ours.len()));
    }
    let ids: BTreeSet<&str> = cases.iter().map(|case| case["id"].as_str().unwrap()).collect();
    if ids.len() != cases.len() {
        wrong.push("a case is there twice".to_owned());
    }
    let listed: BTreeMap<&str, &str> = reasons.iter().copied().collect();
    if listed.len() != reasons.len() {
        wrong.push("a case has two reasons".to_owned());
    }
    for (id, reason) in &listed {
        if !ids.contains(id) || reason.trim().is_empty() {
            wrong.push(format!("{id}: no such case, or an empty reason"));
        }
    }
    for (case, ours) in cases.iter().zip(ours) {
        let id = case["id"].as_str().unwrap();
        let [typescript, python] = ["typescript", "python"].map(|sdk| theirs(case, sdk));
        let as_said = |theirs: &[String; 2]| (0..2).all(|at| own_words(&ours[at]) == own_words(&theirs[at]));
        let same = as_said(&typescript) && as_said(&python);
        let mut reason = listed.get(id).copied().unwrap_or_default();
        if same != reason.is_empty() {
            wrong.push(format!("{id}: ours {ours:?}, TypeScript {typescript:?}, Python {python:?}, reason {reason:?}"));
        }
        if same && [&typescript, &python].into_iter().any(|theirs| theirs != ours) {
            reason = OTHER_WORDS;
        }
        let cell = |[verify, settle]: &[String; 2]| match verify == settle {
            true => format!("`{verify}`"),
            false => format!("`{verify}`, `{settle}`"),
        };
        writeln!(rows, "| `{id}` | {} | {} | {} | {reason} |", cell(&typescript), cell(&python), cell(ours)).unwrap();
    }
    if wrong.is_empty() { Ok(rows) } else { Err(wrong) }
}

fn recorded_case(id: &str) -> Value {
    vectors()["facilitatorCases"].as_array().unwrap().iter().find(|case| case["id"] == id).unwrap().clone()
}

/// Every way in which a line could go unexplained or a case unasked is an error.
#[test]
fn no_line_is_without_its_reason_and_no_case_is_left_out() {
    let cases = vectors()["facilitatorCases"].as_array().unwrap()[..2].to_vec();
    let said = |case: &Value| theirs(case, "typescript");
    let ours: Vec<_> = cases.iter().map(said).collect();
    let ids: Vec<_> = cases.iter().map(|case| case["id"].as_str().unwrap()).collect();
    let same = explained(&cases, &ours, &[]).unwrap();
    assert_eq!((same.lines().count(), same.contains(OTHER_WORDS)), (2, false));
    // Other words for the same code are a difference that the reader sees.
    let mut other_words = cases.clone();
    other_words[0] = recorded_case("accepted_network_other");
    let answer = ["invalid_network".to_owned(), "invalid_network".to_owned()];
    let rows = explained(&other_words, &[answer, ours[1].clone()], &[]).unwrap();
    assert_eq!(rows.lines().filter(|row| row.contains(OTHER_WORDS)).count(), 1);

    let other = [ours[0].clone(), ["valid".to_owned(), "permit2_invalid_nonce".to_owned()]];
    assert!(explained(&cases, &other, &[(ids[1], "it is read")]).is_ok());
    let twice = [cases[0].clone(), cases[0].clone()];
    for (what, cases, ours, reasons) in [
        ("a difference without a reason", &cases[..], &other[..], &[][..]),
        ("an empty reason", &cases, &other, &[(ids[1], " ")]),
        ("a reason without a difference", &cases, &ours, &[(ids[1], "it is read")]),
        ("a reason of no case", &cases, &ours, &[("elsewhere", "it is read")]),
        ("two reasons", &cases, &other, &[(ids[1], "it is read"), (ids[1], "it is read")]),
        ("a case that was not asked", &cases, &ours[..1], &[]),
        ("a case twice", &twice, &[ours[0].clone(), ours[0].clone()], &[]),
    ] {
        assert!(explained(cases, ours, reasons).is_err(), "{what}");
    }
}
