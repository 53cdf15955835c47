//! From reports to scopes, standing findings and, with one rule per flag, to the action.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::action::Action;
use crate::domain::calibration::Curve;
use crate::domain::coverage;
use crate::domain::report::{ReportError, Status};
use crate::domain::span::Span;
use crate::domain::verdict::{self, Entry, Joined, Mode, VerdictRules};

fn name(raw: &str) -> DetectorName {
    DetectorName::parse(raw).unwrap()
}

fn category(raw: &str) -> Category {
    Category::parse(raw).unwrap()
}

fn finding(raw: &str, label: &str, score: f64) -> Finding {
    Finding {
        category: category(raw),
        label: label.into(),
        score,
        severity: Severity::Medium,
        place: None,
        view: None,
        attributes: BTreeMap::new(),
    }
}

fn at(start: usize, end: usize, finding: Finding) -> Finding {
    Finding { place: Some(Place { piece: 0, span: Some(Span { start, end }) }), ..finding }
}

fn report(detector: &str, findings: Vec<Finding>) -> Report {
    Report {
        status: Status::Success,
        error: None,
        attempts: 1,
        duration: Duration::ZERO,
        findings,
        ..failed(detector)
    }
}

fn own(detector: &str, label: &str, score: f64) -> Report {
    Report { label: Some(label.into()), score: Some(score), ..report(detector, vec![]) }
}

fn failed(detector: &str) -> Report {
    Report::unsent(name(detector), "1".into(), ReportError::CircuitOpen)
}

/// A plan over detectors that all judge toxicity, and what they answered.
struct Case {
    plan: Plan,
    reports: Vec<Report>,
    detectors: BTreeMap<DetectorName, DetectorFacts>,
    thresholds: BTreeMap<String, f64>,
    pieces: Vec<Piece>,
}

impl Case {
    fn new(reports: Vec<Report>) -> Case {
        let facts = DetectorFacts {
            categories: [category("toxicity")].into(),
            weight: 1.0,
            annotator: false,
            calibration: Calibration::default(),
            versions: BTreeMap::new(),
        };
        let names: BTreeSet<DetectorName> = reports.iter().map(|r| r.detector.clone()).collect();
        let detectors = names.iter().map(|name| (name.clone(), facts.clone())).collect();
        let piece = Piece {
            pointer: "/content".into(),
            content_type: ContentType::Text,
            text: Some("0123456789".into()),
            chars: 10,
        };
        let plan = Plan { required: names, ..Plan::default() };
        Case { plan, reports, detectors, thresholds: BTreeMap::new(), pieces: vec![piece] }
    }

    fn spec(mut self, scope: &str, spec: ResolveSpec) -> Case {
        self.plan.resolve.insert(scope.to_owned(), spec);
        self
    }

    fn able(mut self, detector: &str, categories: &[&str]) -> Case {
        let facts = self.detectors.get_mut(&name(detector)).unwrap();
        facts.categories = categories.iter().map(|raw| category(raw)).collect();
        self
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence {
            plan: &self.plan,
            reports: &self.reports,
            pieces: &self.pieces,
            thresholds: &self.thresholds,
            detectors: &self.detectors,
            content_type: ContentType::Text,
        }
    }

    fn judged(&self) -> Judgement {
        make(&self.evidence())
    }

    /// The action of a policy that blocks whatever stands.
    fn action(&self) -> Action {
        let judgement = self.judged();
        let entry = |finding: &JudgedFinding| Entry {
            action: Action::Block,
            code: finding.category.to_string(),
            reason: "found".to_owned(),
            finding: Some(finding.id),
            layer: "standard".to_owned(),
        };
        let entries = judgement.findings.iter().map(entry).collect();
        let rules = VerdictRules { entries, ..VerdictRules::default() };
        let measured = coverage::measure(&self.plan, &self.reports, &self.pieces, &BTreeMap::new());
        let joined = Joined {
            on_incomplete: Action::Allow,
            floor_on_incomplete: None,
            plan_failure: None,
            mode: Mode::Enforce,
        };
        verdict::join(&rules, &judgement, &[], &measured, joined).action
    }
}

