//! In which order detectors are asked, and that nobody's answer is missed by ending early.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::super::{Deps, Run, plan};
use super::*;
use crate::auth::Caller;
use crate::detect::builtin;
use crate::domain::action::Action;
use crate::domain::category::Category;
use crate::domain::content::{Body, Content};
use crate::domain::finding::{Finding, Place, Severity};
use crate::domain::id::{RequestId, TenantId};
use crate::domain::judgement;
use crate::domain::report::Status;
use crate::domain::request::Request;
use crate::domain::span::Span;
use crate::domain::verdict::{self, Joined};
use crate::settings::Settings;
use crate::snapshot::{Snapshot, Sources};

fn names(list: &[&str]) -> Vec<DetectorName> {
    list.iter().map(|name| DetectorName::parse(name).unwrap()).collect()
}

#[test]
fn what_no_stage_names_is_asked_last() {
    let mut plan = Plan { execution: Execution::Cascade, ..Plan::default() };
    plan.required = names(&["a", "b", "c"]).into_iter().collect();
    plan.stages = vec![names(&["c", "zzz"]), names(&["c"])];
    assert_eq!(stages(&plan), [names(&["c"]), names(&["a", "b"])]);
    plan.execution = Execution::Sequential;
    assert_eq!(stages(&plan), [names(&["c"]), names(&["a"]), names(&["b"])]);
    plan.execution = Execution::Parallel;
    assert_eq!(stages(&plan), [names(&["a", "b", "c"])]);
}

/// Detectors by name, with what they can find; `note` has no vote.
const DETECTORS: [(&str, &str); 5] = [
    ("a", "toxicity"),
    ("b", "toxicity, pii"),
    ("c", "secrets"),
    ("d", "pii, secrets"),
    ("note", "toxicity"),
];
const FOUND: [&str; 4] = ["toxicity.insult", "pii.email", "secrets.token", "topic"];

/// A project whose tenant `scene` blocks toxicity and secrets, and its files.
fn project(table: &str) -> (tempfile::TempDir, Deps, Snapshot) {
    let dir = tempfile::tempdir().unwrap();
    crate::assets::write_to(dir.path()).unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for (name, categories) in DETECTORS {
        let annotates = name == "note";
        let text = format!(
            "name: {name}\nprotocol: native\nendpoint: http://127.0.0.1:9/\n\
             categories: [{categories}]\nannotator: {annotates}\n"
        );
        write(&format!("detectors/{name}.yaml"), &text);
    }
    let tenant = "schema_version: 1\nid: scene\npolicies: [standard]\non_incomplete: allow\n";
    write("config/tenants/scene.yaml", tenant);
    write("policies/tenants/scene/standard/data.yaml", &format!("settings: {table}\n"));
    let mut settings = Settings::default();
    let paths = &mut settings.paths;
    for path in
        [&mut paths.detectors, &mut paths.policies, &mut paths.tenants, &mut paths.strategies]
    {
        *path = dir.path().join(&path);
    }
    let settings = Arc::new(settings);
    let sources = Sources::of(&settings, None, builtin::check);
    let snapshot = Snapshot::load(&sources, &settings, None).unwrap_or_else(|f| panic!("{f:#?}"));
    (dir, Deps::without_store(settings).unwrap(), snapshot)
}

fn request() -> Request {
    let body = Body::Content(Content::Text("0123456789".into()));
    Request::plain(RequestId::parse("r").unwrap(), TenantId::parse("scene").unwrap(), body)
}

const TABLE: &str = "{required: [a, c], optional: [b, d, note], stop_on: block, \
     actions: {toxicity: block, secrets: block, pii: redact}, MORE}";

fn finding() -> impl Strategy<Value = Finding> {
    (select(&FOUND[..]), 0..=10_u8, 0..2_usize).prop_map(|(category, tenths, at)| Finding {
        category: Category::parse(category).unwrap(),
        label: category.into(),
        score: f64::from(tenths) / 10.0,
        severity: Severity::Medium,
        place: Some(Place { piece: 0, span: Some(Span { start: at, end: at + 3 }) }),
        view: None,
        attributes: Default::default(),
    })
}

/// A random answer of each detector, in a random order.
fn answers() -> impl Strategy<Value = Vec<Report>> {
    let one = (prop::option::weighted(0.8, vec(finding(), 0..3)), any::<bool>());
    let all = vec(one, DETECTORS.len()).prop_map(|said| {
        let named = DETECTORS.iter().zip(said);
        let reports = named.map(|((name, _), (findings, says))| {
            let name = DetectorName::parse(name).unwrap();
            let unsent = Report::unsent(name, "1".into(), ReportError::Communication);
            let Some(findings) = findings else { return unsent };
            let label = says.then(|| "clean".into());
            let score = says.then_some(0.95);
            Report { status: Status::Success, error: None, findings, label, score, ..unsent }
        });
        reports.collect::<Vec<_>>()
    });
    all.prop_shuffle()
}

/// The first `count` reports, the rest still to come.
fn so_far(reports: &[Report], count: usize) -> Vec<Report> {
    let pending =
        |report: &Report| Report::unsent(report.detector.clone(), "1".into(), ReportError::Decided);
    let (now, later) = reports.split_at(count);
    now.iter().cloned().chain(later.iter().map(pending)).collect()
}

