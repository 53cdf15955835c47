//! The one error of the service: a code for machines, a message for people, a cause for the log.

use std::time::Duration;

use serde::Serialize;

use super::job::IllegalMove;

/// A code of the API: meaning and whether the same request may succeed later. Codes are public
/// and never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodeInfo {
    /// The code as sent, such as `INVALID_REQUEST`.
    pub name: &'static str,
    /// What it means, for the title of a problem and for docs/errors.md.
    pub meaning: &'static str,
    /// Whether the same request may succeed when sent again later.
    pub retryable: bool,
}

macro_rules! codes {
    ($($variant:ident $name:literal $meaning:literal $retryable:literal;)*) => {
        /// Why no outcome can be given.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $(#[doc = $meaning] $variant,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// Name, meaning, retryable.
            pub fn info(self) -> CodeInfo {
                match self {
                    $(Code::$variant => CodeInfo {
                        name: $name, meaning: $meaning, retryable: $retryable,
                    },)*
                }
            }
        }
    };
}

codes! {
    InvalidRequest "INVALID_REQUEST" "The request is not valid" false;
    PolicyNotFound "POLICY_NOT_FOUND" "No policy of that name exists" false;
    PolicyInvalid "POLICY_INVALID" "The policy is not valid" false;
    EmptyBatch "EMPTY_BATCH" "The batch holds no request" false;
    BatchTooLarge "BATCH_TOO_LARGE" "The batch holds too many requests" false;
    WafBlocked "WAF_BLOCKED" "The envelope of the request looks like an attack" false;
    Unauthorized "UNAUTHORIZED" "A valid credential is missing" false;
    InvalidSignature "INVALID_SIGNATURE" "The request is not signed as its tenant demands" false;
    InsufficientScope "INSUFFICIENT_SCOPE" "The credential does not allow this" false;
    TenantMismatch "TENANT_MISMATCH" "The tenant is unknown or not the credential's" false;
    TenantPaused "TENANT_PAUSED" "The tenant is paused" true;
    IpNotAllowed "IP_NOT_ALLOWED" "The tenant may not be used from this address" false;
    PolicyDenied "POLICY_DENIED" "A policy refuses the request" false;
    PolicyNotAllowed "POLICY_NOT_ALLOWED" "The tenant may not use this policy" false;
    NotFound "NOT_FOUND" "There is no such thing" false;
    AlreadyExists "ALREADY_EXISTS" "This name is taken" false;
    InvalidStateTransition "INVALID_STATE_TRANSITION" "It is not in a state that allows this" false;
    IdempotencyInFlight "IDEMPOTENCY_IN_FLIGHT" "A request of this key is being carried out" true;
    IdempotencyMismatch "IDEMPOTENCY_MISMATCH" "This key came with another body" false;
    PreconditionFailed "PRECONDITION_FAILED" "It changed since it was read" false;
    PreconditionRequired "PRECONDITION_REQUIRED" "A change must name the version it changes" false;
    EndpointForbidden "ENDPOINT_FORBIDDEN" "The service may not connect to that address" false;
    RequestTimeout "REQUEST_TIMEOUT" "The body did not arrive in time" true;
    PayloadTooLarge "PAYLOAD_TOO_LARGE" "The body is too large" false;
    UnsupportedMediaType "UNSUPPORTED_MEDIA_TYPE" "The body must be JSON" false;
    RateLimited "RATE_LIMITED" "Too many requests" true;
    QuotaExceeded "QUOTA_EXCEEDED" "The tenant's quota is used up" true;
    InternalError "INTERNAL_ERROR" "The service failed" true;
    Overloaded "OVERLOADED" "The service is at its limit" true;
    StoreUnavailable "STORE_UNAVAILABLE" "The store does not answer" true;
    AuditUnavailable "AUDIT_UNAVAILABLE" "The decision cannot be put on record" true;
    ShuttingDown "SHUTTING_DOWN" "The service is stopping" true;
}

/// A fault of one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldFault {
    /// JSON pointer into the request.
    pub pointer: String,
    /// What is wrong and what to change; never the value's content.
    pub detail: String,
    /// Stable snake_case code.
    pub code: &'static str,
    /// Where in a source that the request carries or refers to.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Where a fault of a policy lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file.
    pub file: String,
    /// 1-based line, 0 where none applies.
    pub line: u32,
    /// 1-based column in characters, 0 where none applies.
    pub column: u32,
    /// One imperative sentence: what to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// No outcome can be given.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", code.info().name)]
pub struct Error {
    /// What kind of failure.
    pub code: Code,
    /// For the caller: never content, endpoint or SQL.
    pub message: String,
    /// Which fields are at fault.
    pub details: Vec<FieldFault>,
    /// When it may be worth another try, where that is known.
    pub retry_after: Option<Duration>,
    /// Whether time alone changes nothing, whatever the code says.
    pub lasting: bool,
    /// The move that was refused, where one was.
    pub refused_move: Option<Box<IllegalMove>>,
    /// For the log, written once at the edge.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without fields or cause.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
            retry_after: None,
            lasting: false,
            refused_move: None,
            cause: None,
        }
    }

    /// An error about one field; its message is the field's detail.
    pub fn field(
        code: Code,
        pointer: &str,
        fault: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let detail = detail.into();
        let field = FieldFault {
            pointer: pointer.into(),
            detail: detail.clone(),
            code: fault,
            place: None,
        };
        Self { details: vec![field], ..Self::new(code, detail) }
    }

    /// The same error, not worth another try before `pause` is over.
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// The same error, which waiting does not end.
    pub fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// Whether the same request may succeed when sent again later.
    pub fn retryable(&self) -> bool {
        self.code.info().retryable && !self.lasting
    }

    /// A job does not stand where it could be moved so.
    pub fn illegal(refused: IllegalMove) -> Self {
        let message = format!("{refused}; read the job again");
        Self {
            refused_move: Some(Box::new(refused)),
            ..Self::new(Code::InvalidStateTransition, message)
        }
    }

    /// The same error with what caused it.
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}
