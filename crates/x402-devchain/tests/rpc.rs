//! The methods, over both transports.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes, U256, hex, keccak256};
use alloy_provider::{Provider, RootProvider};
use alloy_rpc_client::RpcClient;
use alloy_rpc_types_eth::{Filter, TransactionRequest};
use alloy_sol_types::{SolCall, SolEvent, SolValue};
use alloy_transport_http::Http;
use common::{NOW, address, call, chain, error_text, request, rpc, send};
use serde_json::{Value, json};
use x402_devchain::{DevChain, Failure, MiningMode, TOKEN, TOKENS_EACH, Token, When};

fn pay(to: usize, value: u64) -> Token::transferCall {
    Token::transferCall { to: address(to), value: U256::from(value) }
}

#[tokio::test]
async fn identity() {
    let chain = chain();
    assert_eq!(rpc(&chain, "eth_chainId", json!([])).await.unwrap(), "0x14a34");
    assert_eq!(rpc(&chain, "net_version", json!([])).await.unwrap(), "84532");
    let version = rpc(&chain, "web3_clientVersion", json!([])).await.unwrap();
    assert!(version.as_str().unwrap().starts_with("x402-devchain/"));
    let unknown = rpc(&chain, "eth_nothing", json!([])).await.unwrap_err();
    assert_eq!(unknown.as_error_resp().unwrap().code, -32601);
    assert_eq!(error_text(&unknown), "the method eth_nothing does not exist/is not available");
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let chain = chain();
    for (method, params, text) in [
        ("eth_getBalance", json!([]), "missing value for required argument 0"),
        ("eth_getBalance", json!([null]), "missing value for required argument 0"),
        ("eth_getBalance", json!(["0x12", "latest"]), "invalid argument 0: "),
        ("eth_getBalance", json!([7]), "invalid argument 0: "),
        ("eth_getBalance", json!([address(0), "newest"]), "invalid argument 1: "),
        ("eth_call", json!([{ "to": "x" }]), "invalid argument 0: "),
        ("eth_call", json!([{}, "latest", []]), "invalid argument 2: "),
        ("eth_sendRawTransaction", json!(["0xzz"]), "invalid argument 0: "),
        ("eth_getLogs", json!([{ "topics": 5 }]), "invalid argument 0: "),
        ("eth_getTransactionReceipt", json!(["0x00"]), "invalid argument 0: "),
        ("evm_increaseTime", json!(["soon"]), "invalid argument 0: not a number"),
        ("eth_feeHistory", json!([1, "latest", ["half"]]), "invalid argument 2: "),
    ] {
        let error = rpc(&chain, method, params.clone()).await.unwrap_err();
        assert_eq!(error.as_error_resp().map(|e| e.code), Some(-32602), "{method} {params}");
        assert!(error_text(&error).starts_with(text), "{method} {params}: {error}");
    }
    let error = rpc(&chain, "eth_chainId", json!({ "a": 1 })).await.unwrap_err();
    assert_eq!(error_text(&error), "non-array args");
    let beyond = rpc(&chain, "eth_getBalance", json!([address(0), "0x5"])).await.unwrap_err();
    assert_eq!(error_text(&beyond), "header not found");
    let beyond = rpc(&chain, "eth_getBalance", json!([address(0), { "blockHash": B256::ZERO }])).await.unwrap_err();
    assert_eq!(error_text(&beyond), "header for hash not found");
}

