//! Micro-benchmarks: redaction, conflict, coverage, policy evaluation.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at a broken fixture")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use detector_orchestrator::domain::action::Action;
use detector_orchestrator::domain::category::Category;
use detector_orchestrator::domain::conflict::{self, Candidate, Hints};
use detector_orchestrator::domain::content::{Body, Content, ContentType, Direction, Piece};
use detector_orchestrator::domain::coverage::{self, Abilities};
use detector_orchestrator::domain::finding::Severity;
use detector_orchestrator::domain::head::{Head, OptIn, RequestFacts, TenantFacts};
use detector_orchestrator::domain::id::{BundleName, DetectorName, RequestId, TenantId};
use detector_orchestrator::domain::judgement::{JudgedFinding, Judgement};
use detector_orchestrator::domain::outcome::{CacheUse, Outcome};
use detector_orchestrator::domain::overlap::{self, Mark, Rule};
use detector_orchestrator::domain::plan::{Plan, ResolveSpec};
use detector_orchestrator::domain::redaction::{self, Placeholders, Style};
use detector_orchestrator::domain::report::{Report, ReportError, Status};
use detector_orchestrator::domain::request::Priority;
use detector_orchestrator::domain::span::Span;
use detector_orchestrator::domain::verdict::{Joined, Mode, Verdict};
use detector_orchestrator::evidence::{self, Trail};
use detector_orchestrator::policy::{
    DetectorFacts, Evaluator, Limits, Policies, Source, TenantScope, VerdictFacts,
};
use detector_orchestrator::seal::Salt;

const SPANS: usize = 100_000;
const DETECTORS: usize = 5;

fn names() -> Vec<DetectorName> {
    (0..DETECTORS).map(|n| DetectorName::parse(&format!("detector-{n}")).unwrap()).collect()
}

fn redact(criterion: &mut Criterion) {
    let ascii = "word other".repeat(SPANS);
    let wide = "wörd 👨\u{200d}👩 x ".repeat(SPANS);
    // Every 10 code points one span: of 4 it overlaps nothing, of 40 it does.
    let spans = |length: usize| -> Vec<Mark<'static>> {
        let span = |n| Span { start: 10 * n + 2, end: 10 * n + 2 + length };
        let severity = Severity::Medium;
        let mark = |span| Mark { span, label: "WORD", category: "pii", score: 0.5, severity };
        (0..SPANS).map(span).map(mark).collect()
    };
    let rule = Rule::default();
    let mut group = criterion.benchmark_group("redact 10^5 spans over 10^6 characters");
    group.sample_size(10);
    for (name, text, length) in
        [("ascii", &ascii, 4), ("wide", &wide, 4), ("wide, overlapping", &wide, 40)]
    {
        let spans = spans(length);
        for style in [Style::Label, Style::Numbered] {
            group.bench_function(format!("{name}, {style:?}"), |b| {
                b.iter(|| {
                    let mut placeholders = Placeholders::new(style, &|_| [0; 32]);
                    let text = black_box(text.as_str());
                    redaction::redact(text, spans.clone(), &rule, &mut placeholders)
                });
            });
        }
    }
    let nested: Vec<Mark<'static>> = spans(400).into_iter().rev().collect();
    group.bench_function("overlaps alone", |b| {
        b.iter(|| overlap::resolve(black_box(nested.clone()), &rule));
    });
    group.finish();
}

fn settle(criterion: &mut Criterion) {
    let candidates: Vec<Candidate> = names()
        .into_iter()
        .zip([("toxic", 0.9), ("clean", 0.8), ("toxic", 0.7), ("hate", 0.6), ("clean", 0.5)])
        .map(|(detector, (label, score))| Candidate {
            detector,
            label: label.into(),
            score: Some(score),
        })
        .collect();
    for strategy in ["highest_confidence", "majority_vote", "weighted_average"] {
        let spec = ResolveSpec { strategy: Some(strategy.into()), ..ResolveSpec::default() };
        let hints = Hints { spec, ..Hints::default() };
        criterion.bench_function(&format!("settle 5 candidates/{strategy}"), |b| {
            b.iter(|| conflict::settle(black_box(&candidates), &hints));
        });
    }
}

fn measure(criterion: &mut Criterion) {
    let version: Arc<str> = "1".into();
    let reports: Vec<Report> = names()
        .into_iter()
        .map(|name| Report {
            status: Status::Success,
            error: None,
            attempts: 1,
            duration: Duration::from_millis(1),
            ..Report::unsent(name, Arc::clone(&version), ReportError::Deadline)
        })
        .collect();
    let plan = Plan { required: names().into_iter().collect(), ..Plan::default() };
    let piece = Piece {
        pointer: "/content".into(),
        content_type: ContentType::Text,
        text: Some("a".repeat(200).into()),
        chars: 200,
    };
    criterion.bench_function("coverage of 5 reports", |b| {
        b.iter(|| {
            coverage::measure(
                &plan,
                black_box(&reports),
                std::slice::from_ref(&piece),
                &Abilities::new(),
            )
        });
    });
}