fn toxic(detector: &str, score: f64) -> Report {
    report(detector, vec![finding("toxicity", "toxic", score)])
}

fn strategy(name: &str) -> ResolveSpec {
    ResolveSpec { strategy: Some(name.to_owned()), ..ResolveSpec::default() }
}

fn quorum(k: u32) -> ResolveSpec {
    ResolveSpec { quorum: Some(k), ..ResolveSpec::default() }
}

fn state(judgement: &Judgement, scope: &str) -> ScopeState {
    judgement.scopes[scope].clone()
}

#[test]
fn each_strategy_leads_from_findings_to_its_action() {
    let votes = || vec![toxic("a", 0.7), own("b", "clean", 0.8), own("c", "clean", 0.5)];
    for (wanted, action) in [
        ("highest_confidence", Action::Allow),
        ("weighted_average", Action::Block),
        ("majority_vote", Action::Allow),
        ("most_restrictive", Action::Block),
        ("tenant_preference", Action::Block),
        ("required_detector_consensus", Action::Allow),
    ] {
        let mut spec = strategy(wanted);
        if wanted == "tenant_preference" {
            spec.preferred_detector = Some(name("a"));
        }
        if wanted == "most_restrictive" {
            spec.severity_rank = [("toxic".to_owned(), 3.0)].into();
        }
        assert_eq!(Case::new(votes()).spec("toxicity", spec).action(), action, "{wanted}");
    }
    assert_eq!(Case::new(votes()).spec("toxicity", quorum(2)).action(), Action::Allow, "quorum");
}

#[test]
fn without_a_rule_any_flag_stands() {
    let case = Case::new(vec![toxic("a", 0.6), own("b", "clean", 0.9), own("c", "clean", 0.9)]);
    let judged = case.judged();
    let toxicity = state(&judged, "toxicity");
    assert_eq!((toxicity.resolved, toxicity.score), (Resolved::Flagged, 0.6));
    assert!(judged.findings[0].standing);
    assert_eq!(case.action(), Action::Block);
}

#[test]
fn an_infrastructure_failure_is_never_a_vote() {
    let case = Case::new(vec![toxic("a", 0.9), failed("b"), failed("c")]);
    let toxicity = state(&case.judged(), "toxicity");
    assert_eq!(toxicity.voters, [name("a")]);
    assert_eq!(toxicity.unjudged_by, [name("b"), name("c")]);
    let held = case.spec("toxicity", quorum(2));
    assert_eq!(state(&held.judged(), "toxicity").resolved, Resolved::Unresolved);
    assert_eq!(held.action(), Action::Block, "an unresolved category clears no finding");
    let silent = Case::new(vec![failed("a")]);
    assert_eq!(silent.action(), Action::Allow, "silence is a matter of coverage");
    assert_eq!(silent.spec("toxicity", quorum(1)).action(), Action::Review);
}

#[test]
fn thresholds_come_from_the_plan_then_the_tenant_then_one_half() {
    let mut case = Case::new(vec![toxic("a", 0.6)]);
    assert_eq!(case.judged().findings.len(), 1);
    case.thresholds = [("toxicity".to_owned(), 0.7)].into();
    assert_eq!(case.judged().findings.len(), 0);
    assert_eq!(raw(&case.reports, &case.pieces).len(), 1);
    case.plan.thresholds = [("*".to_owned(), 0.6)].into();
    assert_eq!(case.judged().findings.len(), 1);
}

#[test]
fn a_detector_votes_where_its_categories_lie_below_or_above() {
    let case = Case::new(vec![report("a", vec![]), report("b", vec![]), report("c", vec![])])
        .able("a", &["pii"])
        .able("b", &["pii.email"])
        .able("c", &["pii.phone"])
        .spec("pii.email", strategy("majority_vote"));
    let judged = case.judged();
    assert_eq!(state(&judged, "pii").voters, [name("a"), name("b"), name("c")]);
    assert_eq!(state(&judged, "pii.email").voters, [name("a"), name("b")]);
    assert!(!judged.scopes.contains_key("toxicity"));
}

