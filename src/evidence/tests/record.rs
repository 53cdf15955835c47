//! What a record says of a document is the document, to the last key.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::domain::category::Category;
use crate::domain::conflict::{Candidate, Resolved, Settled};
use crate::domain::content::{ContentType, Direction};
use crate::domain::coverage::{Coverage, Unjudged};
use crate::domain::digest::Digest;
use crate::domain::finding::{Place, Severity, TextView};
use crate::domain::head::{CallerFacts, Head, Health, OptIn, RequestFacts, TenantFacts};
use crate::domain::id::DetectorName;
use crate::domain::judgement::{Choice, JudgedFinding, Judgement, ScopeState};
use crate::domain::outcome::{CacheUse, Outcome};
use crate::domain::plan::{CoverageMethod, Execution, Plan, StopOn};
use crate::domain::report::{Report, ReportError};
use crate::domain::request::Priority;
use crate::domain::span::Span;
use crate::domain::verdict::{Joined, Mode, Reason, Verdict};
use crate::policy::{
    self, DetectorFacts, Limits, Policies, Source, StrategyFacts, TenantScope, VerdictFacts, View,
};

const READS: &str = "flag contains \"x\" if {\n\tcount(input.findings) > 99\n\t\
    count(input.results) > 99\n\tcount(input.categories) > 99\n\tcount(input.conflicts) > 99\n\t\
    input.coverage.achieved > 2\n}\n";

fn name(of: &str) -> DetectorName {
    DetectorName::parse(of).unwrap()
}

fn view() -> Arc<View> {
    let source =
        |path: &str, text: String| Source { path: path.into(), bytes: text.into_bytes().into() };
    let files = [
        source("base/data.yaml", "settings: {custom: {share: 1.0, domains: [evil.io]}}\n".into()),
        source("floor/floor.rego", format!("package floor\n\n{READS}")),
        source("standard/verdict.rego", format!("package standard\n\n{READS}")),
    ];
    let bundles = vec![BundleName::parse("standard").unwrap()];
    let tenants = [TenantScope { id: tenant(), bundles: bundles.clone() }];
    let loaded = Policies::load(&files, &tenants, &Limits::default(), None).unwrap();
    Arc::clone(loaded.policies.view(&tenant(), &bundles[0]).unwrap())
}

fn finding(id: u32, detectors: &[&str], standing: bool) -> JudgedFinding {
    JudgedFinding {
        id,
        category: Category::parse("pii.email").unwrap(),
        label: "EMAIL \u{1F600}".into(),
        score: 1.0,
        severity: Severity::High,
        detectors: detectors.iter().map(|one| name(one)).collect(),
        place: Some(Place { piece: 0, span: Some(Span { start: 3, end: 9 }) }),
        pointer: Some("/content".into()),
        view: Some(TextView::Decoded),
        attributes: BTreeMap::from([("domain".into(), "evil.io".into())]),
        standing,
    }
}

fn scope() -> ScopeState {
    let vote =
        |by: &str, label: &str, score| Candidate { detector: name(by), label: label.into(), score };
    ScopeState {
        score: 0.9,
        severity: Some(Severity::High),
        voters: vec![name("a"), name("b")],
        flagged_by: vec![name("a")],
        cleared_by: vec![name("b")],
        unjudged_by: vec![name("c")],
        candidates: vec![vote("a", "EMAIL", Some(0.9)), vote("b", "clean", None)],
        resolved: Resolved::Flagged,
        settled: Some(Settled {
            strategy: "weighted_average",
            winner: Some("EMAIL".into()),
            detector: Some(name("a")),
            score: Some(0.9),
            tie_breaker: Some("weighted_average->alphabetical"),
            delta: 0.1 + 0.2,
            normalized: BTreeMap::from([("EMAIL".into(), 0.9), ("clean".into(), 0.0)]),
            unknown_strategy: false,
        }),
        strategy: "weighted_average".into(),
    }
}

