//! The payments by card of a configuration.

use std::sync::Arc;

use x402_card::{CardAccount, TokenKeys, TokenSigner};
use x402_store::sqlite::SqliteCards;
use zeroize::Zeroizing;

use crate::config::{CardConfig, ConfigError};
use crate::mechanisms::CardPayments;
use crate::processor::HttpProcessor;

/// Assembles the payments by card of a configuration.
pub(super) fn payments(config: &CardConfig, store: SqliteCards) -> Result<CardPayments, ConfigError> {
    let processor = HttpProcessor::new(&config.processor, config.secret_key.read("card.secret_key")?)?;
    let livemode = processor.livemode();
    let field = "card.signing_key";
    // The parser's message may quote a bad key, so it is not repeated.
    let bad = || ConfigError::Range { field, expected: "a private key of P-256: 32 bytes in hex" };
    let mut secret = Zeroizing::new([0; 32]);
    let text = config.signing_key.read(field)?;
    let digits = text.strip_prefix("0x").unwrap_or(&text);
    alloy_primitives::hex::decode_to_slice(digits, secret.as_mut()).map_err(|_| bad())?;
    let signer = TokenSigner::new(&config.key_id, &secret).map_err(|_| bad())?;
    let former = config.former_keys.iter().try_fold(TokenKeys::new(), |keys, jwk| keys.with_jwk(jwk));
    let former = former.map_err(|why| ConfigError::Range { field: "card.former_keys", expected: why.expected() })?;
    let store = Arc::new(store);
    Ok(CardPayments {
        issuer: config.issuer.clone(),
        signer,
        former,
        plans: config.plans()?,
        account: Arc::new(CardAccount::new(Arc::new(processor), &*config.account, livemode)),
        delegations: Arc::clone(&store) as _,
        books: Arc::clone(&store) as _,
        cards: store,
        longest: config.longest_delegation_seconds,
        lanes: config.lanes,
    })
}
