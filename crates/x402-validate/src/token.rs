//! The known tokens: `x402-types`' table of default assets, which has their EIP-712 domains.

use x402_types::assets::{TABLE, TransferMethod};

use crate::Namespace;
use crate::caip2::Caip2;

/// A token that every client knows. One unit of it is worth one dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) symbol: &'static str,
    /// The name in the EIP-712 domain; empty where the network has no such domains.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) decimals: u8,
    /// Whether the token itself checks signatures, by EIP-3009.
    pub(crate) eip3009: bool,
}

impl Token {
    /// Finds a token by the CAIP-2 network and its address; hex addresses are matched in any case.
    pub(crate) fn find(network: &str, address: &str) -> Option<Self> {
        let evm = Caip2::parse(network).and_then(|id| Namespace::known(id.namespace())) == Some(Namespace::Eip155);
        let same = |own: &str| if evm { own.eq_ignore_ascii_case(address) } else { own == address };
        TABLE.iter().find(|row| row.0 == network && same(row.1)).map(|row| Self {
            symbol: row.2,
            name: row.3,
            version: row.4,
            decimals: row.5,
            eip3009: row.6 == TransferMethod::Eip3009,
        })
    }
}
