//! Permit2 and the proxies against what anvil did with the transactions that the published SDKs sent:
//! `vectors/permit2.json`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, B256, Bytes, U256, b256, hex};
use alloy_provider::Provider;
use alloy_rpc_types_eth::{TransactionReceipt, TransactionRequest};
use alloy_sol_types::{SolCall, sol};
use common::chain;
use serde_json::Value;
use x402_devchain::{ACCOUNTS, DevChain, TOKEN, TOKENS_EACH, Token, signer, signer_of};
use x402_evm::permit2::{EXACT_PROXY, PERMIT2, UPTO_PROXY};

sol! {
    function invalidateUnorderedNonces(uint256 wordPos, uint256 mask) external;
    function DOMAIN_SEPARATOR() external view returns (bytes32);
    function PERMIT2() external view returns (address);
    function WITNESS_TYPEHASH() external view returns (bytes32);
}

/// The payer of all recorded cases.
const PAYER: usize = 1;
const PAYEE: usize = 3;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../x402-testkit/vectors/permit2.json")).unwrap()
}

async fn sent(chain: &DevChain, from: Address, to: Address, data: Bytes) -> TransactionReceipt {
    let wallet = chain.wallet(signer_of(from).unwrap());
    let tx = TransactionRequest::default().with_to(to).with_input(data).with_gas_limit(400_000);
    wallet.send_transaction(tx).await.unwrap().get_receipt().await.unwrap()
}

async fn approve(chain: &DevChain, amount: U256) {
    let data = Token::approveCall { spender: PERMIT2, value: amount }.abi_encode();
    assert!(sent(chain, ACCOUNTS[PAYER].address, TOKEN, data.into()).await.status());
}

/// Puts the chain into the recorded state; `false` if the state is of a kind that is not here: another token.
async fn prepare(chain: &DevChain, state: &str, settled: &Value) -> bool {
    let nonce = || U256::from_str_radix(settled["nonce"].as_str().unwrap(), 10).unwrap();
    match state {
        "no allowance to Permit2" => {}
        "allowance(payer,Permit2)=max on USDC" => approve(chain, U256::MAX).await,
        "allowance(payer,Permit2)=10000 on USDC" => approve(chain, U256::from(10_000)).await,
        "balance(payer)=5000" => chain.set_token_balance(TOKEN, ACCOUNTS[PAYER].address, U256::from(5_000)),
        "payer called invalidateUnorderedNonces for this nonce" => {
            let (word, mask) = (nonce() >> 8, U256::from(1) << (nonce() & U256::from(255)));
            let data = invalidateUnorderedNoncesCall { wordPos: word, mask }.abi_encode();
            assert!(sent(chain, ACCOUNTS[PAYER].address, PERMIT2, data.into()).await.status());
        }
        _ => return false,
    }
    true
}

