//! What the OpenAPI document says of values beyond their types: patterns, closed sets, which fields go
//! together, how every operation refuses. Each is stated once, under the name it has everywhere.

use serde_json::{Value, json};

use crate::domain::access::{Role, Scope};
use crate::domain::action::Action;
use crate::domain::id::{BundleName, DetectorName, TenantId};
use crate::domain::job::{JobState, JobType};
use crate::domain::redaction::Style;
use crate::domain::request::Priority;

/// Identifiers of tool calls.
const IDENTIFIER: &str = "^[A-Za-z0-9_.:/-]{0,128}$";
/// Short texts without control characters.
const WORD: &str = r"^[^\x00-\x1f\x7f-\x9f]{1,128}$";
/// The same with something to see.
const LABEL: &str = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$";
/// What 32 bytes are written as.
const HASH: &str = "^[0-9a-fA-F]{64}$";
/// Ids of decisions.
const EVIDENCE_ID: &str = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";
/// Ids of dead letters: a job's or a delivery's.
const LETTER: &str = "^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64})$";
const DIRECTIONS: [&str; 5] = ["input", "output", "tool_call", "tool_result", "retrieval"];
const CONTENT_TYPES: [&str; 4] = ["text", "document", "code", "image"];
const SPEAKERS: [&str; 4] = ["system", "user", "assistant", "tool"];
const EXECUTIONS: [&str; 3] = ["parallel", "sequential", "cascade"];
const STOPS: [&str; 2] = ["none", "block"];
const OFFSETS: [&str; 3] = ["codepoint", "utf16", "byte"];
const INCLUDES: [&str; 9] = [
    "detectors",
    "coverage",
    "plan",
    "conflicts",
    "explain",
    "evidence",
    "mapper",
    "redacted",
    "all",
];
/// Entries of any list of a request.
const ENTRIES_MAX: usize = 1_000;

/// Writes the constraints into the document.
pub(super) fn write(document: &mut Value) {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    let operations = paths.into_iter().flat_map(|paths| paths.values_mut());
    for operation in operations.filter_map(Value::as_object_mut).flat_map(|path| path.values_mut())
    {
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        parameters.into_iter().flatten().for_each(parameter);
        refuses(operation);
    }
    for (pointer, said) in fields() {
        if let Some(schema) = document.pointer_mut(&format!("/components/schemas/{pointer}")) {
            merge(schema, said);
        }
    }
}

fn merge(schema: &mut Value, said: Value) {
    if let (Value::Object(schema), Value::Object(said)) = (schema, said) {
        schema.extend(said);
    }
}

/// A parameter is a text that is there or is not, never null.
fn parameter(parameter: &mut Value) {
    let required = parameter.get("required") == Some(&Value::Bool(true));
    let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default();
    let said = match name {
        "tenant" | "X-Tenant-ID" => matching(TenantId::PATTERN),
        "name" | "detector" => matching(DetectorName::PATTERN),
        "bundle" | "policy" => matching(BundleName::PATTERN),
        "prefix" => matching("^orch_[0-9a-f]{12}$"),
        "id" => matching(EVIDENCE_ID),
        "head" => matching(HASH),
        "action" => json!({ "enum": Action::ALL.map(Action::name) }),
        "revision" => matching("^[0-9a-f]{8,64}$"),
        "from" | "to" => json!({ "format": "date-time" }),
        "how" => json!({ "enum": ["reset", "open", "close"] }),
        "status" => json!({ "enum": ["active", "pending", "shadow"] }),
        "state" => {
            json!({ "enum": JobState::ALL.iter().map(|state| state.name()).collect::<Vec<_>>() })
        }
        "kind" => json!({ "enum": ["jobs", "webhooks"] }),
        "letter" => matching(LETTER),
        "type" => json!({ "enum": CONTENT_TYPES }),
        "Idempotency-Key" => matching("^[ -~]{1,255}$"),
        "reason" if required => reason(),
        "reason" => json!({ "maxLength": 500 }),
        _ => json!({}),
    };
    let Some(schema) = parameter.get_mut("schema") else { return };
    if schema.get("type") == Some(&json!(["string", "null"])) {
        merge(schema, json!({ "type": "string" }));
    }
    merge(schema, said);
}

fn matching(pattern: &str) -> Value {
    json!({ "pattern": pattern })
}

fn reason() -> Value {
    json!({ "minLength": 1, "maxLength": 500, "pattern": r"\S" })
}

/// Every operation may refuse, always with a problem.
fn refuses(operation: &mut Value) {
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
        return;
    };
    for (status, meaning) in [("4XX", "Refused: `code` says why"), ("5XX", "The service failed")] {
        responses.entry(status).or_insert_with(|| {
            let problem = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
            json!({ "description": meaning, "content": { "application/problem+json": problem } })
        });
    }
}

