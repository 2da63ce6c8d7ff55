//! Nevermined's API as a facilitator, as its SDKs 1.11.0 (TypeScript) and 1.18.0 (Python) call it:
//! `/api/v1/x402/permissions`, `/verify`, `/settle`.

use core::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;
use x402_codec::{Limits, json as strict};
use x402_facilitator_core::{Facilitator, PaymentRequest};
use x402_types::nvm::{
    AccessToken, Code, ErrorBody, FacilitatorRequest, PaymentRequired, Receipt, Requirements, VerdictResponse,
};
use x402_types::v2::{ResourceInfo, SettleResponse, SupportedResponse, VerifyResponse};
use x402_types::{Entry, ErrorReason, Fault, Members, RawJson};

use crate::remote::{RemoteError, Timeouts, client, exchange};
use crate::service::{base, below};

const SERVICE: &str = "Nevermined";
/// The version of the API.
const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("nevermined-version"), HeaderValue::from_static("1.1"));
const ORGANIZATION: HeaderName = HeaderName::from_static("x-current-org-id");

/// A client of Nevermined's API, with the key of an account.
#[derive(Clone)]
pub struct NeverminedApi {
    http: reqwest::Client,
    base: Url,
    headers: HeaderMap,
    timeouts: Timeouts,
    limits: Limits,
}

/// The reason why the API cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NeverminedError {
    /// The key is not `<environment>:<token>`, or its environment has no known address: set one.
    #[error("expected an API key that begins with `sandbox:` or `live:`")]
    Key,
    /// The address or the HTTP client is unusable.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// The API's error.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ApiError {
    /// The API refused the request, with a reason.
    Refused(NeverminedRefusal),
    /// The API did not respond, or its response cannot be used. Nothing is known about the request.
    Fault(Fault),
}

/// A refusal: `{"code":"BCK.X402.0005","message":"…"}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct NeverminedRefusal {
    /// The code, which begins with `BCK.`.
    pub code: String,
    /// The description for people.
    #[serde(default)]
    pub message: String,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: Option<bool>,
    /// The identifier for support requests.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// The HTTP status.
    #[serde(skip)]
    pub status: u16,
}

/// A payment that Nevermined's backend signed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct NeverminedPermission {
    /// The value of `PAYMENT-SIGNATURE`. Anyone who has it can spend it.
    pub access_token: String,
    /// The identifier for looking it up or revoking it.
    #[serde(default)]
    pub permission_hash: Option<String>,
}

impl fmt::Debug for NeverminedPermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NeverminedPermission").field("permission_hash", &self.permission_hash).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ask<'a> {
    payment_required: &'a PaymentRequired,
    x402_access_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_amount: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_request_id: Option<&'a str>,
}

impl NeverminedApi {
    /// Creates a client of the environment that the key names: `sandbox:…` or `live:…`.
    /// # Errors
    /// The key has another form or environment.
    pub fn new(key: &str) -> Result<Self, NeverminedError> {
        let address = match key.split_once(':') {
            Some(("sandbox", _)) => "https://api.sandbox.nevermined.app",
            Some(("live", _)) => "https://api.live.nevermined.app",
            _ => return Err(NeverminedError::Key),
        };
        Self::at(address, key)
    }

