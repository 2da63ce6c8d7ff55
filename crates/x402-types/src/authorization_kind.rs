//! The kinds of authorizations, and their numbers in payment keys.

/// The kind of authorization that a key identifies. One kind may serve several schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AuthorizationKind {
    /// EIP-3009: contract = token, nonce = 32 bytes.
    Eip3009 = 1,
    /// Permit2: contract = Permit2, nonce = 32 bytes.
    Permit2 = 2,
    /// A redemption of plan credits by a smart account.
    NvmErc4337 = 3,
    /// A use of a delegated card: the contract is empty, the payer is the token's `sub`.
    NvmCardDelegation = 4,
    /// Of a scheme from outside of these crates, which names itself where the others name their contract.
    Other = 255,
}
