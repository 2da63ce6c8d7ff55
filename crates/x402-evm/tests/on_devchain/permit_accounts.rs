//! Payments by Permit2 of accounts with code and of special tokens, and what one balance is promised to.

use alloy_primitives::{Address, B256, Bytes, U256, hex, keccak256};
use alloy_signer::SignerSync;
use alloy_sol_types::{SolCall, SolValue};
use async_trait::async_trait;
use std::sync::Arc;
use x402_devchain::{ACCOUNTS, TOKEN, TestToken, Token as DevToken, signer};
use x402_evm::exact::{ExactMechanism, SignAs};
use x402_evm::permit2::{EXACT_PROXY, PERMIT2};
use x402_evm::token::Tokens;
use x402_facilitator_core::{Ledger, Mechanism, MemoryLedger, Observation, Rail};
use x402_types::{Asset, Assets, ErrorReason, Fault, TransferMethod, UnixSeconds};

use crate::permit::{exact_terms, network, permits, permits_with, settle_call};
use crate::stage::{PAYEE, PAYER, PRICE, stage, transfer_call};
use crate::wallet::{OWNER, WALLET, wallet_code, wallet_of};

const SPECIAL: Address = Address::repeat_byte(0x77);

/// A contract wallet whose owner signs, and an account that is delegated to its code.
struct Account(Address, usize);

#[async_trait]
impl SignAs for Account {
    fn account(&self) -> Address {
        self.0
    }

    async fn sign_digest(&self, digest: B256) -> Result<Bytes, Fault> {
        Ok(signer(self.1).unwrap().sign_hash_sync(&digest).unwrap().as_bytes().into())
    }
}

#[tokio::test]
async fn contracts_and_delegated_accounts_pay_by_the_word_of_their_code() {
    let permits = permits(0).await;
    let chain = &permits.stage.chain;
    chain.set_code(WALLET, wallet_code()).unwrap();
    wallet_of(&permits.stage, WALLET, ACCOUNTS[OWNER].address, 0);
    chain.set_balance_of(WALLET, U256::from(PRICE));
    // `allowance` is in slot 2 of the token.
    let slot = keccak256((PERMIT2, keccak256((WALLET, U256::from(2)).abi_encode())).abi_encode());
    chain.set_storage(TOKEN, slot.into(), B256::repeat_byte(0xff));
    let delegated = ACCOUNTS[PAYER].address;
    let code = [&hex!("ef0100")[..], WALLET.as_slice()].concat();
    wallet_of(&permits.stage, delegated, ACCOUNTS[OWNER].address, 0);

    for (account, nonce) in [(WALLET, 1u8), (delegated, 2)] {
        if account == delegated {
            chain.set_code(delegated, code.clone().into()).unwrap();
        }
        let claim = permits.claim_by(Account(account, OWNER), exact_terms(), nonce).await;
        let forged = permits.claim_by(Account(account, PAYER), exact_terms(), nonce).await;
        assert_eq!(permits.refused(&forged).await, ErrorReason::INVALID_PERMIT2_SIGNATURE, "{account}");
        let mut payment = permits.payment(&claim).await;
        let attempt = permits.carry(&mut payment, u64::from(nonce) - 1).await;
        chain.mine(1);
        assert!(matches!(permits.observe(&payment, &[attempt.tx]).await, Observation::Proven(_)), "{account}");
    }
    assert_eq!(permits.stage.paid(), U256::from(2 * PRICE));
}

/// Checks tokens that would not pay what is signed: refused before anything is sent.
#[tokio::test]
async fn a_token_that_pays_less_or_nothing_is_refused() {
    for (kind, why) in [(TestToken::Fee, "9900 would arrive"), (TestToken::False, "TRANSFER_FROM_FAILED")] {
        let mut assets = Assets::none();
        let mut asset = Asset::new(network(), SPECIAL, "ODD", kind.name(), "1", 6);
        asset.transfer = TransferMethod::Permit2;
        assets.add(asset);
        let permits = permits_with(stage(0), &Tokens::for_permit2(&assets));
        permits.stage.chain.put_token(kind, SPECIAL).unwrap();
        permits.approve(PAYER, SPECIAL, U256::MAX).await;
        let mut terms = exact_terms();
        terms.asset = SPECIAL.to_string();
        let claim = permits.claim_by(signer(PAYER).unwrap(), terms, 7).await;
        let refusal = permits.refusal(&claim).await;
        assert_eq!(refusal.reason, ErrorReason::PERMIT2_SIMULATION_FAILED);
        assert!(refusal.message.as_deref().unwrap().contains(why), "{refusal:?}");
    }
}

/// Permit2 answers `TRANSFER_FROM_FAILED`, whatever the token says.
#[tokio::test]
async fn a_payer_or_recipient_that_the_token_blocks_is_told_so() {
    let permits = permits(0).await;
    let claim = permits.claim(7).await;
    for account in [ACCOUNTS[PAYER].address, ACCOUNTS[PAYEE].address] {
        permits.stage.other(5, TOKEN, DevToken::blacklistCall { account }.abi_encode().into()).await;
        permits.stage.chain.mine(1);
        let refusal = permits.refusal(&claim).await;
        assert_eq!(refusal.reason, ErrorReason::PAYER_BLOCKED, "{refusal:?}");
        permits.stage.other(5, TOKEN, DevToken::unBlacklistCall { account }.abi_encode().into()).await;
        permits.stage.chain.mine(1);
    }
    permits.stage.other(5, TOKEN, DevToken::pauseCall {}.abi_encode().into()).await;
    permits.stage.chain.mine(1);
    assert_eq!(permits.refusal(&claim).await.reason, ErrorReason::PERMIT2_SIMULATION_FAILED);
}

