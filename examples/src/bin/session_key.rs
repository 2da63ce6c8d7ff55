//! Makes one call with a ZeroDev session key that stands on standard input:
//! `SESSION_KEY=0x… PAYER_KEY=0x… session_key RPC_URL TARGET CALLDATA`. The payer sends the operation and pays for gas;
//! with `BUNDLER_URL` instead, a bundler sends it and the account pays.

use std::env;
use std::error::Error;
use std::io::read_to_string;
use std::time::{Duration, SystemTime};

use alloy_primitives::{U256, eip191_hash_message};
use alloy_provider::{Provider, ProviderBuilder};
use alloy_rpc_client::RpcClient;
use alloy_signer_local::PrivateKeySigner;
use x402_erc4337::bundler::BundlerClient;
use x402_erc4337::session::zerodev::{Approval, KernelState, PermissionState, user_op_signature};
use x402_erc4337::{
    Call, EntryPoint, EntryPointVersion, FindUserOps, Gas, Init, KernelMode, OperationBuilder, RpcEntryPoint,
    SelfBundler, SendUserOp, UserOperation,
};
use x402_evm::chain::{At, RpcChain};
use x402_evm::key::Key;
use x402_types::{ChainId, UnixSeconds};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "TLS is set up twice")?;
    let mut args = env::args().skip(1);
    let mut next = || args.next().ok_or("usage: session_key RPC_URL TARGET CALLDATA");
    let (url, target, data) = (next()?, next()?.parse()?, next()?.parse()?);
    let session: Key = env::var("SESSION_KEY")?.parse()?;
    let approval = Approval::read(read_to_string(std::io::stdin())?.trim())?;

    // What the chain says decides how the key is used, and whether it still can be.
    let client = RpcClient::new_http(url.parse()?);
    let provider = ProviderBuilder::new().connect_client(client.clone());
    let chain_id = provider.get_chain_id().await?;
    let chain = RpcChain::new(client.clone(), ChainId::eip155(chain_id), 0);
    let state = KernelState::read(&chain, approval.account, approval.permission_id, At::Latest).await?;
    let (mode, permission) = match state.permission {
        PermissionState::Absent => {
            (KernelMode::Enable, approval.check(session.address(), chain_id, state.current_nonce)?)
        }
        PermissionState::Enabled => (KernelMode::Default, approval.check_installed(session.address(), &state)?),
        PermissionState::Revoked => return Err("the session key was taken back".into()),
    };
    let call = Call { target, value: U256::ZERO, data };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    permission.scope(approval.account).permits(&call, UnixSeconds(now))?;

    let entry_point = EntryPoint::canonical(EntryPointVersion::V07, chain_id);
    let node = RpcEntryPoint::new(client, entry_point);
    let key = permission.nonce_key(mode, 0);
    let sequence = node.next_sequence(approval.account, key).await?;
    let build = |gas: Gas| -> Result<UserOperation, Box<dyn Error>> {
        let init = if state.deployed { Init::None } else { approval.init() };
        let started = OperationBuilder::new(entry_point, approval.account).init(init).nonce(key, sequence);
        let ready = started.call(&call)?.gas(gas).unsponsored()?;
        let signed = session.signature_of(eip191_hash_message(ready.hash()))?;
        let signature = user_op_signature(&signed.to_bytes());
        Ok(match (mode, &approval.enable_signature) {
            (KernelMode::Enable, Some(approved)) => ready.signed(permission.enable_signature(approved, &signature)),
            _ => ready.signed(signature),
        })
    };

    let gas = Gas { call_gas_limit: 500_000, verification_gas_limit: 2_500_000, ..Gas::default() };
    let hash = if let Ok(url) = env::var("BUNDLER_URL") {
        let bundler = BundlerClient::new(RpcClient::new_http(url.parse()?), entry_point);
        bundler.check().await?;
        let fees = provider.estimate_eip1559_fees().await?;
        let (max_fee_per_gas, max_priority_fee_per_gas) = (fees.max_fee_per_gas, fees.max_priority_fee_per_gas);
        let gas = Gas { max_fee_per_gas, max_priority_fee_per_gas, ..gas };
        let estimate = bundler.estimate(&build(gas)?).await?;
        bundler.send_user_op(&build(estimate.with_fees_of(gas))?).await?.hash()
    } else {
        let payer: PrivateKeySigner = env::var("PAYER_KEY")?.parse()?;
        let address = payer.address();
        let wallet = ProviderBuilder::new().wallet(payer).connect_http(url.parse()?);
        SelfBundler::new(wallet, entry_point, address).send_user_op(&build(gas)?).await?.hash()
    };

    // Only its own event says how it ended. A minute without it says nothing.
    for _ in 0..120 {
        let head = provider.get_block_number().await?;
        if let Some(landed) = node.find_user_ops(&[hash], head.saturating_sub(100)..=head).await?.pop().flatten() {
            println!(
                "{}",
                serde_json::json!({ "userOpHash": hash, "transaction": landed.transaction, "success": landed.executed.success })
            );
            return if landed.executed.success { Ok(()) } else { Err("the call reverted".into()) };
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Err(format!("{hash} has not landed yet").into())
}