#[tokio::test]
async fn blocks_by_tag_number_and_hash() {
    let chain = DevChain::builder().time(NOW).finality_depth(2).build().unwrap();
    send(&chain, 0, pay(1, 5)).await;
    chain.mine(4);
    let provider = chain.provider();
    for (tag, number) in [
        (BlockNumberOrTag::Latest, 5),
        (BlockNumberOrTag::Finalized, 3),
        (BlockNumberOrTag::Safe, 3),
        (BlockNumberOrTag::Earliest, 0),
        (BlockNumberOrTag::Pending, 6),
        (BlockNumberOrTag::Number(1), 1),
    ] {
        let block = provider.get_block_by_number(tag).await.unwrap().unwrap();
        assert_eq!(block.header.number, number);
        // The hash is that of the header, so a client that checks it agrees.
        assert_eq!(block.header.inner.hash_slow(), block.header.hash);
        if number > 0 && number <= 5 {
            let parent = provider.get_block_by_number((number - 1).into()).await.unwrap().unwrap();
            assert_eq!(block.header.parent_hash, parent.header.hash);
            let by_hash = provider.get_block_by_hash(block.header.hash).await.unwrap().unwrap();
            assert_eq!(by_hash, block);
        }
    }
    assert!(provider.get_block_by_number(9.into()).await.unwrap().is_none());
    let full = provider.get_block_by_number(1.into()).full().await.unwrap().unwrap();
    let inside = &full.transactions.as_transactions().unwrap()[0];
    let alone = provider.get_transaction_by_hash(*inside.inner.tx_hash()).await.unwrap().unwrap();
    assert_eq!(inside, &alone);
    let receipts = provider.get_block_receipts(1.into()).await.unwrap().unwrap();
    let receipt = provider.get_transaction_receipt(*inside.inner.tx_hash()).await.unwrap().unwrap();
    assert_eq!(receipts, [receipt]);
}

#[tokio::test]
async fn state_of_older_blocks() {
    let chain = chain();
    for _ in 0..3 {
        send(&chain, 0, pay(1, 10)).await;
    }
    let provider = chain.provider();
    let balance = request(&Token::balanceOfCall { account: address(1) });
    for block in 0..=3_u64 {
        let answer = provider.call(balance.clone()).block(block.into()).await.unwrap();
        assert_eq!(U256::from_be_slice(&answer), U256::from(TOKENS_EACH + block * 10));
        assert_eq!(provider.get_transaction_count(address(0)).number(block).await.unwrap(), block);
    }
    let hash = provider.get_block_by_number(1.into()).await.unwrap().unwrap().header.hash;
    let answer = provider.call(balance).block(BlockId::hash(hash)).await.unwrap();
    assert_eq!(U256::from_be_slice(&answer), U256::from(TOKENS_EACH + 10));
    let slot = keccak256((address(1), U256::ZERO).abi_encode()).into();
    assert_eq!(provider.get_storage_at(TOKEN, slot).await.unwrap(), U256::from(TOKENS_EACH + 30));
    assert_eq!(provider.get_storage_at(TOKEN, slot).number(0).await.unwrap(), U256::from(TOKENS_EACH));
    assert!(
        provider.get_balance(address(0)).await.unwrap() < provider.get_balance(address(0)).number(0).await.unwrap()
    );
    assert!(!provider.get_code_at(TOKEN).await.unwrap().is_empty());
    assert!(provider.get_code_at(address(0)).await.unwrap().is_empty());
}

#[tokio::test]
async fn pending_state_holds_the_pool() {
    let chain = DevChain::builder().time(NOW).block_time(MiningMode::Manual).build().unwrap();
    let wallet = chain.wallet(x402_devchain::signer(0).unwrap());
    let _ = wallet.send_transaction(request(&pay(1, 10)).gas_limit(100_000)).await.unwrap();
    let balance = request(&Token::balanceOfCall { account: address(1) });
    let seen =
        async |id: BlockId| U256::from_be_slice(&chain.provider().call(balance.clone()).block(id).await.unwrap());
    assert_eq!(seen(BlockId::latest()).await, U256::from(TOKENS_EACH));
    assert_eq!(seen(BlockId::pending()).await, U256::from(TOKENS_EACH + 10));
    assert_eq!((chain.block_number(), chain.balance_of(address(1))), (0, U256::from(TOKENS_EACH)));
}