fn head(metadata: serde_json::Value, health: bool) -> Head {
    let fares = Health { healthy: true, breaker: "closed", p95_ms: Some(20) };
    Head {
        tenant: TenantFacts {
            id: tenant(),
            tier: "starter".into(),
            labels: Arc::new(BTreeMap::from([("team".into(), "x".into())])),
        },
        bundle: BundleName::parse("standard").unwrap(),
        env: "production",
        request: RequestFacts {
            content_type: ContentType::Code,
            direction: Direction::Output,
            roles: vec!["user"],
            tool_names: vec!["search".into()],
            has_context: true,
            priority: Priority::High,
            event: Some("content.publish".into()),
            contexts: vec!["mobile".into()],
            only: vec![name("a")],
            add: vec![name("b")],
            exclude: Vec::new(),
            thresholds: BTreeMap::from([("pii".into(), 0.3)]),
        },
        opt_in: OptIn {
            metadata: metadata.as_object().cloned(),
            caller: Some(CallerFacts { roles: vec!["app".into()], scopes: Vec::new() }),
            content: None,
            content_length: Some(12),
            language: Some("de".into()),
            health: if health { BTreeMap::from([(name("a"), fares)]) } else { BTreeMap::new() },
        },
    }
}

fn outcome(view: &View, head: Head) -> Outcome {
    let gap = Unjudged {
        pointer: Some("/content".into()),
        span: Some(Span { start: 1, end: 2 }),
        detector: Some(name("c")),
        reason: "timeout",
    };
    let mut report = Report::unsent(name("a"), "1".into(), ReportError::Deadline);
    (report.label, report.score) = (Some("EMAIL".into()), Some(0.9));
    let category = Category::parse("pii").unwrap();
    // What no table maps has a root that is no category by itself.
    let other = Category::parse("other.a").unwrap().root();
    let calm = ScopeState { settled: None, candidates: Vec::new(), ..scope() };
    Outcome {
        request_id: RequestId::parse("r-1").unwrap(),
        policy: head.bundle.clone(),
        head,
        revision: "0".repeat(64),
        layers: view.layers().to_vec(),
        pieces: Arc::default(),
        plan: Plan { required: BTreeSet::from([name("a")]), ..Plan::default() },
        reports: vec![report],
        shadows: Vec::new(),
        coverage: Coverage {
            method: CoverageMethod::Weighted,
            threshold: 1.0,
            achieved: 0.5,
            complete: false,
            floor_complete: true,
            code: None,
            required: vec![name("a")],
            missing: vec![name("c")],
            unjudged: vec![gap],
        },
        judgement: Judgement {
            findings: vec![finding(0, &["a", "b"], false)],
            scopes: BTreeMap::from([(category, scope()), (other, calm)]),
            ..Judgement::default()
        },
        verdict: Verdict {
            reasons: vec![Reason { code: "pii".into(), message: "mail to ana".into() }],
            ..Verdict::default()
        },
        redacted: None,
        health: Vec::new(),
        projected: None,
        explain: Vec::new(),
        degraded: Vec::new(),
        cache: CacheUse::Off,
        evidence: None,
        duration: Duration::ZERO,
        overhead: Duration::ZERO,
    }
}

fn trail() -> Trail {
    let choice = Choice { strategy: "majority_vote".into(), winner: None, reason: None };
    let category = || Category::parse("pii").unwrap();
    Trail {
        plan_failed: None,
        conflict: Some(Conflict {
            scopes: BTreeMap::from([(category(), scope())]),
            said: Ok(BTreeMap::from([(category(), choice)])),
        }),
        verdict_failed: None,
        raw: vec![finding(0, &["a"], true), finding(1, &["b"], true)],
        joined: Joined {
            on_incomplete: Action::Review,
            floor_on_incomplete: None,
            plan_failure: None,
            mode: Mode::Enforce,
        },
        hurried: false,
    }
}

fn facts() -> Vec<DetectorFacts> {
    vec![DetectorFacts {
        name: name("a"),
        version: "1".into(),
        protocol: "native",
        types: BTreeSet::from([ContentType::Text]),
        categories: BTreeSet::from([Category::parse("pii").unwrap()]),
        cost: 1.0,
        weight: 0.5,
    }]
}

