//! What is kept of an answer, to give it again byte for byte: all but the caller's own content, which
//! its repetition brings along.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::problem::Problem;
use crate::api::wire::job::AcceptedJob;
use crate::domain::content::Body;
use crate::domain::outcome::Outcome;
use crate::domain::redaction::{Edits, Redacted};

/// Before this the redacted content stands; what comes earlier holds no text of anybody.
const BEHIND: &str = ",\"reasons\":";

/// An answer without content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::api) struct Kept {
    pub(in crate::api) status: u16,
    /// Beyond those that every answer has.
    headers: Vec<(String, String)>,
    /// JSON, less the redacted content.
    body: String,
    is_problem: bool,
    /// How the caller's content is redacted, where the answer holds it.
    edits: Option<Edits>,
}

impl Kept {
    /// Of the answer to `outcome`, written without the redacted content.
    pub(in crate::api) fn answer(
        bare: &impl Serialize,
        outcome: &Outcome,
        status: u16,
        headers: Vec<(String, String)>,
    ) -> Option<Kept> {
        let edits = match &outcome.redacted {
            Some(redacted) => Some(redacted.edits.clone()?),
            None => None,
        };
        Some(Kept { status, headers, body: json(bare), is_problem: false, edits })
    }

    /// Of a request that became a job.
    pub(in crate::api) fn accepted(job: &AcceptedJob) -> Kept {
        let headers = vec![("location".to_owned(), job.status_url.clone())];
        Kept { status: 202, headers, body: json(job), is_problem: false, edits: None }
    }

    /// Of a refusal that will not change.
    pub(in crate::api) fn problem(problem: &Problem<'_>) -> Kept {
        let (status, body) = (problem.status, json(problem));
        Kept { status, headers: Vec::new(), body, is_problem: true, edits: None }
    }

    /// Whether the answer holds the caller's content.
    pub(in crate::api) fn needs_content(&self) -> bool {
        self.edits.is_some()
    }

    /// The answer, with the content of `sent` redacted as before.
    pub(in crate::api) fn response(self, sent: &Body) -> HttpResponse {
        let kind = if self.is_problem { "application/problem+json" } else { "application/json" };
        let redacted = self.redacted(Some(sent));
        let mut body = self.body;
        if let (Some(redacted), Some(at)) = (redacted, body.find(BEHIND)) {
            let content = json(&redacted.body);
            let originals = redacted.originals.as_ref().map(json);
            let originals = originals.map(|json| format!(",\"redactions\":{json}"));
            let field = redacted.body.field();
            let parts = format!(",\"{field}\":{content}{}", originals.unwrap_or_default());
            body.insert_str(at, &parts);
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let mut response = HttpResponse::build(status).content_type(kind).body(body);
        let replayed = ("idempotent-replayed".to_owned(), "true".to_owned());
        for (name, value) in self.headers.into_iter().chain([replayed]) {
            // What is none was left out of the first answer too.
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    /// The same inside a batch: the answer or the problem.
    pub(in crate::api) fn value(&self, sent: Option<&Body>) -> Result<Value, Value> {
        let mut value: Value = serde_json::from_str(&self.body).unwrap_or_default();
        if self.is_problem {
            return Err(value);
        }
        if let (Some(redacted), Some(answer)) = (self.redacted(sent), value.as_object_mut()) {
            let content = serde_json::to_value(&redacted.body).unwrap_or_default();
            answer.insert(redacted.body.field().to_owned(), content);
            if let Some(originals) = redacted.originals {
                answer.insert("redactions".to_owned(), serde_json::json!(originals));
            }
        }
        Ok(value)
    }

    fn redacted(&self, sent: Option<&Body>) -> Option<Redacted> {
        Some(self.edits.as_ref()?.apply(sent?))
    }
}

/// Texts and maps of them always serialise.
fn json(part: &impl Serialize) -> String {
    serde_json::to_string(part).unwrap_or_default()
}
