//! A trial of a token before it is served: the effect of a transfer by authorization, or by Permit2, without a transaction.
//!
//! An account without tokens is given a balance for one simulated call. The first choice is `eth_simulateV1`, which
//! returns the logs; if a node does not support it, an `eth_call` with the same state override shows the amount
//! received.

use alloy_primitives::{Address, B256, Bytes, U256, address, b256, keccak256};
use x402_types::{Fault, UnixSeconds};

use self::simulation::{Call, Overrides, StateDiff};
use crate::chain::{At, BatchRead, ReadChain, Returned, RpcChain};
use crate::eip3009::{Authorization, balance_call, domain_call, name_call, read_domain, state_call, version_call};
use crate::exact::SignAs;
use crate::signature::Signature;
use crate::token::{Domain, Token};
use crate::token_error::TokenRefusal;

mod by_permit2;
mod simulation;

/// The amount that is moved, so large that a fee of a millionth shows.
const VALUE: u64 = 1_000_000;
/// The recipient, an address without an owner.
const PAYEE: Address = address!("7402000000000000000000000000000000007402");
const NONCE: B256 = b256!("7402740274027402740274027402740274027402740274020000000000000000");
/// The gas of the transfer where it is one call of a batch.
const GAS: u32 = 500_000;
const VIEW_GAS: u32 = 100_000;
/// The slots in which a Solidity contract may have its mapping of balances: upgradeable ones leave gaps of 50.
const SLOTS: u64 = 420;
/// The namespace of `ERC20Upgradeable` of OpenZeppelin 5, by ERC-7201.
const OZ_NAMESPACE: B256 = b256!("52c63247e1f47db19d5ce0460030c497f067ca4cebf71ba98eeadabe20bace00");
/// The seed of Solady's ERC20, after the account and 8 zero bytes.
const SOLADY_SEED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0x87, 0xa2, 0x11, 0xa2];

/// The result of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trial {
    /// A transfer moves the signed amount, and the logs prove it.
    Good,
    /// A transfer moves the signed amount; the node does not reveal the logs.
    WithoutLogs,
    /// A transfer is made, but it cannot be proven, or moves another amount.
    Unfit(String),
    /// No transfer could be tried. This is not a fault of the token: it may be paused, or keep its balances elsewhere.
    Untried(String),
}

impl RpcChain {
    /// Tries a transfer of the token by `payer`, which needs no tokens, in a simulated transaction of `sender`.
    /// # Errors
    /// The signer of `payer` failed. A failure of the node is [`Trial::Untried`].
    pub async fn try_token<S: SignAs>(&self, token: &Token, payer: &S, sender: Address) -> Result<Trial, Fault> {
        self.untried(self.attempt(token, payer, sender).await).await
    }

    /// Turns a failure of the node into a trial that was not made.
    async fn untried(&self, ended: Result<Trial, Fault>) -> Result<Trial, Fault> {
        match ended {
            Err(Fault::Unreachable { .. }) if self.head().await.is_err() => {
                Ok(Trial::Untried("the node does not answer".to_owned()))
            }
            Err(fault @ Fault::Unreachable { .. }) => Ok(Trial::Untried(fault.to_string())),
            ended => ended,
        }
    }

    async fn attempt<S: SignAs>(&self, token: &Token, payer: &S, sender: Address) -> Result<Trial, Fault> {
        let untried = |why: &str| Ok(Trial::Untried(why.to_owned()));
        let account = payer.account();
        let reads = BatchRead::new()
            .code_size(token.address)
            .view(token.address, name_call(), VIEW_GAS, 5)
            .view(token.address, version_call(), VIEW_GAS, 5)
            .view(token.address, domain_call(), VIEW_GAS, 20)
            .view(token.address, state_call(account, NONCE), VIEW_GAS, 1);
        let answers = self.run(&reads, At::Latest).await?;
        let (Some(code), [name, version, by_5267, state]) = (answers.sizes.first(), &*answers.calls) else {
            return untried("the node answers something else");
        };
        if *code == 0 {
            return untried("there is no contract");
        }
        if state.word().is_none() {
            return untried("it has no authorizationState");
        }
        let domain = match (&token.domain, name.text(), version.text()) {
            (Some(domain), ..) => domain.clone(),
            (None, Some(name), Some(version)) => Domain::new(name, version, token.chain_id, token.address),
            _ => match read_domain(&by_5267.data, token.chain_id, token.address) {
                Some((name, version)) => Domain::new(&name, &version, token.chain_id, token.address),
                None => return untried("it tells no EIP-712 domain"),
            },
        };
        let Some(slot) = self.balance_slot(token.address, account).await? else {
            return untried("the place of its balances is not known");
        };
        let authorization = Authorization {
            from: account,
            to: PAYEE,
            value: VALUE.into(),
            valid_after: UnixSeconds(0),
            valid_before: UnixSeconds(answers.timestamp).plus(3_600),
            nonce: NONCE,
        };
        let signature = payer.sign_digest(authorization.digest(domain.separator)).await?;
        let signature = Signature::from_bytes(&signature).map_err(Fault::broken)?;
        let transfer = authorization.transfer_call(&signature);
        let overrides = Overrides::from([(token.address, StateDiff::balance(slot))]);
        match self.by_simulation(token, account, sender, transfer.clone(), overrides.clone()).await {
            Err(Fault::Unreachable { .. }) => self.by_call(token, sender, transfer, overrides).await,
            ended => ended,
        }
    }