#[tokio::test]
async fn a_revert_has_code_3_reason_and_data() {
    let chain = chain();
    let too_much = request(&pay(1, TOKENS_EACH + 1)).from(address(0));
    let text = "ERC20: transfer amount exceeds balance";
    for error in [
        chain.provider().call(too_much.clone()).await.unwrap_err(),
        chain.provider().estimate_gas(too_much).await.unwrap_err(),
    ] {
        let payload = error.as_error_resp().unwrap();
        assert_eq!(
            (payload.code, payload.message.as_ref()),
            (3, "execution reverted: ERC20: transfer amount exceeds balance")
        );
        let data: Bytes = payload.as_revert_data().unwrap();
        assert_eq!(data, [&hex!("08c379a0")[..], &text.abi_encode()].concat());
    }
    // Solidity's Panic(0x11): an allowance that overflows.
    send(&chain, 0, Token::approveCall { spender: address(1), value: U256::MAX }).await;
    let overflow = Token::increaseAllowanceCall { spender: address(1), increment: U256::ONE };
    let error = call(&chain, address(0), overflow).await.map(drop).unwrap_err();
    assert_eq!(error, "execution reverted: arithmetic underflow or overflow");
    // Without data there is no reason.
    let bare = TransactionRequest::default().to(TOKEN).input(Bytes::from_static(&[1, 2, 3, 4]).into());
    let error = chain.provider().call(bare).await.unwrap_err();
    assert_eq!(error_text(&error), "execution reverted");
}

#[tokio::test]
async fn a_call_without_a_target_runs_its_initcode() {
    let chain = chain();
    // PUSH32 word, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN
    let word = [0x11; 32];
    let initcode = [&[0x7f][..], &word, &hex!("5f5260205ff3")].concat();
    let answer = rpc(&chain, "eth_call", json!([{ "data": Bytes::from(initcode.clone()) }, "latest"])).await.unwrap();
    assert_eq!(answer, json!(B256::from(word)));
    let answer = rpc(&chain, "eth_call", json!([{ "input": Bytes::from(initcode) }])).await.unwrap();
    assert_eq!(answer, json!(B256::from(word)));
    // It sees the chain: BALANCE of account 0, which is 10,000 ETH.
    let balance = [&[0x73][..], address(0).as_slice(), &hex!("315f5260205ff3")].concat();
    let answer = rpc(&chain, "eth_call", json!([{ "data": Bytes::from(balance) }])).await.unwrap();
    assert_eq!(answer, json!(B256::from(U256::from(10_000 * 10_u128.pow(18)))));
    // INVALID, and a revert with four bytes.
    let halted = rpc(&chain, "eth_call", json!([{ "data": "0xfe" }])).await.unwrap_err();
    assert_eq!(error_text(&halted), "invalid opcode");
    let reverted = rpc(&chain, "eth_call", json!([{ "data": "0x63deadbeef5f526004601cfd" }])).await.unwrap_err();
    assert_eq!(reverted.as_error_resp().unwrap().as_revert_data().unwrap().as_ref(), hex!("deadbeef"));
}

