//! Who signed, whatever the signer is: a key, a contract by [EIP-1271](https://eips.ethereum.org/EIPS/eip-1271), or a
//! contract that is not deployed yet by [EIP-6492](https://eips.ethereum.org/EIPS/eip-6492).
//!
//! The code at the account's address decides, as it does in tokens: without code the key signs; with code, a
//! delegation by [EIP-7702](https://eips.ethereum.org/EIPS/eip-7702) included, the code is asked and nothing else.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, sol};
use x402_types::Fault;

use crate::chain::{Answers, Program, Returned};
use crate::eip6492::Counterfactual;
pub use crate::signature::MAX_SIGNATURE;
use crate::signature::{Signature, SignatureError, recover};

sol! {
    function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4 magicValue);
}

/// `0x1626ba7e` as a word. Bytes behind it would be another word: a contract that answers everything with its input
/// is not one that agrees.
const AGREED: U256 = U256::from_limbs([0, 0, 0, 0x1626_ba7e_0000_0000]);
/// Gas of `isValidSignature`, unless told. A passkey checked in Solidity takes about 350,000.
const ASK_GAS: u32 = 500_000;
/// Gas of a factory, unless told. A Kernel takes about 350,000, a Safe 300,000.
pub const DEPLOY_GAS: u32 = 2_000_000;

/// Which signers are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    keys: bool,
    factories: Vec<Address>,
    gas: u32,
}

/// A signature that the chain is still to be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unproven {
    account: Address,
    digest: B256,
    /// What a contract is asked about: without its wrapping, if it has one.
    signature: Bytes,
    /// The factory that makes the account, and whether it may be called.
    deployment: Option<(Address, Bytes, bool)>,
    /// What it is worth as a key's signature.
    key: Result<(), NotSigned>,
    gas: u32,
}

/// A signature that a program asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    unproven: Unproven,
    size: usize,
    call: usize,
}

/// What a signature is worth in one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the account's.
    Signed(Signer),
    /// It is not.
    Refused(NotSigned),
}

/// What signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signer {
    /// The account's key; there is no code.
    Key,
    /// The account's code.
    Contract,
    /// The code that the account will have once its factory has made it.
    Undeployed,
}

/// Why a signature is not the account's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSigned {
    /// There is no code, and it is not a key's signature.
    #[error(transparent)]
    Key(#[from] SignatureError),
    /// There is no code, and another key has signed.
    #[error("it is {0}'s")]
    Other(Address),
    /// There is no code, keys are not taken, and no factory is named.
    #[error("the account is not deployed")]
    NotDeployed,
    /// Longer than [`MAX_SIGNATURE`].
    #[error("longer than {MAX_SIGNATURE} bytes")]
    TooLong,
    /// It ends as EIP-6492 says, and is not what that says before.
    #[error("malformed by EIP-6492")]
    Malformed,
    /// The factory is not on the list.
    #[error("factory {0} is not allowed")]
    Factory(Address),
    /// The factory reverted.
    #[error("factory {0} does not deploy the account")]
    Deployment(Address),
    /// `isValidSignature` reverted or used more gas than it is given.
    #[error("isValidSignature reverted")]
    Reverted,
    /// `isValidSignature` answered anything but its magic value in a word of its own.
    #[error("isValidSignature refused")]
    Refused,
}

impl Signers {
    /// Keys and deployed contracts. No factory is allowed.
    #[must_use]
    pub const fn any() -> Self {
        Self { keys: true, factories: Vec::new(), gas: ASK_GAS }
    }

    /// Deployed contracts only. No factory is allowed.
    #[must_use]
    pub const fn contracts() -> Self {
        Self { keys: false, factories: Vec::new(), gas: ASK_GAS }
    }

    /// Also contracts that this factory makes. Whoever is on this list has its code run with data of the signer's.
    #[must_use]
    pub fn with_factory(mut self, factory: Address) -> Self {
        if !self.factories.contains(&factory) {
            self.factories.push(factory);
        }
        self
    }

    /// With so much gas for `isValidSignature`; 500,000 unless told.
    #[must_use]
    pub const fn gas(mut self, gas: u32) -> Self {
        self.gas = gas;
        self
    }

