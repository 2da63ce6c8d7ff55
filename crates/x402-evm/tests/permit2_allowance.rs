//! The buyer's half of `eip2612GasSponsoring` beside the TypeScript SDK's: the recorded exchange in
//! `vectors/permit2.json` whose 402 declares it, with the same key, time and chain.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, U256};
use alloy_signer_local::PrivateKeySigner;
use async_trait::async_trait;
use serde_json::Value;
use x402_evm::chain::{Answers, At, BatchRead, Head, ReadChain, Returned};
use x402_evm::permit2::AllowancePermits;
use x402_types::extension::echo;
use x402_types::v2::PaymentRequirements;
use x402_types::{ChainId, Extension, Fault, Members, RawJson, SigningContext, Terms, UnixSeconds};

/// anvil's second account, the payer of the recording.
const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

/// A chain on which the token answers with this allowance and this number of permits.
struct Answering {
    network: ChainId,
    answers: [Option<u64>; 2],
}

#[async_trait]
impl ReadChain for Answering {
    fn network(&self) -> ChainId {
        self.network
    }

    async fn head(&self) -> Result<Head, Fault> {
        Err(Fault::broken("no head is needed"))
    }

    async fn run(&self, _: &BatchRead, _: At) -> Result<Answers, Fault> {
        let returned = |answer: Option<u64>| Returned {
            success: answer.is_some(),
            data: answer.map_or_else(Bytes::new, |word| U256::from(word).to_be_bytes::<32>().into()),
        };
        Ok(Answers { timestamp: 0, sizes: Vec::new(), calls: self.answers.map(returned).into() })
    }

    async fn run_with_implementation(&self, _: &BatchRead, _: Address) -> Result<(Answers, Option<Address>), Fault> {
        Err(Fault::broken("not needed"))
    }
}

/// The recorded entry and declaration, and what the SDK's client echoed.
fn recorded() -> (Terms, RawJson, Value) {
    let vectors: Value = serde_json::from_str(include_str!("../../x402-testkit/vectors/permit2.json")).unwrap();
    let exchanges = vectors["httpExchanges"].as_array().unwrap();
    let exchange = exchanges.iter().find(|one| one["id"] == "permit2_both_extensions_declared").unwrap();
    let document = &exchange["exchange"][0]["response"]["paymentRequired"];
    let entry: PaymentRequirements = serde_json::from_value(document["accepts"][0].clone()).unwrap();
    let declared = RawJson::of(&document["extensions"]["eip2612GasSponsoring"]).unwrap();
    let echoed = exchange["exchange"][1]["request"]["paymentPayload"]["extensions"]["eip2612GasSponsoring"].clone();
    (entry.into(), declared, echoed)
}

async fn completed(terms: &Terms, answers: [Option<u64>; 2], network: u64) -> Members {
    let (_, declared, echoed) = recorded();
    let deadline: u64 = echoed["info"]["deadline"].as_str().unwrap().parse().unwrap();
    let now = UnixSeconds(deadline - terms.max_timeout_seconds.get());
    let signer: PrivateKeySigner = KEY.parse().unwrap();
    let chain = Answering { network: ChainId::eip155(network), answers };
    let permits = AllowancePermits::new(signer).with_chain(Arc::new(chain));
    let context = SigningContext { now, entropy: [0; 32], url: "https://shop.example/", method: "GET" };
    permits.complete(&echo::info(&declared).unwrap(), terms, &context).await.unwrap()
}

#[tokio::test]
async fn the_signed_allowance_is_the_sdk_s_to_the_byte() {
    let (terms, declared, theirs) = recorded();
    // The account's second permit of this token, and less than the amount is approved.
    let additions = completed(&terms, [Some(9_999), Some(1)], 84_532).await;
    let ours: Value = echo::echoed(&declared, &additions).read().unwrap();
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn where_no_permit_is_needed_or_possible_nothing_is_signed() {
    let (terms, ..) = recorded();
    let nothing = |members: Members| members.iter().count() == 0;
    // The allowance covers the amount; the token has no permits, or no allowance; the chain is another one.
    assert!(nothing(completed(&terms, [Some(10_000), Some(1)], 84_532).await));
    assert!(nothing(completed(&terms, [Some(0), None], 84_532).await));
    assert!(nothing(completed(&terms, [None, Some(0)], 84_532).await));
    assert!(nothing(completed(&terms, [Some(0), Some(0)], 8_453).await));
    // The terms are paid by EIP-3009, or in a token that is not known, whatever domain the server states.
    let mut other = terms.clone();
    other.extra.insert_text("assetTransferMethod", "eip3009");
    assert!(nothing(completed(&other, [Some(0), Some(0)], 84_532).await));
    let mut other = terms;
    other.asset = "0x1111111111111111111111111111111111111111".into();
    assert!(nothing(completed(&other, [Some(0), Some(0)], 84_532).await));
}
