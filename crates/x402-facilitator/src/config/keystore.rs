//! Encrypted keys: [Web3 Secret Storage](https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage/),
//! version 3.

use std::path::Path;

use alloy_primitives::hex;
use alloy_signer_local::PrivateKeySigner;
use zeroize::Zeroizing;

use super::ConfigError;

/// Opens a keystore and returns its key in hex.
///
/// # Errors
/// The file is unreadable, or the password is wrong.
pub(super) fn open(field: &'static str, path: &Path, password: &str) -> Result<Zeroizing<String>, ConfigError> {
    let key = PrivateKeySigner::decrypt_keystore(path, password).map_err(|error| ConfigError::Keystore {
        field,
        place: path.display().to_string(),
        detail: error.to_string(),
    })?;
    let bytes = Zeroizing::new(key.to_bytes().0);
    Ok(Zeroizing::new(hex::encode(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::super::SecretSource;

    /// The key of the test vectors of the format's document.
    const KEY: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
    /// The document's vector for PBKDF2.
    const PBKDF2: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2",
        "kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",
        "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
    /// The same key under foundry's parameters, by Node 20's `crypto` and Keccak of `ethereum-cryptography`. RFC 7914 forbids
    /// those of the document's own vector for scrypt, N = 2^18 with r = 1, and OpenSSL refuses them, too.
    const SCRYPT: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext":"91c23c03a8b5117a6e3d78dbb5dfc46f037aff9351dff59c2879586f51756502","kdf":"scrypt",
        "kdfparams":{"dklen":32,"n":8192,"r":8,"p":1,
        "salt":"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"},
        "mac":"8f8639fe08fe1f43d6c13006d66ad2d993c6674ee2ba03f025596797a73614b9"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

    #[test]
    fn keys_of_other_software_open_and_a_wrong_password_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (path, password) = (folder.path().join("key.json"), folder.path().join("password"));
        let source =
            SecretSource::Keystore { path: path.clone(), password: Box::new(SecretSource::File(password.clone())) };
        for document in [PBKDF2, SCRYPT] {
            std::fs::write(&path, document).unwrap();
            std::fs::write(&password, "testpassword\n").unwrap();
            assert_eq!(*source.read("network.signers").unwrap(), KEY);
            std::fs::write(&password, "hunter2").unwrap();
            let error = source.read("network.signers").unwrap_err().to_string();
            assert!(error.starts_with("network.signers: keystore ") && !error.contains("hunter2"), "{error}");
        }
        std::fs::write(&path, "{}").unwrap();
        assert!(source.read("network.signers").is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(source.read("network.signers").is_err());
    }
}
