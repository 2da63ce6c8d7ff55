//! [EIP-712](https://eips.ethereum.org/EIPS/eip-712): typed structured data hashing, as tokens use it.

use alloy_primitives::{Address, B256, U256, b256};

#[cfg(feature = "asm-keccak")]
use self::assembly::keccak256;
#[cfg(not(feature = "asm-keccak"))]
use alloy_primitives::keccak256;

/// The hash `keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")`.
const DOMAIN_TYPE: B256 = b256!("0x8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f");

/// The hash `keccak256("EIP712Domain(string name,string version,uint256 chainId)")`.
const DOMAIN_TYPE_WITHOUT_CONTRACT: B256 = b256!("0xc2f8787176b8ac6bf7215b4adcc1e069bf4ab82d9ab1df05a57a91d425935b6e");
/// The hash `keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)")`.
const DOMAIN_TYPE_WITHOUT_VERSION: B256 = b256!("0x8cad95687ba82c2ce50e74f7b754645e5117c3a5bec8151c0726d5857980a866");

/// `hashStruct(eip712Domain)` of one contract: computed once for a token, used for every digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DomainSeparator(B256);

impl DomainSeparator {
    /// Computes the separator of a domain with `name`, `version`, `chainId` and `verifyingContract`.
    #[must_use]
    pub fn new(name: &str, version: &str, chain_id: u64, contract: Address) -> Self {
        let words = Words::<5>::new()
            .word(0, DOMAIN_TYPE)
            .word(1, keccak256(name))
            .word(2, keccak256(version))
            .number(3, U256::from(chain_id))
            .address(4, contract);
        Self(words.hash())
    }

    /// Computes the separator of a domain with `name`, `version` and `chainId`, for messages that no contract reads.
    #[must_use]
    pub fn without_contract(name: &str, version: &str, chain_id: u64) -> Self {
        let words = Words::<4>::new()
            .word(0, DOMAIN_TYPE_WITHOUT_CONTRACT)
            .word(1, keccak256(name))
            .word(2, keccak256(version))
            .number(3, U256::from(chain_id));
        Self(words.hash())
    }

    /// Computes the separator of a domain with `name`, `chainId` and `verifyingContract`, as Permit2 has it.
    #[must_use]
    pub fn without_version(name: &str, chain_id: u64, contract: Address) -> Self {
        let words = Words::<4>::new()
            .word(0, DOMAIN_TYPE_WITHOUT_VERSION)
            .word(1, keccak256(name))
            .number(2, U256::from(chain_id))
            .address(3, contract);
        Self(words.hash())
    }

    /// Returns the 32 bytes, which a token's `DOMAIN_SEPARATOR()` returns too.
    #[must_use]
    pub const fn value(self) -> B256 {
        self.0
    }

    /// Computes the hash of `encode(domainSeparator, message) = "\x19\x01" ‖ domainSeparator ‖ hashStruct(message)`.
    #[must_use]
    pub fn digest(self, struct_hash: B256) -> B256 {
        let mut bytes = [0u8; 66];
        let (prefix, rest) = bytes.split_at_mut(2);
        let (separator, hash) = rest.split_at_mut(32);
        prefix.copy_from_slice(&[0x19, 0x01]);
        separator.copy_from_slice(self.0.as_slice());
        hash.copy_from_slice(struct_hash.as_slice());
        keccak256(bytes)
    }
}

/// `enc(value₁) ‖ enc(value₂) ‖ …` of a struct with N static members, on the stack.
#[derive(Debug)]
pub(crate) struct Words<const N: usize>([[u8; 32]; N]);

impl<const N: usize> Words<N> {
    pub(crate) const fn new() -> Self {
        Self([[0; 32]; N])
    }

    pub(crate) fn word(mut self, at: usize, value: B256) -> Self {
        if let Some(word) = self.0.get_mut(at) {
            *word = value.0;
        }
        self
    }

    pub(crate) fn number(self, at: usize, value: U256) -> Self {
        self.word(at, value.into())
    }

    pub(crate) fn address(self, at: usize, value: Address) -> Self {
        self.word(at, value.into_word())
    }

    pub(crate) fn hash(&self) -> B256 {
        keccak256(self.0.as_flattened())
    }
}

/// Keccak-256 in the assembly of OpenSSL, by `keccak-asm`, for these hashes alone.
#[cfg(feature = "asm-keccak")]
mod assembly {
    use alloy_primitives::B256;
    use keccak_asm::Keccak256;

    pub(super) fn keccak256(bytes: impl AsRef<[u8]>) -> B256 {
        B256::new(Keccak256::digest(bytes.as_ref()).into())
    }

    #[cfg(test)]
    mod tests {
        /// Lengths around the 136 bytes of a block give the same hashes.
        #[test]
        fn it_is_the_keccak_of_alloy() {
            for length in [0, 1, 66, 96, 128, 135, 136, 137, 192, 271, 272, 273, 1_000] {
                let bytes = vec![0xa5; length];
                assert_eq!(super::keccak256(&bytes), alloy_primitives::keccak256(&bytes), "{length}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::address;

    #[test]
    fn the_domain_type_is_the_hash_of_its_text() {
        let text = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
        assert_eq!(DOMAIN_TYPE, keccak256(text));
        let text = "EIP712Domain(string name,string version,uint256 chainId)";
        assert_eq!(DOMAIN_TYPE_WITHOUT_CONTRACT, keccak256(text));
        let text = "EIP712Domain(string name,uint256 chainId,address verifyingContract)";
        assert_eq!(DOMAIN_TYPE_WITHOUT_VERSION, keccak256(text));
    }

    // DOMAIN_SEPARATOR() of USDC on Base Sepolia, read from the chain (facts 3.2).
    #[test]
    fn the_separator_of_usdc_on_base_sepolia_is_the_chain_s() {
        let separator =
            DomainSeparator::new("USDC", "2", 84532, address!("0x036CbD53842c5426634e7929541eC2318f3dCF7e"));
        assert_eq!(separator.value(), b256!("0x71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818"));
    }
}