#[test]
fn the_deepest_scope_decides_whether_a_finding_stands() {
    let both = vec![finding("pii.email", "EMAIL", 0.9), finding("pii.phone", "PHONE", 0.9)];
    let case = Case::new(vec![report("a", both), report("b", vec![]), report("c", vec![])])
        .able("a", &["pii"])
        .able("b", &["pii"])
        .able("c", &["pii"])
        .spec("pii.email", quorum(2));
    let standing: Vec<bool> = case.judged().findings.iter().map(|f| f.standing).collect();
    assert_eq!(standing, [false, true]);
}

#[test]
fn only_a_reply_that_says_clean_itself_is_sure_of_it() {
    let mut unsure = toxic("b", 0.3);
    (unsure.label, unsure.score) = (Some("toxic".into()), Some(0.3));
    let case = Case::new(vec![own("a", "clean", 0.8), unsure, report("c", vec![])]);
    let toxicity = state(&case.judged(), "toxicity");
    let scores: Vec<Option<f64>> = toxicity.candidates.iter().map(|vote| vote.score).collect();
    assert_eq!(scores, [Some(0.8), None, None]);
    assert_eq!(toxicity.resolved, Resolved::Clear);
}

#[test]
fn a_finding_that_calls_itself_clean_still_counts_as_a_flag() {
    let case = Case::new(vec![report("a", vec![finding("toxicity", " clean", 0.9)])])
        .spec("toxicity", strategy("highest_confidence"));
    assert_eq!(state(&case.judged(), "toxicity").resolved, Resolved::Flagged);
    assert_eq!(case.action(), Action::Block);
}

#[test]
fn an_annotator_finds_but_does_not_vote() {
    let mut case = Case::new(vec![toxic("a", 0.9), own("b", "clean", 0.4)]);
    case.detectors.get_mut(&name("a")).unwrap().annotator = true;
    let judged = case.judged();
    assert_eq!(judged.findings.len(), 1);
    assert_eq!(state(&judged, "toxicity").voters, [name("b")]);
}

#[test]
fn equal_findings_merge_and_sort_by_span_then_category() {
    let email = |score| at(2, 5, finding("pii.email", "EMAIL", score));
    let given = vec![
        report("b", vec![email(0.7), at(0, 1, finding("toxicity", "rude", 0.9))]),
        report("a", vec![Finding { label: "MAIL".into(), ..email(0.9) }]),
        report("c", vec![finding("hate", "hate", 0.8), at(2, 5, finding("pii", "PII", 0.8))]),
    ];
    let judged = Case::new(given).judged();
    let shown: Vec<(u32, &str, &str)> =
        judged.findings.iter().map(|f| (f.id, f.category.as_str(), f.label.as_ref())).collect();
    let expected =
        [(0, "hate", "hate"), (1, "toxicity", "rude"), (2, "pii", "PII"), (3, "pii.email", "MAIL")];
    assert_eq!(shown, expected);
    let mail = &judged.findings[3];
    assert_eq!((mail.score, &mail.detectors), (0.9, &vec![name("a"), name("b")]));
    assert_eq!(mail.pointer.as_deref(), Some("/content"));
}

#[test]
fn the_summary_joins_labels_in_plan_order() {
    let mut given = vec![
        toxic("toxicity", 0.9),
        report("regex-pii", vec![finding("pii.ssn", "ssn_detected", 0.95)]),
        own("echo", "echo", 0.5),
        toxic("again", 0.7),
        report("silent", vec![]),
    ];
    assert_eq!(Case::new(given.clone()).judged().label, "toxic|ssn_detected|echo");
    given.drain(..4);
    assert_eq!(Case::new(given).judged().label, "none");
}

#[test]
fn a_policy_settles_only_where_voters_disagree() {
    let case = Case::new(vec![
        toxic("a", 0.9),
        own("b", "clean", 0.6),
        report("p", vec![finding("pii.email", "EMAIL", 0.9)]),
    ])
    .able("p", &["pii"]);
    let mut judged = case.judged();
    let open: Vec<&str> = judged.disagreements().map(|(scope, _)| scope.as_str()).collect();
    assert_eq!(open, ["toxicity"]);
    let choice = Choice {
        strategy: "weighted_average".into(),
        winner: Some("clean".into()),
        reason: Some("b knows".into()),
    };
    let choices = [(category("toxicity"), choice.clone()), (category("pii"), choice)].into();
    judged.settle(&case.evidence(), &choices);
    assert_eq!(state(&judged, "toxicity").resolved, Resolved::Clear);
    assert_eq!(state(&judged, "pii").resolved, Resolved::Flagged);
    let standing: Vec<(&str, bool)> =
        judged.findings.iter().map(|f| (f.category.as_str(), f.standing)).collect();
    assert_eq!(standing, [("pii.email", true), ("toxicity", false)]);
}

