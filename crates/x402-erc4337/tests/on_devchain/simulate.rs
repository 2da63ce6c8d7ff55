//! What simulation tells, by `eth_simulateV1` and on a node that does not know it.

use alloy_primitives::U256;
use x402_devchain::{Failure, When};
use x402_erc4337::{KernelMode, Revert, SendUserOp, SimulateUserOps, Simulated, UserOperation};

use crate::stage::{INSUFFICIENT_CREDITS, Stage, UNTIL, stage, to_order, to_redeem};

async fn one(stage: &Stage, op: UserOperation) -> Simulated {
    stage.node().simulate_user_ops(&[stage.bundle(&[op])]).await.unwrap().remove(0)
}

async fn refused(stage: &Stage, op: UserOperation) -> (String, Option<String>) {
    match one(stage, op).await {
        Simulated::Refused(refused) => {
            let inner = refused.inner().map(|inner| inner.to_string());
            (refused.code().unwrap_or_default().to_owned(), inner)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn order_then_redeem_on_its_state_leaves_nothing() {
    let stage = stage().await;
    let order = stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await;
    let redeem = stage.op(&stage.redeem, KernelMode::Enable, 0, &to_redeem(3)).await;
    let alone = one(&stage, redeem).await;
    let Simulated::Executed { operations, .. } = alone else { panic!("{alone:?}") };
    assert!(!operations[0].success, "there is nothing to redeem");
    assert_eq!(operations[0].revert.as_ref().and_then(Revert::selector), Some(INSUFFICIENT_CREDITS));

    let redeem = stage.second(&stage.redeem, &to_redeem(3));
    let bundles = [stage.bundle(&[order]), stage.bundle(&[redeem])];
    let found = stage.node().simulate_user_ops(&bundles).await.unwrap();
    for (simulated, bundle) in found.iter().zip(&bundles) {
        let Simulated::Executed { operations, gas_used } = simulated else { panic!("{simulated:?}") };
        assert!(simulated.is_success());
        assert_eq!((operations[0].hash, operations[0].logs.as_ref().unwrap().len()), (bundle.hashes()[0], 1));
        assert!(gas_used.unwrap() < bundle.gas());
    }
    assert_eq!((stage.chain.block_number(), stage.credits().await), (0, 0));
}

#[tokio::test]
async fn validation_says_why_not() {
    let stage = stage().await;
    let good = stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await;
    assert!(one(&stage, good.clone()).await.is_success());
    // Somebody else's signature.
    let op = stage.by_stranger(&stage.order, &to_order());
    assert_eq!(refused(&stage, op).await.0, "AA24");
    // A signature of no form.
    let op = UserOperation { signature: vec![0; 85].into(), ..good.clone() };
    assert_eq!(refused(&stage, op).await.0, "AA23");
    // A sequence that is not next.
    let op = stage.op(&stage.order, KernelMode::Enable, 1, &to_order()).await;
    assert_eq!(refused(&stage, op).await.0, "AA25");
    // Before it is enabled: nothing is said.
    let op = stage.op(&stage.order, KernelMode::Default, 0, &to_order()).await;
    assert_eq!(refused(&stage, op).await, ("AA23".into(), Some("nothing".into())));
    // What the policies do not allow: vectors `execution.failures`.
    let op = stage.op(&stage.redeem, KernelMode::Enable, 0, &to_redeem(6)).await;
    assert_eq!(refused(&stage, op).await, ("AA23".into(), Some("CallViolatesParamRule()".into())));
    let op = stage.op(&stage.redeem, KernelMode::Enable, 0, &to_order()).await;
    assert_eq!(refused(&stage, op).await, ("AA23".into(), Some("InvalidCallData()".into())));
    // A fee that nobody paid for.
    let op = UserOperation { max_fee_per_gas: 1, ..good.clone() };
    assert_eq!(refused(&stage, op).await.0, "AA21");
    // After its end.
    stage.chain.set_time(UNTIL + 10);
    stage.chain.mine(1);
    assert_eq!(refused(&stage, good).await.0, "AA22");
}

/// `eth_simulateV1` is unknown: the same verdicts, without logs and gas.
#[tokio::test]
async fn a_node_without_simulate_v1_gives_the_same_verdicts() {
    let stage = stage().await;
    let node = stage.node();
    let simulate = async |bundles: &[_]| {
        let unknown = Failure::Error { code: -32601, message: "the method eth_simulateV1 does not exist".into() };
        stage.chain.fail_calls("eth_simulateV1", 1, When::Before, unknown);
        node.simulate_user_ops(bundles).await.unwrap()
    };
    let order = stage.op(&stage.order, KernelMode::Enable, 0, &to_order()).await;
    let redeem = stage.op(&stage.redeem, KernelMode::Enable, 0, &to_redeem(3)).await;
    let found = simulate(&[stage.bundle(&[redeem])]).await;
    let Simulated::Executed { operations, gas_used: None } = &found[0] else { panic!("{found:?}") };
    assert_eq!((operations[0].success, operations[0].logs.as_ref()), (false, None));
    assert_eq!(operations[0].revert.as_ref().and_then(Revert::selector), Some(INSUFFICIENT_CREDITS));

    let redeem = stage.second(&stage.redeem, &to_redeem(3));
    let stranger = stage.by_stranger(&stage.order, &to_order());
    let bundles = [&order, &stranger, &redeem].map(|op| stage.bundle(std::slice::from_ref(op)));
    let found = simulate(&bundles).await;
    assert!(found[0].is_success() && found[2].is_success(), "{found:?}");
    let Simulated::Refused(refused) = &found[1] else { panic!("{found:?}") };
    // Within the stranger's own bundle it is the first; the account that it makes is there by then.
    assert_eq!((refused.index(), refused.code()), (Some(0), Some("AA10")));
    let both = simulate(&[stage.bundle(&[order.clone(), redeem])]).await;
    let Simulated::Executed { operations, .. } = &both[0] else { panic!("{both:?}") };
    assert_eq!(operations.iter().map(|op| op.success).collect::<Vec<_>>(), [true, true]);

    // On an account that is there.
    stage.bundler.send_user_op(&order).await.unwrap();
    let again = stage.op(&stage.order, KernelMode::Default, 0, &to_order()).await;
    assert!(simulate(&[stage.bundle(&[again])]).await[0].is_success());
    assert_eq!(U256::from(stage.credits().await), U256::from(100));
}
