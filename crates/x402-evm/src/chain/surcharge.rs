//! The gas for a transaction's data on another chain:
//! [Arbitrum, gas and fees](https://docs.arbitrum.io/how-arbitrum-works/deep-dives/gas-and-fees).

use alloy_primitives::{Address, Bytes, U64, address};
use alloy_rpc_client::RpcClient;
use alloy_transport::TransportError;
use async_trait::async_trait;
use serde::Serialize;
use x402_types::Fault;

use super::node_error::{NodeError, node_fault};
use super::{EstimateSurcharge, RpcChain};

/// The account that the estimated transactions call. It has no code, so that no contract decides about the estimate, and
/// its bytes are random, as those of a contract are: some chains charge for the compressed data.
const NOBODY: Address = address!("d6a1f0c3579be8240d7c91aa36f5e2b84c0719fd");
/// Ethereum's gas of a transaction without data: [EIP-1559](https://eips.ethereum.org/EIPS/eip-1559).
const TRANSACTION: u64 = 21_000;
/// Ethereum's gas of a byte of data: [EIP-2028](https://eips.ethereum.org/EIPS/eip-2028).
const BYTE: u64 = 16;
/// Ethereum's gas of a byte of data that is zero.
const ZERO_BYTE: u64 = 4;
/// The number of blocks after which a poll estimates a known surcharge again. Signatures do, too, but there are none while
/// the last estimate is more than the signers can pay.
const ESTIMATED_BLOCKS: u64 = 240;

/// The knowledge of a chain's surcharge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Surcharge {
    /// No estimate was made.
    #[default]
    Unknown,
    /// A transaction without data needs Ethereum's gas.
    None,
    /// The chain takes more. The last estimate is kept.
    Some(u64),
}

/// The parameters of `eth_estimateGas`: a transaction that executes nothing.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    from: Address,
    to: Address,
    data: Bytes,
}

impl Sample {
    pub(super) const fn of(data: Bytes) -> Self {
        Self { from: NOBODY, to: NOBODY, data }
    }
}

/// Returns what an estimate exceeds Ethereum's gas by. The estimate of a chain that charges more for data by
/// [EIP-7623](https://eips.ethereum.org/EIPS/eip-7623) contains the difference, too.
pub(super) fn above_ethereums(estimate: u64, data: &[u8]) -> u64 {
    let gas = |byte: &u8| if *byte == 0 { ZERO_BYTE } else { BYTE };
    let own = data.iter().map(gas).fold(TRANSACTION, u64::saturating_add);
    estimate.saturating_sub(own)
}

impl Surcharge {
    const fn gas(self) -> u64 {
        match self {
            Self::Some(gas) => gas,
            Self::Unknown | Self::None => 0,
        }
    }

    /// Returns whether a poll estimates a transaction without data, so many blocks after the last time.
    pub(super) const fn is_due(self, blocks: u64) -> bool {
        match self {
            Self::Unknown => true,
            Self::None => false,
            Self::Some(_) => blocks >= ESTIMATED_BLOCKS,
        }
    }

    /// Returns the knowledge after the estimate of a transaction without data. A node that refuses to estimate is taken
    /// to have no surcharge until it refuses a transaction for its gas limit; a known one stays.
    pub(super) fn after(self, estimate: Result<U64, TransportError>) -> Self {
        match estimate {
            Ok(gas) if gas.to::<u64>() > TRANSACTION => Self::Some(above_ethereums(gas.to(), &[])),
            Ok(_) => Self::None,
            Err(error) if NodeError::of(&error) == NodeError::MayPass => self,
            Err(_) => match self {
                Self::Some(_) => self,
                Self::Unknown | Self::None => Self::None,
            },
        }
    }
}

/// Estimates the surcharge of a transaction with these calldata at a node of which nothing is known yet; see
/// [`EstimateSurcharge`]. A node that estimates nothing has none.
/// # Errors
/// The node failed.
pub async fn estimate_surcharge(client: &RpcClient, data: &Bytes) -> Result<u64, Fault> {
    Ok(first_estimate(client, data).await?.gas())
}

async fn first_estimate(client: &RpcClient, data: &Bytes) -> Result<Surcharge, Fault> {
    let mut batch = client.new_batch();
    let mut estimate =
        |data: Bytes| batch.add_call::<_, U64>("eth_estimateGas", &(Sample::of(data),)).map_err(node_fault);
    let (of_none, of_data) = (estimate(Bytes::new())?, estimate(data.clone())?);
    batch.send().await.map_err(node_fault)?;
    match Surcharge::Unknown.after(of_none.await) {
        Surcharge::Unknown => Err(Fault::unreachable("the node", "it may pass: it estimates no gas")),
        Surcharge::None => Ok(Surcharge::None),
        Surcharge::Some(_) => Ok(Surcharge::Some(above_ethereums(of_data.await.map_err(node_fault)?.to(), data))),
    }
}

#[async_trait]
impl EstimateSurcharge for RpcChain {
    async fn surcharge(&self, data: &Bytes) -> Result<u64, Fault> {
        let known = *self.surcharges();
        let now = match known {
            Surcharge::None => return Ok(0),
            Surcharge::Unknown => first_estimate(&self.client, data).await?,
            Surcharge::Some(_) => {
                let estimate: U64 = self.request("eth_estimateGas", (Sample::of(data.clone()),)).await?;
                Surcharge::Some(above_ethereums(estimate.to(), data))
            }
        };
        *self.surcharges() = now;
        Ok(now.gas())
    }

    fn last_surcharge(&self) -> u64 {
        self.surcharges().gas()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ethereum_takes_is_no_surcharge() {
        assert_eq!(above_ethereums(21_000, &[]), 0);
        // 2 bytes that are zero and 3 that are not: 8 and 48.
        assert_eq!(above_ethereums(21_056, &[0, 1, 0, 2, 255]), 0);
        assert_eq!(above_ethereums(121_056, &[0, 1, 0, 2, 255]), 100_000);
        // An estimate below Ethereum's is no reason to lower a limit.
        assert_eq!(above_ethereums(1, &[1]), 0);
    }

    #[test]
    fn a_node_that_cannot_estimate_has_none_until_it_says_so() {
        let refused = |code, message: &str| {
            Err(TransportError::err_resp(alloy_json_rpc::ErrorPayload {
                code,
                message: message.to_owned().into(),
                data: None,
            }))
        };
        let unknown = Surcharge::Unknown;
        assert_eq!(unknown.after(Ok(U64::from(21_000))), Surcharge::None);
        assert_eq!(unknown.after(Ok(U64::from(22_200))), Surcharge::Some(1_200));
        assert_eq!(unknown.after(refused(-32601, "the method eth_estimateGas does not exist")), Surcharge::None);
        assert_eq!(unknown.after(refused(429, "capacity exceeded")), Surcharge::Unknown);
    }
}
