//! The cases of `*_cases.yaml`: a request through the built-in detectors and every layer, or
//! findings held against the layers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Session;
use crate::api::wire::request::{Bounds, OrchestrateRequest};
use crate::auth::Caller;
use crate::domain::action::Action;
use crate::domain::category::{Category, TREE};
use crate::domain::content::{Body, Content};
use crate::domain::error::Error;
use crate::domain::finding::{Finding, Severity};
use crate::domain::id::{DetectorName, RequestId, TenantId};
use crate::domain::outcome::Degraded;
use crate::domain::report::{self, Report};
use crate::domain::request::{Include, Request};
use crate::domain::verdict::Verdict;
use crate::orchestrator;
use crate::policy::Source;
use crate::policy::testing::{Status, Test, Wanted};
use crate::yaml::fault::{Fault, FaultKind};
use crate::yaml::{self, Data};

/// Answers for findings whose category no detector can find.
const STAND_IN: &str = "case";

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Line and column.
    #[serde(skip)]
    at: (u32, u32),
    name: String,
    /// The folder's tenant unless set.
    tenant: Option<TenantId>,
    request: Option<serde_json::Value>,
    findings: Option<Vec<FindingIn>>,
    expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FindingIn {
    category: Category,
    /// The first that the plan asks and that can find it, unless set.
    detector: Option<DetectorName>,
    #[serde(default)]
    label: String,
    #[serde(default = "sure")]
    score: f64,
    #[serde(default)]
    severity: Severity,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

fn sure() -> f64 {
    1.0
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    action: Action,
    redacted: Option<serde_json::Value>,
    /// Codes that must be among the reasons'.
    #[serde(default)]
    reasons: Vec<String>,
}

/// Runs the wanted cases, in the order of the files.
pub(super) async fn run(session: &Session, wanted: Wanted<'_>) -> Result<Vec<Test>, Vec<Fault>> {
    let (mut tests, mut faults) = (Vec::new(), Vec::new());
    let files = session.files.policies.iter().filter(|file| file.path.ends_with("_cases.yaml"));
    for file in files {
        match read(file) {
            Err(found) => faults.extend(found),
            Ok(cases) => {
                for case in cases.iter().filter(|case| wanted(&file.path, &case.name)) {
                    tests.push(one(session, file, case).await);
                }
            }
        }
    }
    if faults.is_empty() { Ok(tests) } else { Err(faults) }
}

fn read(file: &Source) -> Result<Vec<Case>, Vec<Fault>> {
    let source = yaml::Source { kind: FaultKind::Policy, file: &file.path };
    let text = yaml::text(FaultKind::Policy, &file.path, &file.bytes)?;
    let tree = yaml::tree(FaultKind::Policy, &file.path, text)?;
    let Data::List(items) = &tree.data else {
        let hint = Some("write `- name: …` entries".to_owned());
        let message = "cases are no list".to_owned();
        return Err(vec![source.fault(tree.at(), "bad_value", message, hint)]);
    };
    let mut faults = Vec::new();
    let mut cases = Vec::new();
    for item in items {
        match item.decode::<Case>(source) {
            Err(fault) => faults.push(taught(fault)),
            Ok(case) if case.request.is_some() == case.findings.is_some() => {
                let message = format!("the case `{}` has not one of request, findings", case.name);
                let hint = Some("give either `request` or `findings`".to_owned());
                faults.push(source.fault(item.at(), "bad_case", message, hint));
            }
            Ok(case) => cases.push(Case { at: item.at(), ..case }),
        }
    }
    if faults.is_empty() { Ok(cases) } else { Err(faults) }
}

/// The fault with the nearest category where an unknown one has no hint.
fn taught(mut fault: Fault) -> Fault {
    let word = fault.message.split('`').nth(1).unwrap_or_default();
    if fault.hint.is_none() {
        let near = yaml::nearest(word, TREE.iter().copied());
        let hint = near.map_or("correct the value".to_owned(), |near| format!("write `{near}`"));
        fault.hint = Some(hint);
    }
    fault
}

async fn one(session: &Session, file: &Source, case: &Case) -> Test {
    let start = Instant::now();
    let (status, message) = match judge(session, file, case).await {
        Ok(None) => (Status::Passed, None),
        Ok(Some(difference)) => (Status::Failed, Some(difference)),
        Err(error) => (Status::Error, Some(error.to_string())),
    };
    Test {
        file: file.path.clone(),
        line: case.at.0,
        column: case.at.1,
        name: case.name.clone(),
        status,
        duration_us: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
        message,
        why: Vec::new(),
    }
}

/// What differs from what is expected.
async fn judge(session: &Session, file: &Source, case: &Case) -> Result<Option<String>, Error> {
    let folder: Vec<&str> = file.path.split('/').collect();
    let (tenant, bundle) = match folder.as_slice() {
        ["tenants", tenant, bundle, _] => (Some(*tenant), *bundle),
        [bundle, ..] => (None, *bundle),
        [] => (None, ""),
    };
    let id = case.tenant.as_ref().map(TenantId::as_str).or(tenant).unwrap_or("default");
    let mut wire = match &case.request {
        Some(request) => OrchestrateRequest::parse(request.to_string().as_bytes())?,
        // What was found is all that is known of the content.
        None => OrchestrateRequest::of_text("-"),
    };
    wire.policy = wire.policy.or_else(|| Some(bundle.to_owned()));
    let wrong = |error: crate::domain::id::IdError| {
        Error::new(crate::domain::error::Code::InvalidRequest, error.to_string())
    };
    let tenant = TenantId::parse(id).map_err(wrong)?;
    let bounds = Bounds { content_chars_max: session.content_max_chars() };
    let request_id = RequestId::parse("case").map_err(wrong)?;
    let mut request = wire.into_domain(request_id, tenant, bounds)?;
    let Some(findings) = &case.findings else {
        request.include.push(Include::Redacted);
        let caller = Caller::development();
        let outcome =
            orchestrator::run(&session.deps, &session.snapshot, &caller, &request).await?;
        let body = outcome.redacted.as_ref().map_or(&request.body, |redacted| &redacted.body);
        let difference = differs(&case.expect, &outcome.verdict, Some(body));
        return Ok(difference.map(|difference| explained(difference, &outcome.degraded)));
    };
    let silent = orchestrator::hold(&session.deps, &session.snapshot, &request, Vec::new()).await?;
    let reports = reports(session, &request, &silent.coverage.missing, findings);
    let held = orchestrator::hold(&session.deps, &session.snapshot, &request, reports).await?;
    let difference = differs(&case.expect, &held.verdict, None);
    Ok(difference.map(|difference| explained(difference, &held.degraded)))
}

/// The difference, and what the service worked around: mostly a rule that failed.
fn explained(difference: String, degraded: &[Degraded]) -> String {
    degraded.iter().fold(difference, |text, entry| format!("{text}; {}", entry.why))
}

/// What every required detector and every finder answers; who found nothing says so.
fn reports(
    session: &Session,
    request: &Request,
    required: &[DetectorName],
    findings: &[FindingIn],
) -> Vec<Report> {
    let none = BTreeMap::new();
    let seen = session.snapshot.seen.get(&request.tenant);
    let known = seen.map_or(&none, |seen| &seen.detectors);
    let finder = |category: &Category| {
        let asked = required.iter().filter_map(|name| known.get(name)).chain(known.values());
        let mut able =
            asked.filter(|detector| detector.categories.iter().any(|found| found.covers(category)));
        able.next().map(|detector| detector.name.clone())
    };
    let mut answers: BTreeMap<DetectorName, Vec<Finding>> = BTreeMap::new();
    for name in required.iter().filter(|name| known.contains_key(*name)) {
        answers.entry(name.clone()).or_default();
    }
    for found in findings {
        let name = found.detector.clone().or_else(|| finder(&found.category));
        let Some(name) = name.or_else(|| DetectorName::parse(STAND_IN).ok()) else { continue };
        let label = if found.label.is_empty() { found.category.as_str() } else { &found.label };
        answers.entry(name).or_default().push(Finding {
            category: found.category.clone(),
            label: label.into(),
            score: found.score,
            severity: found.severity,
            place: None,
            view: None,
            attributes: found.attributes.clone().into_iter().collect(),
        });
    }
    answers.into_iter().map(|(detector, findings)| answer(detector, findings)).collect()
}

fn answer(detector: DetectorName, findings: Vec<Finding>) -> Report {
    Report {
        detector,
        version: Arc::from("1"),
        status: report::Status::Success,
        error: None,
        cut_by_deadline: false,
        detail: None,
        label: None,
        score: None,
        findings,
        gaps: Vec::new(),
        attempts: 1,
        duration: Duration::ZERO,
    }
}

fn differs(expect: &Expect, verdict: &Verdict, redacted: Option<&Body>) -> Option<String> {
    let codes: Vec<&str> = verdict.reasons.iter().map(|reason| reason.code.as_str()).collect();
    if verdict.action != expect.action {
        let (wanted, got) = (expect.action.name(), verdict.action.name());
        return Some(format!("expected {wanted}, got {got} ({})", codes.join(", ")));
    }
    let missing = expect.reasons.iter().find(|code| !codes.contains(&code.as_str()));
    if let Some(code) = missing {
        return Some(format!("expected the reason {code}, got {}", codes.join(", ")));
    }
    let wanted = expect.redacted.as_ref()?;
    let Some(body) = redacted else {
        return Some("`redacted` needs a `request`: findings have no content".to_owned());
    };
    let got = match body {
        Body::Content(Content::Text(text)) => serde_json::Value::from(text.to_string()),
        Body::Content(content) => serde_json::to_value(content).unwrap_or_default(),
        Body::Messages(messages) => serde_json::to_value(messages).unwrap_or_default(),
    };
    (got != *wanted).then(|| format!("expected redacted {wanted}, got {got}"))
}
