//! `eth_simulateV1`, against what geth answers, and the state overrides of `eth_call`; `anvil.rs` has anvil's answers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, Bytes, U256, address as addr, b256, hex};
use alloy_provider::Provider;
use alloy_rpc_types_eth::simulate::{SimBlock, SimulatePayload};
use alloy_rpc_types_eth::state::{AccountOverride, StateOverride};
use alloy_rpc_types_eth::{Authorization, Block, BlockOverrides, TransactionRequest};
use alloy_signer::SignerSync;
use alloy_sol_types::SolEvent;
use common::{NOW, TransferWithAuthorization, address, chain, error_text, request, rpc, send, sign};
use serde_json::{Value, json};
use x402_devchain::{DevChain, TOKEN, TOKENS_EACH, Token, signer};

/// Adds one to slot 0 and returns the sum.
const COUNTER: [u8; 14] = hex!("5f54600101805f555f5260205ff3");

const A: Address = addr!("c000000000000000000000000000000000000000");
const B: Address = addr!("c100000000000000000000000000000000000000");
const C: Address = addr!("c200000000000000000000000000000000000000");

fn pay(to: usize, value: u64) -> Token::transferCall {
    Token::transferCall { to: address(to), value: U256::from(value) }
}

fn balance(account: usize) -> TransactionRequest {
    request(&Token::balanceOfCall { account: address(account) })
}

fn with_code(account: Address, code: impl Into<Bytes>) -> StateOverride {
    [(account, AccountOverride::default().with_code(code.into()))].into_iter().collect()
}

fn word(value: u64) -> Bytes {
    B256::from(U256::from(value)).into()
}

async fn simulate(chain: &DevChain, payload: Value) -> Value {
    rpc(chain, "eth_simulateV1", json!([payload, "latest"])).await.unwrap()
}

