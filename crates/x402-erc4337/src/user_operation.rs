//! [UserOperation](https://eips.ethereum.org/EIPS/eip-4337#useroperation): the form that bundlers use, from 0.7.
//!
//! The wire types are this crate's own: those of alloy support neither EIP-7702 nor paymaster signatures.

use alloy_primitives::{Address, B256, Bytes, U256, address};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use x402_codec::json::{self, Node};
use x402_codec::{DecodeError, Limits};

use crate::fields::{Field, FieldError, Problem};
use crate::hash::keccak_of;

/// The maximum length of `initCode`, `callData`, paymaster data and signature: 24 KiB.
pub(crate) const MAX_BYTES: usize = 24 * 1024;

/// `0x7702`, padded right to 20 bytes: the factory of an EIP-7702 account.
pub(crate) const EIP7702_MARKER: Address = address!("7702000000000000000000000000000000000000");

/// A UserOperation of EntryPoint 0.7, 0.8 or 0.9, unpacked.
///
/// Gas limits and fees have 128 bits, as the chain packs them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserOperation {
    /// The account that the operation belongs to.
    pub sender: Address,
    /// The key (192 bits) and the sequence number (64 bits).
    pub nonce: U256,
    /// The code that creates the account, if it does not exist yet.
    pub init: Init,
    /// The calldata for the account.
    pub call_data: Bytes,
    /// The gas limit of the execution.
    pub call_gas_limit: u128,
    /// The gas limit of the account's validation and deployment.
    pub verification_gas_limit: u128,
    /// The gas that is charged in addition to the measured gas.
    pub pre_verification_gas: U256,
    /// The maximum price of one gas, in wei.
    pub max_fee_per_gas: u128,
    /// The maximum price of one gas above the base fee, in wei.
    pub max_priority_fee_per_gas: u128,
    /// The paymaster that pays instead of the account.
    pub paymaster: Option<Paymaster>,
    /// The signature that the account checks. It is not part of the hash.
    pub signature: Bytes,
    /// The EIP-7702 authorization that turns the sender into a smart account.
    pub eip7702_auth: Option<Eip7702Authorization>,
}

/// The way in which an account is created.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Init {
    /// The account exists already.
    #[default]
    None,
    /// The factory is called with these bytes.
    Factory {
        /// The address of the factory.
        factory: Address,
        /// The calldata of the factory.
        data: Bytes,
    },
    /// The sender delegates by EIP-7702 and is then called with these bytes, if there are any. From 0.8.
    Eip7702 {
        /// The calldata of the initialisation.
        data: Bytes,
    },
}

/// A paymaster with its gas limits and data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paymaster {
    /// The address of the contract.
    pub address: Address,
    /// The gas limit of its validation.
    pub verification_gas_limit: u128,
    /// The gas limit of its `postOp`.
    pub post_op_gas_limit: u128,
    /// The data that the paymaster receives.
    pub data: Bytes,
    /// The paymaster's signature, made after the account's and not hashed. Only 0.9; at most 65,535 bytes; empty means
    /// none.
    pub signature: Bytes,
}

/// A signed EIP-7702 authorization that accompanies an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eip7702Authorization {
    /// The address of the delegate.
    pub address: Address,
    /// The chain, or 0 for every chain.
    pub chain_id: U256,
    /// The account's transaction nonce.
    pub nonce: u64,
    /// The values `r`, `s` and the parity, if it is signed.
    pub signature: Option<(B256, B256, bool)>,
}

