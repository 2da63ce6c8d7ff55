//! The VerifyingPaymaster of EntryPoint 0.7 pays for the account of somebody who has no ether.

use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, B256, Bytes, U256, Uint};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_signer::SignerSync;
use alloy_sol_types::{SolCall, SolValue, sol};
use x402_devchain::contracts::{ENTRY_POINT_V07, verifying_paymaster};
use x402_erc4337::session::zerodev::{KernelAccount, KernelVersion};
use x402_erc4337::{Builder, Gas, KernelMode, KernelValidation, NonceKey, Paymaster, UserOperation};

use crate::fixture::{ENTRY_POINT, Scene, TIME, key};

sol! {
    struct Operation { address sender; uint256 nonce; bytes initCode; bytes callData; bytes32 accountGasLimits; uint256 preVerificationGas; bytes32 gasFees; bytes paymasterAndData; bytes signature; }

    interface Sponsor {
        function owner() external view returns (address);
        function verifyingSigner() external view returns (address);
        function getHash(Operation op, uint48 validUntil, uint48 validAfter) external view returns (bytes32);
    }

    function depositTo(address account) external payable;
    function balanceOf(address account) external view returns (uint256);
}

const SPONSOR: Address = Address::repeat_byte(0x5b);
const SIGNER: usize = 7;

/// An operation of account 8's Kernel, whose data for the paymaster `signer` signs.
async fn sponsored(scene: &Scene, signer: usize) -> UserOperation {
    let account = KernelAccount::new(KernelVersion::V031, key(8).address(), U256::ZERO);
    let window = |signature: &[u8]| {
        let times = (Uint::<48, 1>::from(TIME + 60), Uint::<48, 1>::ZERO).abi_encode();
        Bytes::from([&times[..], signature].concat())
    };
    let build = |data: Bytes| {
        let paymaster = Paymaster {
            address: SPONSOR,
            verification_gas_limit: 100_000,
            post_op_gas_limit: 0,
            data,
            signature: Bytes::new(),
        };
        let gas = Gas {
            call_gas_limit: 200_000,
            verification_gas_limit: 1_000_000,
            max_fee_per_gas: 1_000_000_000,
            ..Gas::default()
        };
        let root = NonceKey::kernel(KernelMode::Default, KernelValidation::Root, 0);
        let call = Builder::new(ENTRY_POINT, account.address()).init(account.init()).nonce(root, 0);
        call.call(&scene.order(1)).unwrap().gas(gas).paymaster(paymaster).unwrap()
    };
    let op = build(window(&[0; 65])).operation().pack(ENTRY_POINT.version).unwrap();
    let op = Operation {
        sender: op.sender,
        nonce: op.nonce,
        initCode: op.init_code,
        callData: op.call_data,
        accountGasLimits: op.account_gas_limits,
        preVerificationGas: op.pre_verification_gas,
        gasFees: op.gas_fees,
        paymasterAndData: op.paymaster_and_data,
        signature: op.signature,
    };
    let times = (Uint::from(TIME + 60), Uint::ZERO);
    let call = Sponsor::getHashCall { op, validUntil: times.0, validAfter: times.1 };
    let hash: B256 = scene.ask(SPONSOR, call).await.unwrap();
    let signature = key(signer).sign_message_sync(hash.as_slice()).unwrap();
    let ready = build(window(&signature.as_bytes()));
    let signature = key(8).sign_message_sync(ready.hash().as_slice()).unwrap();
    ready.signed(signature.as_bytes().into())
}

#[tokio::test]
async fn a_paymaster_pays() {
    let scene = Scene::new();
    scene.chain.construct(SPONSOR, verifying_paymaster(key(SIGNER).address())).unwrap();
    assert_eq!(scene.ask(SPONSOR, Sponsor::ownerCall {}).await.unwrap(), key(0).address());
    assert_eq!(scene.ask(SPONSOR, Sponsor::verifyingSignerCall {}).await.unwrap(), key(SIGNER).address());

    let good = sponsored(&scene, SIGNER).await;
    // AA31: no deposit yet.
    assert_eq!(scene.refused(std::slice::from_ref(&good)).await.code(), Some("AA31"));
    let deposit = U256::from(10_u64.pow(17));
    let request = TransactionRequest::default()
        .with_to(ENTRY_POINT_V07)
        .with_input(depositToCall { account: SPONSOR }.abi_encode())
        .with_value(deposit);
    let pending = scene.chain.wallet(key(0)).send_transaction(request.with_gas_limit(100_000)).await.unwrap();
    assert!(pending.get_receipt().await.unwrap().status());

    let forged = sponsored(&scene, 6).await;
    assert_eq!(scene.refused(&[forged]).await.code(), Some("AA34"));
    let ended = scene.send(&[good]).await;
    assert_eq!((ended[0].success, ended[0].paymaster), (true, Some(SPONSOR)));
    let left = scene.ask(ENTRY_POINT_V07, balanceOfCall { account: SPONSOR }).await.unwrap();
    assert_eq!(left, deposit - ended[0].gas_cost);
    assert!(!ended[0].gas_cost.is_zero());
    assert_eq!(scene.chain.ether_of(ended[0].sender), U256::ZERO);
}
