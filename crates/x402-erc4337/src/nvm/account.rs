//! §5.1 Subscriber and Signature: the state of the account, its signature and its session keys in one block, read in
//! one round trip.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};
use alloy_sol_types::{SolCall, sol};
use x402_evm::chain::{Answers, BatchRead, ReadChain, Returned};
use x402_evm::wallet::{NotSigned, SignatureQuery};
use x402_types::nvm::Code;
use x402_types::{Fault, Refusal, Rejection};

use super::NvmPolicy;
use super::keys::Key;
use super::read::Presented;
use crate::session::zerodev::{ApprovalCheckError, KernelSignature, KernelVersion};
use crate::{EntryPoint, KernelMode, NonceKey, probe_calldata};

sol! {
    /// The functions of Kernel 0.3.
    interface Kernel {
        function accountId() external view returns (string);
        function currentNonce() external view returns (uint32);
        function validNonceFrom() external view returns (uint32);
        function validationConfig(bytes21 vId) external view returns (uint32 nonce, address hook);
    }

    /// The functions of EntryPoint 0.6 and later.
    interface Nonces {
        function getNonce(address sender, uint192 key) external view returns (uint256 nonce);
    }
}

/// The gas of a view of the account or the EntryPoint.
const VIEW_GAS: u32 = 100_000;

/// The state of an account and its keys in one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OnChain {
    /// The block's time.
    pub(super) time: u64,
    /// Whether the account has code.
    pub(super) deployed: bool,
    /// The states of the keys, in the order of the request.
    pub(super) keys: Vec<KeyOnChain>,
}

/// The state of a key in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyOnChain {
    /// The mode of the key's next use.
    pub(super) mode: KernelMode,
    /// The next sequence number of its nonces, in that mode and channel.
    pub(super) sequence: u64,
}

/// A permission as the account stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Installed {
    /// The hook of the permission; zero if it is not installed.
    hook: Address,
    /// The account's nonce under which the permission was enabled.
    pub(super) nonce: u32,
}

impl Installed {
    pub(super) fn is_enabled(&self) -> bool {
        !self.hook.is_zero()
    }

    pub(super) fn read(answer: &Returned) -> Option<Self> {
        let (nonce, hook) = answer.data.split_first_chunk::<32>()?;
        let nonce = u32::try_from(U256::from_be_bytes(*nonce)).ok()?;
        let hook: &[u8; 32] = hook.as_array()?;
        answer.success.then(|| Self { hook: Address::from_word((*hook).into()), nonce })
    }
}

pub(super) fn installed_call(validation: FixedBytes<21>) -> Bytes {
    Kernel::validationConfigCall { vId: validation }.abi_encode().into()
}

pub(super) fn nonce_call(account: Address, key: NonceKey) -> Bytes {
    let key = U256::from_be_slice(key.0.as_slice());
    Nonces::getNonceCall { sender: account, key: key.saturating_to() }.abi_encode().into()
}

pub(super) fn valid_from_call() -> Bytes {
    Kernel::validNonceFromCall {}.abi_encode().into()
}

/// The complete query of one block.
pub(super) struct Question<'a> {
    pub(super) presented: &'a Presented,
    pub(super) digest: B256,
    pub(super) entry_point: &'a EntryPoint,
    pub(super) chain_id: u64,
    pub(super) policy: &'a NvmPolicy,
    /// The keys, each with the channel of its nonces.
    pub(super) keys: &'a [(&'a Key, u16)],
    /// The sender of the future transaction, which the account can see as `tx.origin`.
    pub(super) sender: Option<Address>,
}