#[test]
fn a_bad_choice_falls_back_and_is_named() {
    let case = Case::new(vec![toxic("a", 0.9), own("b", "clean", 0.6)]);
    let mut judged = case.judged();
    let choice =
        Choice { strategy: "nonsense".into(), winner: Some("nobody".into()), reason: None };
    judged.settle(&case.evidence(), &[(category("toxicity"), choice)].into());
    assert_eq!(state(&judged, "toxicity").resolved, Resolved::Flagged);
    assert_eq!(state(&judged, "toxicity").strategy, "weighted_average");
    assert_eq!(judged.degraded.len(), 2);
}

fn any_reports() -> impl Strategy<Value = Vec<Report>> {
    let place = prop::option::of((0usize..4, 1usize..4));
    let kind = prop::sample::select(vec!["toxicity", "toxicity.threat", "pii.email"]);
    let found = (kind, 0u8..=10, place).prop_map(|(kind, score, place)| {
        let found = finding(kind, kind, f64::from(score) / 10.0);
        place.map_or(found.clone(), |(start, len)| at(start, start + len, found))
    });
    prop::collection::vec(prop::collection::vec(found, 0..4), 0..5).prop_map(|lists| {
        let report = |(i, findings)| report(&format!("d{i}"), findings);
        lists.into_iter().enumerate().map(report).collect()
    })
}

proptest! {
    #[test]
    fn the_order_of_reports_changes_nothing_but_the_label(
        reports in any_reports(), turn in 0usize..5,
    ) {
        let mut turned = reports.clone();
        turned.rotate_left(turn.min(reports.len()));
        let mut judged = Case::new(turned).judged();
        let expected = Case::new(reports).judged();
        judged.label.clone_from(&expected.label);
        prop_assert_eq!(judged, expected);
    }

    #[test]
    fn ids_are_positions_and_no_two_findings_share_place_and_category(reports in any_reports()) {
        let found = raw(&reports, &[]);
        for (index, finding) in found.iter().enumerate() {
            prop_assert_eq!(finding.id as usize, index);
            prop_assert!(finding.detectors.is_sorted_by(|a, b| a < b));
        }
        let strictly = |a: &JudgedFinding, b: &JudgedFinding| {
            (a.place, &a.category) < (b.place, &b.category)
        };
        prop_assert!(found.is_sorted_by(strictly));
    }
}

#[test]
fn calibrated_scores_decide_and_the_floor_keeps_the_raw_ones() {
    let curve = Curve::Points(vec![(0.0, 0.0), (1.0, 0.5)]);
    let mut case = Case::new(vec![
        report("a", vec![finding("toxicity", "toxic", 0.9)]),
        own("b", "clean", 0.7),
        own("c", "toxic", 0.9),
    ]);
    case.reports[2].findings = vec![finding("toxicity", "toxic", 0.9)];
    for detector in ["a", "b", "c"] {
        let facts = case.detectors.get_mut(&name(detector)).unwrap();
        facts.calibration = Calibration([("*".to_owned(), curve.clone())].into());
    }
    let raw = super::raw(&case.reports, &case.pieces);
    assert_eq!(raw[0].score, 0.9);
    calibrate(&mut case.reports, &case.detectors);
    assert_eq!(make(&case.evidence()).findings, Vec::new(), "0.45 is below the threshold");
    assert_eq!(case.reports[0].findings[0].score, 0.45);
    assert_eq!(case.reports[1].score, Some(0.7), "how sure it is of `clean` is no finding's score");
    assert_eq!(case.reports[2].score, Some(0.45), "its own score is its finding's");
}