#[tokio::test]
async fn overrides_are_of_one_call() {
    let chain = chain();
    let poor = Address::repeat_byte(9);
    let slot: B256 = keccak256((poor, U256::ZERO).abi_encode());
    let call = json!({ "from": poor, "to": TOKEN, "data": Bytes::from(pay(1, 7).abi_encode()) });
    let with = async |overrides: Value| rpc(&chain, "eth_call", json!([call, "latest", overrides])).await;
    assert!(with(json!({})).await.is_err());
    let seven = B256::from(U256::from(7));
    assert!(with(json!({ TOKEN.to_string(): { "stateDiff": { slot.to_string(): seven } } })).await.is_ok());
    assert!(with(json!({ TOKEN.to_string(): { "state": { slot.to_string(): seven } } })).await.is_ok());
    let both = json!({ TOKEN.to_string(): { "state": {}, "stateDiff": {} } });
    assert!(error_text(&with(both).await.unwrap_err()).ends_with("has both 'state' and 'stateDiff'"));
    // Code that returns the block's time: TIMESTAMP, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN.
    let code = json!({ TOKEN.to_string(): { "code": "0x425f5260205ff3" } });
    assert_eq!(with(code.clone()).await.unwrap(), json!(B256::from(U256::from(NOW))));
    let later = rpc(&chain, "eth_call", json!([call, "latest", code, { "time": "0x10" }])).await.unwrap();
    assert_eq!(later, json!(B256::from(U256::from(16))));
    assert!(with(json!({})).await.is_err());

    let gift = json!({ "from": poor, "to": address(1), "value": "0x5" });
    let error = rpc(&chain, "eth_call", json!([gift, "latest"])).await.unwrap_err();
    assert!(error_text(&error).starts_with("insufficient funds for gas * price + value"), "{error}");
    let rich = json!({ poor.to_string(): { "balance": "0x5" } });
    assert_eq!(rpc(&chain, "eth_call", json!([gift, "latest", rich])).await.unwrap(), "0x");
}