const STRATEGY: StrategyFacts<'_> = StrategyFacts {
    event: "content.publish",
    detectors: &[],
    execution: Execution::Sequential,
    stop_on: StopOn::Block,
};

fn written(view: &View, outcome: &Outcome) -> String {
    let facts = facts();
    let record = write(&Decided {
        id: "id",
        at: "2026-01-31T12:00:00.000Z",
        actor: "key",
        commitment: Digest::of(b"x"),
        outcome,
        trail: &trail(),
        view,
        detectors: (&facts, policy::facts_digest(&facts)),
        strategy: Some(STRATEGY),
        wished: &BTreeMap::new(),
    });
    String::from_utf8(record.unwrap()).unwrap()
}

#[test]
fn a_record_holds_every_document_that_its_points_were_asked() {
    let view = view();
    for health in [false, true] {
        let head =
            head(serde_json::json!({"hour": 1.0, "deep": {"n": [9007199254740992_u64]}}), health);
        let outcome = outcome(&view, head);
        let record = written(&view, &outcome);
        let parsed: serde_json::Value = serde_json::from_str(&record).unwrap();
        assert_eq!(crate::seal::canonical(&parsed).unwrap(), record.as_bytes(), "it is canonical");
        let kept = Kept::read(&record).unwrap();
        assert!(kept.reproducible);
        let trail = trail();
        let verdict = VerdictFacts {
            judgement: &outcome.judgement,
            raw: &trail.raw,
            reports: &outcome.reports,
            coverage: &outcome.coverage,
        };
        let scopes = &trail.conflict.as_ref().unwrap().scopes;
        let seen = (facts(), Some(&STRATEGY));
        let asked = policy::documents((&view, &outcome.head), (&seen.0, seen.1), scopes, &verdict);
        let points = [Asked::Plan, Asked::Conflict, Asked::Verdict, Asked::Floor];
        for (point, asked) in points.into_iter().zip(asked) {
            let mut document = kept.document(point, &policy::facts_plain(&facts()));
            if point != Asked::Floor {
                document.insert("settings".into(), view.settings().clone());
            }
            // One spelling of numbers on both sides.
            let plain = |value: &serde_json::Value| crate::seal::canonical(value).unwrap();
            assert_eq!(
                String::from_utf8(plain(&document.into())).unwrap(),
                String::from_utf8(plain(&asked)).unwrap(),
                "{point:?}"
            );
        }
        let (judgement, _) = kept.judged();
        assert_eq!(judgement.scopes.len(), 2);
        assert_eq!(kept.raw().len(), 2);
    }
}

#[test]
fn an_attribute_stays_where_the_table_names_its_value_and_nowhere_else() {
    let view = view();
    let mut outcome = outcome(&view, head(serde_json::json!({}), false));
    let kept = Kept::read(&written(&view, &outcome)).unwrap();
    assert!(!kept.withheld);
    let foreign = ("domain".to_owned(), "ana.example".to_owned());
    outcome.judgement.findings[0].attributes.extend([foreign]);
    let record = written(&view, &outcome);
    assert!(!record.contains("ana.example") && record.contains("evil.io"), "{record}");
    let kept = Kept::read(&record).unwrap();
    assert!(kept.withheld && kept.reproducible);
}

#[test]
fn what_a_policy_made_of_content_is_not_in_the_record() {
    let view = view();
    let mut head = head(serde_json::json!({}), false);
    head.opt_in.content = Some("mail to ana".into());
    let record = written(&view, &outcome(&view, head));
    assert!(!record.contains("mail to"), "{record}");
    assert!(!Kept::read(&record).unwrap().reproducible);
    let large = self::head(serde_json::json!({"n": 9007199254740993_u64}), false);
    let record = written(&view, &outcome(&view, large));
    let kept = Kept::read(&record).unwrap();
    assert!(!kept.reproducible && kept.part("points/head/metadata").is_null(), "no wrong number");
}
