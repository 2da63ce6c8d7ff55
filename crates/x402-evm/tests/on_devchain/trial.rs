//! Tokens are tried by a payer that holds nothing, without a transaction.

use alloy_primitives::{Address, address};
use x402_devchain::{ACCOUNTS, Failure, TOKEN, TestToken, When, signer};
use x402_evm::token::{Token, Tokens};
use x402_evm::token_trial::Trial;
use x402_types::{Asset, Assets, ChainId};

use crate::stage::{Stage, stage};

const AT: Address = address!("7777777777777777777777777777777777777777");
const CHAIN: u64 = 84_532;

fn token(at: Address, name: &str, version: &str) -> Token {
    let mut assets = Assets::none();
    assets.add(Asset::new(ChainId::eip155(CHAIN), at, "TEST", name, version, 6).dollar());
    Tokens::new(&assets).iter().next().unwrap().clone()
}

/// The payer is an account whose balance is nobody's: the trial gives it one.
async fn tried(stage: &Stage, token: &Token) -> Trial {
    let payer = alloy_signer_local::PrivateKeySigner::from_bytes(&alloy_primitives::B256::repeat_byte(5)).unwrap();
    stage.reader.try_token(token, &payer, ACCOUNTS[0].address).await.unwrap()
}

#[tokio::test]
async fn each_token_is_what_its_trial_says() {
    let stage = stage(0);
    for named in [true, false] {
        let (name, version) = if named { ("USDC", "2") } else { ("", "") };
        assert_eq!(tried(&stage, &token(TOKEN, name, version)).await, Trial::Good);
        for test in [TestToken::Oz, TestToken::OzKeyed, TestToken::Paxos, TestToken::TransferFirst] {
            stage.chain.put_token(test, AT).unwrap();
            let (name, version) = if named { (test.name(), "1") } else { ("", "") };
            assert_eq!(tried(&stage, &token(AT, name, version)).await, Trial::Good, "{test:?} {named}");
        }
    }
    stage.chain.put_token(TestToken::Fee, AT).unwrap();
    let fee = Trial::Unfit("of 1000000 that are signed, 990000 arrive".to_owned());
    assert_eq!(tried(&stage, &token(AT, "Fee Dollar", "1")).await, fee);
    let silent = "a transfer by authorization emits no Transfer(from, to, value)".to_owned();
    stage.chain.put_token(TestToken::Silent, AT).unwrap();
    assert_eq!(tried(&stage, &token(AT, "Silent Dollar", "1")).await, Trial::Unfit(silent));
    // Nothing of it is on the chain.
    assert_eq!(stage.chain.nonce_of(ACCOUNTS[0].address), 0);
}

#[tokio::test]
async fn without_a_simulation_what_arrives_is_compared() {
    let stage = stage(0);
    for (test, expected) in [
        (TestToken::Paxos, Trial::WithoutLogs),
        (TestToken::Silent, Trial::WithoutLogs),
        (TestToken::Fee, Trial::Unfit("of 1000000 that are signed, 990000 arrive".to_owned())),
    ] {
        let unknown = Failure::Error { code: -32601, message: "the method does not exist".to_owned() };
        stage.chain.fail_calls("eth_simulateV1", 1, When::Before, unknown);
        stage.chain.put_token(test, AT).unwrap();
        assert_eq!(tried(&stage, &token(AT, test.name(), "1")).await, expected, "{test:?}");
    }
}

