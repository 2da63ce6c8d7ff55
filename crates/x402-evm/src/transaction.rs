//! Transactions of [EIP-1559](https://eips.ethereum.org/EIPS/eip-1559): one call each, without value and access list.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Encodable;
#[cfg(feature = "facilitator")]
use alloy_rlp::{Decodable, Header};

use crate::signature::Signature;
#[cfg(feature = "facilitator")]
use crate::signature::SignatureError;

/// The transaction type, which precedes the list.
const TYPE: u8 = 2;

/// A transaction to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) chain_id: u64,
    pub(crate) nonce: u64,
    /// The tip for a unit of gas, wei.
    pub(crate) max_priority_fee_per_gas: u128,
    /// The maximum for a unit of gas, tip included, wei.
    pub(crate) max_fee_per_gas: u128,
    pub(crate) gas_limit: u64,
    pub(crate) to: Address,
    pub(crate) input: Bytes,
}

impl Transaction {
    /// "keccak256(0x02 || rlp([chain_id, nonce, max_priority_fee_per_gas, max_fee_per_gas, gas_limit, destination,
    /// amount, data, access_list]))".
    pub(crate) fn signing_hash(&self) -> B256 {
        keccak256(self.encode(&[]))
    }

    /// Returns the bytes that nodes accept; their hash is the transaction's.
    pub(crate) fn signed(&self, signature: &Signature) -> Vec<u8> {
        self.encode(&[
            &signature.is_odd(),
            &U256::from_be_bytes(signature.r().0),
            &U256::from_be_bytes(signature.s().0),
        ])
    }

    fn encode(&self, signature: &[&dyn Encodable]) -> Vec<u8> {
        let access_list: &dyn Encodable = &Vec::<Bytes>::new();
        let mut fields: Vec<&dyn Encodable> = vec![
            &self.chain_id,
            &self.nonce,
            &self.max_priority_fee_per_gas,
            &self.max_fee_per_gas,
            &self.gas_limit,
            &self.to,
            &U256::ZERO,
            &self.input,
            access_list,
        ];
        fields.extend(signature);
        let mut bytes = vec![TYPE];
        alloy_rlp::encode_list::<_, dyn Encodable>(&fields, &mut bytes);
        bytes
    }
}

/// A signed transaction that others made: of type 2, without an access list.
#[cfg(feature = "facilitator")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedTransaction {
    pub(crate) transaction: Transaction,
    /// The value, which [`Transaction`] has not: its hash is that of a transaction without value.
    pub(crate) value: U256,
    pub(crate) signature: Result<Signature, SignatureError>,
}

#[cfg(feature = "facilitator")]
impl SignedTransaction {
    /// Decodes exactly these bytes: RLP has one spelling, and nothing follows it.
    pub(crate) fn decode(bytes: &[u8]) -> alloy_rlp::Result<Self> {
        let (fields, rest) = envelope(bytes)?;
        if !rest.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength);
        }
        let fields = &mut &*fields;
        let (chain_id, nonce) = (u64::decode(fields)?, u64::decode(fields)?);
        let (max_priority_fee_per_gas, max_fee_per_gas) = (u128::decode(fields)?, u128::decode(fields)?);
        let gas_limit = u64::decode(fields)?;
        let to = Address::decode(fields)?;
        let (value, input) = (U256::decode(fields)?, Bytes::decode(fields)?);
        if !Header::decode_bytes(fields, true)?.is_empty() {
            return Err(alloy_rlp::Error::Custom("expected no access list"));
        }
        let (odd, r, s) = (bool::decode(fields)?, U256::decode(fields)?, U256::decode(fields)?);
        if !fields.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength);
        }
        let signature = Signature::new(r.to_be_bytes().into(), s.to_be_bytes().into(), odd);
        let transaction =
            Transaction { chain_id, nonce, max_priority_fee_per_gas, max_fee_per_gas, gas_limit, to, input };
        Ok(Self { transaction, value, signature })
    }
}

