//! What policies, plans and detectors are told about a request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Deps, Run};
use crate::auth::Caller;
use crate::catalog::{Detector, Tenant};
use crate::detect::{Detectors, HealthState, Standing};
use crate::domain::content::{Body, ContentType, Direction, Judge, Piece};
use crate::domain::error::{Code, Error};
use crate::domain::head::{CallerFacts, Head, Health, OptIn, RequestFacts};
use crate::domain::id::{BundleName, DetectorName};
use crate::domain::outcome::Degraded;
use crate::domain::plan::Plan;
use crate::domain::report::{Report, ReportError};
use crate::domain::request::{Priority, Request};
use crate::policy::View;
use crate::snapshot::Snapshot;

/// The view of `tenant` under the policy it asks for, or under its default.
pub fn view_of<'a>(
    snapshot: &'a Snapshot,
    tenant: &Tenant,
    policy: Option<&BundleName>,
) -> Result<&'a Arc<View>, Error> {
    let bundle = policy.unwrap_or(&tenant.default_policy);
    if !tenant.policies.contains(bundle) {
        let known = snapshot.policies.bundles().any(|name| name == bundle);
        let allowed: Vec<&str> = tenant.policies.iter().map(BundleName::as_str).collect();
        let (code, fault, what) = if known {
            (Code::PolicyNotAllowed, "not_allowed", "is not among the tenant's policies")
        } else {
            (Code::PolicyNotFound, "unknown_policy", "does not exist")
        };
        let detail = format!("`{bundle}` {what}; use one of: {}", allowed.join(", "));
        return Err(Error::field(code, "/policy", fault, detail));
    }
    snapshot.policies.view(&tenant.id, bundle).ok_or_else(|| {
        let detail = format!("`{bundle}` does not exist");
        Error::field(Code::PolicyNotFound, "/policy", "unknown_policy", detail)
    })
}

/// The head of every policy document.
pub(super) fn head(
    deps: &Deps,
    tenant: &Tenant,
    view: &View,
    (request, opt_in): (&Request, OptIn),
) -> Head {
    let (roles, tool_names) = conversation(request);
    Head {
        tenant: tenant.facts.clone(),
        bundle: view.bundle().clone(),
        env: deps.settings.env.name(),
        request: RequestFacts {
            content_type: request.content_type,
            direction: request.direction,
            roles,
            tool_names,
            has_context: request.context.prompt.is_some() || !request.context.documents.is_empty(),
            priority: request.priority,
            event: request.event.clone(),
            contexts: request.contexts.clone(),
            only: request.detectors.only.clone(),
            add: request.detectors.add.clone(),
            exclude: request.detectors.exclude.clone(),
            thresholds: request.detectors.thresholds.clone(),
        },
        opt_in,
    }
}

/// The head of a request that says nothing about itself.
pub fn plain_head(deps: &Deps, tenant: &Tenant, view: &View) -> Head {
    Head {
        tenant: tenant.facts.clone(),
        bundle: view.bundle().clone(),
        env: deps.settings.env.name(),
        request: RequestFacts {
            content_type: ContentType::Text,
            direction: Direction::Input,
            roles: Vec::new(),
            tool_names: Vec::new(),
            has_context: false,
            priority: Priority::Normal,
            event: None,
            contexts: Vec::new(),
            only: Vec::new(),
            add: Vec::new(),
            exclude: Vec::new(),
            thresholds: BTreeMap::new(),
        },
        opt_in: OptIn::default(),
    }
}

/// What the view's rules name beyond what every policy sees.
pub(super) fn opt_in(
    view: &View,
    (caller, request, pieces): (&Caller, &Request, &[Piece]),
    health: impl FnOnce() -> BTreeMap<DetectorName, Health>,
) -> OptIn {
    let content = || {
        let texts: Vec<&str> = pieces.iter().filter_map(|piece| piece.text.as_deref()).collect();
        texts.join("\n").into()
    };
    let length = || pieces.iter().map(|piece| piece.chars).sum();
    OptIn {
        metadata: view.reads("metadata").then(|| request.metadata.clone()),
        caller: view.reads("caller").then(|| CallerFacts {
            roles: caller.roles.iter().map(|role| role.name().to_owned()).collect(),
            scopes: caller.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
        }),
        content: view.reads("content").then(content),
        content_length: view.reads("content_length").then(length),
        language: request.language.clone().filter(|_| view.reads("language")),
        health: if view.reads("health") { health() } else { BTreeMap::new() },
    }
}

