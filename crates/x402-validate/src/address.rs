//! Addresses per namespace: the document's "Address Formats", [EIP-55](https://eips.ethereum.org/EIPS/eip-55),
//! [SEP-23](https://stellar.org/protocol/sep-23) strkeys,
//! [AIP-40](https://github.com/aptos-foundation/AIPs/blob/main/aips/aip-40.md).

use x402_types::EvmAddress;

/// A namespace whose addresses can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// `eip155`: the EVM chains.
    Eip155,
    /// `solana`: the Solana clusters.
    Solana,
    /// `stellar`: the Stellar networks.
    Stellar,
    /// `aptos`: the Aptos networks.
    Aptos,
}

/// The use of an address in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The address of the recipient.
    PayTo,
    /// The address of the token: some namespaces identify tokens in further ways.
    Asset,
}

/// A flaw of an address, or a possible improvement.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// The text is an address of no known namespace.
    Invalid,
    /// The text is an address of another namespace.
    Elsewhere(Namespace),
    /// The text is in mixed case and does not match its checksum. The value has the right checksum.
    BadChecksum(String),
    /// The text is in lower case only. The value has the checksum.
    NoChecksum(String),
}

impl Namespace {
    /// Every known namespace.
    pub const ALL: [Self; 4] = [Self::Eip155, Self::Solana, Self::Stellar, Self::Aptos];

    /// Returns the namespace of a CAIP-2 identifier, if it is known.
    #[must_use]
    pub fn known(namespace: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == namespace)
    }

    /// Returns the name that CAIP-2 uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eip155 => "eip155",
            Self::Solana => "solana",
            Self::Stellar => "stellar",
            Self::Aptos => "aptos",
        }
    }

    /// Returns a description for people: `an EVM address`.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Eip155 => "an EVM address",
            Self::Solana => "a Solana address",
            Self::Stellar => "a Stellar address",
            Self::Aptos => "an Aptos address",
        }
    }

    /// Checks an address of this namespace.
    ///
    /// # Errors
    /// The first flaw found: the form is checked before the checksum.
    pub fn check(self, text: &str, role: Role) -> Result<(), Flaw> {
        let fits = match self {
            Self::Eip155 => return evm(text, role),
            Self::Solana => is_solana(text),
            Self::Stellar => is_stellar(text) || (role == Role::Asset && is_stellar_asset(text)),
            Self::Aptos => is_aptos(text) || (role == Role::Asset && is_aptos_type(text)),
        };
        if fits { Ok(()) } else { Err(self.elsewhere(text, role)) }
    }

    /// Returns the recommended spelling: an EVM address with its checksum, any other text unchanged.
    #[must_use]
    pub fn spell(self, text: &str) -> String {
        let evm = if self == Self::Eip155 { text.parse::<EvmAddress>().ok() } else { None };
        evm.map_or_else(|| text.to_owned(), |address| EvmAddress::from(address.to_bytes()).to_string())
    }

    fn elsewhere(self, text: &str, role: Role) -> Flaw {
        let asset = role == Role::Asset;
        let theirs = |other: &Self| match other {
            Self::Eip155 => text.parse::<EvmAddress>().is_ok(),
            Self::Solana => is_solana(text),
            Self::Stellar => is_stellar(text) || (asset && is_credit(text)),
            // A shorter text is more likely a damaged EVM address.
            Self::Aptos => (text.len() == 66 && is_aptos(text)) || (asset && is_aptos_type(text)),
        };
        Self::ALL.into_iter().filter(|other| *other != self).find(theirs).map_or(Flaw::Invalid, Flaw::Elsewhere)
    }
}

/// "All-lowercase valid but triggers `NO_EVM_CHECKSUM` warning. Mixed-case must match EIP-55 checksum".
fn evm(text: &str, role: Role) -> Result<(), Flaw> {
    let Ok(address) = text.parse::<EvmAddress>() else {
        return Err(Namespace::Eip155.elsewhere(text, role));
    };
    let digits = text.as_bytes().get(2..).unwrap_or_default();
    let upper = digits.iter().any(u8::is_ascii_uppercase);
    let lower = digits.iter().any(u8::is_ascii_lowercase);
    if !lower {
        return Ok(());
    }
    let checksummed = EvmAddress::from(address.to_bytes());
    match (upper, checksummed.as_str() == text) {
        (true, true) => Ok(()),
        (true, false) => Err(Flaw::BadChecksum(checksummed.to_string())),
        // A text in lower case has no visible checksum, even where the right checksum happens to have no capitals.
        (false, _) => Err(Flaw::NoChecksum(checksummed.to_string())),
    }
}

