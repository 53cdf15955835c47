//! The cases of `*_cases.yaml`: a request through the built-in detectors and every layer, or
//! findings held against the layers. No case asks a remote detector.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Deps, hold, run as orchestrate};
use crate::auth::Caller;
use crate::catalog::Detector;
use crate::catalog::detector::Protocol;
use crate::domain::category::Category;
use crate::domain::content::{Body, Content};
use crate::domain::error::{Code, Error};
use crate::domain::finding::Finding;
use crate::domain::id::{DetectorName, TenantId};
use crate::domain::outcome::Degraded;
use crate::domain::report::{self, Report};
use crate::domain::request::{Include, Request};
use crate::domain::verdict::Verdict;
use crate::policy::Source;
use crate::policy::testing::{Status, Test, Wanted};
use crate::snapshot::{Overlay, Snapshot};
use crate::yaml::fault::{Fault, FaultKind};

mod file;

use file::{Case, Expect, FindingIn};

/// Answers for findings whose category no detector can find.
const STAND_IN: &str = "case";
/// Cases of one stored overlay.
const CASES_MAX: usize = 100;
/// For all of them.
const TIME_MAX: Duration = Duration::from_secs(10);

/// How the request of a case is read: the value, or what nobody knows the content of; for whom,
/// under which policy unless it names one, and its most characters.
pub type ReadRequest =
    fn(Option<&serde_json::Value>, TenantId, &str, usize) -> Result<Request, Error>;

/// Where cases are run.
pub struct Stage<'a> {
    /// Nothing of it outlives the run but what is counted and recorded here.
    pub deps: &'a Deps,
    /// What is tried.
    pub snapshot: &'a Snapshot,
    /// Given from above, because the wire is read there.
    pub read: ReadRequest,
}

impl Stage<'_> {
    /// Runs the wanted cases, in the order of the files.
    ///
    /// # Errors
    /// Every fault of the files.
    pub async fn run(
        &self,
        files: impl Iterator<Item = &Source>,
        wanted: Wanted<'_>,
    ) -> Result<Vec<Test>, Vec<Fault>> {
        let (mut tests, mut faults) = (Vec::new(), Vec::new());
        for file in files.filter(|file| file.path.ends_with("_cases.yaml")) {
            match file::read(file) {
                Err(found) => faults.extend(found),
                Ok(cases) => {
                    for case in cases.iter().filter(|case| wanted(&file.path, &case.name)) {
                        tests.push(one(self, file, case).await);
                    }
                }
            }
        }
        if faults.is_empty() { Ok(tests) } else { Err(faults) }
    }

    /// A fault for each case of `overlay` that does not hold, or may not be run for its tenant.
    pub async fn failures(&self, overlay: &Overlay) -> Vec<Fault> {
        let (mut cases, mut faults) = (Vec::new(), Vec::new());
        for source in overlay.cases() {
            match file::read(&source) {
                Err(found) => faults.extend(found),
                Ok(found) => cases.extend(found.into_iter().map(|case| (source.clone(), case))),
            }
        }
        faults.extend(cases.iter().filter_map(|(file, case)| foreign(overlay, file, case)));
        if let Some((file, case)) = cases.get(CASES_MAX) {
            let message = format!("an overlay may have at most {CASES_MAX} cases");
            faults.push(fault(file, case, "too_many_cases", message));
        }
        if !faults.is_empty() {
            return faults;
        }
        let end = tokio::time::Instant::now() + TIME_MAX;
        for (at, (file, case)) in cases.iter().enumerate() {
            match tokio::time::timeout_at(end, one(self, file, case)).await {
                Ok(test) => faults.extend(failed(file, case, test)),
                Err(_) => {
                    let left = cases.len() - at;
                    let message = format!(
                        "`{}` was running when the {} s for all cases were over; {left} cases \
                         have not ended",
                        case.name,
                        TIME_MAX.as_secs()
                    );
                    faults.push(fault(file, case, "case_timeout", message));
                    break;
                }
            }
        }
        faults
    }
}

/// A case of a stored overlay shows what its own tenant gets, and nobody else.
fn foreign(overlay: &Overlay, file: &Source, case: &Case) -> Option<Fault> {
    let other = case.tenant.as_ref().is_some_and(|tenant| *tenant != overlay.tenant);
    let message = || format!("the case `{}` is about another tenant", case.name);
    other.then(|| fault(file, case, "foreign_case", message()))
}

fn failed(file: &Source, case: &Case, test: Test) -> Option<Fault> {
    let (code, what) = match test.status {
        Status::Error => ("case_error", "cannot be judged"),
        Status::Failed => ("case_failed", "does not hold"),
        Status::Passed | Status::Todo => return None,
    };
    let why = test.message.unwrap_or_default();
    Some(fault(file, case, code, format!("`{}` {what}: {why}", case.name)))
}