    /// Creates a client of the API at another address.
    /// # Errors
    /// The address is malformed, or the key cannot be a header's value.
    pub fn at(address: &str, key: &str) -> Result<Self, NeverminedError> {
        let timeouts = Timeouts::DEFAULT;
        let mut token = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| NeverminedError::Key)?;
        token.set_sensitive(true);
        let json = HeaderValue::from_static("application/json");
        let headers = [(ACCEPT, json.clone()), (CONTENT_TYPE, json), (AUTHORIZATION, token), VERSION];
        Ok(Self {
            http: client(timeouts)?,
            base: base(address).ok_or(RemoteError::Address)?,
            headers: headers.into_iter().collect(),
            timeouts,
            limits: Limits::DEFAULT,
        })
    }

    /// Acts for an organization of the account.
    /// # Errors
    /// The name cannot be a header's value.
    pub fn with_organization(mut self, id: &str) -> Result<Self, NeverminedError> {
        self.headers.insert(ORGANIZATION, HeaderValue::try_from(id).map_err(|_| NeverminedError::Key)?);
        Ok(self)
    }

    /// Requests a signed payment for an entry, within a delegation of the account. `bound` restricts it to this
    /// resource and one settlement (token version 3).
    /// # Errors
    /// The request was refused, or nothing is known.
    pub async fn permission(
        &self,
        entry: &Requirements,
        resource: Option<&ResourceInfo>,
        delegation: &str,
        bound: bool,
    ) -> Result<NeverminedPermission, ApiError> {
        let mut body = json!({ "accepted": entry, "delegationConfig": { "delegationId": delegation } });
        if let Some(members) = body.as_object_mut() {
            members.extend(resource.map(|resource| ("resource".to_owned(), json!({ "url": resource.url }))));
            members.extend(bound.then(|| ("tokenVersion".to_owned(), json!(3))));
        }
        self.post("permissions", &body, self.timeouts.verify).await
    }

    /// Verifies a payment.
    /// # Errors
    /// The request was refused otherwise than by a verdict, or nothing is known.
    pub async fn verify(&self, request: &FacilitatorRequest) -> Result<VerdictResponse, ApiError> {
        self.ask("verify", request, self.timeouts.verify).await
    }

    /// Redeems credits for a request.
    ///
    /// # Errors
    /// The request was refused otherwise than by a receipt, or nothing is known.
    pub async fn settle(&self, request: &FacilitatorRequest) -> Result<Receipt, ApiError> {
        self.ask("settle", request, self.timeouts.settle).await
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        end: &str,
        request: &FacilitatorRequest,
        timeout: core::time::Duration,
    ) -> Result<T, ApiError> {
        let encoded;
        let token = match &request.token {
            AccessToken::Base64(text) => text,
            AccessToken::Json(raw) => {
                encoded = x402_codec::base64::encode(raw.as_str().as_bytes());
                &encoded
            }
        };
        let ask = Ask {
            payment_required: &request.payment_required,
            x402_access_token: token,
            max_amount: request.max_amount.map(|amount| amount.to_string()),
            agent_request_id: request.agent_request_id.as_deref(),
        };
        self.post(end, &ask, timeout).await
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        end: &str,
        body: &impl Serialize,
        timeout: core::time::Duration,
    ) -> Result<T, ApiError> {
        let body = x402_codec::body::write(body).map_err(|why| ApiError::Fault(Fault::broken(why)))?;
        let url = below(&self.base, &format!("api/v1/x402/{end}"));
        let request = self.http.post(url).headers(self.headers.clone()).timeout(timeout).body(body);
        let answer = exchange(request, self.limits.body).await.map_err(ApiError::Fault)?;
        self.read(answer)
    }

    fn read<T: serde::de::DeserializeOwned>(&self, (status, answer): (u16, Bytes)) -> Result<T, ApiError> {
        let fault =
            |why: &dyn fmt::Display| ApiError::Fault(Fault::unreachable(SERVICE, format_args!("HTTP {status}, {why}")));
        if (200..300).contains(&status) {
            // `RawJson` comes first: the strict parser refuses what two parsers could interpret differently.
            let raw: RawJson = strict::from_slice(&answer, &self.limits).map_err(|why| fault(&why))?;
            return raw.read().map_err(|why| fault(&why));
        }
        let refused: NeverminedRefusal = strict::from_slice(&answer, &self.limits).map_err(|why| fault(&why))?;
        // A refused key is the caller's own fault, never the payer's.
        if status >= 500 || [401, 403, 429].contains(&status) || refused.retryable == Some(true) {
            return Err(fault(&format_args!("{}: {}", refused.code, refused.message)));
        }
        Err(ApiError::Refused(NeverminedRefusal { status, ..refused }))
    }
}

