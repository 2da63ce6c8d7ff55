//! [Semi-abstracted nonces](https://eips.ethereum.org/EIPS/eip-4337#semi-abstracted-nonce-support): a key of 192 bits
//! and a sequence of 64, counted per key; and the meaning that accounts give to the bits of the key.

use alloy_primitives::{Address, FixedBytes, U256};

/// The upper 192 bits of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NonceKey(pub FixedBytes<24>);

impl NonceKey {
    /// Combines this key with a sequence number.
    #[must_use]
    pub fn nonce(self, sequence: u64) -> U256 {
        U256::from_be_slice(self.0.as_slice()) << 64 | U256::from(sequence)
    }

    /// Splits a nonce into key and sequence number.
    #[must_use]
    pub fn split(nonce: U256) -> (Self, u64) {
        let key: U256 = nonce >> 64;
        let bytes: [u8; 32] = key.to_be_bytes();
        let sequence = (nonce & U256::from(u64::MAX)).saturating_to();
        (Self(FixedBytes::left_padding_from(bytes.split_at(8).1)), sequence)
    }

    /// Builds the key of Kernel v3: `mode ‖ type ‖ id(20) ‖ channel(2)`.
    #[must_use]
    pub fn kernel(mode: KernelMode, validation: KernelValidation, channel: u16) -> Self {
        let mut key = [0; 24];
        let (kind, id) = match validation {
            KernelValidation::Root => (0, [0; 20]),
            KernelValidation::Validator(address) => (1, address.into_array()),
            KernelValidation::Permission(id) => (2, FixedBytes::<20>::right_padding_from(id.as_slice()).0),
        };
        let (head, rest) = key.split_at_mut(2);
        head.copy_from_slice(&[mode as u8, kind]);
        let (place, tail) = rest.split_at_mut(20);
        place.copy_from_slice(&id);
        tail.copy_from_slice(&channel.to_be_bytes());
        Self(key.into())
    }

    /// Returns how a Kernel uses the signature under this key; `None` if this is not a key of a Kernel.
    #[must_use]
    pub fn kernel_mode(self) -> Option<KernelMode> {
        match self.0.first()? {
            0 => Some(KernelMode::Default),
            1 => Some(KernelMode::Enable),
            _ => None,
        }
    }

    /// Returns `type ‖ id(20)` of a Kernel's key: the validator, in the form of the Kernel's own functions.
    #[must_use]
    pub fn kernel_validation(self) -> FixedBytes<21> {
        self.0.get(1..22).map(FixedBytes::from_slice).unwrap_or_default()
    }

    /// Builds the key of Nexus: `3 free bytes ‖ mode 0 ‖ validator(20)`.
    #[must_use]
    pub fn nexus(validator: Address, channel: [u8; 3]) -> Self {
        let mut key = [0; 24];
        let (free, rest) = key.split_at_mut(3);
        free.copy_from_slice(&channel);
        rest.split_at_mut(1).1.copy_from_slice(validator.as_slice());
        Self(key.into())
    }

    /// Builds the key of Safe7579: `validator(20) ‖ 4 free bytes`.
    #[must_use]
    pub fn safe7579(validator: Address, channel: [u8; 4]) -> Self {
        let mut key = [0; 24];
        let (place, free) = key.split_at_mut(20);
        place.copy_from_slice(validator.as_slice());
        free.copy_from_slice(&channel);
        Self(key.into())
    }
}

/// The way in which a Kernel uses the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KernelMode {
    /// The Kernel validates with an installed module.
    Default = 0,
    /// The Kernel first installs the module, with the owner's approval.
    Enable = 1,
}

/// The validator of an operation in a Kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KernelValidation {
    /// The root validator of the account.
    Root,
    /// An installed validator module.
    Validator(Address),
    /// A permission, by its id.
    Permission(FixedBytes<4>),
}
