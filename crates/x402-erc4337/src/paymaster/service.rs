//! [ERC-7677](https://eips.ethereum.org/EIPS/eip-7677): a paymaster's web service. It is called twice: for a stub with
//! which gas is estimated, and for the final data.

use alloy_json_rpc::RpcSend;
use alloy_primitives::{Address, Bytes, U64, U256};
use alloy_rpc_client::RpcClient;
use alloy_transport::TransportError;
use serde::Deserialize;
use serde_json::Value;
use x402_evm::chain::node_fault;
use x402_types::Fault;

use crate::user_operation::MAX_BYTES;
use crate::{EntryPoint, HashError, Paymaster, UserOperation};

/// A paymaster service for one EntryPoint, from 0.7.
#[derive(Debug, Clone)]
pub struct PaymasterService {
    client: RpcClient,
    entry_point: EntryPoint,
    context: Value,
}

/// A paymaster for estimating gas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    /// "Stub values": data of the right length, but without a valid signature.
    pub paymaster: Paymaster,
    /// "Indicates that the caller does not need to call pm_getPaymasterData": the stub is final.
    pub is_final: bool,
}

/// The error for an operation that is not sponsored, for now or at all.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The service refuses the operation.
    #[error("the paymaster refuses the operation ({code}): {}", .message.escape_debug())]
    Refused {
        /// The JSON-RPC code, which each service chooses.
        code: i64,
        /// The service's own message, for people.
        message: Box<str>,
    },
    /// The operation is not defined for the EntryPoint.
    #[error(transparent)]
    Operation(#[from] HashError),
    /// The service or the connection failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    paymaster: Address,
    #[serde(default)]
    paymaster_data: Bytes,
    #[serde(default)]
    paymaster_verification_gas_limit: Option<U256>,
    #[serde(default)]
    paymaster_post_op_gas_limit: Option<U256>,
    #[serde(default)]
    is_final: bool,
}

impl PaymasterService {
    /// Creates a client for operations of this EntryPoint. `context` is an object that the service requires of its
    /// callers, for example with a policy's id.
    #[must_use]
    pub fn new(client: RpcClient, entry_point: EntryPoint, context: Value) -> Self {
        Self { client, entry_point, context }
    }

    /// Requests a paymaster for estimating gas: `pm_getPaymasterStubData`.
    /// # Errors
    /// The service refuses, or its response does not follow the document.
    pub async fn stub(&self, op: &UserOperation) -> Result<Stub, ServiceError> {
        let answer = self.ask("pm_getPaymasterStubData", op).await?;
        let is_final = answer.is_final;
        Ok(Stub { paymaster: answer.paymaster(None)?, is_final })
    }

    /// Requests the paymaster for an operation whose gas and fees are final: `pm_getPaymasterData`. Gas limits that the
    /// response omits are kept from the stub.
    /// # Errors
    /// The service refuses, or its response does not follow the document.
    pub async fn sponsor(&self, op: &UserOperation) -> Result<Paymaster, ServiceError> {
        Ok(self.ask("pm_getPaymasterData", op).await?.paymaster(op.paymaster.as_ref())?)
    }

    async fn ask(&self, method: &'static str, op: &UserOperation) -> Result<Answer, ServiceError> {
        op.pack(self.entry_point.version).map_err(HashError::from)?;
        // "chainId: hex"
        let params = (op, self.entry_point.address, U64::from(self.entry_point.chain_id), &self.context);
        self.request(method, params).await.map_err(|error| match error.as_error_resp() {
            Some(refusal) => ServiceError::Refused { code: refusal.code, message: refusal.message.as_ref().into() },
            None => ServiceError::Fault(service_fault(error)),
        })
    }

    async fn request<P: RpcSend>(&self, method: &'static str, params: P) -> Result<Answer, TransportError> {
        self.client.request::<P, Answer>(method, params).await
    }
}

fn service_fault(error: TransportError) -> Fault {
    node_fault(error).of_service("the paymaster service")
}

impl Answer {
    fn paymaster(self, stub: Option<&Paymaster>) -> Result<Paymaster, Fault> {
        let bad = |what| Fault::unreachable("the paymaster service", what);
        if self.paymaster.is_zero() {
            return Err(bad("no paymaster"));
        }
        if self.paymaster_data.len() > MAX_BYTES {
            return Err(bad("paymasterData of more than 24 KiB"));
        }
        let limit = |gas: Option<U256>, stub: Option<u128>| match gas {
            Some(gas) => u128::try_from(gas).map_err(|_| bad("a gas limit of more than 128 bits")),
            None => Ok(stub.unwrap_or_default()),
        };
        Ok(Paymaster {
            address: self.paymaster,
            verification_gas_limit: limit(
                self.paymaster_verification_gas_limit,
                stub.map(|stub| stub.verification_gas_limit),
            )?,
            post_op_gas_limit: limit(self.paymaster_post_op_gas_limit, stub.map(|stub| stub.post_op_gas_limit))?,
            data: self.paymaster_data,
            signature: Bytes::new(),
        })
    }
}