/// Checks that every recorded transaction to a proxy does here what it did on anvil: status, logs, and gas within a tenth.
#[tokio::test]
async fn recorded_transactions_do_what_they_did() {
    let (mut done, mut failed) = (0, 0);
    for case in vectors()["facilitatorCases"].as_array().unwrap() {
        for sdk in ["typescript", "python"] {
            let sent_by_sdk = case[sdk].get("transactions").and_then(Value::as_array);
            let Some([transaction]) = sent_by_sdk.map(Vec::as_slice) else { continue };
            let (chain, id) = (chain(), &case["id"]);
            let permit = &case["paymentPayload"]["payload"]["permit2Authorization"];
            let mut known = true;
            for state in case["chainState"].as_array().unwrap() {
                known &= prepare(&chain, state.as_str().unwrap(), permit).await;
            }
            if !known {
                continue;
            }
            let address = |name: &str| transaction[name].as_str().unwrap().parse::<Address>().unwrap();
            let input: Bytes = transaction["input"].as_str().unwrap().parse().unwrap();
            let receipt = sent(&chain, address("from"), address("to"), input).await;
            assert_eq!(u64::from(receipt.status()), transaction["status"].as_u64().unwrap(), "{id} {sdk}");
            let topics: Vec<B256> = receipt.logs().iter().map(|log| log.topics()[0]).collect();
            let theirs: Vec<B256> = transaction["logTopics"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|topic| topic.as_str().unwrap().parse().unwrap())
                .collect();
            assert_eq!(topics, theirs, "{id} {sdk}");
            let received = chain.balance_of(ACCOUNTS[PAYEE].address) - U256::from(TOKENS_EACH);
            assert_eq!(received.to_string(), case[sdk]["payToReceived"].as_str().unwrap(), "{id} {sdk}");
            // On anvil the payee had no balance before, which costs 17,100 more, and the token is another contract.
            let (ours, their) = (receipt.gas_used, transaction["gasUsed"].as_u64().unwrap());
            assert!(ours.abs_diff(their) < their / 4, "{id} {sdk}: {ours} of {their}");
            done += 1;
            failed += u32::from(!receipt.status());
        }
    }
    assert!(done >= 28 && failed >= 4, "{done} {failed}");
}

/// Checks the domain separator against the one that viem computed for chain 84532, and that a nonce is used once.
#[tokio::test]
async fn permit2_is_itself_on_this_chain() {
    let chain = chain();
    let read = async |to: Address, data: Vec<u8>| {
        let tx = TransactionRequest::default().with_to(to).with_input(data);
        chain.provider().call(tx).await
    };
    let separator = read(PERMIT2, DOMAIN_SEPARATORCall {}.abi_encode()).await.unwrap();
    let of_viem = b256!("0x010f27a92fb9a32622f44f001dc4d15706a85b33499cfc2ce9033113ab26592c");
    assert_eq!(B256::from_slice(&separator), of_viem);
    let witness = [
        (EXACT_PROXY, b256!("0xd97b3239a7f32295517bd14cb074edfdd188dfe5eb42f802bb26d4fd1eb12c37")),
        (UPTO_PROXY, b256!("0xd4171c445a74218b01d4fd8af34ff1106580ea1e36ff837e64484bfaa2253b75")),
    ];
    for (proxy, hash) in witness {
        let permit2 = read(proxy, PERMIT2Call {}.abi_encode()).await.unwrap();
        assert_eq!(Address::from_word(B256::from_slice(&permit2)), PERMIT2);
        assert_eq!(B256::from_slice(&read(proxy, WITNESS_TYPEHASHCall {}.abi_encode()).await.unwrap()), hash);
    }

    approve(&chain, U256::MAX).await;
    let vectors = vectors();
    let ok = &vectors["facilitatorCases"][0]["typescript"]["transactions"][0]["input"];
    let input: Bytes = ok.as_str().unwrap().parse().unwrap();
    let facilitator = ACCOUNTS[2].address;
    assert!(sent(&chain, facilitator, EXACT_PROXY, input.clone()).await.status());
    assert!(!sent(&chain, facilitator, EXACT_PROXY, input.clone()).await.status());
    let refused = read(EXACT_PROXY, input.to_vec()).await.unwrap_err();
    // `InvalidNonce()`.
    assert_eq!(refused.as_error_resp().unwrap().as_revert_data(), Some(hex!("756688fe").into()));
    // A permit of `upto` is for the account that it names.
    let all = vectors["facilitatorCases"].as_array().unwrap();
    let upto = all.iter().find(|case| case["id"] == "upto_ok_settle_max").unwrap();
    let input: Bytes = upto["typescript"]["transactions"][0]["input"].as_str().unwrap().parse().unwrap();
    let other = signer(5).unwrap().address();
    assert!(!sent(&chain, other, UPTO_PROXY, input.clone()).await.status());
    assert!(sent(&chain, facilitator, UPTO_PROXY, input).await.status());
}