/// Pointers below the schemas, and what is said there. It overrides.
fn fields() -> Vec<(String, Value)> {
    let mut all = request();
    all.extend(jobs());
    all.extend(administration());
    all.into_iter().map(|(pointer, said)| (pointer.replace('.', "/properties/"), said)).collect()
}

fn among(names: &[&str]) -> Value {
    json!({ "type": "string", "enum": names })
}

fn among_or_null(names: &[&str]) -> Value {
    let names: Vec<Option<&str>> = names.iter().copied().map(Some).chain([None]).collect();
    json!({ "type": ["string", "null"], "enum": names })
}

/// `POST /orchestrate` and what it holds.
fn request() -> Vec<(&'static str, Value)> {
    let at_most = json!({ "maxItems": ENTRIES_MAX });
    let detectors = json!({ "items": { "type": "string", "pattern": DetectorName::PATTERN } });
    let of_detector = json!({ "propertyNames": matching(DetectorName::PATTERN) });
    let closed = json!({ "additionalProperties": false });
    let present = |field: &str| json!({ "required": [field], "properties": { field: { "not": { "type": "null" } } } });
    vec![
        ("OrchestrateRequest", json!({ "oneOf": [present("content"), present("messages")] })),
        (
            "OrchestrateRequest.content",
            json!({ "minLength": 1, "minItems": 1, "maxItems": ENTRIES_MAX }),
        ),
        ("OrchestrateRequest.messages", json!({ "minItems": 1, "maxItems": ENTRIES_MAX })),
        ("OrchestrateRequest.tools", at_most.clone()),
        ("OrchestrateRequest.direction", among_or_null(&DIRECTIONS)),
        ("OrchestrateRequest.judge", among_or_null(&["last", "all"])),
        ("OrchestrateRequest.type", among(&CONTENT_TYPES)),
        ("OrchestrateRequest.offsets", among(&OFFSETS)),
        ("OrchestrateRequest.priority", among_or_null(&["low", "normal", "high", "critical"])),
        ("OrchestrateRequest.policy", matching(BundleName::PATTERN)),
        ("OrchestrateRequest.event", matching(WORD)),
        ("OrchestrateRequest.language", matching(WORD)),
        (
            "OrchestrateRequest.contexts",
            json!({ "maxItems": ENTRIES_MAX, "items": { "type": "string", "pattern": WORD } }),
        ),
        ("OrchestrateRequest.include", json!({ "items": among(&INCLUDES) })),
        ("OrchestrateRequest.stream", json!({ "type": "null" })),
        ("Redaction.style", among_or_null(&Style::NAMES)),
        ("Context.documents", at_most),
        ("DetectorWishes.only", detectors.clone()),
        ("DetectorWishes.add", detectors.clone()),
        ("DetectorWishes.exclude", detectors),
        ("DetectorWishes.params", of_detector),
        (
            "DetectorWishes.thresholds",
            json!({ "additionalProperties": { "type": "number", "minimum": 0, "maximum": 1 } }),
        ),
        ("Part/oneOf/0", closed.clone()),
        ("Part/oneOf/1", closed.clone()),
        ("Part/oneOf/2", closed),
        ("Message.role", among(&SPEAKERS)),
        ("Message.tool_call_id", matching(IDENTIFIER)),
        ("ToolCall.id", matching(IDENTIFIER)),
        ("FunctionCall.name", matching(IDENTIFIER)),
        ("BatchRequest.requests", json!({ "minItems": 1, "maxItems": 100 })),
        (
            "Acknowledgement.ids",
            json!({ "items": { "type": "string", "pattern": "^[0-9a-f]{64}$" } }),
        ),
    ]
}

/// `POST /jobs`.
fn jobs() -> Vec<(&'static str, Value)> {
    let of = |job_type: &str, body: &str| {
        let data = json!({ "$ref": format!("#/components/schemas/{body}") });
        json!({ "properties": { "job_type": { "const": job_type }, "job_data": data } })
    };
    let all = [of("orchestrate", "OrchestrateRequest"), of("batch", "BatchRequest")];
    let names = JobType::ALL.iter().map(|known| known.name()).collect::<Vec<_>>();
    vec![
        ("JobRequest", json!({ "oneOf": all })),
        ("JobRequest.job_type", among(&names)),
        ("JobRequest.priority", among_or_null(&Priority::ALL.map(Priority::name))),
        ("JobRequest.callback_url", json!({ "format": "uri" })),
        ("JobRequest.not_before", json!({ "format": "date-time" })),
    ]
}