/// viem sends fees and a nonce and no chain id; an offer below the base fee is refused, none at all is free.
#[tokio::test]
async fn a_call_of_every_transaction_type() {
    let chain = chain();
    let with = async |more: Value| {
        let mut call = json!({ "from": address(0), "to": TOKEN, "data": Bytes::from(pay(1, 7).abi_encode()) });
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = rpc(&chain, "eth_call", json!([call, "latest"])).await;
        answer.map_err(|error| error_text(&error))
    };
    let yes = json!(B256::from(U256::ONE));
    assert_eq!(with(json!({})).await.unwrap(), yes);
    assert_eq!(with(json!({ "gasPrice": "0x77359400", "chainId": "0x14a34" })).await.unwrap(), yes);
    let fees = json!({ "maxFeePerGas": "0x77359400", "maxPriorityFeePerGas": "0xf4240", "nonce": "0x9" });
    assert_eq!(with(fees).await.unwrap(), yes);
    assert_eq!(with(json!({ "accessList": [{ "address": TOKEN, "storageKeys": [B256::ZERO] }] })).await.unwrap(), yes);
    assert_eq!(with(json!({ "gasPrice": "0x1" })).await.unwrap_err(), "max fee per gas less than block base fee");
    assert_eq!(
        with(json!({ "chainId": "0x1" })).await.unwrap_err(),
        "chainId does not match node's (have=1, want=84532)"
    );
    assert_eq!(with(json!({ "gas": "0x5208" })).await.unwrap_err(), "intrinsic gas too low: have 21000, want 21572");
    assert_eq!(
        with(json!({ "gasPrice": "0x1", "maxFeePerGas": "0x1" })).await.unwrap_err(),
        "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"
    );
    assert_eq!(with(json!({ "input": "0x01" })).await.unwrap_err(), r#"both "data" and "input" are set and not equal"#);
}

#[tokio::test]
async fn gas_is_estimated_so_that_it_suffices() {
    let chain = chain();
    let provider = chain.provider();
    let plain = TransactionRequest::default().from(address(0)).to(address(1)).value(U256::ONE);
    assert_eq!(provider.estimate_gas(plain).await.unwrap(), 21_000);
    let transfer = request(&pay(1, 5));
    let estimate = provider.estimate_gas(transfer.clone().from(address(0))).await.unwrap();
    let wallet = chain.wallet(x402_devchain::signer(0).unwrap());
    let receipt = wallet.send_transaction(transfer.gas_limit(estimate)).await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
    assert!(estimate <= receipt.gas_used * 110 / 100, "{estimate} for {}", receipt.gas_used);
}

#[tokio::test]
async fn fees_are_offered_that_get_mined() {
    let chain = chain();
    let provider = chain.provider();
    assert_eq!(provider.get_gas_price().await.unwrap(), 876_000_000);
    assert_eq!(provider.get_max_priority_fee_per_gas().await.unwrap(), 1_000_000);
    let receipt = send(&chain, 0, pay(1, 5)).await;
    let history = provider.get_fee_history(4, BlockNumberOrTag::Latest, &[20.0, 90.0]).await.unwrap();
    assert_eq!(history.oldest_block, 0);
    assert_eq!(history.base_fee_per_gas[..2], [1_000_000_000, 875_000_000]);
    assert_eq!(history.base_fee_per_gas.len(), 3);
    let tip = receipt.effective_gas_price - 875_000_000;
    assert_eq!(history.reward.unwrap(), [vec![0, 0], vec![tip, tip]]);
    let fees = provider.estimate_eip1559_fees().await.unwrap();
    assert!(fees.max_fee_per_gas > u128::from(chain.base_fee()));
}

#[tokio::test]
async fn logs_by_address_topics_range_and_hash() {
    let chain = chain();
    let first = send(&chain, 0, pay(1, 5)).await;
    send(&chain, 0, pay(2, 6)).await;
    send(&chain, 0, Token::approveCall { spender: address(1), value: U256::ONE }).await;
    let count = async |filter: Filter| chain.provider().get_logs(&filter).await.unwrap().len();
    let all = Filter::new().from_block(0);
    assert_eq!(count(all.clone()).await, 3);
    assert_eq!(count(Filter::new()).await, 1, "latest alone");
    assert_eq!(count(all.clone().address(TOKEN)).await, 3);
    assert_eq!(count(all.clone().address(address(5))).await, 0);
    assert_eq!(count(all.clone().address(vec![address(5), TOKEN])).await, 3);
    let transfers = all.clone().event_signature(Token::Transfer::SIGNATURE_HASH);
    assert_eq!(count(transfers.clone()).await, 2);
    assert_eq!(count(transfers.clone().topic2(address(1).into_word())).await, 1);
    assert_eq!(count(transfers.topic2(vec![address(1).into_word(), address(2).into_word()])).await, 2);
    assert_eq!(count(all.topic2(address(1).into_word())).await, 2, "any event");
    assert_eq!(count(Filter::new().from_block(1).to_block(2)).await, 2);
    assert_eq!(count(Filter::new().from_block(2).to_block(99)).await, 2);
    assert_eq!(count(Filter::new().at_block_hash(first.block_hash.unwrap())).await, 1);
    let logs = chain.provider().get_logs(&Filter::new().select(1..=1_u64)).await.unwrap();
    assert_eq!(logs, first.inner.logs());
    // Topics as other libraries write them: null and arrays.
    let by_hand = json!([{
        "fromBlock": "earliest", "toBlock": "latest", "address": [TOKEN],
        "topics": [[Token::Transfer::SIGNATURE_HASH, Token::Approval::SIGNATURE_HASH], null, [address(1).into_word()]],
    }]);
    assert_eq!(rpc(&chain, "eth_getLogs", by_hand).await.unwrap().as_array().unwrap().len(), 2);
    let error = rpc(&chain, "eth_getLogs", json!([{ "fromBlock": "0x2", "toBlock": "0x1" }])).await.unwrap_err();
    assert_eq!(error_text(&error), "invalid block range params");
    let error = rpc(&chain, "eth_getLogs", json!([{ "blockHash": B256::ZERO }])).await.unwrap_err();
    assert_eq!(error_text(&error), "unknown block");
}

#[tokio::test]
async fn admin_methods_as_anvil_names_them() {
    let chain = chain();
    let who = Address::repeat_byte(3);
    rpc(&chain, "anvil_setBalance", json!([who, "0x64"])).await.unwrap();
    rpc(&chain, "anvil_setCode", json!([who, "0x00"])).await.unwrap();
    rpc(&chain, "anvil_setNonce", json!([who, "0x7"])).await.unwrap();
    rpc(&chain, "anvil_setStorageAt", json!([who, "0x1", B256::with_last_byte(9)])).await.unwrap();
    let provider = chain.provider();
    assert_eq!(provider.get_balance(who).await.unwrap(), U256::from(100));
    assert_eq!(provider.get_code_at(who).await.unwrap(), Bytes::from_static(&[0]));
    assert_eq!(provider.get_transaction_count(who).await.unwrap(), 7);
    assert_eq!(provider.get_storage_at(who, U256::ONE).await.unwrap(), U256::from(9));
    rpc(&chain, "anvil_mine", json!(["0x3", "0xa"])).await.unwrap();
    assert_eq!((chain.block_number(), chain.time()), (3, NOW + 20));
    rpc(&chain, "anvil_reorg", json!([2, []])).await.unwrap();
    assert_eq!(chain.block_number(), 3);
    let error = rpc(&chain, "anvil_reorg", json!([4, []])).await.unwrap_err();
    assert!(error_text(&error).starts_with("Reorg depth is too large"));
    rpc(&chain, "anvil_setNextBlockBaseFeePerGas", json!(["0x77359400"])).await.unwrap();
    assert_eq!(chain.base_fee(), 2_000_000_000);
    rpc(&chain, "evm_setAutomine", json!([false])).await.unwrap();
    let hash = common::send_raw(&chain, 0, 0).await;
    assert_eq!(common::mined_in(&chain, hash).await, None);
    assert_eq!(rpc(&chain, "anvil_dropTransaction", json!([hash])).await.unwrap(), json!(hash));
    rpc(&chain, "evm_mine", json!([])).await.unwrap();
    assert_eq!(common::mined_in(&chain, hash).await, None);
    // EIP-7702 by hand, as anvil takes it.
    let delegation = [&hex!("ef0100")[..], who.as_slice()].concat();
    rpc(&chain, "anvil_setCode", json!([address(2), Bytes::from(delegation.clone())])).await.unwrap();
    assert_eq!(provider.get_code_at(address(2)).await.unwrap(), delegation);
}

#[tokio::test]
async fn over_http_it_is_the_same_chain() {
    // reqwest is built without a TLS provider of its own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = chain();
    let node = chain.serve("127.0.0.1:0").await.unwrap();
    let client = RpcClient::new(Http::new(node.url.parse().unwrap()), true);
    let provider: RootProvider = RootProvider::new(client.clone());
    let receipt = send(&chain, 0, pay(1, 5)).await;
    assert_eq!(provider.get_transaction_receipt(receipt.transaction_hash).await.unwrap(), Some(receipt));
    chain.reset_calls();

    let mut batch = client.new_batch();
    let id = batch.add_call::<_, String>("eth_chainId", &()).unwrap();
    let head = batch.add_call::<_, String>("eth_blockNumber", &()).unwrap();
    batch.send().await.unwrap();
    assert_eq!((id.await.unwrap().as_str(), head.await.unwrap().as_str()), ("0x14a34", "0x1"));
    assert_eq!((chain.calls().round_trips, chain.calls().total()), (1, 2));

    chain.fail_any_calls(1, When::Before, Failure::Status(503));
    let error = provider.get_block_number().await.unwrap_err();
    assert_eq!(error.as_transport_err().and_then(|kind| kind.as_http_error()).unwrap().status, 503);
    chain.fail_any_calls(1, When::Before, Failure::Malformed);
    assert!(provider.get_block_number().await.unwrap_err().is_deser_error());
    chain.fail_any_calls(1, When::Before, Failure::Lost);
    let lost = provider.get_block_number().await.unwrap_err();
    assert!(lost.as_error_resp().is_none() && !lost.is_deser_error(), "{lost:?}");
    assert_eq!(provider.get_block_number().await.unwrap(), 1);

    let address = node.address;
    drop(node);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(chain.provider().get_block_number().await.unwrap(), 1);
}