/// Splits the bytes into the fields of one transaction of type 2, and what follows it.
#[cfg(feature = "facilitator")]
fn envelope(bytes: &[u8]) -> alloy_rlp::Result<(&[u8], &[u8])> {
    let Some((&TYPE, mut rest)) = bytes.split_first() else {
        return Err(alloy_rlp::Error::Custom("expected a transaction of type 2"));
    };
    let fields = Header::decode_bytes(&mut rest, true)?;
    Ok((fields, rest))
}

/// Splits bytes after the first transaction in them.
#[cfg(feature = "facilitator")]
pub(crate) fn split_first(bytes: &[u8]) -> alloy_rlp::Result<(&[u8], &[u8])> {
    let (_, rest) = envelope(bytes)?;
    bytes.split_at_checked(bytes.len().saturating_sub(rest.len())).ok_or(alloy_rlp::Error::InputTooShort)
}

/// Reads the fees in a transaction's bytes: the maximum for a unit of gas, and the tip.
#[cfg(feature = "facilitator")]
pub(crate) fn fees(bytes: &[u8]) -> alloy_rlp::Result<(u128, u128)> {
    let (mut fields, _) = envelope(bytes)?;
    let fields = &mut fields;
    let (_chain_id, _nonce) = (u64::decode(fields)?, u64::decode(fields)?);
    let tip = u128::decode(fields)?;
    Ok((u128::decode(fields)?, tip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
    use alloy_eips::eip2718::Encodable2718;
    use alloy_primitives::{TxKind, b256};

    /// As alloy writes them, at the edges of every field's length.
    #[test]
    fn a_transaction_has_the_bytes_and_hashes_of_alloy() {
        let words: &[u64] = &[0, 1, 127, 128, 255, 256, u64::from(u32::MAX), u64::MAX];
        for (index, &word) in words.iter().enumerate() {
            let transaction = Transaction {
                chain_id: word,
                nonce: word.rotate_left(8),
                max_priority_fee_per_gas: u128::from(word),
                max_fee_per_gas: u128::from(word) << (8 * index),
                gas_limit: !word,
                to: Address::repeat_byte(u8::try_from(index).unwrap()),
                input: vec![0x7f; index * 20].into(),
            };
            let theirs = TxEip1559 {
                chain_id: transaction.chain_id,
                nonce: transaction.nonce,
                max_priority_fee_per_gas: transaction.max_priority_fee_per_gas,
                max_fee_per_gas: transaction.max_fee_per_gas,
                gas_limit: transaction.gas_limit,
                to: TxKind::Call(transaction.to),
                value: U256::ZERO,
                access_list: Default::default(),
                input: transaction.input.clone(),
            };
            assert_eq!(transaction.signing_hash(), theirs.signature_hash());
            let r = b256!("00000000000000000000000000000000000000000000000000000000000000ff");
            let s = b256!("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0");
            let odd = index % 2 == 1;
            let signature = Signature::new(r, s, odd).unwrap();
            let envelope =
                TxEnvelope::from(theirs.into_signed(alloy_primitives::Signature::new(r.into(), s.into(), odd)));
            let bytes = transaction.signed(&signature);
            assert_eq!(bytes, envelope.encoded_2718());
            assert_eq!(keccak256(&bytes), *envelope.tx_hash());
            assert_eq!(fees(&bytes), Ok((transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas)));
            let decoded = SignedTransaction::decode(&bytes).unwrap();
            let expected = SignedTransaction { transaction, value: U256::ZERO, signature: Ok(signature) };
            assert_eq!(decoded, expected);
            let two = [&bytes[..], &[7; 9]].concat();
            assert_eq!(split_first(&two), Ok((&bytes[..], &[7; 9][..])));
            assert!(SignedTransaction::decode(&two).is_err());
            for end in 0..bytes.len() {
                assert!(SignedTransaction::decode(&bytes[..end]).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn other_bytes_have_no_fees() {
        for bytes in [&[][..], &[1, 0xc0], &[2], &[2, 0xc0], &[2, 0xc2, 1, 1], &[2, 0x81, 0x80]] {
            assert!(fees(bytes).is_err(), "{bytes:?}");
        }
    }
}