/// Everything else that takes a body.
fn administration() -> Vec<(&'static str, Value)> {
    let names = |names: Vec<&str>| json!({ "minItems": 1, "items": among(&names) });
    let some =
        |field: &str| json!({ "required": [field], "properties": { field: { "type": "array" } } });
    let most = json!({ "maximum": 1_000_000_000 });
    let absent = json!({ "type": "null" });
    let mut all = vec![
        ("KeyRequest", json!({ "anyOf": [some("roles"), some("scopes")] })),
        ("KeyRequest.label", matching(LABEL)),
        ("KeyRequest.tenant", matching(TenantId::PATTERN)),
        ("KeyRequest.roles", names(Role::ALL.iter().map(|role| role.name()).collect())),
        ("KeyRequest.scopes", names(Scope::ALL.iter().map(|scope| scope.name()).collect())),
        ("KeyRequest.max_priority", among_or_null(&Priority::ALL.map(Priority::name))),
        ("QuotaRequest.requests_per_hour", most.clone()),
        ("QuotaRequest.jobs_per_day", most.clone()),
        ("QuotaRequest.concurrent", most),
        (
            "CredentialRequest.type",
            among(&["none", "api_key", "bearer_token", "basic_auth", "oauth2"]),
        ),
        ("EventStrategy.event", matching(WORD)),
        ("EventStrategy.aliases", json!({ "items": { "type": "string", "pattern": WORD } })),
        (
            "EventStrategy.detectors",
            json!({ "items": { "type": "string", "pattern": DetectorName::PATTERN } }),
        ),
        ("EventStrategy.execution", among(&EXECUTIONS)),
        ("EventStrategy.stop_on", among(&STOPS)),
        ("EventStrategy.source", among(&["file", "stored"])),
        ("StrategiesRequest.strategies", json!({ "maxItems": 200 })),
        ("EvaluateRequest.point", among(&["plan", "conflict", "verdict"])),
        ("EvaluateRequest.policy", matching(BundleName::PATTERN)),
        ("ValidateRequest.policy", matching(BundleName::PATTERN)),
        (
            "ValidateRequest",
            json!({ "oneOf": [
                { "required": ["policy"], "properties": {
                    "policy": { "type": "string" }, "modules": absent, "data": absent, "cases": absent } },
                { "required": ["modules"], "properties": {
                    "modules": { "type": "array" }, "policy": absent, "results": absent } },
            ] }),
        ),
        ("OverlayRequest.modules", json!({ "maxItems": 32 })),
        ("PolicyDraft.modules", json!({ "maxItems": 32 })),
        ("OverlayRequest.reason", json!({ "maxLength": 500 })),
        ("Rollback.reason", json!({ "maxLength": 500 })),
    ];
    all.extend(evidence());
    let pointers = [
        "CredentialRequest.reason",
        "DetectorRequest.reason",
        "Intervention.reason",
        "KeyRequest.reason",
        "PauseRequest.reason",
        "QuotaRequest.reason",
        "Review.reason",
        "Rotation.reason",
        "StrategiesRequest.reason",
        "TenantRequest.reason",
    ];
    all.extend(pointers.map(|pointer| (pointer, reason())));
    all
}

/// `POST /evidence/{id}/verify`.
fn evidence() -> Vec<(&'static str, Value)> {
    let checked = json!({ "type": ["boolean", "string"], "enum": [true, false, "not_checked"] });
    let parts = json!({ "type": ["string", "array", "null"], "items": { "type": "object" } });
    vec![
        ("Checks.content_hash", checked.clone()),
        ("Checks.signature", checked.clone()),
        ("Checks.chain_of_custody", checked.clone()),
        ("Checks.timestamp", checked.clone()),
        ("Checks.inclusion", checked),
        ("VerifyRequest.content", parts),
        ("VerifyRequest.salt", matching(HASH)),
    ]
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::domain::content::{self, ContentType, Direction};
    use crate::domain::plan::{Execution, StopOn};
    use crate::domain::request::Include;
    use crate::domain::span::OffsetUnit;

    #[test]
    fn every_constraint_finds_its_place() {
        let document: Value = serde_json::from_str(&crate::api::openapi()).unwrap();
        for (pointer, said) in fields() {
            let schema = document.pointer(&format!("/components/schemas/{pointer}"));
            let schema = schema.unwrap_or_else(|| panic!("nothing is called {pointer}"));
            for (key, value) in said.as_object().unwrap() {
                assert_eq!(schema.get(key), Some(value), "{pointer}");
            }
        }
    }

    /// serde names every variant when it meets an unknown one.
    fn check<T: DeserializeOwned>(names: &[&str]) {
        let Err(error) = serde_json::from_str::<T>("\"?\"") else { panic!("{names:?}") };
        let error = error.to_string();
        let known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, names);
    }

    #[test]
    fn closed_sets_are_those_that_are_read() {
        check::<Execution>(&EXECUTIONS);
        check::<StopOn>(&STOPS);
        check::<Direction>(&DIRECTIONS);
        check::<ContentType>(&CONTENT_TYPES);
        check::<content::Role>(&SPEAKERS);
        check::<OffsetUnit>(&OFFSETS);
        check::<Include>(&INCLUDES);
        check::<Style>(&Style::NAMES);
    }
}