/// Tokens as Permit2 moves them: by `transferFrom`, within an allowance that the payer gave. None of them is asked for an
/// authorization.
#[tokio::test]
async fn a_token_that_only_permit2_moves_is_tried_by_permit2() {
    let fee = Trial::Unfit("of 1000000 that are signed, 990000 arrive".to_owned());
    let silent = Trial::Unfit("a transfer by Permit2 emits no Transfer(from, to, value)".to_owned());
    let moves_nothing = Trial::Unfit("of 1000000 that are signed, 0 arrive".to_owned());
    for (test, simulated, called) in [
        (None, Trial::Good, Trial::WithoutLogs),
        (Some(TestToken::Oz), Trial::Good, Trial::WithoutLogs),
        (Some(TestToken::TransferFirst), Trial::Good, Trial::WithoutLogs),
        (Some(TestToken::Fee), fee.clone(), fee),
        (Some(TestToken::Silent), silent.clone(), Trial::WithoutLogs),
        (Some(TestToken::False), silent, moves_nothing),
    ] {
        let stage = stage(0);
        let at = test.map_or(TOKEN, |_| AT);
        test.into_iter().for_each(|test| stage.chain.put_token(test, AT).unwrap());
        let account = Address::repeat_byte(5);
        let token = token(at, "", "");
        assert_eq!(stage.reader.try_by_permit2(&token, account).await.unwrap(), simulated, "{test:?}");
        let unknown = Failure::Error { code: -32601, message: "the method does not exist".to_owned() };
        stage.chain.fail_calls("eth_simulateV1", 1, When::Before, unknown);
        assert_eq!(stage.reader.try_by_permit2(&token, account).await.unwrap(), called, "{test:?}");
        // Nothing of it is on the chain.
        assert_eq!(stage.chain.nonce_of(ACCOUNTS[0].address), 0);
    }
}

#[tokio::test]
async fn what_permit2_cannot_be_tried_with_is_not_refused() {
    let stage = stage(0);
    let account = Address::repeat_byte(5);
    let untried = |why: &str| Trial::Untried(why.to_owned());
    let tried = async |at| stage.reader.try_by_permit2(&token(at, "", ""), account).await.unwrap();
    assert_eq!(tried(AT).await, untried("the place of its balances is not known"));
    let paused = x402_devchain::Token::pauseCall {};
    stage.other(5, TOKEN, alloy_sol_types::SolCall::abi_encode(&paused).into()).await;
    stage.chain.mine(1);
    assert_eq!(tried(TOKEN).await, untried("Pausable: paused"));
    let unknown = Failure::Error { code: -32601, message: "the method does not exist".to_owned() };
    stage.chain.fail_calls("eth_simulateV1", 1, When::Before, unknown);
    assert_eq!(tried(TOKEN).await, untried("Pausable: paused"));
}

/// What cannot be tried is not unfit: the facilitator serves it, and says so in its log.
#[tokio::test]
async fn what_cannot_be_tried_is_not_refused() {
    let stage = stage(0);
    let untried = |why: &str| Trial::Untried(why.to_owned());
    assert_eq!(tried(&stage, &token(AT, "USDC", "2")).await, untried("there is no contract"));
    stage.chain.set_code(AT, vec![0].into()).unwrap();
    assert_eq!(tried(&stage, &token(AT, "USDC", "2")).await, untried("it has no authorizationState"));
    // Another name than the token's own makes another signature.
    stage.chain.put_token(TestToken::Paxos, AT).unwrap();
    let wrong = untried("the transfer would revert with InvalidSignature()");
    assert_eq!(tried(&stage, &token(AT, "Other Dollar", "1")).await, wrong);
    let refusal = Failure::Error { code: -32602, message: "too many arguments, want at most 2".to_owned() };
    stage.chain.fail_calls("eth_call", 1, When::Before, refusal);
    let ended = tried(&stage, &token(AT, "Paxos Dollar", "1")).await;
    assert!(matches!(&ended, Trial::Untried(why) if why.contains("too many arguments")), "{ended:?}");
    let payer = signer(1).unwrap();
    let paused = x402_devchain::Token::pauseCall {};
    stage.other(5, TOKEN, alloy_sol_types::SolCall::abi_encode(&paused).into()).await;
    stage.chain.mine(1);
    let ended = stage.reader.try_token(&token(TOKEN, "USDC", "2"), &payer, ACCOUNTS[0].address).await.unwrap();
    assert_eq!(ended, untried("Pausable: paused"));
}
