//! One tenant file as typed values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Signing;
use crate::domain::action::Action;
use crate::domain::head::TenantFacts;
use crate::domain::id::{BundleName, DetectorName, TenantId};
use crate::domain::overlap::Rule;
use crate::domain::plan::CoverageSpec;
use crate::domain::redaction::Style;
use crate::domain::request::Priority;
use crate::domain::verdict::Mode;
use crate::outbound::Allow;
use crate::settings::{Rate, Tier};

/// Days that records are kept, unless a tenant says otherwise.
pub const RETENTION_DAYS: u32 = 365;

/// A tenant as its file describes it, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// Equal to the file's name.
    pub id: TenantId,
    /// What policies may know of it.
    pub facts: TenantFacts,
    /// What its tier includes, under its own weight.
    pub tier: Tier,
    /// How often it may ask; `None` takes the setting.
    pub rate_limit: Option<Rate>,
    /// Bundles it may use, never empty.
    pub policies: Vec<BundleName>,
    /// Used when the request names none.
    pub default_policy: BundleName,
    /// Enforce or monitor.
    pub mode: Mode,
    /// Used when the plan point fails; `None` requires every visible detector.
    pub default_plan: Option<DefaultPlan>,
    /// Detectors it may use: names or `*`.
    pub detectors: BTreeSet<String>,
    /// Per category or `*`, under the plan's.
    pub thresholds: BTreeMap<String, f64>,
    /// The least action of an incomplete answer.
    pub on_incomplete: Action,
    /// The action when the verdict point fails: review or block.
    pub fail_mode: Action,
    /// Whether a failed plan point raises the action to review.
    pub on_plan_failure: OnPlanFailure,
    /// Deadlines per priority.
    pub sla: Sla,
    /// Most urgent priority it may ask for.
    pub max_priority: Priority,
    /// Longest content in code points; `None` takes the setting.
    pub content_max_chars: Option<usize>,
    /// How text that must go is replaced.
    pub redaction: Redaction,
    /// Networks that the tenant's credentials may be used from; empty: from everywhere.
    pub allow_ips: Vec<Allow>,
    /// Whether and how the tenant's requests are signed.
    pub signing: Signing,
    /// How durable its decisions' records are.
    pub audit: AuditMode,
    /// Days that records of decisions are kept, 1 to 3650.
    pub retention_days: u32,
    /// Whether its requests become jobs where they take long, as if each asked for it.
    pub prefer_async: bool,
    /// True when its file says that every request is refused.
    pub paused: bool,
    /// Where the definition came from.
    pub source: String,
}

/// How durable the record of a decision is when its answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditMode {
    /// It is durable, or there is no answer.
    Strict,
    /// It is durable within 100 ms.
    #[default]
    Standard,
    /// There is none.
    Off,
}

/// What happens to the action when the plan point fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnPlanFailure {
    /// At least review.
    #[default]
    Review,
    /// The verdict alone decides.
    Accept,
}

/// The plan used when the plan point fails.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DefaultPlan {
    /// Required detectors.
    pub required: BTreeSet<DetectorName>,
    /// Optional detectors.
    pub optional: BTreeSet<DetectorName>,
    /// Coverage wanted.
    pub coverage: CoverageSpec,
}

/// Deadlines in milliseconds per priority; `None` takes the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sla {
    /// Critical.
    pub critical_ms: Option<u64>,
    /// Normal and high.
    pub normal_ms: Option<u64>,
    /// Low and batch.
    pub low_ms: Option<u64>,
}

/// How text that must go is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Redaction {
    /// What stands in its place, unless the request says so.
    pub style: Style,
    /// Whose label stands for overlapping findings.
    pub rule: Rule,
}

/// Tenants by id.
pub type Tenants = BTreeMap<TenantId, Arc<Tenant>>;