/// The error for a document that is not a UserOperation.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The text is not strict JSON.
    #[error(transparent)]
    Json(#[from] DecodeError),
    /// A member does not have its required form.
    #[error(transparent)]
    Field(#[from] FieldError),
}

impl UserOperation {
    /// Parses the JSON-RPC form, at most 64 KiB. Unknown members are ignored, null counts as absent, and a missing
    /// signature is empty.
    /// # Errors
    /// The text is not strict JSON, or a member is missing or malformed: the error names it.
    pub fn from_json(json: &[u8]) -> Result<Self, ReadError> {
        Ok(Self::from_node(&json::parse(json, &Limits::DEFAULT)?)?)
    }

    /// Parses the JSON-RPC form within a larger document.
    /// # Errors
    /// A member is missing or malformed, or belongs to another form.
    pub fn from_node(node: &Node<'_>) -> Result<Self, FieldError> {
        let op = Field::root(node).object()?;
        // Members of the other forms are part of the hash there: ignoring them would hash another operation.
        for key in ["initCode", "paymasterAndData", "accountGasLimits", "gasFees"] {
            op.refuse(key, "does not belong to the unpacked form of 0.7 and later")?;
        }
        Ok(Self {
            sender: op.required("sender")?.address()?,
            nonce: op.required("nonce")?.quantity()?,
            init: Init::read(&op)?,
            call_data: op.required("callData")?.bytes(MAX_BYTES)?,
            call_gas_limit: op.required("callGasLimit")?.quantity128()?,
            verification_gas_limit: op.required("verificationGasLimit")?.quantity128()?,
            pre_verification_gas: op.required("preVerificationGas")?.quantity()?,
            max_fee_per_gas: op.required("maxFeePerGas")?.quantity128()?,
            max_priority_fee_per_gas: op.required("maxPriorityFeePerGas")?.quantity128()?,
            paymaster: Paymaster::read(&op)?,
            signature: op.optional("signature").map_or(Ok(Bytes::new()), |f| f.bytes(MAX_BYTES))?,
            eip7702_auth: op.optional("eip7702Auth").map(|f| Eip7702Authorization::read(&f)).transpose()?,
        })
    }
}

impl Init {
    /// Parses "factory and factoryData: both or none". An absent factoryData counts as empty only for `0x7702`.
    fn read(op: &Field<'_>) -> Result<Self, FieldError> {
        let data = op.optional("factoryData");
        let Some(factory) = op.optional("factory") else {
            return match data.map(|f| (f.bytes(MAX_BYTES), f)) {
                None => Ok(Self::None),
                // Some bundlers write an absent member as an empty one.
                Some((Ok(bytes), _)) if bytes.is_empty() => Ok(Self::None),
                Some((Ok(_), f)) => Err(f.error(Problem::Refused("stands without factory"))),
                Some((Err(e), _)) => Err(e),
            };
        };
        let data = data.map(|f| f.bytes(MAX_BYTES)).transpose()?;
        if factory.text()? == "0x7702" || factory.address()? == EIP7702_MARKER {
            return Ok(Self::Eip7702 { data: data.unwrap_or_default() });
        }
        let data = data.ok_or_else(|| FieldError::new("factoryData", Problem::Missing))?;
        Ok(Self::Factory { factory: factory.address()?, data })
    }
}

impl Paymaster {
    fn read(op: &Field<'_>) -> Result<Option<Self>, FieldError> {
        let Some(paymaster) = op.optional("paymaster") else {
            for key in ["paymasterData", "paymasterSignature"] {
                if let Some(f) = op.optional(key)
                    && !f.bytes(MAX_BYTES)?.is_empty()
                {
                    return Err(f.error(Problem::Refused("stands without paymaster")));
                }
            }
            for key in ["paymasterVerificationGasLimit", "paymasterPostOpGasLimit"] {
                if let Some(f) = op.optional(key)
                    && !f.quantity()?.is_zero()
                {
                    return Err(f.error(Problem::Refused("stands without paymaster")));
                }
            }
            return Ok(None);
        };
        let bytes = |key| op.optional(key).map_or(Ok(Bytes::new()), |f: Field<'_>| f.bytes(MAX_BYTES));
        Ok(Some(Self {
            address: paymaster.address()?,
            verification_gas_limit: op.required("paymasterVerificationGasLimit")?.quantity128()?,
            post_op_gas_limit: op.required("paymasterPostOpGasLimit")?.quantity128()?,
            data: bytes("paymasterData")?,
            signature: bytes("paymasterSignature")?,
        }))
    }
}

impl Eip7702Authorization {
    /// Computes the hash that the account signs by [EIP-7702](https://eips.ethereum.org/EIPS/eip-7702): `keccak(0x05 ‖
    /// rlp([chain_id, address, nonce]))`.
    #[must_use]
    pub fn signing_hash(&self) -> B256 {
        let mut list = Vec::with_capacity(64);
        rlp_integer(&mut list, &self.chain_id.to_be_bytes::<32>());
        list.push(0x80 + 20);
        list.extend_from_slice(self.address.as_slice());
        rlp_integer(&mut list, &self.nonce.to_be_bytes());
        // Three short strings: at most 33 + 21 + 9 bytes, where one length byte reaches to 55.
        let mut head = vec![0x05];
        match u8::try_from(list.len()) {
            Ok(len @ 0..=55) => head.push(0xc0 + len),
            Ok(len) => head.extend_from_slice(&[0xf8, len]),
            Err(_) => {}
        }
        keccak_of([&head, &list])
    }

    /// Recovers the account that signed the authorization, if it is signed.
    #[cfg(any(feature = "key", feature = "libsecp256k1"))]
    #[must_use]
    pub fn authority(&self) -> Option<Address> {
        let (r, s, odd) = self.signature?;
        let signature = x402_evm::signature::Signature::new(r, s, odd).ok()?;
        x402_evm::signature::recover(self.signing_hash(), &signature).ok()
    }

    pub(crate) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let auth = field.object()?;
        let number =
            |key: &'static str| auth.optional(key).map_or(Ok(U256::ZERO), |f: Field<'_>| f.quantity_or_integer());
        let nonce = u64::try_from(number("nonce")?)
            .map_err(|_| FieldError::new("eip7702Auth.nonce", Problem::Range("uint64")))?;
        let signature = match (auth.optional("r"), auth.optional("s")) {
            (Some(r), Some(s)) => Some((B256::from(r.quantity()?), B256::from(s.quantity()?), Self::parity(&auth)?)),
            _ => None,
        };
        Ok(Self { address: auth.required("address")?.address()?, chain_id: number("chainId")?, nonce, signature })
    }

    fn parity(auth: &Field<'_>) -> Result<bool, FieldError> {
        let (field, odd) = match auth.optional("yParity") {
            Some(f) => (f, 1),
            None => (auth.required("v")?, 28),
        };
        match u64::try_from(field.quantity_or_integer()?) {
            Ok(n) if n == odd => Ok(true),
            Ok(n) if n.saturating_add(1) == odd => Ok(false),
            _ => Err(field.error(Problem::Form("a parity"))),
        }
    }
}