/// "32-44 Base58 characters. Decoded must be exactly 32 bytes".
fn is_solana(text: &str) -> bool {
    let mut bytes = [0u8; 32];
    (32..=44).contains(&text.len()) && bs58::decode(text).onto(&mut bytes) == Ok(32)
}

/// The version bytes of SEP-23 (account, muxed account, contract), each with the length of its key.
const STRKEYS: [(u8, usize); 3] = [(6 << 3, 32), (12 << 3, 40), (2 << 3, 32)];

fn is_stellar(text: &str) -> bool {
    let Some(bytes) = base32(text) else { return false };
    let Some((body, crc)) = bytes.split_last_chunk::<2>() else { return false };
    let Some((version, key)) = body.split_first() else { return false };
    STRKEYS.contains(&(*version, key.len())) && crc16(body).to_le_bytes() == *crc
}

/// Decodes RFC 4648 base32 without padding, of at most the 69 characters of a muxed account. Leftover bits must be
/// zero.
fn base32(text: &str) -> Option<Vec<u8>> {
    if text.len() > 69 {
        return None;
    }
    let mut out = Vec::with_capacity(44);
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return None,
        };
        bits = (bits << 5) | u32::from(digit);
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xFF).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    // A whole unused character would be a second spelling of the same key.
    (bits == 0 && held < 5).then_some(out)
}

/// Computes CRC16-XModem: polynomial 0x1021, initial value 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |mut crc, byte| {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
        crc
    })
}

fn is_stellar_asset(text: &str) -> bool {
    text == "native" || is_credit(text)
}

/// Recognises `CODE:G…`: 1 to 12 letters and digits, and the account that issues the asset.
fn is_credit(text: &str) -> bool {
    text.split_once(':').is_some_and(|(code, issuer)| {
        (1..=12).contains(&code.len())
            && code.bytes().all(|b| b.is_ascii_alphanumeric())
            && issuer.starts_with('G')
            && is_stellar(issuer)
    })
}

