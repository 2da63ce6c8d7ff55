//! Encrypted keys: [Web3 Secret Storage](https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage/),
//! version 3.

use std::path::Path;

use alloy_signer_local::PrivateKeySigner;
use x402_evm::key::Key;
use zeroize::Zeroizing;

/// Opens a keystore.
pub(crate) fn open(path: &Path, password: &str) -> Result<Key, String> {
    let failed = |why: &dyn std::fmt::Display| format!("the keystore {}: {why}", path.display());
    let signer = PrivateKeySigner::decrypt_keystore(path, password).map_err(|error| failed(&error))?;
    let bytes = Zeroizing::new(signer.to_bytes().0);
    Key::from_bytes(&bytes).map_err(|error| failed(&error))
}

/// Writes a key to a new file, encrypted with this password.
pub(crate) fn write(path: &Path, secret: &[u8; 32], password: &str) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("the keystore {}: {why}", path.display());
    // The file is created first, so that none is overwritten and its owner alone can read it.
    super::new_file(path).map_err(|error| failed(&error))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| failed(&"expected a file name"))?;
    let written = PrivateKeySigner::encrypt_keystore(parent, &mut rand_core::OsRng, secret, password, Some(name));
    written.map(drop).map_err(|error| failed(&error))
}
