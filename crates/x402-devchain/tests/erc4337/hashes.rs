//! userOpHash beside `EntryPoint.getUserOpHash`: random operations, and random bytes that are meant to look like some.

use alloy_primitives::{Address, B256, Bytes, U256, hex};
use alloy_sol_types::{SolCall, SolValue, sol};
use x402_devchain::contracts::{MULTICALL3, SIMPLE_7702_ACCOUNT};
use x402_erc4337::{
    Eip7702Authorization, EntryPoint, EntryPointVersion, Init, PackedUserOperation, UserOperation, UserOperationV06,
};

use crate::fixture::{Random, Scene, getUserOpHashCall};

const COUNT: usize = 1_000;
/// Of `getUserOpHash` in one `eth_call`.
const BATCH: usize = 100;
/// `keccak256("PaymasterSignature")[:8]`
const MAGIC: [u8; 8] = hex!("22e325a297439656");

mod v06 {
    alloy_sol_types::sol! {
        struct UserOperation { address sender; uint256 nonce; bytes initCode; bytes callData; uint256 callGasLimit; uint256 verificationGasLimit; uint256 preVerificationGas; uint256 maxFeePerGas; uint256 maxPriorityFeePerGas; bytes paymasterAndData; bytes signature; }
        function getUserOpHash(UserOperation userOp) external view returns (bytes32);
    }
}

sol! {
    struct Call3 { address target; bool allowFailure; bytes callData; }
    struct Answer { bool success; bytes returnData; }
    function aggregate3(Call3[] calls) external payable returns (Answer[] answers);
}

/// What the EntryPoint answers to each of these calls; `None` is a revert.
async fn chain_hashes(scene: &Scene, entry_point: Address, calls: Vec<Bytes>) -> Vec<Option<B256>> {
    let mut hashes = Vec::new();
    for batch in calls.chunks(BATCH) {
        let calls = batch.iter().map(|data| Call3 { target: entry_point, allowFailure: true, callData: data.clone() });
        let answers = scene.ask(MULTICALL3, aggregate3Call { calls: calls.collect() }).await.unwrap();
        hashes.extend(
            answers.into_iter().map(|answer| answer.success.then(|| B256::abi_decode(&answer.returnData).unwrap())),
        );
    }
    hashes
}

fn get_hash(op: &PackedUserOperation) -> Bytes {
    getUserOpHashCall { op: op.clone().into() }.abi_encode().into()
}

fn delegation(delegate: Address) -> Bytes {
    [&hex!("ef0100")[..], delegate.as_slice()].concat().into()
}

/// An operation as a client builds it, with everything that this version knows.
fn operation(random: &mut Random, version: EntryPointVersion) -> UserOperation {
    let mut op = UserOperation { signature: random.bytes(100), ..random.operation() };
    if version >= EntryPointVersion::V08 && random.below(3) == 0 {
        let address = random.address();
        op.eip7702_auth =
            Some(Eip7702Authorization { address, chain_id: U256::from(84532), nonce: 0, signature: None });
        op.init = Init::Eip7702 { data: random.bytes(200) };
    }
    if random.below(2) == 0 {
        let mut paymaster = random.paymaster();
        if version >= EntryPointVersion::V09 && random.below(2) == 0 {
            paymaster.signature = random.bytes(100);
        }
        op.paymaster = Some(paymaster);
    }
    op
}

#[tokio::test]
async fn operations_of_0_6() {
    let scene = Scene::new();
    let mut random = Random(6);
    let ops: Vec<_> = (0..COUNT)
        .map(|_| UserOperationV06 {
            sender: random.address(),
            nonce: random.word() >> random.below(256),
            init_code: random.bytes(200),
            call_data: random.bytes(300),
            call_gas_limit: random.word() >> random.below(256),
            verification_gas_limit: random.word() >> random.below(256),
            pre_verification_gas: random.word() >> random.below(256),
            max_fee_per_gas: random.word() >> random.below(256),
            max_priority_fee_per_gas: random.word() >> random.below(256),
            paymaster_and_data: random.bytes(200),
            signature: random.bytes(100),
        })
        .collect();
    let calls = ops.iter().cloned().map(|op| {
        let user_op = v06::UserOperation {
            sender: op.sender,
            nonce: op.nonce,
            initCode: op.init_code,
            callData: op.call_data,
            callGasLimit: op.call_gas_limit,
            verificationGasLimit: op.verification_gas_limit,
            preVerificationGas: op.pre_verification_gas,
            maxFeePerGas: op.max_fee_per_gas,
            maxPriorityFeePerGas: op.max_priority_fee_per_gas,
            paymasterAndData: op.paymaster_and_data,
            signature: op.signature,
        };
        v06::getUserOpHashCall { userOp: user_op }.abi_encode().into()
    });
    let told = chain_hashes(&scene, EntryPointVersion::V06.address(), calls.collect()).await;
    for (op, told) in ops.iter().zip(told) {
        assert_eq!(Some(op.hash(84532)), told, "{op:?}");
    }
}

