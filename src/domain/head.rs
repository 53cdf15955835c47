//! The head of every policy document: who asks what, without content.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::content::{ContentType, Direction};
use super::id::{BundleName, DetectorName, TenantId};
use super::request::Priority;

/// Facts that all decision points see. Equal heads give equal plans.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The tenant.
    pub tenant: TenantFacts,
    /// The bundle that decides.
    pub bundle: BundleName,
    /// `development`, `staging` or `production`.
    pub env: &'static str,
    /// The request.
    pub request: RequestFacts,
    /// What the policy asks for beyond that; empty for most.
    pub opt_in: OptIn,
}

/// Facts that a policy sees only if it names them, so that they spoil no memo.
#[derive(Clone, PartialEq, Default)]
pub struct OptIn {
    /// The request's metadata.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// Who asks.
    pub caller: Option<CallerFacts>,
    /// The judged text, parts joined by line ends. Never logged, memoised or recorded.
    pub content: Option<Arc<str>>,
    /// Code points of all judged parts.
    pub content_length: Option<usize>,
    /// BCP 47, as the request says.
    pub language: Option<String>,
    /// How each visible detector fares.
    pub health: BTreeMap<DetectorName, Health>,
}

/// What policies may know of a caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallerFacts {
    /// Its roles.
    pub roles: Vec<String>,
    /// Its scopes.
    pub scopes: Vec<String>,
}

/// How a detector fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// False when probes say that it does not answer.
    pub healthy: bool,
    /// The breaker's state.
    pub breaker: &'static str,
    /// 95th percentile in milliseconds, rounded up in steps of 1, 2, 5.
    pub p95_ms: Option<u64>,
}

impl std::fmt::Debug for OptIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OptIn").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// What policies may know of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantFacts {
    /// Its id.
    pub id: TenantId,
    /// Its tier.
    pub tier: Arc<str>,
    /// Its labels, shared with the tenant file.
    pub labels: Arc<BTreeMap<String, String>>,
}

/// What policies may know of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestFacts {
    /// Kind of content.
    pub content_type: ContentType,
    /// Which way it flows.
    pub direction: Direction,
    /// Roles of the judged messages, distinct, sorted.
    pub roles: Vec<&'static str>,
    /// Names of tools called or offered, distinct, sorted.
    pub tool_names: Vec<String>,
    /// Whether `context` was sent.
    pub has_context: bool,
    /// Priority.
    pub priority: Priority,
    /// Event.
    pub event: Option<String>,
    /// Contexts.
    pub contexts: Vec<String>,
    /// `detectors.only`.
    pub only: Vec<DetectorName>,
    /// `detectors.add`.
    pub add: Vec<DetectorName>,
    /// `detectors.exclude`.
    pub exclude: Vec<DetectorName>,
    /// `detectors.thresholds`.
    pub thresholds: BTreeMap<String, f64>,
}
