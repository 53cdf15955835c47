//! Results that a caller brings, held against a policy (`POST /policies/validate`, mode A).

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Api;
use super::strict::{self, Object};
use super::wire::request::{Bounds, OrchestrateRequest};
use crate::domain::action::Action;
use crate::domain::category::Category;
use crate::domain::error::{Code, Error};
use crate::domain::finding::{Finding, Severity};
use crate::domain::id::{BundleName, DetectorName, RequestId, TenantId};
use crate::domain::report::{Report, Status};
use crate::orchestrator;
use crate::snapshot::Snapshot;

/// One detector's result.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultIn {
    detector: DetectorName,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    score: Option<f64>,
    #[serde(default)]
    findings: Vec<Object<FindingIn>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FindingIn {
    category: Category,
    label: String,
    score: f64,
    #[serde(default)]
    severity: Severity,
}

/// What the policy says to the results.
#[derive(Debug, Serialize)]
pub(super) struct Validation {
    is_valid: bool,
    action: Action,
    violations: Vec<Violation>,
    recommendations: Vec<String>,
    revision: String,
}

#[derive(Debug, Serialize)]
struct Violation {
    policy_id: String,
    violation_type: String,
    message: String,
    severity: &'static str,
}

/// Decides on `results` under `policy` of `tenant`.
pub(super) async fn against(
    api: &Api,
    snapshot: &Snapshot,
    (tenant, policy): (TenantId, &BundleName),
    results: Vec<serde_json::Value>,
) -> Result<Validation, Error> {
    let results: Vec<Object<ResultIn>> =
        strict::of_value(results.into()).map_err(|mut error| {
            for detail in &mut error.details {
                detail.pointer = format!("/results{}", detail.pointer);
            }
            error
        })?;
    for (index, Object(result)) in results.iter().enumerate() {
        let scores =
            result.findings.iter().map(|Object(finding)| finding.score).chain(result.score);
        if !scores.into_iter().all(|score| (0.0..=1.0).contains(&score)) {
            let pointer = format!("/results/{index}");
            let detail = "holds a score outside 0 to 1";
            return Err(Error::field(Code::InvalidRequest, &pointer, "out_of_range", detail));
        }
    }
    let reports: Vec<Report> = results.into_iter().map(|Object(result)| report(result)).collect();
    // The content is not known; one character stands for it.
    let mut wire = OrchestrateRequest::of_text("-");
    wire.policy = Some(policy.to_string());
    let id = RequestId::parse("validate")
        .map_err(|error| Error::new(Code::InternalError, error.to_string()))?;
    let request = wire.into_domain(id, tenant, Bounds { content_chars_max: 1 })?;
    let held = orchestrator::hold(&api.deps, snapshot, &request, reports).await?;
    let verdict = held.verdict;
    let violations: Vec<Violation> = verdict
        .reasons
        .iter()
        .map(|reason| Violation {
            policy_id: policy.to_string(),
            violation_type: reason.code.clone(),
            message: reason.message.clone(),
            severity: severity(verdict.action),
        })
        .collect();
    let missing = held.coverage.missing.iter();
    Ok(Validation {
        is_valid: verdict.action == Action::Allow,
        action: verdict.action,
        violations,
        recommendations: missing
            .map(|name| format!("add a result of `{name}`: the policy requires it"))
            .collect(),
        revision: snapshot.revision.clone(),
    })
}

fn severity(action: Action) -> &'static str {
    match action {
        Action::Allow | Action::Flag => "low",
        Action::Redact => "medium",
        Action::Review => "high",
        Action::Block => "critical",
    }
}

fn report(result: ResultIn) -> Report {
    let finding = |Object(finding): Object<FindingIn>| Finding {
        category: finding.category,
        label: finding.label.into(),
        score: finding.score,
        severity: finding.severity,
        place: None,
        view: None,
        attributes: std::collections::BTreeMap::new(),
    };
    Report {
        detector: result.detector,
        version: Arc::from("1"),
        status: Status::Success,
        error: None,
        cut_by_deadline: false,
        rest: None,
        detail: None,
        label: result.label.map(Arc::from),
        score: result.score,
        findings: result.findings.into_iter().map(finding).collect(),
        gaps: Vec::new(),
        attempts: 1,
        coalesced: false,
        duration: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_or_a_finding_that_is_a_list_is_refused() {
        let read = |value| strict::of_value::<Vec<Object<ResultIn>>>(value).map(drop);
        assert!(read(json!([{"detector": "pii"}])).is_ok());
        assert!(read(json!([["pii", "clean", 0.9, []]])).is_err());
        let finding = json!(["pii.email", "EMAIL", 0.9, "low"]);
        let error = read(json!([{"detector": "pii", "findings": [finding]}])).unwrap_err();
        assert_eq!(error.details[0].pointer, "/0/findings/0");
    }
}
