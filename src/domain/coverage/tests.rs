//! The vectors C1–C15 and the invariants of the coverage arithmetic.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::content::ContentType;
use crate::domain::report::{Gap, Status};

fn name(raw: &str) -> DetectorName {
    DetectorName::parse(raw).unwrap()
}

fn names(text: &str) -> BTreeSet<DetectorName> {
    text.split_whitespace().map(name).collect()
}

fn ok(detector: &str) -> Report {
    Report {
        status: Status::Success,
        error: None,
        attempts: 1,
        duration: Duration::from_millis(1),
        ..Report::unsent(name(detector), "1".into(), ReportError::Unhealthy)
    }
}

fn failed(detector: &str) -> Report {
    let error = Some(ReportError::Communication);
    Report { status: Status::Failed, error, ..ok(detector) }
}

fn partly(detector: &str, gaps: &[(usize, usize)]) -> Report {
    let gap = |&(piece, chars)| Gap { piece, span: None, chars, reason: ReportError::TooLong };
    Report { gaps: gaps.iter().map(gap).collect(), ..ok(detector) }
}

/// Several reports: `a` answered, `!a` failed.
fn reports(text: &str) -> Vec<Report> {
    let report = |word: &str| word.strip_prefix('!').map_or_else(|| ok(word), failed);
    text.split_whitespace().map(report).collect()
}

fn pieces(lengths: &[usize]) -> Vec<Piece> {
    let piece = |(index, chars): (usize, &usize)| Piece {
        pointer: format!("/content/{index}").into(),
        content_type: ContentType::Text,
        text: Some("x".repeat(*chars).into()),
        chars: *chars,
    };
    lengths.iter().enumerate().map(piece).collect()
}

fn plan(required: &str, method: CoverageMethod) -> Plan {
    let coverage = CoverageSpec { method, threshold: 0.8, ..CoverageSpec::default() };
    Plan { required: names(required), coverage, ..Plan::default() }
}

/// Two hundred thousand opaque parts, none of which the detector judged.
#[test]
fn very_many_gaps_are_measured_in_linear_time() {
    let lengths = vec![1; 200_000];
    let all: Vec<(usize, usize)> = (0..lengths.len()).map(|piece| (piece, 1)).collect();
    let given = [partly("a", &all), ok("b")];
    let able = Abilities::new();
    let coverage = measure(&plan("a b", RequiredSet), &given, &pieces(&lengths), &able);
    check("many", &coverage, 0.5, false);
    assert_eq!(coverage.unjudged.len(), lengths.len());
}

fn abilities(pairs: &[(&str, &[&str])]) -> Abilities {
    let set = |list: &[&str]| list.iter().map(|c| Category::parse(c).unwrap()).collect();
    pairs.iter().map(|(detector, list)| (name(detector), set(list))).collect()
}

use crate::domain::plan::CoverageSpec;
use CoverageMethod::{RequiredSet, Taxonomy, Weighted};

fn weighing(required: &str, weights: &[(&str, f64)]) -> Plan {
    let mut plan = plan(required, Weighted);
    plan.coverage.weights = weights.iter().map(|(d, w)| (name(d), *w)).collect();
    plan
}

fn run(plan: &Plan, given: &str, able: &Abilities) -> Coverage {
    measure(plan, &reports(given), &pieces(&[10]), able)
}

fn check(id: &str, coverage: &Coverage, achieved: f64, complete: bool) {
    assert!((coverage.achieved - achieved).abs() < 1e-6, "{id}: {}", coverage.achieved);
    assert_eq!(coverage.complete, complete, "{id}");
    assert_eq!(coverage.code.is_none(), complete, "{id}");
}