/// The code and the text of the error in place of an answer.
async fn refused(chain: &DevChain, payload: Value) -> (i64, String) {
    let error = rpc(chain, "eth_simulateV1", json!([payload])).await.unwrap_err();
    (error.as_error_resp().unwrap().code, error_text(&error))
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Values of geth's answers in <https://github.com/ethereum/execution-apis/tree/main/tests/eth_simulateV1>, named by file.
#[tokio::test]
async fn geth_answers_the_same() {
    // Their chain's id, which is in the hashes of transactions, and the time of its last block.
    let chain = DevChain::builder().chain_id(0xc_72dd_9d5e_883e).time(0x21c).build().unwrap();
    let free = json!({ "from": A, "to": B, "value": "0x3e8", "gas": "0x2faf080" });

    // ethSimulate-eth-send-should-not-produce-logs-on-revert: the hash of the transaction.
    let blocks = simulate(
        &chain,
        json!({ "blockStateCalls": [{ "stateOverrides": { A.to_string(): { "balance": "0x7d0" } }, "calls": [free] }] }),
    )
    .await;
    let hash = b256!("f1c5abb08809ef760f87aeabe7a87284c60797192dab6d2f0d26c27c9c038e9d");
    assert_eq!(blocks[0]["transactions"], json!([hash]));

    // ethSimulate-simple-validation-fulltx: two transfers with a base fee of 15 wei.
    let (first, second) = (
        json!({ "from": A, "to": B, "maxFeePerGas": "0x10", "value": "0x2540be400", "gas": "0x2faf080" }),
        json!({ "from": B, "to": C, "maxFeePerGas": "0x10", "value": "0x3e8", "gas": "0x2fa9e78" }),
    );
    let blocks = simulate(
        &chain,
        json!({
            "blockStateCalls": [{
                "blockOverrides": { "baseFeePerGas": "0xf" },
                "stateOverrides": { A.to_string(): { "balance": "0xe8d4a51000" } },
                "calls": [first, second],
            }],
            "validation": true,
            "returnFullTransactions": true,
        }),
    )
    .await;
    let block = &blocks[0];
    assert_eq!(block["gasUsed"], "0xa410");
    assert_eq!(block["baseFeePerGas"], "0xf");
    assert_eq!(block["receiptsRoot"], "0x75308898d571eafb5cd8cde8278bf5b3d13c5f6ec074926de3bb895b519264e1");
    assert_eq!(block["transactionsRoot"], "0x9e80508f974bbf713b286fe5a4d0fae2f54f17e33b742176cc4c5bb7e0942762");
    assert_eq!((&block["timestamp"], &block["size"]), (&json!("0x228"), &json!("0x2c8")));
    assert_eq!((&block["extraData"], &block["mixHash"]), (&json!("0x"), &json!(B256::ZERO)));
    assert_eq!(block["requestsHash"], "0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let call = json!({ "returnData": "0x", "logs": [], "gasUsed": "0x5208", "maxUsedGas": "0x5208", "status": "0x1" });
    assert_eq!(block["calls"], json!([call, call]));
    let whole = &block["transactions"][1];
    assert_eq!(whole["hash"], "0x5c78719d6ce3bf5b515e9fc3a41ab755c007645928bf35eba1a318721b774595");
    assert_eq!((&whole["gasPrice"], &whole["type"], &whole["r"]), (&json!("0xf"), &json!("0x2"), &json!("0x0")));

    // ethSimulate-eth-send-should-produce-no-logs-on-forward-revert, -run-out-of-gas-in-block-38015: the two failures.
    let codes = json!({ B.to_string(): { "code": "0x5f5ffd" }, C.to_string(): { "code": "0x5b5f56" } });
    let calls = json!([{ "from": A, "to": B }, { "from": A, "to": C, "gas": "0x6000" }]);
    let blocks = simulate(&chain, json!({ "blockStateCalls": [{ "stateOverrides": codes, "calls": calls }] })).await;
    let (reverted, halted) = (&blocks[0]["calls"][0], &blocks[0]["calls"][1]);
    assert_eq!(reverted["returnData"], "0x");
    assert_eq!(reverted["error"], json!({ "message": "execution reverted", "code": 3, "data": "0x" }));
    assert_eq!((&halted["returnData"], &halted["gasUsed"]), (&json!("0x"), &json!("0x6000")));
    assert_eq!(halted["error"], json!({ "message": "out of gas", "code": -32015 }));

    // Errors in place of an answer. geth wraps the texts as "err: … (supplied gas …)", which `eth_call` leaves out as well.
    let sent = |call: Value| json!({ "blockStateCalls": [{ "calls": [call] }] });
    let poor = json!({ "from": A, "to": B, "value": "0x3e8" });
    // -gas-fees-and-value-error-38014
    assert_eq!(
        refused(&chain, sent(poor)).await,
        (-38014, format!("insufficient funds for gas * price + value: address {A} have 0 want 1000"))
    );
    // -instrict-gas-38013
    assert_eq!(
        refused(&chain, sent(json!({ "from": B, "to": B, "gas": "0x0" }))).await,
        (-38013, "intrinsic gas too low: have 0, want 21000".to_owned())
    );
    // -basefee-too-low-with-validation-38012
    let low = json!({
        "blockStateCalls": [{
            "blockOverrides": { "baseFeePerGas": "0xa" },
            "stateOverrides": { A.to_string(): { "balance": "0x7d0" } },
            "calls": [{ "from": A, "to": B, "maxFeePerGas": "0x0", "maxPriorityFeePerGas": "0x0" }],
        }],
        "validation": true,
    });
    assert_eq!(refused(&chain, low.clone()).await, (-38012, "max fee per gas less than block base fee".to_owned()));
    // -basefee-too-low-without-validation-38012: no offer is free.
    let mut lax = low;
    lax["validation"] = json!(false);
    let blocks = simulate(&chain, lax).await;
    assert_eq!((&blocks[0]["baseFeePerGas"], &blocks[0]["calls"]), (&json!("0xa"), &json!([call])));
    // -block-timestamp-order-38021, -add-more-non-defined-BlockStateCalls-than-fit, -empty-ethSimulate
    let times = ["0x228", "0x227"].map(|time| json!({ "blockOverrides": { "time": time } }));
    assert_eq!(
        refused(&chain, json!({ "blockStateCalls": times })).await,
        (-38021, "block timestamps must be in order: 551 <= 552".to_owned())
    );
    let numbers = json!([{ "blockOverrides": { "number": "0x9a" } }, {}, { "blockOverrides": { "number": "0x9b" } }]);
    assert_eq!(
        refused(&chain, json!({ "blockStateCalls": numbers })).await,
        (-38020, "block numbers must be in order: 155 <= 155".to_owned())
    );
    assert_eq!(refused(&chain, json!({})).await, (-32602, "empty input".to_owned()));
}

#[tokio::test]
async fn calls_build_on_each_other_and_leave_nothing() {
    let chain = chain();
    send(&chain, 0, pay(1, 10)).await;
    let provider = chain.provider();
    let payload = SimulatePayload::default()
        .extend(SimBlock::default().call(request(&pay(1, 5)).from(address(0))).call(balance(1)))
        .extend(
            SimBlock::default()
                .call(request(&pay(2, TOKENS_EACH + 16)).from(address(1)))
                .call(request(&pay(2, 15)).from(address(1)))
                .call(balance(1)),
        );
    let blocks = provider.simulate(&payload).await.unwrap();
    assert_eq!(blocks.iter().map(|block| block.inner.header.number).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(blocks.iter().map(|block| block.inner.header.timestamp).collect::<Vec<_>>(), [NOW + 12, NOW + 24]);
    let head = provider.get_block_by_number(1.into()).await.unwrap().unwrap().header.hash;
    assert_eq!(blocks[0].inner.header.parent_hash, head);
    assert_eq!(blocks[1].inner.header.parent_hash, blocks[0].inner.header.hash);
    assert_eq!(blocks[0].inner.header.inner.hash_slow(), blocks[0].inner.header.hash);
    assert_eq!(blocks[0].inner.header.base_fee_per_gas, Some(0));

    let [paid, seen] = blocks[0].calls.as_slice() else { panic!("{blocks:?}") };
    assert!(paid.status && paid.error.is_none());
    assert_eq!(seen.return_data, word(TOKENS_EACH + 15));
    let event = Token::Transfer::decode_log(&paid.logs[0].inner).unwrap();
    assert_eq!((event.address, event.to, event.value), (TOKEN, address(1), U256::from(5)));
    assert_eq!(paid.logs[0].block_hash, Some(blocks[0].inner.header.hash));
    assert_eq!(paid.logs[0].transaction_hash, blocks[0].inner.transactions.hashes().next());

    let [too_much, rest, seen] = blocks[1].calls.as_slice() else { panic!("{blocks:?}") };
    let error = too_much.error.clone().unwrap();
    assert!(!too_much.status && rest.status);
    assert_eq!((error.code, error.message.as_str()), (3, "execution reverted: ERC20: transfer amount exceeds balance"));
    assert!(error.data.unwrap().starts_with(&hex!("08c379a0")));
    assert!(too_much.return_data.is_empty(), "what a revert gives back is the error's data");
    assert_eq!(seen.return_data, word(TOKENS_EACH));

    assert_eq!((chain.block_number(), chain.balance_of(address(1))), (1, U256::from(TOKENS_EACH + 10)));
    // On an older block, and on the pending one.
    let one = SimulatePayload::default().extend(SimBlock::default().call(balance(1)));
    let at_genesis = provider.simulate(&one).number(0).await.unwrap();
    assert_eq!((at_genesis[0].inner.header.number, &at_genesis[0].calls[0].return_data), (1, &word(TOKENS_EACH)));
    let at_pending = provider.simulate(&one).pending().await.unwrap();
    assert_eq!(at_pending[0].inner.header.number, 3);
}

/// What a server asks before it settles: the transfer of a signed authorization, and the balance after it.
#[tokio::test]
async fn a_payment_is_simulated_with_its_logs() {
    let chain = chain();
    let message = TransferWithAuthorization {
        from: address(1),
        to: address(2),
        value: U256::from(250_000),
        validAfter: U256::ZERO,
        validBefore: U256::from(NOW + 60),
        nonce: B256::repeat_byte(7),
    };
    let pay = request(&Token::transferWithAuthorization_1Call {
        from: message.from,
        to: message.to,
        value: message.value,
        validAfter: message.validAfter,
        validBefore: message.validBefore,
        nonce: message.nonce,
        signature: sign(1, &message).as_bytes().into(),
    });
    let payload =
        SimulatePayload::default().extend(SimBlock::default().call(pay.clone()).call(balance(2)).call(pay.clone()));
    let blocks = chain.provider().simulate(&payload).await.unwrap();
    let [first, seen, again] = blocks[0].calls.as_slice() else { panic!("{blocks:?}") };
    let topics: Vec<B256> = first.logs.iter().map(|log| log.topics()[0]).collect();
    assert_eq!(topics, [Token::AuthorizationUsed::SIGNATURE_HASH, Token::Transfer::SIGNATURE_HASH]);
    assert_eq!(seen.return_data, word(TOKENS_EACH + 250_000));
    let used = "execution reverted: FiatTokenV2: authorization is used or canceled";
    assert_eq!(again.error.as_ref().unwrap().message, used);
    // The same in a block after its deadline.
    let late = BlockOverrides { time: Some(NOW + 60), ..Default::default() };
    let payload = SimulatePayload::default().extend(SimBlock::default().with_block_overrides(late).call(pay));
    let blocks = chain.provider().simulate(&payload).await.unwrap();
    let expired = "execution reverted: FiatTokenV2: authorization is expired";
    assert_eq!(blocks[0].calls[0].error.as_ref().unwrap().message, expired);
}

#[tokio::test]
async fn a_block_is_what_its_overrides_say() {
    let chain = chain();
    // NUMBER, TIMESTAMP, COINBASE, PREVRANDAO, GASLIMIT, BASEFEE, BLOCKHASH(NUMBER - 1), each a word of the answer.
    let code = hex!("435f52426020524160405244606052456080524860a05260014303405f60c0015260e05ff3");
    let overrides = BlockOverrides {
        number: Some(U256::from(4)),
        time: Some(NOW + 1000),
        coinbase: Some(B),
        random: Some(B256::repeat_byte(8)),
        gas_limit: Some(1_000_000),
        base_fee: Some(U256::from(9)),
        beacon_root: Some(B256::repeat_byte(6)),
        ..Default::default()
    };
    let payload = SimulatePayload::default().extend(
        SimBlock::default()
            .with_block_overrides(overrides)
            .with_state_overrides(with_code(C, code))
            .call(TransactionRequest::default().from(A).to(C)),
    );
    let blocks = chain.provider().simulate(&payload).await.unwrap();
    // The three blocks in between are there too.
    let numbers: Vec<(u64, u64)> =
        blocks.iter().map(|block| (block.inner.header.number, block.inner.header.timestamp)).collect();
    assert_eq!(numbers, [(1, NOW + 12), (2, NOW + 24), (3, NOW + 36), (4, NOW + 1000)]);
    assert!(blocks[..3].iter().all(|block| block.calls.is_empty()));
    let words: Vec<U256> = blocks[3].calls[0].return_data.chunks(32).map(U256::from_be_slice).collect();
    let parent = blocks[2].inner.header.hash;
    assert_eq!(
        words,
        [
            U256::from(4),
            U256::from(NOW + 1000),
            B.into_word().into(),
            B256::repeat_byte(8).into(),
            U256::from(1_000_000),
            U256::from(9),
            parent.into(),
        ]
    );
    let header = &blocks[3].inner.header;
    assert_eq!((header.beneficiary, header.mix_hash, header.gas_limit), (B, B256::repeat_byte(8), 1_000_000));
    assert_eq!((header.base_fee_per_gas, header.parent_beacon_block_root), (Some(9), Some(B256::repeat_byte(6))));
}

/// Notes: the gas limit of a call is "blockGasLimit - soFarUsedGasInBlock" unless told.
#[tokio::test]
async fn calls_share_the_gas_of_their_block() {
    let chain = chain();
    // C burns what it is given.
    let block = |calls: Value| {
        json!({ "blockStateCalls": [{
            "blockOverrides": { "gasLimit": "0x186a0" },
            "stateOverrides": { C.to_string(): { "code": "0xfe" } },
            "calls": calls,
        }] })
    };
    let (first, rest) = (json!({ "from": A, "to": C, "gas": "0xea60" }), json!({ "from": A, "to": C }));
    let blocks = simulate(&chain, block(json!([first, rest]))).await;
    let used = |call: usize| blocks[0]["calls"][call]["gasUsed"].clone();
    assert_eq!((used(0), used(1), blocks[0]["gasUsed"].clone()), (json!("0xea60"), json!("0x9c40"), json!("0x186a0")));
    let (code, text) = refused(&chain, block(json!([first, first]))).await;
    assert_eq!((code, text.as_str()), (-38015, "block gas limit reached: 120000 > 100000"));
}

/// EIP-7702 in a call: account 1 delegates to a counter and is called, at one price, which is then both fees.
#[tokio::test]
async fn a_call_carries_authorizations() {
    let chain = chain();
    let authorization = Authorization { chain_id: U256::from(84532), address: C, nonce: 0 };
    let signature = signer(1).unwrap().sign_hash_sync(&authorization.signature_hash()).unwrap();
    let call = json!({
        "from": address(0), "to": address(1), "gasPrice": "0x7",
        "authorizationList": [authorization.into_signed(signature)],
    });
    let codes = json!({ C.to_string(): { "code": Bytes::from_static(&COUNTER) } });
    let asked = json!({
        "blockStateCalls": [{ "stateOverrides": codes, "calls": [call] }], "returnFullTransactions": true,
    });
    let blocks = simulate(&chain, asked).await;
    assert_eq!(blocks[0]["calls"][0]["returnData"], json!(word(1)));
    let whole = &blocks[0]["transactions"][0];
    let fees = (&whole["maxFeePerGas"], &whole["maxPriorityFeePerGas"]);
    assert_eq!((&whole["type"], fees), (&json!("0x4"), (&json!("0x7"), &json!("0x7"))));
    assert!(chain.provider().get_code_at(address(1)).await.unwrap().is_empty());
}

#[tokio::test]
async fn validation_holds_calls_to_the_rules_of_blocks() {
    let chain = chain();
    let transfer = json!({ "from": address(0), "to": address(1), "value": "0x1" });
    let with = |more: Value| {
        let mut call = transfer.clone();
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "blockStateCalls": [{ "calls": [call] }], "validation": true })
    };
    let paid = simulate(&chain, with(json!({ "gasPrice": "0x77359400" }))).await;
    // EIP-1559: an eighth less than that of the empty genesis.
    assert_eq!(paid[0]["baseFeePerGas"], json!(format!("{:#x}", 875_000_000)));
    assert_eq!(refused(&chain, with(json!({}))).await.0, -38012);
    assert_eq!(refused(&chain, with(json!({ "gasPrice": "0x1" }))).await.0, -38012);
    let (code, text) = refused(&chain, with(json!({ "gasPrice": "0x77359400", "nonce": "0x5" }))).await;
    assert_eq!((code, text), (-38011, format!("nonce too high: address {}, tx: 5 state: 0", address(0))));
    send(&chain, 0, pay(1, 1)).await;
    assert_eq!(refused(&chain, with(json!({ "gasPrice": "0x77359400", "nonce": "0x0" }))).await.0, -38010);
    assert_eq!(refused(&chain, with(json!({ "maxFeePerGas": "0x1", "maxPriorityFeePerGas": "0x2" }))).await.0, -32602);

    // Without it neither nonce nor fee stands in the way, and a contract sends as well.
    let lax = |call: Value| json!({ "blockStateCalls": [{ "calls": [call] }] });
    let any = json!({ "from": TOKEN, "to": address(1), "nonce": "0x63" });
    assert_eq!(simulate(&chain, lax(any)).await[0]["calls"][0]["status"], "0x1");
    // More gas than is left in the block.
    let much = json!({ "from": address(0), "to": address(1), "gas": format!("{:#x}", 60_000_001) });
    assert_eq!(refused(&chain, lax(much)).await.0, -38015);
    let initcode = json!({ "from": address(0), "input": Bytes::from(vec![0; 2 * 24_576 + 1]) });
    assert_eq!(refused(&chain, lax(initcode)).await.0, -38025);
}

#[tokio::test]
async fn what_is_not_there_is_refused() {
    let chain = chain();
    let call = json!({ "from": A, "to": B });
    for (payload, code, text) in [
        (json!({ "blockStateCalls": [{}], "traceTransfers": true }), -32602, "traceTransfers is not supported"),
        (json!({ "blockStateCalls": [{ "blockOverrides": { "number": "0x101" } }] }), -38026, "too many blocks"),
        (
            json!({ "blockStateCalls": [{ "stateOverrides": { A.to_string(): { "movePrecompileToAddress": B } } }] }),
            -32602,
            "movePrecompileToAddress is not supported",
        ),
        (
            json!({ "blockStateCalls": [{ "calls": [{ "from": A, "to": B, "blobVersionedHashes": [B256::ZERO] }] }] }),
            -32602,
            "blob transactions are not supported",
        ),
        (json!({ "blockStateCalls": [{ "calls": [call] }], "validation": 7 }), -32602, "invalid argument 0: "),
    ] {
        let (had, said) = refused(&chain, payload.clone()).await;
        assert!(had == code && said.starts_with(text), "{payload}: {had} {said}");
    }
    let most = json!({ "blockStateCalls": [{ "blockOverrides": { "number": "0x100" } }] });
    assert_eq!(simulate(&chain, most).await.as_array().unwrap().len(), 256);
}

/// The same overrides in `eth_call`, and a gas estimate that heeds them.
#[tokio::test]
async fn state_overrides_through_the_provider() {
    let chain = chain();
    let provider = chain.provider();
    let counted = TransactionRequest::default().from(A).to(C);
    let answer = provider.call(counted.clone()).overrides(with_code(C, COUNTER)).await.unwrap();
    assert_eq!(answer, word(1));
    let plain = provider.estimate_gas(counted.clone()).await.unwrap();
    let estimate = provider.estimate_gas(counted).overrides(with_code(C, COUNTER)).await.unwrap();
    assert_eq!(plain, 21_000);
    assert!(estimate > 43_000, "{estimate} for a cold slot");
    // A nonce moves the address that is created: CREATE of nothing, its address returned.
    let creator = hex!("5f5f5ff05f5260205ff3");
    let created = async |nonce: u64| {
        let account = AccountOverride::default().with_code(creator.to_vec()).with_nonce(nonce);
        let overrides: StateOverride = [(C, account)].into_iter().collect();
        let answer = provider.call(TransactionRequest::default().from(A).to(C)).overrides(overrides).await.unwrap();
        Address::from_word(B256::from_slice(&answer))
    };
    assert_eq!(created(1).await, C.create(1));
    assert_eq!(created(0x99).await, C.create(0x99));
}

/// Deployed in a transaction: 24,577 bytes of zeroes are one too many, unless the chain is told otherwise.
#[tokio::test]
async fn the_limit_of_code_is_a_choice() {
    // PUSH2 24577, PUSH0, RETURN
    let deploy = TransactionRequest::default().from(address(0)).input(Bytes::from(hex!("6160015ff3")).into());
    let deploy = TransactionRequest { to: Some(alloy_primitives::TxKind::Create), ..deploy };
    let strict = chain();
    let error = strict.provider().call(deploy.clone()).await.unwrap_err();
    assert_eq!(error_text(&error), "max code size exceeded");
    let lax = DevChain::builder().time(NOW).code_size_limit(30_000).build().unwrap();
    let wallet = lax.wallet(signer(0).unwrap());
    let receipt = wallet.send_transaction(deploy).await.unwrap().get_receipt().await.unwrap();
    let code = lax.provider().get_code_at(receipt.contract_address.unwrap()).await.unwrap();
    assert_eq!(code.len(), 24_577);
    // Half of what initcode may have.
    let initcode = |size: usize| json!([{ "from": address(0), "data": Bytes::from(vec![0; size]) }]);
    assert!(rpc(&lax, "eth_call", initcode(60_000)).await.is_ok());
    let error = rpc(&lax, "eth_call", initcode(60_001)).await.unwrap_err();
    assert_eq!(error_text(&error), "max initcode size exceeded");
}

/// alloy reads what is given, as a block like any other.
#[tokio::test]
async fn a_simulated_block_is_a_block() {
    let chain = chain();
    let payload = json!({ "blockStateCalls": [{ "calls": [{ "to": B }] }], "returnFullTransactions": true });
    let blocks = simulate(&chain, payload).await;
    let block: Block = serde_json::from_value(blocks[0].clone()).unwrap();
    let full = block.transactions.as_transactions().unwrap();
    assert_eq!((full.len(), full[0].inner.signer()), (1, Address::ZERO));
    let head = rpc(&chain, "eth_getBlockByNumber", json!(["latest", true])).await.unwrap();
    let mut expected = keys(&head);
    expected.insert("calls");
    assert_eq!(keys(&blocks[0]), expected);
}
