//! One detector's answer in one orchestration, or why there is none.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::finding::Finding;
use super::id::DetectorName;
use super::span::Span;

/// How the call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It answered.
    Success,
    /// It answered badly or could not be reached.
    Failed,
    /// It did not answer in time.
    Timeout,
    /// It was not asked because it is known not to serve.
    Unavailable,
    /// It was not asked because it cannot or need not judge this.
    Skipped,
}

impl Status {
    /// The name in the API, in Rego and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Status::Success => "success",
            Status::Failed => "failed",
            Status::Timeout => "timeout",
            Status::Unavailable => "unavailable",
            Status::Skipped => "skipped",
        }
    }
}

/// Why a report is no success. Time-outs carry none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportError {
    /// The reply broke the protocol or a bound (failed).
    BadResponse,
    /// Connect, TLS or 5xx trouble (failed).
    Communication,
    /// A 4xx reply (failed).
    Rejected,
    /// Its breaker is open (unavailable).
    CircuitOpen,
    /// Its bulkhead and queue are full (unavailable).
    BulkheadFull,
    /// Its health probe fails (unavailable).
    Unhealthy,
    /// The guard refuses its address (unavailable).
    EndpointForbidden,
    /// No detector of that name exists (unavailable).
    NotRegistered,
    /// Too little of the request's time is left (skipped).
    Deadline,
    /// The text exceeds what it can judge (skipped).
    TooLong,
    /// It cannot judge this kind of content (skipped).
    UnsupportedContentType,
    /// The decision stood before it was asked (skipped).
    Decided,
}

impl ReportError {
    /// The name in the API, in Rego and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            ReportError::BadResponse => "bad_response",
            ReportError::Communication => "communication",
            ReportError::Rejected => "rejected",
            ReportError::CircuitOpen => "circuit_open",
            ReportError::BulkheadFull => "bulkhead_full",
            ReportError::Unhealthy => "unhealthy",
            ReportError::EndpointForbidden => "endpoint_forbidden",
            ReportError::NotRegistered => "not_registered",
            ReportError::Deadline => "deadline",
            ReportError::TooLong => "too_long",
            ReportError::UnsupportedContentType => "unsupported_content_type",
            ReportError::Decided => "decided",
        }
    }

    /// The status that belongs to the error.
    pub fn status(self) -> Status {
        match self {
            ReportError::BadResponse | ReportError::Communication | ReportError::Rejected => {
                Status::Failed
            }
            ReportError::CircuitOpen
            | ReportError::BulkheadFull
            | ReportError::Unhealthy
            | ReportError::EndpointForbidden
            | ReportError::NotRegistered => Status::Unavailable,
            ReportError::Deadline
            | ReportError::TooLong
            | ReportError::UnsupportedContentType
            | ReportError::Decided => Status::Skipped,
        }
    }
}

/// A piece, or the rest of one, that the detector did not judge although it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Index into the request's pieces.
    pub piece: usize,
    /// Which characters of it; `None` is the whole piece, or nobody knows.
    pub span: Option<Span>,
    /// How many characters that is.
    pub chars: usize,
    /// Why.
    pub reason: ReportError,
}

/// One detector's answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Who.
    pub detector: DetectorName,
    /// Which version of it.
    pub version: Arc<str>,
    /// How it ended.
    pub status: Status,
    /// Why not; `None` for success and for a plain time-out.
    pub error: Option<ReportError>,
    /// True for a time-out that the request's deadline caused, not the detector's own time-out.
    pub cut_by_deadline: bool,
    /// How long it asks to be left alone, where it refused the text or a part of it only for now; zero
    /// where it did not say.
    pub rest: Option<Duration>,
    /// What people should know of the error; never text of the reply.
    pub detail: Option<Arc<str>>,
    /// The reply's own label.
    pub label: Option<Arc<str>>,
    /// The reply's own score, 0..=1.
    pub score: Option<f64>,
    /// What it found, unfiltered.
    pub findings: Vec<Finding>,
    /// What it left out; meaningful for `Success` only.
    pub gaps: Vec<Gap>,
    /// Tries, 0 when nothing was sent.
    pub attempts: u32,
    /// Whether the answer came from an equal call of another request that was under way.
    pub coalesced: bool,
    /// From asked to answered.
    pub duration: Duration,
}

impl Report {
    /// A report of a call that was never sent.
    pub fn unsent(detector: DetectorName, version: Arc<str>, error: ReportError) -> Report {
        Report {
            detector,
            version,
            status: error.status(),
            error: Some(error),
            cut_by_deadline: false,
            rest: None,
            detail: None,
            label: None,
            score: None,
            findings: Vec::new(),
            gaps: Vec::new(),
            attempts: 0,
            coalesced: false,
            duration: Duration::ZERO,
        }
    }

    /// Whether the detector answered.
    pub fn answered(&self) -> bool {
        self.status == Status::Success
    }

    /// Whether the decision stood before the detector answered.
    pub fn is_decided(&self) -> bool {
        self.error == Some(ReportError::Decided)
    }

    /// The reason shown in `unjudged`: the error, else the status.
    pub fn reason(&self) -> &'static str {
        self.error.map_or(self.status.name(), ReportError::name)
    }
}
