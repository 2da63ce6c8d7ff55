//! A VerifyingPaymaster pays.

use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, U256};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_signer::SignerSync;
use alloy_sol_types::{SolCall, sol};
use x402_devchain::contracts::verifying_paymaster;
use x402_devchain::{ACCOUNTS, signer};
use x402_erc4337::paymaster::{SponsorError, VerifyingPaymaster};
use x402_erc4337::session::zerodev::user_op_signature;
use x402_erc4337::{FindUserOps, Gas, KernelMode, OperationBuilder, SendError, SendUserOp, UserOperation};

use crate::stage::{SESSION, START, STRANGER, Stage, UNTIL, gas, stage, to_order};

sol! {
    function depositTo(address account) payable;
}

const SPONSOR: usize = 6;

async fn sponsored(stage: &Stage, contract: Address, by: usize, until: u64) -> UserOperation {
    let approval = &stage.order.approval;
    let fees =
        Gas { max_fee_per_gas: 1_000_000_000, max_priority_fee_per_gas: 1_000_000_000, ..gas(KernelMode::Enable) };
    let priced = OperationBuilder::new(stage.entry_point, approval.account)
        .init(approval.init())
        .nonce(stage.order.permission.nonce_key(KernelMode::Enable, 0), 0)
        .call(&to_order())
        .unwrap()
        .gas(fees);
    let contract = VerifyingPaymaster::new(contract, 84532);
    let paymaster = contract.sponsor(&signer(by).unwrap(), priced.operation(), until, 0).await.unwrap();
    let ready = priced.paymaster(paymaster).unwrap();
    let signature = signer(SESSION).unwrap().sign_message_sync(ready.hash().as_slice()).unwrap();
    let approved = approval.enable_signature.as_ref().unwrap();
    ready.signed(stage.order.permission.enable_signature(approved, &user_op_signature(&signature.as_bytes())))
}

async fn refusal(stage: &Stage, op: &UserOperation) -> String {
    match stage.bundler.send_user_op(op).await {
        Err(SendError::Refused(refused)) => refused.code().unwrap().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_verifying_paymaster_pays_for_what_its_signer_signed() {
    let stage = stage().await;
    let wallet = stage.chain.wallet(signer(STRANGER).unwrap());
    let creation = TransactionRequest::default().with_deploy_code(verifying_paymaster(ACCOUNTS[SPONSOR].address));
    let receipt = wallet.send_transaction(creation).await.unwrap().get_receipt().await.unwrap();
    let contract = receipt.contract_address.unwrap();
    let op = sponsored(&stage, contract, SPONSOR, UNTIL).await;
    // Without a deposit, by another signer, and after its end.
    assert_eq!(refusal(&stage, &op).await, "AA31");
    let deposit = TransactionRequest::default()
        .with_to(stage.entry_point.address)
        .with_value(U256::from(10).pow(U256::from(18)))
        .with_input(depositToCall { account: contract }.abi_encode());
    wallet.send_transaction(deposit).await.unwrap().get_receipt().await.unwrap();
    assert_eq!(refusal(&stage, &sponsored(&stage, contract, STRANGER, UNTIL).await).await, "AA34");
    assert_eq!(refusal(&stage, &sponsored(&stage, contract, SPONSOR, START - 1).await).await, "AA32");

    let sent = stage.bundler.send_user_op(&op).await.unwrap();
    let head = stage.chain.block_number();
    let landed = stage.node().find_user_ops(&[sent.hash()], 0..=head).await.unwrap().remove(0).unwrap();
    assert!(landed.executed.success);
    assert_eq!(landed.executed.paymaster, Some(contract));
    assert!(landed.executed.gas_cost > U256::ZERO);
    assert_eq!(stage.credits().await, 100);
}

#[tokio::test]
async fn times_beyond_48_bits_are_refused() {
    let contract = VerifyingPaymaster::new(Address::repeat_byte(7), 84532);
    let op = UserOperation::default();
    assert!(contract.hash(&op, (1 << 48) - 1, 0).is_ok());
    assert!(matches!(contract.hash(&op, 1 << 48, 0), Err(SponsorError::Time)));
    assert!(matches!(contract.hash(&op, 0, 1 << 48), Err(SponsorError::Time)));
}
