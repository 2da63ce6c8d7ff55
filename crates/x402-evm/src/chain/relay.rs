//! A transaction that another account signed, to be sent by this facilitator: a parcel's bytes.

use alloy_primitives::{Address, Bytes, U256};
use x402_types::{Fault, UnixSeconds};

/// A signed transaction of another account that gives a spender an allowance. It takes no nonce of the lane that sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relay {
    /// The token of the allowance.
    pub(crate) token: Address,
    /// The account that signed.
    pub(crate) owner: Address,
    /// The allowance that is needed, in atomic units.
    pub(crate) needed: U256,
    /// The time from which the allowance is useless.
    pub(crate) until: UnixSeconds,
    /// The signed bytes.
    pub(crate) transaction: Bytes,
}

/// The first byte of an encoded relay; a [`Call`](super::Call) has others.
const FORM: u8 = 5;

impl Relay {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.transaction.len().saturating_add(81));
        bytes.push(FORM);
        bytes.extend_from_slice(self.token.as_slice());
        bytes.extend_from_slice(self.owner.as_slice());
        bytes.extend_from_slice(&self.needed.to_be_bytes::<32>());
        bytes.extend_from_slice(&self.until.0.to_be_bytes());
        bytes.extend_from_slice(&self.transaction);
        bytes
    }

    /// Decodes a relay from a parcel's bytes; `None` if they are those of a call.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (&FORM, rest) = bytes.split_first()? else { return None };
        let (token, rest) = rest.split_first_chunk::<20>()?;
        let (owner, rest) = rest.split_first_chunk::<20>()?;
        let (needed, rest) = rest.split_first_chunk::<32>()?;
        let (until, transaction) = rest.split_first_chunk::<8>()?;
        Some(Self {
            token: token.into(),
            owner: owner.into(),
            needed: U256::from_be_bytes(*needed),
            until: UnixSeconds(u64::from_be_bytes(*until)),
            transaction: transaction.to_vec().into(),
        })
    }

    /// Decodes a relay from a parcel's bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        Self::read(bytes).ok_or_else(|| Fault::broken("a parcel that holds no relay"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Call, Sharing};

    #[test]
    fn a_relay_comes_back_from_its_bytes_and_is_no_call() {
        let relay = Relay {
            token: Address::repeat_byte(1),
            owner: Address::repeat_byte(2),
            needed: U256::MAX,
            until: UnixSeconds(7),
            transaction: vec![2, 0xc0].into(),
        };
        let bytes = relay.to_bytes();
        assert_eq!(Relay::from_bytes(&bytes), Ok(relay));
        assert!(Call::from_bytes(&bytes).is_err());
        for end in 0..81 {
            assert!(Relay::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        let to = Address::repeat_byte(3);
        let call = Call { to, data: vec![0; 99].into(), gas: 1, since: 1, until: None, sharing: Sharing::Alone };
        assert_eq!(Relay::read(&call.to_bytes()), None);
    }
}