impl Question<'_> {
    /// Reads the block, and checks in this order: the account, the signature, then the account's state of each key.
    /// # Errors
    /// `INVALID_PAYLOAD` if `from` is not an account, `INVALID_SIGNATURE`, `INVALID_USER_OPERATION` for a key that its
    /// owner did not approve or has revoked.
    pub(super) async fn ask(&self, chain: &dyn ReadChain) -> Result<OnChain, Refusal> {
        let account = self.presented.account;
        let signature = self.presented.payload.signature().to_vec().into();
        let unverified = self.policy.signers.read(account, self.digest, &signature).map_err(signature_refused)?;
        owner_s(unverified.inner())?;
        let view = |reads: BatchRead, data: Vec<u8>, words| reads.view(account, data.into(), VIEW_GAS, words);
        let mut reads = BatchRead::new().code_size(account);
        if let Some(sender) = self.sender {
            reads = reads.sent_by(sender);
        }
        reads = view(reads, Kernel::accountIdCall {}.abi_encode(), 4);
        reads = view(reads, Kernel::currentNonceCall {}.abi_encode(), 1);
        reads = view(reads, valid_from_call().to_vec(), 1);
        // The probe comes from another caller: an account accepts calls only from its EntryPoint.
        reads = view(reads, probe_calldata(account).to_vec(), 1);
        for (key, channel) in self.keys {
            reads = view(reads, installed_call(key.permission.validation_id()).to_vec(), 2);
            for mode in [KernelMode::Default, KernelMode::Enable] {
                let nonce = nonce_call(account, nonce_key(key, mode, *channel));
                reads = reads.view(self.entry_point.address, nonce, VIEW_GAS, 1);
            }
        }
        // This must be last, because it may deploy the account.
        let (reads, asked) = unverified.ask(reads);
        let (answers, implementation) = chain.run_with_implementation(&reads, account).await?;
        self.judge(&answers, implementation, &asked)
    }

    fn judge(
        &self,
        answers: &Answers,
        implementation: Option<Address>,
        asked: &SignatureQuery,
    ) -> Result<OnChain, Refusal> {
        let malformed = || Fault::unreachable("the node", "an answer of another form");
        let [code, ..] = *answers.sizes else { return Err(malformed().into()) };
        let [id, current, valid_from, stranger, rest @ ..] = &*answers.calls else { return Err(malformed().into()) };
        let deployed = code != 0;
        let invalid = |why: &str| Code::InvalidPayload.because(format!("authorization.from: {why}"));
        // "MUST be a valid ERC-4337 smart account address": it has code, refuses calls by others than its EntryPoint,
        // and states the version of the account for which the keys are issued. The simulation proves that its
        // EntryPoint is the expected one.
        let version = if deployed {
            if stranger.success || stranger.data.is_empty() {
                return Err(invalid("no ERC-4337 account").into());
            }
            let version = id.text().and_then(KernelVersion::from_account_id);
            let version = version.ok_or_else(|| invalid("no Kernel 0.3.1 to 0.3.3"))?;
            // The owner can upgrade a Kernel to code that states the same version and behaves differently.
            if implementation != Some(version.implementation()) {
                return Err(invalid("its implementation is not the Kernel that it says").into());
            }
            Some(version)
        } else {
            None
        };
        match asked.verdict(answers)?.signer() {
            Ok(_) => {}
            // "No code and no 6492: INVALID_PAYLOAD".
            Err(NotSigned::NotDeployed) => return Err(invalid("the account is not deployed").into()),
            Err(why) => return Err(signature_refused(why).into()),
        }
        // An account without code has nonce 1 when it is created, and everything is still to be enabled.
        let number = |answer: &Returned| answer.word().and_then(|word| u32::try_from(word).ok());
        let (current, valid_from) = match version {
            None => (1, 0),
            Some(_) => (number(current).ok_or_else(malformed)?, number(valid_from).ok_or_else(malformed)?),
        };
        let mut keys = Vec::with_capacity(self.keys.len());
        for ((key, _), answers) in self.keys.iter().zip(rest.as_chunks::<3>().0) {
            let [config, default, enable] = answers;
            if version.is_some_and(|version| version != key.approval.version()) {
                return Err(refused(key, "it is made for another Kernel").into());
            }
            let installed = match version {
                None => None,
                Some(_) => Some(Installed::read(config).ok_or_else(malformed)?).filter(Installed::is_enabled),
            };
            let mode = self.usable(key, installed, current, valid_from)?;
            let nonce = if mode == KernelMode::Default { default } else { enable };
            let (_, sequence) = NonceKey::split(nonce.word().ok_or_else(malformed)?);
            keys.push(KeyOnChain { mode, sequence });
        }
        Ok(OnChain { time: answers.timestamp, deployed, keys })
    }

    /// Returns the mode of a key's next use, if its owner has approved it and has not revoked it.
    fn usable(
        &self,
        key: &Key,
        installed: Option<Installed>,
        current: u32,
        valid_from: u32,
    ) -> Result<KernelMode, Rejection> {
        let signer = key.permission.signer.address().unwrap_or_default();
        // The key was enabled under a nonce that the owner has invalidated since, or was never enabled.
        let nonce = installed.map_or(current, |installed| installed.nonce);
        if installed.is_some() && nonce < valid_from {
            return Err(refused(key, "the owner has taken it back"));
        }
        match (key.approval.check(signer, self.chain_id, nonce), installed) {
            (Ok(_), None) => Ok(KernelMode::Enable),
            // The installed permission may share only the 4 bytes of the id; the owner's signature proves that it is
            // this one.
            (Ok(_), Some(_)) => Ok(KernelMode::Default),
            (Err(ApprovalCheckError::PreInstalled), Some(_)) => Ok(KernelMode::Default),
            (Err(why), _) => Err(refused(key, &why.to_string())),
        }
    }
}

fn refused(key: &Key, why: &str) -> Rejection {
    let name = match key.operation {
        x402_types::nvm::Operation::Order => "order",
        x402_types::nvm::Operation::Redeem => "redeem",
    };
    Code::InvalidUserOperation.because(format!("the {name} key: {why}"))
}

pub(super) fn nonce_key(key: &Key, mode: KernelMode, channel: u16) -> NonceKey {
    // A permission is enabled once, so this happens in one channel.
    key.permission.nonce_key(mode, if mode == KernelMode::Enable { 0 } else { channel })
}

fn signature_refused(why: NotSigned) -> Rejection {
    Code::InvalidSignature.because(format!("payload.signature: {why}")).detail("nvmCode", "BCK.X402.0005")
}

/// Checks the form of the owner's signature: "`0x00‖sig65` or `0x01‖validator(20)‖sig65`. `0x02‖permission…` is
/// refused: a session key never authorises its own use". An open session key is also valid after its expiry.
fn owner_s(signature: &[u8]) -> Result<(), Rejection> {
    match KernelSignature::decode(signature) {
        Some(KernelSignature::Root(signature) | KernelSignature::Validator(_, signature)) if signature.len() == 65 => {
            Ok(())
        }
        _ => Err(Code::InvalidSignature
            .because("payload.signature: expected a Kernel owner's: 0x00 or 0x01 and the validator, then 65 bytes")
            .detail("nvmCode", "BCK.X402.0005")),
    }
}