/// Checks a token that begins to keep a part after verification: what this facilitator's own transaction settled is not
/// the payment, and is never told as failed.
#[tokio::test]
async fn what_was_settled_for_less_is_neither_paid_nor_failed() {
    let mut assets = Assets::none();
    let mut asset = Asset::new(network(), SPECIAL, "ODD", TestToken::TransferFirst.name(), "1", 6);
    asset.transfer = TransferMethod::Permit2;
    assets.add(asset);
    let permits = permits_with(stage(0), &Tokens::for_permit2(&assets));
    permits.stage.chain.put_token(TestToken::TransferFirst, SPECIAL).unwrap();
    permits.approve(PAYER, SPECIAL, U256::MAX).await;
    let mut terms = exact_terms();
    terms.asset = SPECIAL.to_string();
    let claim = permits.claim_by(signer(PAYER).unwrap(), terms, 7).await;
    let mut payment = permits.payment(&claim).await;
    permits.stage.chain.put_token(TestToken::Fee, SPECIAL).unwrap();
    permits.approve(PAYER, SPECIAL, U256::MAX).await;
    let before = permits.balance(SPECIAL, ACCOUNTS[PAYEE].address).await;
    let attempt = permits.carry(&mut payment, 0).await;
    permits.stage.chain.mine(1);
    let after = permits.balance(SPECIAL, ACCOUNTS[PAYEE].address).await;
    assert_eq!(after - before, U256::from(PRICE - PRICE / 100), "the money moved");
    permits.after_the_deadline();
    assert_eq!(permits.observe(&payment, &[attempt.tx]).await, Observation::Pending);
    // What others did may have been an invalidation.
    let dead = Observation::Dead(ErrorReason::PERMIT2_INVALID_NONCE);
    assert_eq!(permits.observe(&payment, &[]).await, dead);
}

/// Checks that a payer's pending permits count against balance and allowance, whatever the proxy.
#[tokio::test]
async fn permits_under_way_count_against_balance_and_allowance() {
    let ledger = Arc::new(MemoryLedger::new(|| UnixSeconds(1)));
    let mut permits = permits(0).await;
    permits.exact = permits.exact.with_ledger(ledger.clone());
    let (first, second) = (permits.claim(1).await, permits.claim(2).await);
    let payer = ACCOUNTS[PAYER].address;
    let payment = permits.payment(&first).await;
    ledger.claim(payment.clone()).await.unwrap();
    assert!(permits.exact.verify(&second, permits.now()).await.is_ok());
    permits.stage.chain.set_balance_of(payer, U256::from(2 * PRICE - 1));
    assert_eq!(permits.refused(&second).await, ErrorReason::INSUFFICIENT_FUNDS);
    permits.stage.chain.set_balance_of(payer, U256::from(2 * PRICE));
    permits.approve(PAYER, TOKEN, U256::from(2 * PRICE - 1)).await;
    assert_eq!(permits.refused(&second).await, ErrorReason::PERMIT2_ALLOWANCE_REQUIRED);
    // One that was settled meanwhile has already been taken from both.
    permits.stage.other(5, EXACT_PROXY, settle_call(&first).call()).await;
    permits.stage.chain.mine(1);
    permits.approve(PAYER, TOKEN, U256::from(PRICE)).await;
    assert!(permits.exact.verify(&second, permits.now()).await.is_ok());
}

/// Checks that a payer who gives an authorization of EIP-3009 and a permit for one balance is refused the second, whichever
/// comes first.
#[tokio::test]
async fn one_balance_is_not_promised_by_two_methods() {
    let ledger = Arc::new(MemoryLedger::new(|| UnixSeconds(1)));
    let mut permits = permits(0).await;
    permits.exact = permits.exact.with_ledger(ledger.clone());
    let lanes = permits.stage.rail.lanes();
    let mechanism = ExactMechanism::new(permits.stage.reader.clone(), Tokens::default(), lanes);
    permits.stage.mechanism = mechanism.with_ledger(ledger.clone());
    let one = || permits.stage.chain.set_balance_of(ACCOUNTS[PAYER].address, U256::from(PRICE));
    one();
    let (permit, authorization) = (permits.claim(1).await, permits.stage.claim(PAYER, 2).await);
    ledger.claim(permits.stage.payment(authorization.clone()).await).await.unwrap();
    assert_eq!(permits.refused(&permit).await, ErrorReason::INSUFFICIENT_FUNDS);
    // Used meanwhile, it is subtracted from the balance already.
    permits.stage.other(5, TOKEN, transfer_call(&authorization)).await;
    permits.stage.chain.mine(1);
    one();
    ledger.claim(permits.payment(&permit).await).await.unwrap();
    let third = permits.stage.claim(PAYER, 3).await;
    assert_eq!(permits.stage.refused(&third).await, "insufficient_funds");
    permits.stage.other(5, EXACT_PROXY, settle_call(&permit).call()).await;
    permits.stage.chain.mine(1);
    one();
    permits.stage.verify(&third).await.unwrap();
}