    /// Finds the slot of the account's balance: every candidate is set to a different number, and the token's balance
    /// reveals which one it reads.
    async fn balance_slot(&self, token: Address, account: Address) -> Result<Option<B256>, Fault> {
        let slots = candidates(account);
        let first = U256::from(VALUE);
        let numbered =
            slots.iter().zip(0u64..).map(|(slot, at)| (*slot, (first.saturating_add(U256::from(at))).into()));
        let overrides = Overrides::from([(token, StateDiff::slots(numbered.collect()))]);
        let call = Call { from: None, to: Some(token), data: balance_call(account) };
        let balance: Bytes = self.request("eth_call", (call, "latest", overrides)).await?;
        let read = Returned { success: true, data: balance }.word();
        let place = read.and_then(|read| usize::try_from(read.checked_sub(first)?).ok());
        Ok(place.and_then(|place| slots.get(place)).copied())
    }

    async fn by_simulation(
        &self,
        token: &Token,
        account: Address,
        sender: Address,
        transfer: Bytes,
        state_overrides: Overrides,
    ) -> Result<Trial, Fault> {
        let call = Call { from: Some(sender), to: Some(token.address), data: transfer };
        let [call] = self.simulate([call], state_overrides).await?;
        let trial = call.judge(token.address, account);
        if trial == Trial::Good && call.transfer_follows(token.address, account) {
            self.note_uses_apart(token.address);
        }
        Ok(trial)
    }

    /// Compares the balances before and after, by one `eth_call`: there are no logs.
    async fn by_call(
        &self,
        token: &Token,
        sender: Address,
        transfer: Bytes,
        overrides: Overrides,
    ) -> Result<Trial, Fault> {
        let reads = BatchRead::new()
            .call(token.address, balance_call(PAYEE), VIEW_GAS, 1)
            .call(token.address, transfer, GAS, 5)
            .call(token.address, balance_call(PAYEE), VIEW_GAS, 1);
        let call = Call { from: Some(sender), to: None, data: reads.code() };
        let returned: Bytes = self.request("eth_call", (call, "latest", overrides)).await?;
        let answers = reads.answers(&returned);
        let answers = answers.ok_or_else(|| Fault::unreachable("the node", "eth_call answered something else"))?;
        let [before, transfer, after] = &*answers.calls else {
            return Err(Fault::unreachable("the node", "another answer"));
        };
        Ok(arrived(before, transfer, after))
    }
}

/// Judges a transfer by the recipient's balances before and after it.
fn arrived(before: &Returned, transfer: &Returned, after: &Returned) -> Trial {
    if !transfer.success {
        return Trial::Untried(TokenRefusal::read(transfer, NONCE).text);
    }
    match (before.word(), after.word()) {
        (Some(before), Some(after)) => match after.saturating_sub(before) {
            moved if moved == U256::from(VALUE) => Trial::WithoutLogs,
            moved => Trial::Unfit(format!("of {VALUE} that are signed, {moved} arrive")),
        },
        _ => Trial::Untried("it has no balanceOf".to_owned()),
    }
}

/// Returns the possible slots of the account's balance.
fn candidates(account: Address) -> Vec<B256> {
    let word = account.into_word();
    let joined = |a: B256, b: B256| keccak256([a, b].concat());
    let number = |slot: u64| B256::from(U256::from(slot));
    let solidity = (0..SLOTS).map(|slot| joined(word, number(slot)));
    let vyper = (0..32).map(|slot| joined(number(slot), word));
    let solady = keccak256([account.as_slice(), &SOLADY_SEED].concat());
    solidity.chain(vyper).chain([joined(word, OZ_NAMESPACE), solady]).collect()
}