impl NeverminedRefusal {
    /// Translates the refusal to one of the extension's codes, if there is a counterpart.
    #[must_use]
    pub fn reason(&self) -> Option<ErrorReason> {
        let code = match self.code.strip_prefix("BCK.X402.")? {
            "0026" => Code::ExpiredSessionKey,
            "0002" | "0003" | "0005" | "0010" | "0012" | "0013" | "0014" | "0035" | "0059" => Code::InvalidPayload,
            _ => return None,
        };
        Some(code.reason())
    }

    /// Builds the envelope of §7, with Nevermined's own code in `details`.
    fn envelope(&self, reason: ErrorReason) -> ErrorBody {
        let mut details = Members::new();
        details.insert_text("nvmCode", &self.code);
        ErrorBody::new(reason, self.message.clone()).with(details)
    }
}

fn facilitator_request(request: &PaymentRequest) -> Result<FacilitatorRequest, Fault> {
    Ok(FacilitatorRequest {
        payment_required: PaymentRequired {
            error: None,
            resource: (*request.resource).clone(),
            accepts: vec![Entry::Known(Requirements::try_from(&request.claim.terms).map_err(Fault::broken)?)],
            extensions: Members::new(),
            rest: Members::new(),
        },
        // The token is sent byte for byte as it was received: the service may identify it by its text.
        token: AccessToken::Base64(match &request.token {
            Some(text) => String::from(&**text),
            None => x402_codec::base64::encode(request.raw.as_bytes()),
        }),
        max_amount: Some(request.claim.terms.amount),
        agent_request_id: request.verified_as.clone(),
        rest: Members::new(),
    })
}

fn read_as<T: serde::de::DeserializeOwned>(message: &impl Serialize) -> Result<T, Fault> {
    RawJson::of(message).and_then(|raw| raw.read()).map_err(Fault::broken)
}

#[async_trait]
impl Facilitator for NeverminedApi {
    async fn verify(&self, request: &PaymentRequest) -> Result<VerifyResponse, Fault> {
        let verdict = match self.verify(&facilitator_request(request)?).await {
            Ok(verdict) => verdict,
            Err(ApiError::Fault(fault)) => return Err(fault),
            Err(ApiError::Refused(refused)) => {
                let reason = refused.reason().unwrap_or_else(|| Code::InvalidPayload.reason());
                let error = refused.envelope(reason.clone());
                return read_as(&json!({
                    "isValid": false, "invalidReason": reason, "invalidMessage": refused.message, "error": error,
                }));
            }
        };
        read_as(&verdict)
    }

    async fn settle(&self, request: &PaymentRequest) -> Result<SettleResponse, Fault> {
        match self.settle(&facilitator_request(request)?).await {
            Ok(receipt) => Ok(receipt.into()),
            Err(ApiError::Fault(fault)) => Err(fault),
            // Only refusals that are known to precede any effect prove that nothing happened.
            Err(ApiError::Refused(refused)) => {
                let unknown = || Fault::unreachable(SERVICE, format_args!("{}: {}", refused.code, refused.message));
                let reason = refused.reason().ok_or_else(unknown)?;
                let mut receipt = Receipt::new(false, "", request.claim.terms.network);
                receipt.error = Some(refused.envelope(reason.clone()));
                receipt.error_message = Some(refused.message.clone());
                receipt.error_reason = Some(reason);
                Ok(receipt.into())
            }
        }
    }

    async fn supported(&self) -> Result<SupportedResponse, Fault> {
        Err(Fault::unreachable(SERVICE, "it does not say what it serves"))
    }
}

impl fmt::Debug for NeverminedApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NeverminedApi").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}