#[test]
fn c1_to_c15_measure_as_the_table_says() {
    let none = Abilities::new();
    let set = |required| plan(required, RequiredSet);
    check("C1", &run(&set("a b"), "a b", &none), 1.0, true);
    check("C2", &run(&set("a b c"), "a !b c", &none), 0.666_667, false);
    let c3 = weighing("a b c", &[("a", 0.5), ("b", 0.3), ("c", 0.2)]);
    check("C3", &run(&c3, "a !b c", &none), 0.7, false);
    let c4 = weighing("a b c", &[("a", 0.7), ("b", 0.1), ("c", 0.2)]);
    check("C4", &run(&c4, "a b !c", &none), 0.8, true);
    let able = abilities(&[("p", &["pii"]), ("t", &["toxicity"]), ("both", &["pii", "toxicity"])]);
    let mut c5 = plan("p t", Taxonomy);
    c5.coverage.categories = ["pii", "toxicity"].map(|c| Category::parse(c).unwrap()).into();
    check("C5", &run(&c5, "p !t", &able), 0.5, false);
    let c6 = Plan { required: names("both t"), ..c5 };
    check("C6", &run(&c6, "both !t", &able), 1.0, true);
    check("C7", &run(&plan("p t", Taxonomy), "p !t", &able), 0.5, false);
    check("C8", &run(&set("a b c d e"), "a b c d !e", &none), 0.8, true);
    check("C9", &run(&set("a b"), "a b s", &none), 1.0, true);
    check("C10", &run(&set("a b"), "!a !b", &none), 0.0, false);
    check("C11", &run(&weighing("a b", &[]), "a !b", &none), 0.5, false);
    check("C12", &run(&weighing("a b", &[("a", 3.0), ("b", 1.0)]), "a !b", &none), 0.75, false);
    let mut c13 = weighing("a b", &[("a", 3.0), ("b", 1.0)]);
    c13.coverage.method = serde_json::from_str("\"weighted_coverage\"").unwrap();
    check("C13", &run(&c13, "a !b", &none), 0.75, false);
    let unhealthy = Report::unsent(name("b"), "1".into(), ReportError::Unhealthy);
    let c14 = measure(&set("a b"), &[ok("a"), unhealthy], &pieces(&[10]), &none);
    check("C14", &c14, 0.5, false);
    let mut c15 = set("a b");
    c15.coverage.substitutes = [(name("b"), vec![name("s")])].into();
    check("C15", &run(&c15, "a !b s", &none), 1.0, true);
}

#[test]
fn a_part_of_the_characters_counts_as_a_part_of_the_detector() {
    let two = plan("a b", RequiredSet);
    let given = [ok("a"), partly("b", &[(1, 30)])];
    let coverage = measure(&two, &given, &pieces(&[60, 40]), &Abilities::new());
    check("j", &coverage, 0.85, true);
    assert_eq!(coverage.missing, [name("b")]);
    let gap = &coverage.unjudged[0];
    assert_eq!((gap.pointer.as_deref(), gap.reason), (Some("/content/1"), "too_long"));
    let able = abilities(&[("a", &["pii"]), ("b", &["toxicity"])]);
    let coverage = measure(&plan("a b", Taxonomy), &given, &pieces(&[60, 40]), &able);
    check("its categories are judged only if j = 1", &coverage, 0.5, false);
}

#[test]
fn a_piece_that_nobody_judged_makes_any_share_incomplete() {
    let mut lax = plan("a", RequiredSet);
    lax.coverage.threshold = 0.1;
    let image = Gap { piece: 1, span: None, chars: 1, reason: ReportError::UnsupportedContentType };
    let given = [Report { gaps: vec![image], ..ok("a") }];
    let coverage = measure(&lax, &given, &pieces(&[99, 1]), &Abilities::new());
    check("image", &coverage, 0.99, false);
    let last = coverage.unjudged.last().unwrap();
    assert_eq!((last.detector.as_ref(), last.reason), (None, "unsupported_content_type"));
    let mixed = [Report { gaps: vec![image], ..ok("a") }, partly("b", &[(1, 1)])];
    let coverage = measure(&lax, &mixed, &pieces(&[99, 1]), &Abilities::new());
    assert_eq!(coverage.unjudged.last().unwrap().reason, "no_detector");
    let nobody = measure(&Plan::default(), &[], &pieces(&[1]), &Abilities::new());
    assert_eq!(nobody.unjudged[0].reason, "no_detector");
    assert_eq!((nobody.achieved, nobody.complete), (0.0, false));
}

#[test]
fn substitutes_and_weights_never_help_against_the_floor() {
    let mut held = weighing("a b", &[("a", 99.0), ("b", 1.0)]);
    held.coverage.substitutes = [(name("b"), vec![name("s")])].into();
    held.floor_required = names("a b");
    held.min_coverage = 0.5;
    check("half", &run(&held, "a !b s", &Abilities::new()), 1.0, true);
    held.min_coverage = 0.6;
    check("below", &run(&held, "a !b s", &Abilities::new()), 1.0, false);
}

#[test]
fn what_early_exit_decided_is_named_but_lowers_nothing() {
    let decided = Report::unsent(name("b"), "1".into(), ReportError::Decided);
    let given = [ok("a"), decided];
    let coverage = measure(&plan("a b", RequiredSet), &given, &pieces(&[5]), &Abilities::new());
    check("decided", &coverage, 1.0, true);
    assert_eq!(coverage.unjudged[0].reason, "decided");
}

#[test]
fn a_required_detector_without_a_report_is_missing_as_not_registered() {
    let coverage = run(&plan("a ghost", RequiredSet), "a", &Abilities::new());
    check("ghost", &coverage, 0.5, false);
    assert_eq!(coverage.missing, [name("ghost")]);
    assert_eq!(coverage.unjudged[0].reason, "not_registered");
}