/// What the run answers to these reports.
async fn action(run: &Run<'_>, planned: &Planned, mut reports: Vec<Report>) -> Action {
    let coverage = coverage::measure(&planned.plan, &reports, &run.pieces, &run.seen.abilities);
    let raw = judgement::raw(&reports, &run.pieces);
    judgement::calibrate(&mut reports, &run.seen.votes);
    let judge::Settled { judgement, .. } = judge::settle(run, &planned.plan, &reports).await;
    let decided = judge::decide(run, &judgement, &raw, (&reports, &coverage)).await;
    let joined = Joined {
        on_incomplete: run.tenant.on_incomplete,
        floor_on_incomplete: planned.floor_on_incomplete,
        plan_failure: None,
        mode: run.tenant.mode,
    };
    verdict::join(&decided.rules, &judgement, &raw, &coverage, joined).action
}

#[test]
fn whatever_is_reported_an_early_end_gives_the_action_of_the_whole_run() {
    let (_dir, deps, snapshot) = project(&TABLE.replace(", MORE", ""));
    let (caller, request) = (Caller::development(), request());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begin = || Run::begin(&deps, &snapshot, &caller, &request).unwrap();
    let planned = runtime.block_on(plan::make(&begin(), &caller)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(planned.plan.stop_on, StopOn::Block, "{:?}", planned.degraded);
    let (ended, whole) = (Cell::new(0), Cell::new(0));
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let held = TestRunner::new(config).run(&answers(), |reports| {
        let run = begin();
        runtime.block_on(async {
            for count in 1..reports.len() {
                let now = so_far(&reports, count);
                if !judge::blocks(&run, &planned, now.clone()).await {
                    continue;
                }
                ended.set(ended.get() + 1);
                let early = action(&run, &planned, now).await;
                let full = action(&run, &planned, reports.clone()).await;
                prop_assert_eq!((early, full), (Action::Block, Action::Block));
                return Ok(());
            }
            whole.set(whole.get() + 1);
            Ok(())
        })
    });
    held.unwrap_or_else(|error| panic!("{error}"));
    assert!(ended.get() > 50 && whole.get() > 20, "{} {}", ended.get(), whole.get());
}

#[test]
fn what_an_annotator_finds_ends_no_run_since_a_vote_may_clear_it() {
    let (_dir, deps, snapshot) = project(&TABLE.replace(", MORE", ""));
    let (caller, request) = (Caller::development(), request());
    let run = Run::begin(&deps, &snapshot, &caller, &request).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let planned = runtime.block_on(plan::make(&run, &caller)).unwrap_or_else(|e| panic!("{e}"));
    let answered = |name: &str, category: Option<&str>| {
        let unsent = Report::unsent(names(&[name]).remove(0), "1".into(), ReportError::Decided);
        let findings = category.map(|category| Finding {
            category: Category::parse(category).unwrap(),
            label: "X".into(),
            score: 0.9,
            severity: Severity::Medium,
            place: None,
            view: None,
            attributes: Default::default(),
        });
        let findings = findings.into_iter().collect();
        Report { status: Status::Success, error: None, findings, ..unsent }
    };
    let noted = answered("note", Some("toxicity.insult"));
    let all = [noted, answered("a", None), answered("b", None), answered("c", None)];
    let (blocks, full) = runtime.block_on(async {
        let now = so_far(&all, 1);
        assert_eq!(action(&run, &planned, now.clone()).await, Action::Block);
        (judge::blocks(&run, &planned, now).await, action(&run, &planned, all.to_vec()).await)
    });
    assert_eq!((blocks, full), (false, Action::Allow));
    let voted = so_far(&[answered("a", Some("toxicity.insult")), answered("b", None)], 1);
    assert!(runtime.block_on(judge::blocks(&run, &planned, voted)));
}

#[test]
fn where_a_block_is_not_final_every_detector_is_asked_and_the_answer_says_why() {
    let ignore = "ignore: [{category: pii.email, attribute: domain, values: [acme.com]}]";
    for (more, why) in [
        ("quorum: {toxicity: 2}", "quorum"),
        ("resolve: {\"*\": {strategy: majority_vote}}", "resolve"),
        (ignore, "`ignore`"),
    ] {
        let (_dir, deps, snapshot) = project(&TABLE.replace("MORE", more));
        let (caller, request) = (Caller::development(), request());
        let run = Run::begin(&deps, &snapshot, &caller, &request).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let planned = runtime.block_on(plan::make(&run, &caller)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(planned.plan.stop_on, StopOn::None, "{more}");
        let named = planned.degraded.iter().find(|worked| worked.what == "stop_on").unwrap();
        assert!(named.why.contains(why), "{named:?}");
    }
}

#[test]
fn in_monitor_mode_the_answer_says_that_only_the_floor_ends_a_run() {
    let (_dir, deps, snapshot) = project(&TABLE.replace("MORE", "mode: monitor"));
    let (caller, request) = (Caller::development(), request());
    let run = Run::begin(&deps, &snapshot, &caller, &request).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let planned = runtime.block_on(plan::make(&run, &caller)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(planned.plan.stop_on, StopOn::Block);
    let named = planned.degraded.iter().find(|worked| worked.what == "stop_on").unwrap();
    assert!(named.why.contains("`monitor`"), "{named:?}");
}

/// Reports of an early end are never taken for later requests.
#[test]
fn an_early_end_is_not_cached() {
    let report = Report::unsent(names(&["a"]).remove(0), "1".into(), ReportError::Decided);
    assert!(!super::super::reuse::is_lasting(&report));
    assert_eq!(report.duration, Duration::ZERO);
}
