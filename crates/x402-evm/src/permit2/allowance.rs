//! The buyer's half of `eip2612GasSponsoring`: where Permit2's allowance is short, the payer signs it for the amount of the
//! payment.

use std::sync::Arc;

use alloy_primitives::{Address, U256, hex};
use async_trait::async_trait;
use x402_types::extension::Extension;
use x402_types::{Assets, EvmAddress, Fault, Members, Refusal, SigningContext, Terms};

use super::PERMIT2;
use super::calls::{allowance_call, permits_call};
use super::payer::takes_permit;
use super::sponsored::{EIP2612_GAS_SPONSORING, PermittedAllowance};
use crate::chain::{At, BatchRead, ReadChain};
use crate::key::Sign;
use crate::token::{Domain, Tokens};

/// Signs the allowance of Permit2 for a payer whose account is a key, on the networks of its chains.
///
/// It signs only where the server declared the extension, the terms are paid by Permit2 in a known token, and the
/// allowance does not cover the amount. The permit is for exactly this amount, and ends when the payment ends. In all other
/// cases the declaration is echoed as it is, and the facilitator decides.
pub struct AllowancePermits<S> {
    signer: S,
    chains: Vec<Arc<dyn ReadChain>>,
    tokens: Tokens,
    any_token: bool,
}

/// The gas of a view of the token.
const VIEW_GAS: u32 = 100_000;

impl<S: Sign> core::fmt::Debug for AllowancePermits<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AllowancePermits").field("address", &self.signer.address()).finish_non_exhaustive()
    }
}

impl<S: Sign> AllowancePermits<S> {
    /// Creates the extension for this account, in the default assets; without a [chain](Self::with_chain) it signs nothing.
    #[must_use]
    pub fn new(signer: S) -> Self {
        let tokens = Tokens::for_permit2(&Assets::default());
        Self { signer, chains: Vec::new(), tokens, any_token: false }
    }

    /// Reads allowances of this chain's network from it.
    #[must_use]
    pub fn with_chain(mut self, chain: Arc<dyn ReadChain>) -> Self {
        self.chains.push(chain);
        self
    }

    /// Signs only for these tokens.
    #[must_use]
    pub fn with_tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = tokens;
        self
    }

    /// Signs also for unknown tokens: only the server's statement then determines name and version of their domain.
    #[must_use]
    pub fn with_any_token(mut self) -> Self {
        self.any_token = true;
        self
    }

    /// Returns the token of the terms with its domain: the known one, or what the server states for an unknown token.
    fn token(&self, terms: &Terms) -> Option<(Address, Domain)> {
        let token = terms.asset.parse::<EvmAddress>().and_then(Address::try_from).ok()?;
        let known = self.tokens.find(terms.network, token);
        if known.is_none() && !self.any_token {
            return None;
        }
        let stated = || {
            let (name, version) = (terms.extra.text("name")?, terms.extra.text("version")?);
            Some(Domain::new(&name, &version, terms.network.eip155_chain()?, token))
        };
        Some((token, known.and_then(|token| token.domain.clone()).or_else(stated)?))
    }
}

/// Reads Permit2's allowance for a token, and the number of the owner's permits of EIP-2612. Each is `None` if the token has no
/// such view.
pub(super) async fn allowance_and_permits(
    chain: &dyn ReadChain,
    owner: Address,
    token: Address,
) -> Result<(Option<U256>, Option<U256>), Fault> {
    let reads = BatchRead::new().view(token, allowance_call(owner, PERMIT2), VIEW_GAS, 1).view(
        token,
        permits_call(owner),
        VIEW_GAS,
        1,
    );
    let answers = chain.run(&reads, At::Latest).await?;
    let [allowance, permits] = &*answers.calls else {
        return Err(Fault::unreachable("the node", "an answer of another form"));
    };
    Ok((allowance.word(), permits.word()))
}

#[async_trait]
impl<S: Sign> Extension for AllowancePermits<S> {
    fn name(&self) -> &str {
        EIP2612_GAS_SPONSORING
    }

    async fn complete(&self, _: &Members, terms: &Terms, context: &SigningContext<'_>) -> Result<Members, Refusal> {
        let nothing = Ok(Members::new());
        let chain = self.chains.iter().find(|chain| chain.network() == terms.network);
        let (Some(chain), true, Some((token, domain))) = (chain, takes_permit(terms), self.token(terms)) else {
            return nothing;
        };
        let read = allowance_and_permits(&**chain, self.signer.address(), token).await?;
        // A token without permits takes none.
        let (Some(allowance), Some(nonce)) = read else { return nothing };
        if allowance >= terms.amount.value() {
            return nothing;
        }
        // The permit of the payment has the same deadline.
        let deadline = U256::from(context.now.plus(terms.max_timeout_seconds.get()).0);
        let owner = self.signer.address();
        let permitted = PermittedAllowance { owner, value: terms.amount.value(), nonce, deadline };
        let signature = self.signer.sign(permitted.digest(domain.separator)).await?;
        let mut additions = Members::new();
        for (name, value) in [
            ("from", owner.to_string()),
            ("asset", token.to_string()),
            ("spender", PERMIT2.to_string()),
            ("amount", terms.amount.to_string()),
            ("nonce", nonce.to_string()),
            ("deadline", deadline.to_string()),
            ("signature", hex::encode_prefixed(signature.to_bytes())),
            // The server's declaration has it in general, and is not overwritten.
            ("version", "1".to_owned()),
        ] {
            additions.insert_text(name, &value);
        }
        Ok(additions)
    }
}
