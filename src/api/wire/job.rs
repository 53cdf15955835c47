//! Jobs, as they are sent and shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::routes::policies::overlay::time;
use crate::api::strict;
use crate::domain::job::{JobError, Transition};
use crate::store::{Attempt, Job};

/// A job that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// orchestrate or batch.
    pub job_type: String,
    /// The body of `POST /orchestrate` or of `POST /orchestrate/batch`.
    #[schema(value_type = Object)]
    pub job_data: strict::Value,
    /// critical, high, normal, low or batch; by default that of the request, of a batch `batch`.
    pub priority: Option<String>,
    /// Where the end is told: https, or what the deployment opens.
    #[schema(max_length = 2048)]
    pub callback_url: Option<String>,
    /// Not to be begun before, RFC 3339; at most 30 days ahead.
    pub not_before: Option<String>,
}

/// A job that was taken in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AcceptedJob {
    /// Its id.
    pub job_id: String,
    /// queued, or running where a request became a job on its way.
    pub state: String,
    /// How long it takes by what was observed; null where nothing was.
    pub estimated_ms: Option<f64>,
    /// Where it stands.
    pub status_url: String,
    /// Where there is a callback: what signs it, shown here alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_secret: Option<String>,
}

impl AcceptedJob {
    /// Of `job`.
    pub fn of(job: &Job, estimated_ms: Option<f64>, callback_secret: Option<String>) -> Self {
        AcceptedJob {
            job_id: job.of.id.to_string(),
            state: job.state.name().to_owned(),
            estimated_ms,
            status_url: format!("/api/v1/jobs/{}", job.of.id),
            callback_secret,
        }
    }
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub struct JobView {
    /// Its id.
    pub job_id: String,
    /// queued, running, paused, completed, failed or cancelled.
    pub state: &'static str,
    /// orchestrate or batch.
    pub job_type: &'static str,
    /// critical, high, normal, low or batch.
    pub priority: &'static str,
    /// Tries that count, the running one included.
    pub attempts: u32,
    /// From 0 to 1.
    pub progress: f64,
    /// RFC 3339 UTC.
    pub created_at: String,
    /// Of its last move, RFC 3339 UTC.
    pub updated_at: String,
    /// RFC 3339 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// What `job_data`'s route would have answered; of completed jobs, for 24 hours, where one job is
    /// asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub result: Option<serde_json::Value>,
    /// Why the last try failed, or the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JobFault>,
}

/// Why a try failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobFault {
    /// A code of the API, or of coverage.
    pub code: String,
    /// For people.
    pub message: String,
}

impl From<JobError> for JobFault {
    fn from(error: JobError) -> Self {
        JobFault { code: error.code, message: error.message }
    }
}

impl JobView {
    /// What may be shown of `job`.
    pub fn of(job: &Job, result: Option<serde_json::Value>) -> JobView {
        JobView {
            job_id: job.of.id.to_string(),
            state: job.state.name(),
            job_type: job.job_type.name(),
            priority: job.priority.name(),
            attempts: job.attempts,
            progress: job.progress,
            created_at: time(job.created_at_ms),
            updated_at: time(job.updated_at_ms),
            not_before: job.not_before_ms.map(time),
            result,
            error: job.error.clone().map(JobFault::from),
        }
    }
}

/// Jobs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobList {
    /// Without results.
    pub jobs: Vec<JobView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// Tries of a job.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attempts {
    /// In order.
    pub attempts: Vec<AttemptView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// One try.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptView {
    /// Among those that count; one that was paused or handed back does not, and its number comes again.
    pub number: u32,
    /// Which instance's life.
    pub worker: String,
    /// RFC 3339 UTC.
    pub started_at: String,
    /// RFC 3339 UTC; null while it goes on.
    pub ended_at: Option<String>,
    /// completed, failed, retried, paused, cancelled, handed_back or lost; null while it goes on.
    pub ended: Option<&'static str>,
    /// Why, where it failed.
    pub error: Option<JobFault>,
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        let ended = attempt.ended;
        AttemptView {
            number: attempt.number,
            worker: attempt.worker.to_string(),
            started_at: time(attempt.started_at_ms),
            ended_at: ended.as_ref().map(|ended| time(ended.at_ms)),
            ended: ended.as_ref().map(|ended| ended.how.name()),
            error: ended.and_then(|ended| ended.error).map(JobFault::from),
        }
    }
}

/// Moves of a job.
#[derive(Debug, Serialize, ToSchema)]
pub struct Transitions {
    /// In order.
    pub transitions: Vec<TransitionView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// One move.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transition)]
pub struct TransitionView {
    /// From 1 without gaps.
    pub number: u64,
    /// Null where the job was made.
    pub from: Option<&'static str>,
    /// Where it stood then.
    pub to: &'static str,
    /// RFC 3339 UTC.
    pub at: String,
    /// Who.
    pub actor: String,
    /// Why; may be empty.
    pub reason: String,
}

impl From<Transition> for TransitionView {
    fn from(moved: Transition) -> Self {
        TransitionView {
            number: moved.number,
            from: moved.from.map(|state| state.name()),
            to: moved.to.name(),
            at: time(moved.at_ms),
            actor: moved.actor,
            reason: moved.reason,
        }
    }
}

/// What jobs there are.
#[derive(Debug, Serialize, ToSchema)]
pub struct Workflows {
    /// Every type.
    pub workflows: Vec<Workflow>,
}

/// One type of job.
#[derive(Debug, Serialize, ToSchema)]
pub struct Workflow {
    /// Its name in `job_type`.
    pub job_type: &'static str,
    /// What it carries out.
    pub description: &'static str,
    /// The route whose body is its `job_data`.
    pub job_data: &'static str,
    /// Where a job may go from where; the moves that callers may ask for.
    #[schema(value_type = Object)]
    pub transitions: std::collections::BTreeMap<&'static str, Vec<&'static str>>,
}
