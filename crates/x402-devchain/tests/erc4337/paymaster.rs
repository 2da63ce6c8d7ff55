//! The VerifyingPaymaster of EntryPoint 0.7: what its signer signs, beside the contract's `getHash`.

use alloy_primitives::{Address, U256, Uint};
use alloy_sol_types::sol;
use x402_devchain::contracts::verifying_paymaster;
use x402_erc4337::paymaster::VerifyingPaymaster;
use x402_erc4337::{Paymaster, UserOperation};

use crate::fixture::{ENTRY_POINT, Random, Scene, getHashCall, key};

sol! {
    interface Sponsor {
        function owner() external view returns (address);
        function verifyingSigner() external view returns (address);
    }
}

#[tokio::test]
async fn the_hash_is_the_contracts() {
    let scene = Scene::new();
    let at = Address::repeat_byte(0x5b);
    scene.chain.construct(at, verifying_paymaster(key(7).address())).unwrap();
    assert_eq!(scene.ask(at, Sponsor::ownerCall {}).await.unwrap(), key(0).address());
    assert_eq!(scene.ask(at, Sponsor::verifyingSignerCall {}).await.unwrap(), key(7).address());

    let mut random = Random(3);
    for _ in 0..200 {
        let sponsor = VerifyingPaymaster {
            address: at,
            chain_id: 84532,
            verification_gas_limit: random.number(),
            post_op_gas_limit: random.number(),
        };
        let mut op = random.operation();
        let (until, after) = (random.below(1 << 48), random.below(1 << 48));
        let ours = sponsor.hash(&op, until, after).unwrap();

        op.paymaster = Some(Paymaster {
            address: at,
            verification_gas_limit: sponsor.verification_gas_limit,
            post_op_gas_limit: sponsor.post_op_gas_limit,
            data: VerifyingPaymaster::data(until, after, &[0; 65]),
            ..Paymaster::default()
        });
        let packed = op.pack(ENTRY_POINT.version).unwrap();
        let call = getHashCall { op: packed.into(), validUntil: Uint::from(until), validAfter: Uint::from(after) };
        assert_eq!(scene.ask(at, call).await.unwrap(), ours, "{op:?}");
        assert_ne!(sponsor.hash(&op, until, after ^ 1).unwrap(), ours);
        assert_ne!(sponsor.hash(&UserOperation { nonce: op.nonce ^ U256::from(1), ..op }, until, after).unwrap(), ours);
    }
}