/// The shipped `standard` bundle.
fn shipped(tenant: &TenantId, bundle: &BundleName) -> Policies {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let read = |path: &&str| Source {
        path: (*path).to_owned(),
        bytes: std::fs::read(root.join(path)).unwrap().into(),
    };
    let files = [
        "base/data.yaml",
        "floor/data.yaml",
        "floor/floor.rego",
        "standard/data.yaml",
        "standard/plan.rego",
        "standard/verdict.rego",
    ];
    let tenants = [TenantScope { id: tenant.clone(), bundles: vec![bundle.clone()] }];
    let sources: Vec<Source> = files.iter().map(read).collect();
    let loaded = Policies::load(&sources, &tenants, &Limits::default(), None).unwrap();
    loaded.policies
}

/// The shipped `standard` bundle: from the memo, and asked on a policy thread, the way there
/// included.
fn policy(criterion: &mut Criterion) {
    let tenant = TenantId::parse("default").unwrap();
    let bundle = BundleName::parse("standard").unwrap();
    let loaded = shipped(&tenant, &bundle);
    let view = loaded.view(&tenant, &bundle).unwrap();
    let head = head(tenant.clone(), bundle.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let warm = Evaluator::new(Limits::default());
    let detectors: Arc<[DetectorFacts]> = Arc::from(Vec::new());
    criterion.bench_function("policy plan, memo hit", |b| {
        b.iter(|| runtime.block_on(warm.plan(view, black_box(&head), &detectors, None)).unwrap());
    });
    let cold = Evaluator::new(Limits { memo_entries: 0, ..Limits::default() });
    let empty = Plan::default();
    let coverage = coverage::measure(&empty, &[], &[], &Abilities::new());
    for count in [0, 5] {
        let findings: Vec<JudgedFinding> = (0..count).map(finding).collect();
        let judgement = Judgement { findings: findings.clone(), ..Judgement::default() };
        let facts = VerdictFacts {
            judgement: &judgement,
            raw: &findings,
            reports: &[],
            coverage: &coverage,
        };
        criterion.bench_function(&format!("policy verdict, cold, {count} findings"), |b| {
            b.iter(|| runtime.block_on(cold.verdict(view, &head, black_box(&facts))).unwrap());
        });
    }
}

fn head(id: TenantId, bundle: BundleName) -> Head {
    Head {
        tenant: TenantFacts { id, tier: "unlimited".into(), labels: Arc::default() },
        bundle,
        env: "production",
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

fn finding(id: u32) -> JudgedFinding {
    JudgedFinding {
        id,
        category: Category::parse("pii.email").unwrap(),
        label: "EMAIL".into(),
        score: 0.9,
        severity: Severity::Medium,
        detectors: vec![DetectorName::parse("pii").unwrap()],
        place: None,
        pointer: None,
        view: None,
        attributes: BTreeMap::new(),
        standing: true,
    }
}

/// The record of a decision with five findings and five reports, and the commitment to its content.
fn record(criterion: &mut Criterion) {
    let tenant = TenantId::parse("default").unwrap();
    let bundle = BundleName::parse("standard").unwrap();
    let loaded = shipped(&tenant, &bundle);
    let view = loaded.view(&tenant, &bundle).unwrap();
    let findings: Vec<JudgedFinding> = (0..5).map(finding).collect();
    let report = |name| Report::unsent(name, Arc::from("1"), ReportError::Deadline);
    let reports: Vec<Report> = names().into_iter().map(report).collect();
    let plan = Plan { required: names().into_iter().collect(), ..Plan::default() };
    let outcome = Outcome {
        request_id: RequestId::parse("r-1").unwrap(),
        head: head(tenant.clone(), bundle.clone()),
        policy: bundle,
        revision: "0".repeat(64),
        layers: view.layers().to_vec(),
        pieces: Arc::default(),
        coverage: coverage::measure(&plan, &reports, &[], &Abilities::new()),
        plan,
        reports,
        shadows: Vec::new(),
        judgement: Judgement { findings: findings.clone(), ..Judgement::default() },
        verdict: Verdict::default(),
        redacted: None,
        health: Vec::new(),
        projected: None,
        explain: Vec::new(),
        degraded: Vec::new(),
        cache: CacheUse::Off,
        evidence: None,
        duration: Duration::ZERO,
        overhead: Duration::ZERO,
    };
    let joined = Joined {
        on_incomplete: Action::Review,
        floor_on_incomplete: None,
        plan_failure: None,
        mode: Mode::Enforce,
    };
    let trail = Trail {
        plan_failed: None,
        conflict: None,
        verdict_failed: None,
        raw: findings,
        joined,
        hurried: false,
    };
    let salt = Salt::random().unwrap();
    let body = Body::Content(Content::Text("a".repeat(1_000).into()));
    let wished = BTreeMap::new();
    let commitment = evidence::commit(&salt, &body).unwrap();
    criterion.bench_function("record, commitment to 1000 characters", |b| {
        b.iter(|| evidence::commit(&salt, black_box(&body)).unwrap());
    });
    criterion.bench_function("record, 5 findings and 5 reports", |b| {
        b.iter(|| {
            let decided = evidence::Decided {
                id: "01a20113-7df9-749b-b5c9-9278261115bb",
                at: "2026-01-31T12:00:00.000Z",
                actor: "bench",
                commitment,
                outcome: black_box(&outcome),
                trail: &trail,
                view,
                detectors: (&[], commitment),
                strategy: None,
                wished: &wished,
            };
            evidence::write(&decided).unwrap()
        });
    });
}

criterion_group!(benches, redact, settle, measure, policy, record);
criterion_main!(benches);
