//! The request of a case in `*_cases.yaml`: the body of `POST /orchestrate`, of no caller.

use super::request::{Bounds, OrchestrateRequest};
use crate::domain::error::{Code, Error};
use crate::domain::id::{RequestId, TenantId};
use crate::domain::request::Request;

/// The request that `value` writes, under `bundle` unless it names a policy; without a value one
/// whose content nobody knows.
pub fn read(
    value: Option<&serde_json::Value>,
    tenant: TenantId,
    bundle: &str,
    content_chars_max: usize,
) -> Result<Request, Error> {
    let mut wire = match value {
        Some(value) => OrchestrateRequest::parse(value.to_string().as_bytes())?,
        None => OrchestrateRequest::of_text("-"),
    };
    wire.policy = wire.policy.or_else(|| Some(bundle.to_owned()));
    let id = RequestId::parse("case");
    let id = id.map_err(|error| Error::new(Code::InternalError, error.to_string()))?;
    wire.into_domain(id, tenant, Bounds { content_chars_max })
}
