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
