//! Verifies signatures of every kind of account: a key, a contract by
//! [EIP-1271](https://eips.ethereum.org/EIPS/eip-1271), or a contract that is not deployed yet by
//! [EIP-6492](https://eips.ethereum.org/EIPS/eip-6492).
//!
//! The code at the account's address decides, as it does in tokens: without code the key must have signed; with code,
//! including a delegation by [EIP-7702](https://eips.ethereum.org/EIPS/eip-7702), only the code decides.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, sol};
use x402_types::Fault;

use crate::chain::{Answers, BatchRead, Returned};
use crate::eip6492::Counterfactual;
pub use crate::signature::MAX_SIGNATURE;
use crate::signature::{Signature, SignatureError, recover};

sol! {
    function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4 magicValue);
}

/// `0x1626ba7e` as a word. The bytes after it must be zero: a contract that returns its input for every call does not
/// thereby agree.
const AGREED: U256 = U256::from_limbs([0, 0, 0, 0x1626_ba7e_0000_0000]);
/// The default gas of `isValidSignature`. Verifying a passkey in Solidity takes about 350,000.
const ASK_GAS: u32 = 500_000;
/// The default gas of a factory. A Kernel takes about 350,000, a Safe 300,000.
pub const DEPLOY_GAS: u32 = 2_000_000;

/// The accepted kinds of signers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    keys: bool,
    /// Whether a key's `s` may be in the upper half.
    either_half: bool,
    factories: Vec<Address>,
    gas: u32,
}

/// A signature that the chain has yet to verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedSignature {
    account: Address,
    digest: B256,
    /// The signature for the contract, without its wrapping.
    signature: Bytes,
    /// The factory that creates the account, and whether it may be called.
    deployment: Option<(Address, Bytes, bool)>,
    /// The result of verifying it as a key's signature.
    key: Result<(), NotSigned>,
    gas: u32,
}

/// A signature with the positions of its verification in a batch read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureQuery {
    unverified: UnverifiedSignature,
    size: usize,
    call: usize,
}

/// The verdict on a signature in one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerVerdict {
    /// The signature is the account's.
    Signed(Signer),
    /// The signature is not the account's.
    Refused(NotSigned),
}

/// The kind of account that signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signer {
    /// The key of the account, which has no code.
    Key,
    /// The code of the account.
    Contract,
    /// The code that the account will have once its factory has created it.
    Undeployed,
}

/// The reason why a signature is not the account's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSigned {
    /// The account has no code, and this is not a key's signature.
    #[error(transparent)]
    Key(#[from] SignatureError),
    /// The account has no code, and another key has signed.
    #[error("signed by {0}, not by the payer")]
    Other(Address),
    /// The account has no code, keys are not accepted, and no factory is given.
    #[error("the account is not deployed")]
    NotDeployed,
    /// The signature is longer than [`MAX_SIGNATURE`].
    #[error("longer than {MAX_SIGNATURE} bytes")]
    TooLong,
    /// The signature ends with the magic of EIP-6492, but is malformed before it.
    #[error("malformed by EIP-6492")]
    Malformed,
    /// The factory is not on the list.
    #[error("factory {0} is not allowed")]
    Factory(Address),
    /// The factory reverted.
    #[error("factory {0} does not deploy the account")]
    Deployment(Address),
    /// `isValidSignature` reverted or exceeded its gas.
    #[error("isValidSignature reverted")]
    Reverted,
    /// `isValidSignature` returned anything other than a word with its magic value.
    #[error("isValidSignature refused")]
    Refused,
}

impl Signers {
    /// Accepts keys and deployed contracts. No factory is allowed.
    #[must_use]
    pub const fn any() -> Self {
        Self { keys: true, either_half: false, factories: Vec::new(), gas: ASK_GAS }
    }

    /// Accepts only deployed contracts. No factory is allowed.
    #[must_use]
    pub const fn contracts() -> Self {
        Self { keys: false, either_half: false, factories: Vec::new(), gas: ASK_GAS }
    }

    /// Accepts also contracts that this factory creates. A listed factory's code is run with data chosen by the signer.
    #[must_use]
    pub fn with_factory(mut self, factory: Address) -> Self {
        if !self.factories.contains(&factory) {
            self.factories.push(factory);
        }
        self
    }

    /// Accepts a key's signature also with `s` in the upper half, see [`Signature::of_either_half`].
    #[must_use]
    pub const fn with_either_half(mut self) -> Self {
        self.either_half = true;
        self
    }

    /// Sets the gas of `isValidSignature`; the default is 500,000.
    #[must_use]
    pub const fn with_gas(mut self, gas: u32) -> Self {
        self.gas = gas;
        self
    }

