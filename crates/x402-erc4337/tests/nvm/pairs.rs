//! Plan, agent, resource and method of one payment never pay for another.

use alloy_primitives::U256;
use x402_devchain::PLANS;
use x402_erc4337::session::zerodev::Grant;
use x402_types::nvm::{Code, RequestProof, Requirements};

use crate::stage::*;

/// What a payment is for.
#[derive(Debug, Clone, PartialEq)]
struct Purpose {
    plan: u64,
    agent: Option<u64>,
    resource: &'static str,
    verb: &'static str,
}

fn purposes() -> Vec<Purpose> {
    let mut all = Vec::new();
    for plan in [PLAN, OTHER_PLAN] {
        for agent in [None, Some(1), Some(2)] {
            for resource in [URL, "https://agent.example/other", "/tasks"] {
                for verb in ["GET", "POST"] {
                    all.push(Purpose { plan, agent, resource, verb });
                }
            }
        }
    }
    all
}

fn entry(purpose: &Purpose) -> Requirements {
    let entry = Requirements::new(x402_types::ChainId::eip155(CHAIN), U256::from(purpose.plan).into());
    let entry = entry.with_verb(purpose.verb);
    match purpose.agent {
        Some(agent) => entry.with_agent(U256::from(agent).into()),
        None => entry,
    }
}

#[tokio::test]
async fn a_payment_of_one_purpose_pays_for_no_other() {
    let stage = stage().await;
    stage.give(1).await;
    stage.give_of(OTHER_PLAN, 1).await;
    // A key that leaves the plan open: what binds is the statement.
    let grant = Grant::new(0, UNTIL).times(1_000).call(PLANS, selector(BURN)).at_most(64, U256::from(5));
    let key = stage.key("redeem", &grant).await;
    let mut draft = stage.draft(1, 3).await;
    draft.keys = vec![key];
    let purposes = purposes();
    assert_eq!(purposes.len(), 36);
    let mut refused = 0;
    for paid in &purposes {
        draft.accepted = entry(paid);
        draft.resource = Some(paid.resource.to_owned());
        draft.proof = draft.proof.map(|proof| RequestProof { resource_url: paid.resource.to_owned(), ..proof });
        let payment = draft.sign();
        for asked in &purposes {
            let mut claim = payment.clone();
            claim.terms = entry(asked).to_terms(3.into()).unwrap();
            claim.resource = Some(x402_types::v2::ResourceInfo::of(asked.resource));
            // A server may name the resource by the path of the URL that was signed, and not the other way round.
            let is_resource = asked.resource == paid.resource || (asked.resource == "/tasks" && paid.resource == URL);
            if is_resource && (Purpose { resource: paid.resource, ..asked.clone() }) == *paid {
                stage.verify(&claim).await.unwrap();
                continue;
            }
            refused += 1;
            let reason = stage.refused(&claim).await.reason;
            let expected = if is_resource { Code::InvalidSignature } else { Code::InvalidPayload };
            assert_eq!(reason, expected.reason(), "{paid:?} for {asked:?}");
        }
    }
    assert_eq!(refused, 36 * 35 - 12);
}

/// Version 2 of the statement is a bearer token of its plan, and of nothing else.
#[tokio::test]
async fn a_bearer_token_pays_for_its_plan_alone() {
    let stage = stage().await;
    stage.give(1).await;
    stage.give_of(OTHER_PLAN, 1).await;
    let grant = Grant::new(0, UNTIL).times(1_000).call(PLANS, selector(BURN)).at_most(64, U256::from(5));
    let mut draft = stage.draft(1, 3).await;
    draft.keys = vec![stage.key("redeem", &grant).await];
    draft.proof = None;
    for paid in [PLAN, OTHER_PLAN] {
        draft.accepted = Requirements::new(x402_types::ChainId::eip155(CHAIN), U256::from(paid).into());
        let payment = draft.sign();
        for asked in purposes() {
            let mut claim = payment.clone();
            claim.terms = entry(&asked).to_terms(3.into()).unwrap();
            claim.resource = Some(x402_types::v2::ResourceInfo::of(asked.resource));
            let verdict = stage.verify(&claim).await;
            assert_eq!(verdict.is_ok(), asked.plan == paid, "{asked:?}");
        }
    }
}
