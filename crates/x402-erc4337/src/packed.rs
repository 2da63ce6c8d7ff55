//! [PackedUserOperation](https://eips.ethereum.org/EIPS/eip-4337#useroperation): the form of EntryPoint 0.7 and later,
//! and the conversion to and from the unpacked form.

use alloy_primitives::{Address, B256, Bytes, U256};
use serde::Serialize;
use x402_codec::Limits;
use x402_codec::json::{self, Node};

use crate::fields::{Field, FieldError};
use crate::user_operation::{EIP7702_MARKER, MAX_BYTES, ReadError};
use crate::{EntryPointVersion, Init, Paymaster, UserOperation};

/// `keccak256("PaymasterSignature")[:8]`: the end of paymaster data that contains a signature.
pub(crate) const PAYMASTER_SIG_MAGIC: [u8; 8] = [0x22, 0xe3, 0x25, 0xa2, 0x97, 0x43, 0x96, 0x56];
/// The length of `paymaster ‖ u128 verification gas ‖ u128 postOp gas`.
const PAYMASTER_DATA_OFFSET: usize = 52;
/// The length of `u16 length ‖ magic`.
const PAYMASTER_SUFFIX: usize = 10;

/// A UserOperation as `handleOps` of EntryPoint 0.7 and later takes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PackedUserOperation {
    /// The account that the operation belongs to.
    pub sender: Address,
    /// The key (192 bits) and the sequence number (64 bits).
    pub nonce: U256,
    /// `factory ‖ factoryData`, or empty.
    pub init_code: Bytes,
    /// The calldata for the account.
    pub call_data: Bytes,
    /// `u128 verificationGasLimit ‖ u128 callGasLimit`.
    pub account_gas_limits: B256,
    /// The gas that is charged in addition to the measured gas.
    pub pre_verification_gas: U256,
    /// `u128 maxPriorityFeePerGas ‖ u128 maxFeePerGas`.
    pub gas_fees: B256,
    /// `paymaster ‖ u128 verification gas ‖ u128 postOp gas ‖ data`, or empty.
    pub paymaster_and_data: Bytes,
    /// The signature that the account checks.
    pub signature: Bytes,
}

/// The error for an operation that cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// `initCode` of 1 to 19 bytes contains no factory.
    #[error("initCode: expected none or at least 20 bytes, found {0}")]
    InitCodeTooShort(usize),
    /// `paymasterAndData` has 1 to 51 bytes (AA93).
    #[error("paymasterAndData: expected none or at least 52 bytes, found {0}")]
    PaymasterDataTooShort(usize),
    /// The length before the magic exceeds the paymaster data (`InvalidPaymasterSignatureLength`).
    #[error("paymasterAndData: {data} bytes cannot hold a paymaster signature of {signature}")]
    PaymasterSignatureLength {
        /// The length of `paymasterAndData`.
        data: usize,
        /// The length of the signature that the data claim.
        signature: usize,
    },
    /// The signature is longer than its length of 16 bits can express.
    #[error("paymasterSignature: expected at most 65535 bytes, found {0}")]
    PaymasterSignatureTooLong(usize),
    /// `paymasterSignature` exists only from 0.9.
    #[error("paymasterSignature: needs EntryPoint 0.9")]
    PaymasterSignatureNeedsV09,
    /// `factory: 0x7702` exists only from 0.8.
    #[error("factory: 0x7702 needs EntryPoint 0.8 or later")]
    Eip7702NeedsV08,
    /// EntryPoint 0.6 uses `UserOperationV06`.
    #[error("entryPoint: 0.6 knows no packed operations")]
    NotPacked,
}

impl UserOperation {
    /// Packs the operation for one version of the EntryPoint.
    /// # Errors
    /// A member is not defined for this version.
    pub fn pack(&self, version: EntryPointVersion) -> Result<PackedUserOperation, PackError> {
        self.fits(version)?;
        Ok(PackedUserOperation {
            sender: self.sender,
            nonce: self.nonce,
            init_code: self.init.code(),
            call_data: self.call_data.clone(),
            account_gas_limits: halves(self.verification_gas_limit, self.call_gas_limit),
            pre_verification_gas: self.pre_verification_gas,
            // "NOT max first": the priority fee is the high half.
            gas_fees: halves(self.max_priority_fee_per_gas, self.max_fee_per_gas),
            paymaster_and_data: self.paymaster.as_ref().map_or(Ok(Bytes::new()), Paymaster::and_data)?,
            signature: self.signature.clone(),
        })
    }