/// Encodes an integer by RLP: no leading zeros, a byte below 0x80 as itself.
fn rlp_integer(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    match bytes.get(start..).unwrap_or_default() {
        [small @ 0..=0x7f] => out.push(*small),
        digits => {
            out.push(0x80 + u8::try_from(digits.len()).unwrap_or_default());
            out.extend_from_slice(digits);
        }
    }
}

/// Writes the JSON-RPC form that [`UserOperation::from_json`] parses.
impl Serialize for UserOperation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("sender", &self.sender)?;
        map.serialize_entry("nonce", &self.nonce)?;
        match &self.init {
            Init::None => {}
            Init::Factory { factory, data } => {
                map.serialize_entry("factory", factory)?;
                map.serialize_entry("factoryData", data)?;
            }
            Init::Eip7702 { data } => {
                map.serialize_entry("factory", "0x7702")?;
                if !data.is_empty() {
                    map.serialize_entry("factoryData", data)?;
                }
            }
        }
        map.serialize_entry("callData", &self.call_data)?;
        map.serialize_entry("callGasLimit", &U256::from(self.call_gas_limit))?;
        map.serialize_entry("verificationGasLimit", &U256::from(self.verification_gas_limit))?;
        map.serialize_entry("preVerificationGas", &self.pre_verification_gas)?;
        map.serialize_entry("maxFeePerGas", &U256::from(self.max_fee_per_gas))?;
        map.serialize_entry("maxPriorityFeePerGas", &U256::from(self.max_priority_fee_per_gas))?;
        if let Some(paymaster) = &self.paymaster {
            map.serialize_entry("paymaster", &paymaster.address)?;
            map.serialize_entry("paymasterVerificationGasLimit", &U256::from(paymaster.verification_gas_limit))?;
            map.serialize_entry("paymasterPostOpGasLimit", &U256::from(paymaster.post_op_gas_limit))?;
            map.serialize_entry("paymasterData", &paymaster.data)?;
            if !paymaster.signature.is_empty() {
                map.serialize_entry("paymasterSignature", &paymaster.signature)?;
            }
        }
        map.serialize_entry("signature", &self.signature)?;
        if let Some(auth) = &self.eip7702_auth {
            map.serialize_entry("eip7702Auth", auth)?;
        }
        map.end()
    }
}

impl Serialize for Eip7702Authorization {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("address", &self.address)?;
        map.serialize_entry("chainId", &self.chain_id)?;
        map.serialize_entry("nonce", &U256::from(self.nonce))?;
        if let Some((r, s, odd)) = self.signature {
            map.serialize_entry("r", &U256::from_be_bytes(r.0))?;
            map.serialize_entry("s", &U256::from_be_bytes(s.0))?;
            map.serialize_entry("yParity", &U256::from(u8::from(odd)))?;
            map.serialize_entry("v", &U256::from(27 + u8::from(odd)))?;
        }
        map.end()
    }
}