/// How the detectors fare now.
pub(super) fn health<'a>(
    detectors: &Detectors,
    seen: impl Iterator<Item = &'a Arc<Detector>>,
) -> BTreeMap<DetectorName, Health> {
    let of = |detector: &Arc<Detector>| {
        let unhealthy = detectors.health(detector).state == HealthState::Unhealthy;
        Health {
            healthy: !unhealthy && detectors.standing(detector) == Standing::Active,
            breaker: detectors.breaker(detector).name(),
            p95_ms: detectors.p95(detector).map(|took| step(took.as_millis())),
        }
    };
    seen.map(|detector| (detector.name.clone(), of(detector))).collect()
}

/// How long the plan will take by what was observed: the largest 95th percentile among its required
/// detectors; `None` before one of them answered often enough. Never from configured time-outs.
pub(super) fn projected(run: &Run<'_>, plan: &Plan) -> Option<Duration> {
    let required = plan.required.iter().filter_map(|name| run.seen.detectors.get(name));
    required.filter_map(|detector| run.deps.detectors.p95(detector)).max()
}

/// The next of 1, 2, 5, 10, 20, 50 and so on: few values, so that answers can be used again.
fn step(ms: u128) -> u64 {
    let steps = (0..9).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)));
    steps.into_iter().find(|step| u128::from(*step) >= ms).unwrap_or(u64::MAX)
}

fn conversation(request: &Request) -> (Vec<&'static str>, Vec<String>) {
    let mut roles = BTreeSet::new();
    let mut tools = BTreeSet::new();
    if let Body::Messages(messages) = &request.body {
        let first = match request.judge {
            Judge::Last => messages.len().saturating_sub(1),
            Judge::All => 0,
        };
        for message in messages.iter().skip(first) {
            roles.insert(message.role.name());
            tools.extend(message.tool_calls.iter().map(|call| call.function.name.clone()));
        }
    }
    for tool in &request.tools {
        let name = tool.pointer("/function/name").or_else(|| tool.get("name"));
        tools.extend(name.and_then(|name| name.as_str()).map(str::to_owned));
    }
    (roles.into_iter().collect(), tools.into_iter().collect())
}

/// How long the whole request may take.
pub fn budget(deps: &Deps, tenant: &Tenant, request: &Request) -> Duration {
    let milliseconds = request.timeout_ms.unwrap_or_else(|| own_budget(deps, tenant, request));
    Duration::from_millis(milliseconds.clamp(10, 300_000))
}

/// The same in milliseconds where the request says nothing.
fn own_budget(deps: &Deps, tenant: &Tenant, request: &Request) -> u64 {
    let sla = &deps.settings.orchestration.sla;
    match request.priority {
        Priority::Critical => tenant.sla.critical_ms.unwrap_or(sla.critical_ms),
        Priority::High | Priority::Normal => tenant.sla.normal_ms.unwrap_or(sla.normal_ms),
        Priority::Low | Priority::Batch => tenant.sla.low_ms.unwrap_or(sla.low_ms),
    }
}

/// A detector that nobody requires and that did not answer only because the request gave less time
/// than its tenant does: who hurries must not thereby escape it.
pub(super) fn hurried(run: &Run<'_>, plan: &Plan, reports: &[Report]) -> Option<Degraded> {
    let given = run.request.timeout_ms?;
    if given >= own_budget(run.deps, run.tenant, run.request) {
        return None;
    }
    let late = |report: &&Report| {
        let cut = report.cut_by_deadline || report.error == Some(ReportError::Deadline);
        cut && !plan.required.contains(&report.detector)
    };
    let detector = &reports.iter().find(late)?.detector;
    let why = format!("`{detector}` did not answer within the request's {given} ms");
    Some(Degraded { what: "timeout_ms", why })
}