fn fault(file: &Source, case: &Case, code: &'static str, message: String) -> Fault {
    let hint = match code {
        "foreign_case" => "leave `tenant` out",
        "too_many_cases" | "case_timeout" => "keep the others beside the files of your project",
        "case_error" => "correct the case, or give `findings` instead of a `request`",
        _ => "correct the rule that it tests, or the case",
    };
    Fault {
        kind: FaultKind::Policy,
        file: file.path.clone(),
        line: case.at.0,
        column: case.at.1,
        code,
        message,
        hint: Some(hint.to_owned()),
    }
}

async fn one(stage: &Stage<'_>, file: &Source, case: &Case) -> Test {
    let start = Instant::now();
    let (status, message) = match judge(stage, file, case).await {
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
async fn judge(stage: &Stage<'_>, file: &Source, case: &Case) -> Result<Option<String>, Error> {
    match (decide(stage, file, case).await, case.expect.action) {
        (Err(error), None) if error.code == Code::PolicyDenied => Ok(None),
        (Err(error), Some(action)) if error.code == Code::PolicyDenied => {
            Ok(Some(format!("expected {}, got a denial: {}", action.name(), error.message)))
        }
        (decided, _) => decided,
    }
}

async fn decide(stage: &Stage<'_>, file: &Source, case: &Case) -> Result<Option<String>, Error> {
    let Stage { deps, snapshot, read } = stage;
    let (tenant, bundle) = place(file, case)?;
    let most = deps.settings.orchestration.content_max_chars;
    let mut request = read(case.request.as_ref(), tenant, bundle, most)?;
    let silent = hold(deps, snapshot, &request, Vec::new()).await?;
    let Some(findings) = &case.findings else {
        stay_inside(stage, &mut request, &silent.coverage.missing)?;
        request.include.push(Include::Redacted);
        let caller = Caller::development();
        let outcome = orchestrate(deps, snapshot, &caller, &request).await?;
        let body = outcome.redacted.as_ref().map_or(&request.body, |redacted| &redacted.body);
        let difference = differs(&case.expect, &outcome.verdict, Some(body));
        return Ok(difference.map(|difference| explained(difference, &outcome.degraded)));
    };
    let reports = reports(snapshot, &request, &silent.coverage.missing, findings);
    let held = hold(deps, snapshot, &request, reports).await?;
    let difference = differs(&case.expect, &held.verdict, None);
    Ok(difference.map(|difference| explained(difference, &held.degraded)))
}

/// Whose case it is, and under which policy, where it says neither.
fn place<'a>(file: &'a Source, case: &Case) -> Result<(TenantId, &'a str), Error> {
    let folder: Vec<&str> = file.path.split('/').collect();
    let (tenant, bundle) = match folder.as_slice() {
        ["tenants", tenant, bundle, _] => (Some(*tenant), *bundle),
        [bundle, ..] => (None, *bundle),
        [] => (None, ""),
    };
    let id = case.tenant.as_ref().map(TenantId::as_str).or(tenant).unwrap_or("default");
    let wrong =
        |error: crate::domain::id::IdError| Error::new(Code::InvalidRequest, error.to_string());
    Ok((TenantId::parse(id).map_err(wrong)?, bundle))
}

/// Leaves remote detectors out, and refuses where one must answer.
fn stay_inside(
    stage: &Stage<'_>,
    request: &mut Request,
    required: &[DetectorName],
) -> Result<(), Error> {
    let Some(seen) = stage.snapshot.seen.get(&request.tenant) else { return Ok(()) };
    let remote = |name: &&DetectorName| {
        let found = seen.detectors.get(*name).into_iter().flat_map(Detector::definitions);
        found.into_iter().any(|found| !matches!(found.protocol, Protocol::Builtin(_)))
    };
    if let Some(name) = required.iter().chain(&request.detectors.only).find(remote) {
        let message = format!(
            "the detector `{name}` must answer, and cases ask no remote detector; give `findings`"
        );
        return Err(Error::new(Code::InvalidRequest, message));
    }
    let others: Vec<DetectorName> = seen.detectors.keys().filter(remote).cloned().collect();
    request.detectors.exclude.extend(others);
    Ok(())
}

/// The difference, and what the service worked around: mostly a rule that failed.
fn explained(difference: String, degraded: &[Degraded]) -> String {
    degraded.iter().fold(difference, |text, entry| format!("{text}; {}", entry.why))
}

/// What every required detector and every finder answers; who found nothing says so.
fn reports(
    snapshot: &Snapshot,
    request: &Request,
    required: &[DetectorName],
    findings: &[FindingIn],
) -> Vec<Report> {
    let none = BTreeMap::new();
    let seen = snapshot.seen.get(&request.tenant);
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
        rest: None,
        detail: None,
        label: None,
        score: None,
        findings,
        gaps: Vec::new(),
        attempts: 1,
        coalesced: false,
        duration: Duration::ZERO,
    }
}

fn differs(expect: &Expect, verdict: &Verdict, redacted: Option<&Body>) -> Option<String> {
    let codes: Vec<&str> = verdict.reasons.iter().map(|reason| reason.code.as_str()).collect();
    if Some(verdict.action) != expect.action {
        let wanted = expect.action.map_or("a denial", |action| action.name());
        let got = verdict.action.name();
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