    /// A signature of `digest` that claims to be the account's.
    ///
    /// # Errors
    /// [`NotSigned::TooLong`] and [`NotSigned::Malformed`]: it is nobody's, whatever the chain says.
    pub fn read(&self, account: Address, digest: B256, signature: &Bytes) -> Result<Unproven, NotSigned> {
        if signature.len() > MAX_SIGNATURE {
            return Err(NotSigned::TooLong);
        }
        let wrapped = Counterfactual::is_one(signature)
            .then(|| Counterfactual::decode(signature).ok_or(NotSigned::Malformed))
            .transpose()?;
        let key = match (&wrapped, self.keys) {
            (None, true) => of_key(account, digest, signature),
            _ => Err(NotSigned::NotDeployed),
        };
        let (signature, deployment) = match wrapped {
            None => (signature.clone(), None),
            Some(of) => {
                let allowed = self.factories.contains(&of.factory);
                (of.signature, Some((of.factory, of.factory_data, allowed)))
            }
        };
        Ok(Unproven { account, digest, signature, deployment, key, gas: self.gas })
    }
}

fn of_key(account: Address, digest: B256, signature: &[u8]) -> Result<(), NotSigned> {
    let signer = recover(digest, &Signature::from_bytes(signature)?)?;
    if signer == account { Ok(()) } else { Err(NotSigned::Other(signer)) }
}

impl Unproven {
    /// Whether it would be the account's if there is no code: what is known before the chain is asked.
    ///
    /// # Errors
    /// Why not.
    pub const fn of_key(&self) -> Result<(), NotSigned> {
        self.key
    }

    /// What a contract is asked about: the signature, without the wrapping of EIP-6492.
    #[must_use]
    pub const fn inner(&self) -> &Bytes {
        &self.signature
    }

    /// The call of an allowed factory that makes the account where it is not there: the factory, and its exact data.
    #[must_use]
    pub fn deployment(&self) -> Option<(Address, &Bytes)> {
        match &self.deployment {
            Some((factory, data, true)) => Some((*factory, data)),
            _ => None,
        }
    }

    /// Gas of `isValidSignature`.
    #[must_use]
    pub const fn gas(&self) -> u32 {
        self.gas
    }

    /// Has a program ask. A factory's call changes what later calls of the program see, so this stands at its end.
    #[must_use]
    pub fn ask(self, program: Program) -> (Program, Asked) {
        let (size, call) = program.places();
        let question: Bytes =
            isValidSignatureCall { hash: self.digest, signature: self.signature.clone() }.abi_encode().into();
        let mut program = program.code_size(self.account).view(self.account, question.clone(), self.gas, 1);
        if let Some((factory, data, true)) = &self.deployment {
            program = program.call(*factory, data.clone(), DEPLOY_GAS, 0).view(self.account, question, self.gas, 1);
        }
        (program, Asked { unproven: self, size, call })
    }
}

impl Asked {
    /// What the program's answers say.
    ///
    /// # Errors
    /// `Broken`: the answers of another program.
    pub fn verdict(&self, answers: &Answers) -> Result<Verdict, Fault> {
        let missing = || Fault::broken("the answers of another program");
        let size = answers.sizes.get(self.size).ok_or_else(missing)?;
        let mut calls = answers.calls.get(self.call..).unwrap_or_default().iter();
        let mut next = || calls.next().ok_or_else(missing);
        let deployed = next()?;
        let judged = match (*size, &self.unproven.deployment) {
            (1.., _) => agreed(deployed).map(|()| Signer::Contract),
            (0, None) => self.unproven.key.map(|()| Signer::Key),
            (0, Some((factory, _, false))) => Err(NotSigned::Factory(*factory)),
            // The account itself is asked, so a factory that has made another one has made nothing.
            (0, Some((factory, _, true))) => match (next()?.success, next()?) {
                (false, _) => Err(NotSigned::Deployment(*factory)),
                (true, answer) if answer.success && answer.data.is_empty() => Err(NotSigned::Deployment(*factory)),
                (true, answer) => agreed(answer).map(|()| Signer::Undeployed),
            },
        };
        Ok(judged.map_or_else(Verdict::Refused, Verdict::Signed))
    }
}

/// "MUST return the bytes4 magic value 0x1626ba7e when function passes": a word, and the rest of it zero.
fn agreed(answer: &Returned) -> Result<(), NotSigned> {
    match (answer.success, answer.word()) {
        (false, _) => Err(NotSigned::Reverted),
        (true, Some(AGREED)) => Ok(()),
        (true, _) => Err(NotSigned::Refused),
    }
}

impl Verdict {
    /// What signed.
    ///
    /// # Errors
    /// Why nothing did.
    pub const fn signer(self) -> Result<Signer, NotSigned> {
        match self {
            Self::Signed(signer) => Ok(signer),
            Self::Refused(why) => Err(why),
        }
    }
}