    /// Parses a signature of `digest` that is claimed to be the account's.
    /// # Errors
    /// [`NotSigned::TooLong`] and [`NotSigned::Malformed`]: the signature is invalid, whatever the state of the chain.
    pub fn read(&self, account: Address, digest: B256, signature: &Bytes) -> Result<UnverifiedSignature, NotSigned> {
        if signature.len() > MAX_SIGNATURE {
            return Err(NotSigned::TooLong);
        }
        let wrapped = Counterfactual::is_one(signature)
            .then(|| Counterfactual::decode(signature).ok_or(NotSigned::Malformed))
            .transpose()?;
        let key = match (&wrapped, self.keys) {
            (None, true) => {
                let read = if self.either_half { Signature::of_either_half } else { Signature::from_bytes };
                of_key(account, digest, read(signature))
            }
            _ => Err(NotSigned::NotDeployed),
        };
        let (signature, deployment) = match wrapped {
            None => (signature.clone(), None),
            Some(of) => {
                let allowed = self.factories.contains(&of.factory);
                (of.signature, Some((of.factory, of.factory_data, allowed)))
            }
        };
        Ok(UnverifiedSignature { account, digest, signature, deployment, key, gas: self.gas })
    }
}

fn of_key(account: Address, digest: B256, signature: Result<Signature, SignatureError>) -> Result<(), NotSigned> {
    let signer = recover(digest, &signature?)?;
    if signer == account { Ok(()) } else { Err(NotSigned::Other(signer)) }
}

impl UnverifiedSignature {
    /// Checks whether the signature would be the account's if there is no code, which can be decided without the chain.
    /// # Errors
    /// The reason why it would not.
    pub const fn of_key(&self) -> Result<(), NotSigned> {
        self.key
    }

    /// Returns the signature for the contract, without the wrapping of EIP-6492.
    #[must_use]
    pub const fn inner(&self) -> &Bytes {
        &self.signature
    }

    /// Returns the call of an allowed factory that creates the account if it does not exist: the factory, and its exact
    /// data.
    #[must_use]
    pub fn deployment(&self) -> Option<(Address, &Bytes)> {
        match &self.deployment {
            Some((factory, data, true)) => Some((*factory, data)),
            _ => None,
        }
    }

    /// Returns the gas of `isValidSignature`.
    #[must_use]
    pub const fn gas(&self) -> u32 {
        self.gas
    }

    /// Adds the verification to a batch. A factory's call changes what later calls of the batch see, so it must be the
    /// last.
    #[must_use]
    pub fn ask(self, reads: BatchRead) -> (BatchRead, SignatureQuery) {
        let (size, call) = reads.places();
        let question: Bytes =
            isValidSignatureCall { hash: self.digest, signature: self.signature.clone() }.abi_encode().into();
        let mut reads = reads.code_size(self.account).view(self.account, question.clone(), self.gas, 1);
        if let Some((factory, data, true)) = &self.deployment {
            reads = reads.call(*factory, data.clone(), DEPLOY_GAS, 0).view(self.account, question, self.gas, 1);
        }
        (reads, SignatureQuery { unverified: self, size, call })
    }
}

impl SignatureQuery {
    /// Evaluates the results of the batch.
    /// # Errors
    /// `Broken`: the results are those of another batch.
    pub fn verdict(&self, answers: &Answers) -> Result<SignerVerdict, Fault> {
        let missing = || Fault::broken("the answers are those of another batch read");
        let size = answers.sizes.get(self.size).ok_or_else(missing)?;
        let mut calls = answers.calls.get(self.call..).unwrap_or_default().iter();
        let mut next = || calls.next().ok_or_else(missing);
        let deployed = next()?;
        let judged = match (*size, &self.unverified.deployment) {
            (1.., _) => agreed(deployed).map(|()| Signer::Contract),
            (0, None) => self.unverified.key.map(|()| Signer::Key),
            (0, Some((factory, _, false))) => Err(NotSigned::Factory(*factory)),
            // The account itself is called, so a factory that created another account has no effect.
            (0, Some((factory, _, true))) => match (next()?.success, next()?) {
                (false, _) => Err(NotSigned::Deployment(*factory)),
                (true, answer) if answer.success && answer.data.is_empty() => Err(NotSigned::Deployment(*factory)),
                (true, answer) => agreed(answer).map(|()| Signer::Undeployed),
            },
        };
        Ok(judged.map_or_else(SignerVerdict::Refused, SignerVerdict::Signed))
    }
}

/// Checks "MUST return the bytes4 magic value 0x1626ba7e when function passes": a word, and the rest of it zero.
fn agreed(answer: &Returned) -> Result<(), NotSigned> {
    match (answer.success, answer.word()) {
        (false, _) => Err(NotSigned::Reverted),
        (true, Some(AGREED)) => Ok(()),
        (true, _) => Err(NotSigned::Refused),
    }
}

impl SignerVerdict {
    /// Returns the kind of account that signed.
    /// # Errors
    /// The reason why the signature is not the account's.
    pub const fn signer(self) -> Result<Signer, NotSigned> {
        match self {
            Self::Signed(signer) => Ok(signer),
            Self::Refused(why) => Err(why),
        }
    }
}
