//! The buyer's half: [sign-in-with-x](https://github.com/x402-foundation/x402/blob/main/specs/extensions/sign-in-with-x.md),
//! "Client Request".

use core::fmt;
use std::sync::Arc;

use alloy_primitives::eip191_hash_message;
use async_trait::async_trait;
use x402_codec::Limits;
use x402_codec::json::{Node, parse};
use x402_evm::exact::SignAs;
use x402_types::{ChainId, Extension, Fault, RawJson, Refusal, SigningContext};

use super::origin::Origin;
use super::{HEADER, NAME, SignIn, SignInAccount, SignInFields};
use crate::keys::Ed25519Key;

/// The buyer's half of `sign-in-with-x`: where a server offers it, the client signs in before it pays.
///
/// It signs a challenge of the requested origin alone, for the first declared chain of one of its accounts. A challenge for
/// another origin, and one that cannot be read, is not signed, and the client goes on to pay.
#[derive(Clone, Default)]
pub struct SignInWallet {
    evm: Option<Arc<dyn SignAs>>,
    ed25519: Option<Arc<Ed25519Key>>,
}

impl SignInWallet {
    /// Creates a wallet for an account of EVM chains: a key, or the signer of a smart account.
    #[must_use]
    pub fn evm(signer: impl SignAs + 'static) -> Self {
        Self { evm: Some(Arc::new(signer)), ed25519: None }
    }

    /// Creates a wallet for an account of Solana.
    #[must_use]
    pub fn ed25519(key: Ed25519Key) -> Self {
        Self { evm: None, ed25519: Some(Arc::new(key)) }
    }

    /// Adds an account of Solana.
    #[must_use]
    pub fn with_ed25519(mut self, key: Ed25519Key) -> Self {
        self.ed25519 = Some(Arc::new(key));
        self
    }

    /// Returns the challenge for one of the accounts, if it is of the origin of this URL.
    fn challenge(&self, declaration: &RawJson, url: &str) -> Option<(SignInFields, SignInAccount)> {
        let limits = Limits { depth: 12, ..Limits::DEFAULT };
        let node = parse(declaration.as_str().as_bytes(), &limits).ok()?;
        let chains = node.get("supportedChains")?.as_array()?.iter().take(32);
        let evm = self.evm.as_ref().map(|signer| SignInAccount::Evm(signer.account()));
        let ed25519 = self.ed25519.as_ref().map(|key| SignInAccount::Ed25519(*key.public()));
        let text = |entry: &Node<'_>, name: &str| entry.get(name).and_then(Node::as_str).map(str::to_owned);
        let (chain, account) = chains.into_iter().find_map(|entry| {
            let chain: ChainId = text(entry, "chainId")?.parse().ok()?;
            let kind = text(entry, "type")?;
            let fits = |account: &SignInAccount| account.is_on(chain) && account.kind() == kind;
            [evm, ed25519].into_iter().flatten().find(fits).map(|account| (chain, account))
        })?;
        let fields = SignInFields::of_node(node.get("info")?, chain).ok()?;
        let origin = Origin::of(url)?;
        let own = fields.domain == origin.host() && Origin::of(&fields.uri).as_ref() == Some(&origin);
        own.then_some((fields, account))
    }

    /// Signs the challenge of a declaration, and returns the value of the header; `None` where nothing is signed.
    ///
    /// # Errors
    /// The signer failed.
    pub async fn sign(&self, declaration: &RawJson, url: &str) -> Result<Option<String>, Fault> {
        let Some((fields, account)) = self.challenge(declaration, url) else { return Ok(None) };
        let message = fields.message(&account);
        let signature = match (&account, &self.evm, &self.ed25519) {
            (SignInAccount::Evm(_), Some(signer), _) => {
                signer.sign_digest(eip191_hash_message(message.as_bytes())).await?.to_vec()
            }
            (SignInAccount::Ed25519(_), _, Some(key)) => key.sign(message.as_bytes()).to_vec(),
            _ => return Ok(None),
        };
        Ok(Some(SignIn { fields, account, signature }.to_header()))
    }
}

#[async_trait]
impl Extension for SignInWallet {
    fn name(&self) -> &str {
        NAME
    }

    async fn present(
        &self,
        declaration: &RawJson,
        context: &SigningContext<'_>,
    ) -> Result<Option<(String, String)>, Refusal> {
        let header = self.sign(declaration, context.url).await?;
        Ok(header.map(|value| (HEADER.to_owned(), value)))
    }
}

impl fmt::Debug for SignInWallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInWallet")
            .field("evm", &self.evm.as_ref().map(|signer| signer.account()))
            .field("ed25519", &self.ed25519)
            .finish()
    }
}