async fn operations(version: EntryPointVersion, chain_id: u64, count: usize) {
    let scene = Scene::on(chain_id);
    let entry_point = EntryPoint::canonical(version, chain_id);
    let mut random = Random(chain_id + version as u64);
    let ops: Vec<_> = (0..count).map(|_| operation(&mut random, version)).collect();
    for op in &ops {
        if let Some(auth) = op.eip7702_auth {
            scene.chain.set_code(op.sender, delegation(auth.address)).unwrap();
        }
    }
    let packed: Vec<_> = ops.iter().map(|op| op.pack(version).unwrap()).collect();
    let told = chain_hashes(&scene, entry_point.address, packed.iter().map(get_hash).collect()).await;
    for ((op, packed), told) in ops.iter().zip(&packed).zip(told) {
        assert_eq!(Some(op.hash(&entry_point).unwrap()), told, "{op:?}");
        let delegate = op.eip7702_auth.map(|auth| auth.address);
        assert_eq!(Some(packed.hash(&entry_point, delegate).unwrap()), told, "{packed:?}");
    }
}

#[tokio::test]
async fn operations_of_0_7() {
    operations(EntryPointVersion::V07, 84532, COUNT).await;
}

#[tokio::test]
async fn operations_of_0_8() {
    operations(EntryPointVersion::V08, 84532, COUNT).await;
}

#[tokio::test]
async fn operations_of_0_9() {
    operations(EntryPointVersion::V09, 84532, COUNT).await;
}

/// The separators of 0.8 and 0.9 are immutables: genesis makes them for the chain's own id.
#[tokio::test]
async fn operations_of_other_chains() {
    for version in [EntryPointVersion::V07, EntryPointVersion::V08, EntryPointVersion::V09] {
        for chain_id in [1, 8453] {
            operations(version, chain_id, 20).await;
        }
    }
}

/// Bytes that begin as EIP-7702's marker or end as a paymaster's signature, at every length around the bounds: where
/// the EntryPoint gives a hash we give the same one, and where it reverts we refuse.
#[tokio::test]
async fn the_bounds_of_the_special_rules() {
    let scene = Scene::new();
    for version in [EntryPointVersion::V07, EntryPointVersion::V08, EntryPointVersion::V09] {
        let entry_point = EntryPoint::canonical(version, 84532);
        let mut random = Random(70 + version as u64);
        let delegated = Address::repeat_byte(0xd1);
        scene.chain.set_code(delegated, delegation(SIMPLE_7702_ACCOUNT)).unwrap();
        let ops: Vec<_> = (0..COUNT)
            .map(|_| {
                let mut init_code = [&hex!("7702")[..], &[0; 18], &random.bytes(30)].concat();
                init_code.truncate(random.below(30) as usize);
                if !init_code.is_empty() && random.below(3) == 0 {
                    let at = random.below(init_code.len() as u64) as usize;
                    init_code[at] ^= 1;
                }
                let data = random.bytes(80);
                let length = match random.below(3) {
                    0 => data.len() as u16,
                    1 => (data.len() as u16).saturating_sub(52),
                    _ => random.below(100) as u16,
                };
                let mut paymaster = [&data[..], &length.to_be_bytes(), &MAGIC].concat();
                match random.below(4) {
                    0 => paymaster.truncate(paymaster.len() - 1),
                    1 => paymaster = data.to_vec(),
                    _ => {}
                }
                PackedUserOperation {
                    sender: if random.below(2) == 0 { delegated } else { random.address() },
                    init_code: init_code.into(),
                    paymaster_and_data: paymaster.into(),
                    ..PackedUserOperation::default()
                }
            })
            .collect();
        let told = chain_hashes(&scene, entry_point.address, ops.iter().map(get_hash).collect()).await;
        let mut refused = 0;
        for (op, told) in ops.iter().zip(told) {
            let delegate = (op.sender == delegated).then_some(SIMPLE_7702_ACCOUNT);
            assert_eq!(op.hash(&entry_point, delegate).ok(), told, "{version} {op:?}");
            refused += usize::from(told.is_none());
        }
        assert_eq!(refused > 0, version >= EntryPointVersion::V08, "{version}: {refused} refused");
    }
}
