//! The `info` of a gas sponsoring extension, as a payer completes it.

use x402_types::{Members, RawJson};

/// Returns what a payer added to the extension of this name. `None` means that the payer added nothing, or less than all
/// of these members: the declaration is echoed where the allowance suffices.
pub(super) fn completed(extensions: &Members, name: &str, members: &[&str]) -> Option<RawJson> {
    let extension = extensions.get(name)?.read::<Members>().ok()?;
    let info = extension.get("info")?.clone();
    let added = info.read::<Members>().ok()?;
    members.iter().all(|member| added.get(member).is_some()).then_some(info)
}

/// Returns whether a text is a version: numbers with points between them, of 32 characters at most.
pub(super) fn is_version(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 32 && text.split('.').all(digits)
}