    pub(crate) fn fits(&self, version: EntryPointVersion) -> Result<(), PackError> {
        if version == EntryPointVersion::V06 {
            return Err(PackError::NotPacked);
        }
        if matches!(self.init, Init::Eip7702 { .. }) && version < EntryPointVersion::V08 {
            return Err(PackError::Eip7702NeedsV08);
        }
        match &self.paymaster {
            Some(p) if !p.signature.is_empty() && version < EntryPointVersion::V09 => {
                Err(PackError::PaymasterSignatureNeedsV09)
            }
            Some(p) if p.signature.len() > usize::from(u16::MAX) => {
                Err(PackError::PaymasterSignatureTooLong(p.signature.len()))
            }
            _ => Ok(()),
        }
    }
}

impl Init {
    /// Builds `factory ‖ factoryData`; for EIP-7702 `0x7702` padded right to 20 bytes, then the data; or nothing.
    #[must_use]
    pub fn code(&self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::Factory { factory, data } => [factory.as_slice(), data].concat().into(),
            Self::Eip7702 { data } => [EIP7702_MARKER.as_slice(), data].concat().into(),
        }
    }
}

impl Paymaster {
    fn and_data(&self) -> Result<Bytes, PackError> {
        let mut out = self.head();
        if !self.signature.is_empty() {
            let length = u16::try_from(self.signature.len())
                .map_err(|_| PackError::PaymasterSignatureTooLong(self.signature.len()))?;
            out.extend_from_slice(&self.signature);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&PAYMASTER_SIG_MAGIC);
        }
        Ok(out.into())
    }

    /// Builds everything before the signature.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PAYMASTER_DATA_OFFSET + self.data.len() + self.signature.len());
        out.extend_from_slice(self.address.as_slice());
        out.extend_from_slice(&self.verification_gas_limit.to_be_bytes());
        out.extend_from_slice(&self.post_op_gas_limit.to_be_bytes());
        out.extend_from_slice(&self.data);
        out
    }
}

impl PackedUserOperation {
    /// Parses the JSON of a packed operation, at most 64 KiB; a missing signature is empty.
    /// # Errors
    /// The text is not strict JSON, or a member is missing or malformed.
    pub fn from_json(json: &[u8]) -> Result<Self, ReadError> {
        Ok(Self::from_node(&json::parse(json, &Limits::DEFAULT)?)?)
    }

    /// Parses a packed operation within a larger document.
    /// # Errors
    /// A member is missing or malformed, or belongs to the unpacked form.
    pub fn from_node(node: &Node<'_>) -> Result<Self, FieldError> {
        let op = Field::root(node).object()?;
        for key in [
            "factory",
            "factoryData",
            "paymaster",
            "paymasterData",
            "paymasterSignature",
            "paymasterVerificationGasLimit",
            "paymasterPostOpGasLimit",
            "callGasLimit",
            "verificationGasLimit",
            "maxFeePerGas",
            "maxPriorityFeePerGas",
        ] {
            op.refuse(key, "does not belong to the packed form")?;
        }
        Ok(Self {
            sender: op.required("sender")?.address()?,
            nonce: op.required("nonce")?.quantity()?,
            init_code: op.required("initCode")?.bytes(MAX_BYTES)?,
            call_data: op.required("callData")?.bytes(MAX_BYTES)?,
            account_gas_limits: op.required("accountGasLimits")?.fixed()?,
            pre_verification_gas: op.required("preVerificationGas")?.quantity()?,
            gas_fees: op.required("gasFees")?.fixed()?,
            paymaster_and_data: op.required("paymasterAndData")?.bytes(MAX_BYTES)?,
            signature: op.optional("signature").map_or(Ok(Bytes::new()), |f| f.bytes(MAX_BYTES))?,
        })
    }

    /// Returns whether a document is meant as a packed operation.
    #[must_use]
    pub fn is_packed(node: &Node<'_>) -> bool {
        node.get("accountGasLimits").is_some() || node.get("gasFees").is_some()
    }