fn is_aptos(text: &str) -> bool {
    text.strip_prefix("0x")
        .is_some_and(|digits| (1..=64).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Recognises a type such as `0x…::module::Name`.
fn is_aptos_type(text: &str) -> bool {
    let name = |part: &str| {
        part.len() <= 255
            && part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let mut parts = text.split("::");
    matches!(
        (parts.next(), parts.next(), parts.next(), parts.next()),
        (Some(address), Some(module), Some(item), None) if is_aptos(address) && name(module) && name(item)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVM: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    const SOLANA: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
    // The examples of SEP-23.
    const ACCOUNT: &str = "GA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJVSGZ";
    const MUXED: &str = "MA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJUAAAAAAAAAAAACJUQ";
    const CONTRACT: &str = "CA3D5KRYM6CB7OWQ6TWYRR3Z4T7GNZLKERYNZGGA5SOAOPIFY6YQGAXE";

    fn pay_to(namespace: Namespace, text: &str) -> Result<(), Flaw> {
        namespace.check(text, Role::PayTo)
    }

    #[test]
    fn sep23_examples() {
        for text in [ACCOUNT, MUXED, CONTRACT] {
            assert_eq!(pay_to(Namespace::Stellar, text), Ok(()), "{text}");
        }
        // SEP-23, "Invalid test cases".
        for text in [
            "GAAAAAAAACGC6",
            "MA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJUAAAAAAAAAAAACJUR",
            "GA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJVSGZA",
            "GA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJUACUSI",
            "G47QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJVP2I",
            "MA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJVAAAAAAAAAAAAAJLKA",
            "M47QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJUAAAAAAAAAAAACJUQ",
            "MA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJUAAAAAAAAAAAACJUK===",
            "MA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJUAAAAAAAAAAAACJUO",
        ] {
            assert_eq!(pay_to(Namespace::Stellar, text), Err(Flaw::Invalid), "{text}");
        }
    }

    #[test]
    fn stellar_assets_have_two_more_forms() {
        let credit = format!("USDC:{ACCOUNT}");
        for text in ["native", credit.as_str()] {
            assert_eq!(Namespace::Stellar.check(text, Role::Asset), Ok(()));
            assert_eq!(pay_to(Namespace::Stellar, text), Err(Flaw::Invalid));
        }
        for text in
            [format!("USDC:{CONTRACT}"), format!(":{ACCOUNT}"), format!("THIRTEENCHARS:{ACCOUNT}"), "USDC".into()]
        {
            assert_eq!(Namespace::Stellar.check(&text, Role::Asset), Err(Flaw::Invalid), "{text}");
        }
    }

    #[test]
    fn evm_case_decides_about_the_checksum() {
        assert_eq!(pay_to(Namespace::Eip155, EVM), Ok(()));
        assert_eq!(pay_to(Namespace::Eip155, &EVM.to_lowercase()), Err(Flaw::NoChecksum(EVM.into())));
        assert_eq!(pay_to(Namespace::Eip155, "0x5AAEB6053F3E94C9B9A09F33669435E7EF1BEAED"), Ok(()));
        assert_eq!(pay_to(Namespace::Eip155, "0x1111111111111111111111111111111111111111"), Ok(()));
        assert_eq!(
            pay_to(Namespace::Eip155, "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
            Err(Flaw::BadChecksum(EVM.into()))
        );
        for text in [
            "",
            "0x",
            "0xINVALID",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe",
            "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        ] {
            assert_eq!(pay_to(Namespace::Eip155, text), Err(Flaw::Invalid), "{text}");
        }
    }

    #[test]
    fn an_address_of_another_namespace_is_recognised() {
        let aptos = format!("0x{}", "a1".repeat(32));
        for (here, text, there) in [
            (Namespace::Eip155, SOLANA, Namespace::Solana),
            (Namespace::Eip155, ACCOUNT, Namespace::Stellar),
            (Namespace::Eip155, &aptos, Namespace::Aptos),
            (Namespace::Solana, EVM, Namespace::Eip155),
            (Namespace::Solana, MUXED, Namespace::Stellar),
            (Namespace::Solana, &aptos, Namespace::Aptos),
            (Namespace::Stellar, EVM, Namespace::Eip155),
            (Namespace::Stellar, SOLANA, Namespace::Solana),
            (Namespace::Aptos, SOLANA, Namespace::Solana),
            (Namespace::Aptos, CONTRACT, Namespace::Stellar),
        ] {
            assert_eq!(pay_to(here, text), Err(Flaw::Elsewhere(there)), "{text} on {here:?}");
        }
        assert_eq!(pay_to(Namespace::Aptos, EVM), Ok(()), "40 hex digits are up to 64 hex digits");
        assert_eq!(
            Namespace::Eip155.check("0x1::aptos_coin::AptosCoin", Role::Asset),
            Err(Flaw::Elsewhere(Namespace::Aptos))
        );
    }

    #[test]
    fn solana_keys_are_exactly_32_bytes() {
        assert_eq!(pay_to(Namespace::Solana, SOLANA), Ok(()));
        assert_eq!(pay_to(Namespace::Solana, "11111111111111111111111111111111"), Ok(()), "the system program");
        let of = |n: usize| bs58::encode(vec![7u8; n]).into_string();
        assert_eq!(pay_to(Namespace::Solana, &of(32)), Ok(()));
        for text in [of(31), of(33), of(24), "0".repeat(32), SOLANA.replace('E', "l"), "1".repeat(33), String::new()] {
            assert_eq!(pay_to(Namespace::Solana, &text), Err(Flaw::Invalid), "{text}");
        }
    }

    #[test]
    fn aptos_takes_up_to_64_hex_digits() {
        for text in ["0x1", "0xA", &format!("0x{}", "f".repeat(64))] {
            assert_eq!(pay_to(Namespace::Aptos, text), Ok(()), "{text}");
        }
        for text in ["0x", "1", "0xg", "0X1", &format!("0x{}", "f".repeat(65)), "0x1::aptos_coin::AptosCoin"] {
            assert_eq!(pay_to(Namespace::Aptos, text), Err(Flaw::Invalid), "{text}");
        }
        for text in ["0x1::aptos_coin", "0x1::a::b::c", "0x1::9a::B", "0x1::a::", "::a::B"] {
            assert_eq!(Namespace::Aptos.check(text, Role::Asset), Err(Flaw::Invalid), "{text}");
        }
        assert_eq!(Namespace::Aptos.check("0x1::aptos_coin::AptosCoin", Role::Asset), Ok(()));
    }
}