#[test]
fn the_first_code_that_holds_is_reported() {
    let code = |given: &[Report]| {
        measure(&plan("a b", RequiredSet), given, &pieces(&[5]), &Abilities::new()).code
    };
    let cut = Report { status: Status::Timeout, error: None, cut_by_deadline: true, ..ok("b") };
    let open = |d| Report::unsent(name(d), "1".into(), ReportError::CircuitOpen);
    assert_eq!(code(&[failed("a"), cut.clone()]), Some(CoverageCode::Deadline));
    assert_eq!(code(&[open("a"), open("b")]), Some(CoverageCode::AllDetectorsUnavailable));
    assert_eq!(code(&[open("a"), failed("b")]), Some(CoverageCode::DetectorCommunicationFailed));
    assert_eq!(code(&[ok("a"), failed("b")]), Some(CoverageCode::PartialCoverage));
    let optional = Report { detector: name("o"), ..cut };
    assert_eq!(code(&[ok("a"), failed("b"), optional]), Some(CoverageCode::PartialCoverage));
    assert_eq!(code(&[ok("a"), ok("b")]), None);
}

fn any_case() -> impl Strategy<Value = (Plan, Vec<Report>, Abilities)> {
    let detectors = 6usize;
    let kinds = prop::collection::vec((0u8..3, 0usize..=60), detectors);
    let weights = prop::collection::vec(prop::option::of(0.0..3.0), detectors);
    let method = prop::sample::select(vec![RequiredSet, Weighted, Taxonomy]);
    (kinds, weights, method, 1usize..=detectors).prop_map(|(kinds, weights, method, required)| {
        let label = |index: usize| name(&format!("d{index}"));
        let mut plan = plan("", method);
        plan.required = (0..required).map(label).collect();
        let given = weights.iter().enumerate().filter_map(|(i, w)| w.map(|w| (label(i), w)));
        plan.coverage.weights = given.collect();
        plan.coverage.substitutes = [(label(0), vec![label(5)])].into();
        let report = |(index, (kind, left_out)): (usize, (u8, usize))| {
            let detector = format!("d{index}");
            match kind {
                0 => ok(&detector),
                1 => partly(&detector, &[(1, left_out)]),
                _ => failed(&detector),
            }
        };
        let tree = ["pii", "toxicity", "secrets", "hate", "pii", "toxicity"];
        let able = tree.iter().enumerate().map(|(i, c)| (label(i), [Category::parse(c).unwrap()]));
        let able = able.map(|(detector, categories)| (detector, categories.into())).collect();
        (plan, kinds.into_iter().enumerate().map(report).collect(), able)
    })
}

proptest! {
    #[test]
    fn coverage_lies_between_0_and_1_and_ignores_the_order(
        (plan, reports, able) in any_case(), turn in 0usize..6,
    ) {
        let pieces = pieces(&[40, 60]);
        let coverage = measure(&plan, &reports, &pieces, &able);
        prop_assert!((0.0..=1.0).contains(&coverage.achieved));
        let mut turned = reports;
        turned.rotate_left(turn);
        prop_assert_eq!(measure(&plan, &turned, &pieces, &able), coverage);
    }

    #[test]
    fn one_more_answer_never_lowers_coverage((plan, reports, able) in any_case(), at in 0usize..6) {
        let pieces = pieces(&[40, 60]);
        let before = measure(&plan, &reports, &pieces, &able);
        let mut better = reports;
        better[at] = ok(&format!("d{at}"));
        let after = measure(&plan, &better, &pieces, &able);
        prop_assert!(after.achieved + 1e-12 >= before.achieved);
        prop_assert!(after.complete >= before.complete);
        prop_assert!(after.unjudged.len() <= before.unjudged.len());
    }
}

#[test]
fn what_one_detector_left_out_another_may_have_judged() {
    let span = |start, end| Some(Span { start, end });
    let part = |start, end| Gap {
        piece: 0,
        span: span(start, end),
        chars: end - start,
        reason: ReportError::TooLong,
    };
    let gaps = |reports: &[Vec<Gap>]| {
        let reports: Vec<Report> = reports
            .iter()
            .zip(["a", "b"])
            .map(|(gaps, name)| Report { gaps: gaps.clone(), ..ok(name) })
            .collect();
        let alone = measure(
            &plan("a b", CoverageMethod::RequiredSet),
            &reports,
            &pieces(&[100]),
            &Abilities::new(),
        );
        let alone = alone.unjudged.into_iter().filter(|gap| gap.detector.is_none());
        alone.map(|gap| gap.span.map(|s| (s.start, s.end))).collect::<Vec<_>>()
    };
    assert_eq!(gaps(&[vec![part(0, 60)], vec![part(60, 100)]]), []);
    assert_eq!(
        gaps(&[vec![part(0, 60)], vec![part(40, 50), part(55, 100)]]),
        [Some((40, 50)), Some((55, 60))]
    );
    assert_eq!(gaps(&[vec![part(0, 100)], vec![part(0, 60), part(60, 100)]]).len(), 2);
    assert_eq!(gaps(&[vec![part(0, 60)], vec![]]), []);
}