    /// Unpacks the operation as one version of the EntryPoint does.
    /// # Errors
    /// This version refuses `initCode` or `paymasterAndData`.
    pub fn unpack(&self, version: EntryPointVersion) -> Result<UserOperation, PackError> {
        if version == EntryPointVersion::V06 {
            return Err(PackError::NotPacked);
        }
        let (verification_gas_limit, call_gas_limit) = split(self.account_gas_limits);
        let (max_priority_fee_per_gas, max_fee_per_gas) = split(self.gas_fees);
        Ok(UserOperation {
            sender: self.sender,
            nonce: self.nonce,
            init: self.init(version)?,
            call_data: self.call_data.clone(),
            call_gas_limit,
            verification_gas_limit,
            pre_verification_gas: self.pre_verification_gas,
            max_fee_per_gas,
            max_priority_fee_per_gas,
            paymaster: self.paymaster(version)?,
            signature: self.signature.clone(),
            eip7702_auth: None,
        })
    }

    fn init(&self, version: EntryPointVersion) -> Result<Init, PackError> {
        let Some((factory, data)) = self.init_code.split_first_chunk::<20>() else {
            let len = self.init_code.len();
            return if len == 0 { Ok(Init::None) } else { Err(PackError::InitCodeTooShort(len)) };
        };
        let factory = Address::from(factory);
        let data = self.init_code.slice_ref(data);
        match (factory == EIP7702_MARKER, version >= EntryPointVersion::V08) {
            (true, true) => Ok(Init::Eip7702 { data }),
            (true, false) => Err(PackError::Eip7702NeedsV08),
            _ => Ok(Init::Factory { factory, data }),
        }
    }

    fn paymaster(&self, version: EntryPointVersion) -> Result<Option<Paymaster>, PackError> {
        let all = &self.paymaster_and_data;
        if all.is_empty() {
            return Ok(None);
        }
        let short = PackError::PaymasterDataTooShort(all.len());
        let (address, rest) = all.split_first_chunk::<20>().ok_or(short)?;
        let (verification, rest) = rest.split_first_chunk::<16>().ok_or(short)?;
        let (post_op, rest) = rest.split_first_chunk::<16>().ok_or(short)?;
        let signature_len = if version >= EntryPointVersion::V09 { paymaster_signature_len(all)? } else { 0 };
        let (data, signature) = match signature_len {
            0 => (rest, &[][..]),
            len => {
                let (data, tail) = rest.split_at(rest.len().saturating_sub(len + PAYMASTER_SUFFIX));
                (data, tail.get(..len).unwrap_or_default())
            }
        };
        Ok(Some(Paymaster {
            address: address.into(),
            verification_gas_limit: u128::from_be_bytes(*verification),
            post_op_gas_limit: u128::from_be_bytes(*post_op),
            data: all.slice_ref(data),
            signature: Bytes::copy_from_slice(signature),
        }))
    }
}

/// Returns the length of the paymaster's signature in `paymasterAndData`, as `UserOperationLib` of 0.9 computes it; 0
/// if there is none.
///
/// "paymasterSignature cannot extend before the paymasterData".
pub(crate) fn paymaster_signature_len(all: &[u8]) -> Result<usize, PackError> {
    let Some((head, magic)) = all.split_last_chunk::<8>() else { return Ok(0) };
    let Some((head, length)) = head.split_last_chunk::<2>() else { return Ok(0) };
    if *magic != PAYMASTER_SIG_MAGIC || head.len() < PAYMASTER_DATA_OFFSET {
        return Ok(0);
    }
    let signature = usize::from(u16::from_be_bytes(*length));
    if signature > head.len() - PAYMASTER_DATA_OFFSET {
        return Err(PackError::PaymasterSignatureLength { data: all.len(), signature });
    }
    Ok(signature)
}

/// Returns the part of `paymasterAndData` before signature, length and magic.
pub(crate) fn before_paymaster_signature(all: &[u8], signature: usize) -> &[u8] {
    all.get(..all.len().saturating_sub(signature + PAYMASTER_SUFFIX)).unwrap_or_default()
}

pub(crate) fn halves(high: u128, low: u128) -> B256 {
    B256::from((U256::from(high) << 128) | U256::from(low))
}

fn split(word: B256) -> (u128, u128) {
    let mut high = [0; 16];
    let mut low = [0; 16];
    let (h, l) = word.split_at(16);
    high.copy_from_slice(h);
    low.copy_from_slice(l);
    (u128::from_be_bytes(high), u128::from_be_bytes(low))
}
