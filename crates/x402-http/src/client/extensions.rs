//! The client's part in extensions: the client echoes every declaration, and its own extensions add to them.

use x402_types::extension::{Extensions, echo};
use x402_types::{Members, PaymentRequired, Refusal, SigningContext};

use super::flight::Purchase;
use super::{Clock, PayError};

/// Returns the member `extensions` of a payment. The payment is made once, so each of its requests carries the same ids.
pub(super) async fn echoed(
    extensions: &Extensions,
    required: &PaymentRequired,
    purchase: &Purchase,
    clock: &dyn Clock,
) -> Result<Members, PayError> {
    let mut echoes = Members::new();
    for (name, declaration) in required.extensions().iter() {
        let mut additions = Members::new();
        if let (Some(extension), Some(info)) = (extensions.get(name), echo::info(declaration)) {
            let entropy = clock.entropy().ok_or(PayError::Entropy)?;
            let (url, method) = (purchase.url.as_str(), purchase.method.as_str());
            let context = SigningContext { now: clock.now(), entropy, url, method };
            additions = extension.complete(&info, &context).await.map_err(|refusal| match refusal {
                Refusal::Rejection(why) => PayError::ExtensionRefused { name: name.into(), why },
                Refusal::Fault(fault) => fault.into(),
            })?;
        } else if echo::is_required(declaration) {
            return Err(PayError::ExtensionRequired { name: name.into() });
        }
        echoes.insert(name, echo::echoed(declaration, &additions));
    }
    Ok(echoes)
}
